"""How the watch over IOMAD's queue stands: written by the watcher, shown on the overview and by the doctor."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from emailoffload.outbox import shared
from emailoffload.outbox.models import State

LEASE = "cron-guard"
"""The lease of the one watcher. It says nothing about the processes that claim and send."""
_STATE = "cron_guard"


@dataclass(slots=True)
class Guard:
    """`why_not` is a code of `sources.reasons` or, where the site is the reason, a sentence; '' if all is well."""

    mode: str
    held_since: datetime | None = None
    last_look: datetime | None = None
    last_yield: datetime | None = None
    why_not: str = ""


_TIMES = ("held_since", "last_look", "last_yield")


def load() -> Guard | None:
    """How it stands; None where nobody has watched, or the site has no such queue."""
    row = State.objects.filter(name=_STATE).first()
    if row is None or not row.value:
        return None
    times = {
        name: datetime.fromisoformat(row.value[name]) if row.value.get(name) else None for name in _TIMES
    }
    return Guard(mode=row.value.get("mode", ""), why_not=row.value.get("why_not", ""), **times)


def save(guard: Guard) -> None:
    """Put it on record."""
    value = {name: time.isoformat() if (time := getattr(guard, name)) else None for name in _TIMES}
    value |= {"mode": guard.mode, "why_not": guard.why_not}
    shared.put(_STATE, value)


def forget() -> None:
    """There is nothing to watch."""
    State.objects.filter(name=_STATE).delete()
