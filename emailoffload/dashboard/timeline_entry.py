"""One line of a mail's timeline."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the timeline; `at` is aware, `details` are (name, value) pairs."""

    at: datetime
    title: str
    tone: str
    text: str = ""
    details: tuple[tuple[str, str], ...] = ()
    noted: bool = False
    """It has no bearing on the state; the text says why."""
    cure: str = ""
    """What a person can do about it; ''."""


class Id(str):
    """A technical id in the details: pages show a button that copies it."""

    __slots__ = ()
    copied = True
