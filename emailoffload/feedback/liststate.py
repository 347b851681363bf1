"""What the last comparison with SES's suppression list saw: one row of `outbox.models.State`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from emailoffload.outbox import shared
from emailoffload.outbox.models import State

NAME = "suppressions"
_TIMES = ("asked_at", "listed_at", "compared_at", "begun_at", "error_at")


@dataclass(slots=True)
class ListState:
    """Times are aware."""

    asked_at: datetime | None = None
    """When a pass last asked SES."""
    listed_at: datetime | None = None
    """When the last listing began that was read to its end: what was put there since is read next time."""
    compared_at: datetime | None = None
    """The same, of the last listing of all."""
    begun_at: datetime | None = None
    """When the listing began that a pass had no time to end; None: none."""
    whole: bool = False
    """That it is one of all."""
    token: str = ""
    """SES's token for its next page."""
    error: str = ""
    """Why the lists cannot be compared, in words; '' while they can."""
    error_code: str = ""
    cure: str = ""
    soon: bool = False
    """The error goes away by itself."""
    error_at: datetime | None = None
    """Since when."""


def load() -> ListState:
    """What is known; all empty before the first comparison. One query."""
    row = State.objects.filter(name=NAME).first()
    values: dict[str, Any] = dict(row.value) if row else {}
    for name in _TIMES:
        values[name] = datetime.fromisoformat(values[name]) if values.get(name) else None
    return ListState(**values)


def save(state: ListState) -> None:
    """Remember it for all processes."""
    values: dict[str, Any] = asdict(state)
    for name in _TIMES:
        values[name] = values[name].isoformat() if values[name] else None
    shared.put(NAME, values)
