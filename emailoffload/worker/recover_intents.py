"""Settle claims whose process did not live to settle them: Moodle's rows say what happened (design §3.4)."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Collection, Mapping, Sequence

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from emailoffload.moodle import claims
from emailoffload.outbox import hourchanges, intents
from emailoffload.outbox.models import Claim, Email
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.worker import late_claims, traces, trust
from emailoffload.worker.traces import Trace

log = logging.getLogger(__name__)
BATCH = 1000
UNCLEAR = "claim_unclear"
"""Reason of mails of which a person must find out whether Moodle has sent them."""
WATCH_DROPPED = dt.timedelta(hours=1)
"""How long a dropped claim is watched for a process that wakes up and claims the row after all."""


def recover_intents(now: dt.datetime | None = None) -> dict[str, int]:
    """Settle intents and releases that have been open for longer than the lease; returns counts.

    Keys: claimed, dropped, lost, woken, undone, unclear, released, unreleased. Raises database errors, and
    MoodleProblem where Moodle's rows cannot be relied on now (`trust`); nothing is settled then.
    """
    trust.require()
    now = now or timezone.now()
    stale = now - dt.timedelta(seconds=settings.LEASE_SECONDS)
    names = ("claimed", "dropped", "lost", "woken", "undone", "unclear", "released", "unreleased")
    counts = dict.fromkeys(names, 0)
    _intended(stale, now, counts)
    _dropped(now, counts)
    _releasing(stale, now, counts)
    intents.forget_dropped(now - WATCH_DROPPED)
    if any(counts.values()):
        settled = ", ".join(f"{name} {n}" for name, n in counts.items() if n)
        log.info("Settled claims that another process left half done: %s.", settled)
    return counts


Traces = Mapping[traces.Trace, set[int]]
"""Ids of claims by what their rows say."""


def _traces(found: Sequence[Claim], now: dt.datetime) -> Traces:
    rows = {
        source: claims.values(source, {claim.row_id for claim in found if claim.source == source})
        for source in {claim.source for claim in found}
    }
    read_at = max(now, timezone.now())
    told: dict[traces.Trace, set[int]] = {trace: set() for trace in traces.Trace}
    for claim in found:
        told[traces.read(claim, rows[claim.source].get(claim.row_id), read_at)].add(claim.pk)
    return told


def _intended(stale: dt.datetime, now: dt.datetime, counts: dict[str, int]) -> None:
    found = list(Claim.objects.filter(state=ClaimState.INTENDED, created_at__lt=stale).order_by("pk")[:BATCH])
    told = _traces(found, now)
    won, lost, unclear = told[Trace.OURS], told[Trace.MOODLES], told[Trace.OPEN]
    undone = late_claims.undo([claim for claim in found if claim.pk in won], now)
    with transaction.atomic():
        counts["claimed"] += intents.settle((won | unclear) - undone, lost | undone)
        _leave_to_a_person(unclear)
    counts["lost"] += len(lost)
    counts["undone"] += len(undone)
    counts["unclear"] += len(unclear)
    counts["dropped"] += intents.drop(told[Trace.UNTOUCHED], "the claim was never made")


def _dropped(now: dt.datetime, counts: dict[str, int]) -> None:
    watched = Claim.objects.filter(state=ClaimState.DROPPED, settled_at__gt=now - WATCH_DROPPED)
    found = list(watched.order_by("pk")[:BATCH])
    held = {source: claims.values(source, {c.row_id for c in found if c.source == source})
            for source in {claim.source for claim in found}}  # fmt: skip
    woken = [c.pk for c in found if claims.holds(c.source, held[c.source].get(c.row_id), c.after)]
    counts["woken"] += intents.settle(woken, [])


def _releasing(stale: dt.datetime, now: dt.datetime, counts: dict[str, int]) -> None:
    releasing = Claim.objects.filter(state=ClaimState.RELEASING, settled_at__lt=stale)
    told = _traces(list(releasing.order_by("pk")[:BATCH]), now)
    # Where Moodle has gone on from the old values, they had been restored.
    back = told[Trace.UNTOUCHED] | told[Trace.MOODLES]
    kept = told[Trace.OURS] | told[Trace.OPEN]
    with transaction.atomic():
        finish_releases(back, kept, "its hand-back was cut off")
        _leave_to_a_person(told[Trace.OPEN])
    counts["released"] += len(back)
    counts["unreleased"] += len(kept)
    counts["unclear"] += len(told[Trace.OPEN])


def _leave_to_a_person(claim_ids: Collection[int]) -> None:
    """Hold the mails of claims of which nobody can tell whether Moodle has mailed them: no route is tried."""
    # Failed ones too: what a hand-back was to cure would go by SMTP next.
    waiting = Email.objects.filter(
        claim__in=claim_ids,
        claim__state=ClaimState.CLAIMED,
        state__in=[EmailState.QUEUED, EmailState.FAILED],
        lease="",
    )
    if waiting.update(state=EmailState.FAILED, state_at=timezone.now(), reason=UNCLEAR):
        hourchanges.emails_of(claim_ids)


def finish_releases(released: Collection[int], kept: Collection[int], note: str) -> int:
    """Settle claims in state *releasing*: handed back, or still ours because Moodle's row did not allow it.

    Returns how many were handed back; those that somebody else has settled meanwhile are left as they are.
    """
    with transaction.atomic():
        done = _finish_releases(released, kept, note)
        hourchanges.emails_of(released)
        hourchanges.claims({*released, *kept})
    return done


def _finish_releases(released: Collection[int], kept: Collection[int], note: str) -> int:
    now = timezone.now()
    done = 0
    if released:
        Email.objects.filter(
            claim__in=released,
            claim__state=ClaimState.RELEASING,
            state__in=[EmailState.QUEUED, EmailState.FAILED],
        ).update(state=EmailState.RELEASED, state_at=now, route="moodle", lease="", leased_until=None)
        done = Claim.objects.filter(pk__in=released, state=ClaimState.RELEASING).update(
            state=ClaimState.RELEASED, settled_at=now, intent_key=None
        )
    if kept:
        Email.objects.filter(
            claim__in=kept, claim__state=ClaimState.RELEASING, state=EmailState.QUEUED
        ).update(lease="", leased_until=None)
        Claim.objects.filter(pk__in=kept, state=ClaimState.RELEASING).update(
            state=ClaimState.CLAIMED, settled_at=None, note=note
        )
    return done
