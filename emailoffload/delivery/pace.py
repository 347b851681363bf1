"""What share of the account's rate is used: less after SES throttled us, then more again, for all processes.

SES may throttle below the rate that GetAccount names: others send with the same account, or it lowers the rate
for a while. Each reduction takes a part of the share; without a further one it comes back at a steady speed. Both
are kept in one row of the table State: the share after the last reduction, and when that was.
"""

from __future__ import annotations

import time

from django.db import transaction

from emailoffload.outbox import deadlocks
from emailoffload.outbox.models import State

NAME = "ses_pace"
PART = 0.7
"""What is left of the share after a reduction."""
LEAST = 0.05
SPACING = 2.0
"""Seconds in which throttled answers count as one: those of mails that were under way together."""
RECOVERY = 120.0
"""Seconds in which the whole rate would come back from nothing."""


def share(value: dict[str, float] | None, now: float) -> float:
    """The share now, from LEAST to 1, by what is on record (`share`, `at`); a clock set back changes nothing."""
    if not value:
        return 1.0
    return min(1.0, max(LEAST, value["share"]) + max(0.0, now - value["at"]) / RECOVERY)


def reduced(value: dict[str, float] | None, now: float) -> dict[str, float] | None:
    """What is on record after a throttled answer, or None where one just before it has reduced the share already."""
    if value and 0 <= now - value["at"] < SPACING:
        return None
    return {"share": max(LEAST, share(value, now) * PART), "at": now}


def slow_down() -> float:
    """SES throttled somebody: use less of the rate; returns the share that is left. Raises database errors."""
    State.objects.get_or_create(name=NAME, defaults={"value": {}})
    return deadlocks.survive(_slow_down)


def _slow_down() -> float:
    now = time.time()
    with transaction.atomic():
        row = State.objects.select_for_update().get(name=NAME)
        new = reduced(row.value or None, now)
        if new:
            row.value = new
            row.save(update_fields=["value", "updated_at"])
    return share(row.value, now)
