"""Settle claims whose process did not live to settle them: Moodle's rows say what happened (design §3.4)."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Collection

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from emailoffload.moodle import claims
from emailoffload.outbox import intents
from emailoffload.outbox.models import Claim, Email
from emailoffload.outbox.states import ClaimState, EmailState

log = logging.getLogger(__name__)
BATCH = 1000
WATCH_DROPPED = dt.timedelta(hours=1)
"""How long a dropped claim is watched for a process that wakes up and claims the row after all."""

Values = tuple[int, int, int]


def recover_intents(now: dt.datetime | None = None) -> dict[str, int]:
    """Settle intents and releases that have been open for longer than the lease; returns counts.

    Keys: claimed, dropped, lost, woken, released, unreleased. Raises database errors; nothing is settled then.
    """
    now = now or timezone.now()
    stale = now - dt.timedelta(seconds=settings.LEASE_SECONDS)
    counts = dict.fromkeys(("claimed", "dropped", "lost", "woken", "released", "unreleased"), 0)
    _intended(stale, counts)
    _dropped(now, counts)
    _releasing(stale, counts)
    intents.forget_dropped(now - WATCH_DROPPED)
    if any(counts.values()):
        log.info("recovered claims: %s", counts)
    return counts


def _rows(found: list[Claim]) -> dict[int, Values]:
    return claims.values({claim.row_id for claim in found})


def _holds(values: Values | None, expected: dict[str, int]) -> bool:
    """True where a row's emailsent and emailtime are the expected ones; `completed` is Moodle's own."""
    return values is not None and values[:2] == (expected["emailsent"], expected["emailtime"])


def _intended(stale: dt.datetime, counts: dict[str, int]) -> None:
    found = list(Claim.objects.filter(state=ClaimState.INTENDED, created_at__lt=stale).order_by("pk")[:BATCH])
    rows = _rows(found)
    won = [claim.pk for claim in found if _holds(rows.get(claim.row_id), claim.after)]
    untouched = [claim.pk for claim in found if _holds(rows.get(claim.row_id), claim.before)]
    lost = [claim.pk for claim in found if claim.pk not in {*won, *untouched}]
    counts["claimed"] += intents.settle(won, lost)
    counts["lost"] += len(lost)
    counts["dropped"] += intents.drop(untouched, "the claim was never made")


def _dropped(now: dt.datetime, counts: dict[str, int]) -> None:
    found = list(
        Claim.objects.filter(state=ClaimState.DROPPED, settled_at__gt=now - WATCH_DROPPED).order_by("pk")[
            :BATCH
        ]
    )
    rows = _rows(found)
    woken = [claim.pk for claim in found if _holds(rows.get(claim.row_id), claim.after)]
    counts["woken"] += intents.settle(woken, [])


def _releasing(stale: dt.datetime, counts: dict[str, int]) -> None:
    found = list(
        Claim.objects.filter(state=ClaimState.RELEASING, settled_at__lt=stale).order_by("pk")[:BATCH]
    )
    rows = _rows(found)
    back = [claim.pk for claim in found if _holds(rows.get(claim.row_id), claim.before)]
    kept = [claim.pk for claim in found if claim.pk not in set(back)]
    with transaction.atomic():
        finish_releases(back, kept, "Moodle's row does not hold our values")
    counts["released"] += len(back)
    counts["unreleased"] += len(kept)


def finish_releases(released: Collection[int], kept: Collection[int], note: str) -> None:
    """Settle claims in state *releasing*: handed back, or still ours because Moodle's row did not allow it."""
    now = timezone.now()
    if released:
        Email.objects.filter(
            claim__in=released,
            claim__state=ClaimState.RELEASING,
            state__in=[EmailState.QUEUED, EmailState.FAILED],
        ).update(state=EmailState.RELEASED, state_at=now, route="moodle", lease="", leased_until=None)
        Claim.objects.filter(pk__in=released, state=ClaimState.RELEASING).update(
            state=ClaimState.RELEASED, settled_at=now, intent_key=None
        )
    if kept:
        Email.objects.filter(
            claim__in=kept, claim__state=ClaimState.RELEASING, state=EmailState.QUEUED
        ).update(lease="", leased_until=None)
        Claim.objects.filter(pk__in=kept, state=ClaimState.RELEASING).update(
            state=ClaimState.CLAIMED, settled_at=None, note=note
        )
