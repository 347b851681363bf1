"""Recovery of sends: what a dispatcher that died left leased or half sent."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone

from emailoffload.outbox import transitions


def recover_sends(now: datetime | None = None) -> dict[str, int]:
    """Free mails whose dispatcher is silent; those that may have left become `uncertain`, for all to see."""
    freed, uncertain = transitions.interrupted(now or timezone.now())
    return {"leases_freed": freed, "sends_uncertain": uncertain}
