"""Findings in our database: made once, changed when what was seen changes, closed when they no longer hold."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings
from django.db import transaction

from emailoffload.moodle.targets import TARGETS
from emailoffload.outbox.models import Claim
from emailoffload.outbox.reconciliation import ReconcileFinding
from emailoffload.worker import reconcile_words as words
from emailoffload.worker.reconcile_verdicts import Found, Judgement

LOOKED_AT = dt.timedelta(days=1)
"""A finding about a claim that is too old to be looked at again stays open for this long."""
OLD_AT_ONCE = 5000
AGREES, CHANGED, OLD, DEALT_WITH = "agrees", "changed", "old", "dealt_with"
"""Why a finding was closed. What a person has dealt with is open again only once something else is seen."""

Judged = tuple[Claim, Found, Judgement]


def store(judged: Sequence[Judged], now: dt.datetime) -> Counter[str]:
    """Bring the findings about these claims up to date, in one transaction; returns "opened" and "closed".

    A finding that is there already and says the same is not touched: doing this twice changes nothing.
    """
    counts: Counter[str] = Counter()
    with transaction.atomic():
        known: dict[int, dict[str, ReconcileFinding]] = {}
        for row in ReconcileFinding.objects.filter(claim__in=[claim.pk for claim, _, _ in judged]):
            known.setdefault(row.claim_id, {})[row.verdict] = row
        new: list[ReconcileFinding] = []
        changed: list[ReconcileFinding] = []
        for claim, found, judgement in judged:
            rows = known.get(claim.pk, {})
            for verdict, row in rows.items():
                if verdict != judgement.verdict and row.closed_at is None:
                    row.closed_at = now
                    row.closed_because = AGREES if judgement.verdict == words.AGREES else CHANGED
                    changed.append(row)
                    counts["closed"] += 1
            if judgement.verdict == words.AGREES:
                continue
            seen = _seen(claim, found, judgement)
            present = rows.get(judgement.verdict)
            if present is None:
                new.append(_finding(claim, judgement, seen, now))
                counts["opened"] += 1
            elif present.closed_because == DEALT_WITH and (present.detail, present.seen) == (
                judgement.detail,
                seen,
            ):
                continue
            elif (present.detail, present.seen, present.closed_at) != (judgement.detail, seen, None):
                counts["opened"] += present.closed_at is not None
                present.detail, present.seen = judgement.detail, seen
                present.closed_at, present.closed_because = None, ""
                changed.append(present)
        ReconcileFinding.objects.bulk_create(new, batch_size=500, ignore_conflicts=True)
        ReconcileFinding.objects.bulk_update(
            changed, ["detail", "seen", "closed_at", "closed_because"], batch_size=500
        )
    return counts


def _seen(claim: Claim, found: Found, judgement: Judgement) -> dict[str, Any]:
    row = None if found is None else dict(zip(TARGETS[claim.source].written, found, strict=True))
    return {"row": row} | ({"notified": judgement.notified} if judgement.notified is not None else {})


def _finding(claim: Claim, judgement: Judgement, seen: dict[str, Any], now: dt.datetime) -> ReconcileFinding:
    return ReconcileFinding(
        claim_id=claim.pk,
        source=claim.source,
        user_id=claim.user_id,
        company_id=claim.company_id,
        verdict=judgement.verdict,
        detail=judgement.detail,
        seen=seen,
        first_seen=now,
    )


def close_old(now: dt.datetime) -> int:
    """Close findings about claims that are no longer looked at, some thousands at a time; returns how many."""
    old = ReconcileFinding.objects.filter(
        closed_at__isnull=True,
        first_seen__lt=now - LOOKED_AT,
        claim__created_at__lt=now - dt.timedelta(days=settings.RECONCILE_DAYS),
    )
    ids = list(old.order_by().values_list("pk", flat=True)[:OLD_AT_ONCE])
    parts = (ids[start : start + 500] for start in range(0, len(ids), 500))
    return sum(
        ReconcileFinding.objects.filter(pk__in=part, closed_at__isnull=True).update(
            closed_at=now, closed_because=OLD
        )
        for part in parts
    )


def open_counts() -> Mapping[str, int]:
    """Open findings by verdict, each counted up to a cap, through an index."""
    return {
        verdict: ReconcileFinding.objects.filter(verdict=verdict, closed_at__isnull=True)
        .order_by()[:10_001]
        .count()
        for verdict in words.VERDICTS
        if verdict != words.AGREES
    }
