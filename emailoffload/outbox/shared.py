"""Small facts shared by all processes (`models.State`), written whole."""

from __future__ import annotations

from typing import Any

from emailoffload.outbox.deadlocks import survive
from emailoffload.outbox.models import State


def put(name: str, value: dict[str, Any]) -> None:
    """Set the fact `name`, whether it is there or not.

    Two processes that set one for the first time at once may be each other's deadlock; whoever was its victim sets it
    again. Raises other database errors, and inside of a larger transaction that deadlock too.
    """
    survive(lambda: State.objects.update_or_create(name=name, defaults={"value": value}))
