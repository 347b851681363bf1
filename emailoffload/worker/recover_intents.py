"""Settle claims whose process did not live to settle them: Moodle's rows say what happened (design §3.4)."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from emailoffload.moodle import claims
from emailoffload.outbox import intents
from emailoffload.outbox.models import Claim, Email
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.worker import late_claims, trust

log = logging.getLogger(__name__)
BATCH = 1000
WATCH_DROPPED = dt.timedelta(hours=1)
"""How long a dropped claim is watched for a process that wakes up and claims the row after all."""


def recover_intents(now: dt.datetime | None = None) -> dict[str, int]:
    """Settle intents and releases that have been open for longer than the lease; returns counts.

    Keys: claimed, dropped, lost, woken, undone, released, unreleased. Raises database errors, and MoodleProblem
    where Moodle's rows cannot be relied on now (`trust`); nothing is settled then.
    """
    trust.require()
    now = now or timezone.now()
    stale = now - dt.timedelta(seconds=settings.LEASE_SECONDS)
    counts = dict.fromkeys(("claimed", "dropped", "lost", "woken", "undone", "released", "unreleased"), 0)
    _intended(stale, now, counts)
    _dropped(now, counts)
    _releasing(stale, counts)
    intents.forget_dropped(now - WATCH_DROPPED)
    if any(counts.values()):
        log.info("recovered claims: %s", counts)
    return counts


Rows = Mapping[tuple[str, int], claims.Values]
"""What rows hold, by source and id."""


def _rows(found: Sequence[Claim]) -> Rows:
    return {
        (source, row_id): values
        for source in {claim.source for claim in found}
        for row_id, values in claims.values(
            source, {claim.row_id for claim in found if claim.source == source}
        ).items()
    }


def _hold(found: Sequence[Claim], rows: Rows, values: Literal["before", "after"]) -> set[int]:
    """Those of the claims, by their ids, whose row holds what it held before the claim, or after it."""
    return {
        claim.pk
        for claim in found
        if claims.holds(claim.source, rows.get((claim.source, claim.row_id)), getattr(claim, values))
    }


def _intended(stale: dt.datetime, now: dt.datetime, counts: dict[str, int]) -> None:
    found = list(Claim.objects.filter(state=ClaimState.INTENDED, created_at__lt=stale).order_by("pk")[:BATCH])
    rows = _rows(found)
    won = _hold(found, rows, "after")
    untouched = _hold(found, rows, "before") - won
    lost = {claim.pk for claim in found} - won - untouched
    undone = late_claims.undo([claim for claim in found if claim.pk in won], now)
    counts["claimed"] += intents.settle(won - undone, lost | undone)
    counts["lost"] += len(lost)
    counts["undone"] += len(undone)
    counts["dropped"] += intents.drop(untouched, "the claim was never made")


def _dropped(now: dt.datetime, counts: dict[str, int]) -> None:
    watched = Claim.objects.filter(state=ClaimState.DROPPED, settled_at__gt=now - WATCH_DROPPED)
    found = list(watched.order_by("pk")[:BATCH])
    counts["woken"] += intents.settle(_hold(found, _rows(found), "after"), [])


def _releasing(stale: dt.datetime, counts: dict[str, int]) -> None:
    releasing = Claim.objects.filter(state=ClaimState.RELEASING, settled_at__lt=stale)
    found = list(releasing.order_by("pk")[:BATCH])
    back = _hold(found, _rows(found), "before")
    kept = {claim.pk for claim in found} - back
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
