"""What a person can do with a finding of a reconciliation: say that it is dealt with. Nothing else changes by it."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction
from django.utils import timezone

from emailoffload.outbox.models import AuditEntry
from emailoffload.outbox.reconciliation import ReconcileFinding
from emailoffload.worker.reconcile_findings import DEALT_WITH

MOST = 500
"""Findings that one request deals with."""


def deal_with(finding_ids: Sequence[int], *, actor: str, reason: str) -> int:
    """Close these findings, as far as they are open; returns how many. Each leaves an audit entry.

    A finding stays closed until something else is seen of its claim. Raises ValueError without a reason or for too
    many, and database errors.
    """
    if not reason.strip():
        raise ValueError("this needs a reason")
    if len(finding_ids) > MOST:
        raise ValueError(f"at most {MOST} findings at a time")
    with transaction.atomic():
        found = list(
            ReconcileFinding.objects.select_for_update()
            .filter(pk__in=finding_ids, closed_at__isnull=True)
            .order_by("pk")
        )
        ReconcileFinding.objects.filter(pk__in=[finding.pk for finding in found]).update(
            closed_at=timezone.now(), closed_because=DEALT_WITH
        )
        AuditEntry.objects.bulk_create(
            AuditEntry(
                actor=actor[:150],
                action="finding_dealt_with",
                object_type="finding",
                object_id=str(finding.pk),
                reason=reason.strip()[:500],
                details={"claim": finding.claim_id, "verdict": finding.verdict, "detail": finding.detail},
            )
            for finding in found
        )
    return len(found)
