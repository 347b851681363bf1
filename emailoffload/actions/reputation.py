"""Let claiming go on in spite of the rates for a while, or end that, on record."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from emailoffload.feedback import claimstop
from emailoffload.feedback.claimstop import Override
from emailoffload.outbox.models import AuditEntry


def override(lasting: timedelta, *, actor: str, reason: str) -> Override:
    """Claim whatever the rates are, for this long from now on; the next pass obeys.

    Raises ValueError without a reason, and for a time that is none or beyond LONGEST_OVERRIDE.
    """
    if not reason.strip():
        raise ValueError("this needs a reason")
    if not timedelta() < lasting <= claimstop.LONGEST_OVERRIDE:
        raise ValueError(f"for {claimstop.LONGEST_OVERRIDE.days} days at most")
    granted = Override(timezone.now() + lasting, actor[:150], reason.strip()[:500])
    with transaction.atomic():
        claimstop.set_override(granted)
        _audit("override_reputation", granted.by, granted.reason, {"until": granted.until.isoformat()})
    return granted


def end_override(*, actor: str, reason: str) -> None:
    """Let the rates stop claims again. Raises ValueError without a reason."""
    if not reason.strip():
        raise ValueError("this needs a reason")
    with transaction.atomic():
        claimstop.set_override(None)
        _audit("end_override_reputation", actor[:150], reason.strip()[:500], {})


def _audit(action: str, actor: str, reason: str, details: dict[str, str]) -> None:
    AuditEntry.objects.create(
        actor=actor, action=action, object_type="reputation", reason=reason, details=details
    )
