"""Recovery of sends: what a dispatcher that died left leased or half sent."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone

from emailoffload.outbox import deadlocks, transitions


def recover_sends(now: datetime | None = None) -> dict[str, int]:
    """Free mails whose dispatcher is silent; those that may have left become `uncertain`, for all to see."""
    moment = now or timezone.now()
    # What other dispatchers mark at this moment is locked by them, row by row.
    freed, uncertain = deadlocks.survive(lambda: transitions.interrupted(moment))
    return {"leases_freed": freed, "sends_uncertain": uncertain}
