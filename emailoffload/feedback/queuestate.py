"""What the last look at the event queue saw: one row of `outbox.models.State`, written by `worker.feedback`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from emailoffload.outbox import shared
from emailoffload.outbox.models import State

NAME = "feedback"
_TIMES = ("polled_at", "event_at", "drained_at", "error_at")


@dataclass(slots=True)
class QueueState:
    """Times are aware; counts are SQS's, approximate as it says itself."""

    polled_at: datetime | None = None
    """The last time SQS answered."""
    event_at: datetime | None = None
    """When the last new event was stored, by our clock."""
    drained_at: datetime | None = None
    """When a request began that found the queue empty, with all that had been received before stored and nothing
    in anybody's hands."""
    waiting: int = 0
    in_flight: int = 0
    error: str = ""
    """Why the queue cannot be read, in words; '' while it can."""
    error_code: str = ""
    cure: str = ""
    error_at: datetime | None = None
    """Since when."""


def load() -> QueueState:
    """What is known; all empty before the first look. One query."""
    row = State.objects.filter(name=NAME).first()
    values: dict[str, Any] = dict(row.value) if row else {}
    for name in _TIMES:
        values[name] = datetime.fromisoformat(values[name]) if values.get(name) else None
    return QueueState(**values)


def save(state: QueueState) -> None:
    """Remember it for all processes."""
    values: dict[str, Any] = asdict(state)
    for name in _TIMES:
        values[name] = values[name].isoformat() if values[name] else None
    shared.put(NAME, values)
