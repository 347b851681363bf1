"""Switches that people set and every process obeys: pause claiming, pause sending."""

from __future__ import annotations

from dataclasses import dataclass

from emailoffload.outbox.models import State

_PAUSE = "pause"


@dataclass(frozen=True, slots=True)
class Pause:
    """What is paused, by whom and why."""

    claims: bool = False
    sends: bool = False
    by: str = ""
    reason: str = ""


def pause() -> Pause:
    """What is paused now."""
    row = State.objects.filter(name=_PAUSE).values_list("value", flat=True).first()
    return Pause(**row) if row else Pause()


def set_pause(new: Pause) -> None:
    """Pause or resume; takes effect before the next batch of every running pass."""
    value = {"claims": new.claims, "sends": new.sends, "by": new.by, "reason": new.reason}
    State.objects.update_or_create(name=_PAUSE, defaults={"value": value})
