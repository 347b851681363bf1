"""A finding of the doctor's, and how a look that cannot be taken becomes one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

Verdict = Literal["ok", "warning", "problem", "unknown"]
NOT_TAKEN = gettext_lazy("Not looked at, because of what was found before.")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look found. `id` is stable; the texts are for people and hold no credential and no person."""

    id: str
    title: str
    verdict: Verdict
    text: str
    cure: str = ""

    def as_dict(self) -> dict[str, str]:
        """The finding under stable keys."""
        return asdict(self)


Found = tuple[Verdict, str, str]
"""Verdict, text and cure."""


def ok(text: str) -> Found:
    """Nothing is wrong."""
    return "ok", text, ""


def warning(text: str, cure: str) -> Found:
    """It works, but not as well or as safely as it should."""
    return "warning", text, cure


def problem(text: str, cure: str) -> Found:
    """It does not work, or must not be used like this."""
    return "problem", text, cure


def unknown(text: str, cure: str = "") -> Found:
    """It could not be looked at."""
    return "unknown", text, cure


@dataclass(frozen=True, slots=True)
class Look:
    """One thing to look at: `take` looks; `needs` are the ids of looks without which it says nothing."""

    id: str
    title: Promise
    take: Callable[[], Found]
    needs: tuple[str, ...] = ()


def examine(looks: list[Look]) -> Iterator[Finding]:
    """Take each look in turn; one whose needs were not met is not taken.

    A look that itself fails is a finding too: its exception is named by its class only, since its text may
    hold an address or a credential.
    """
    failed: set[str] = set()
    for look in looks:
        if failed.intersection(look.needs):
            found = unknown(str(NOT_TAKEN))
        else:
            try:
                found = look.take()
            except Exception as error:
                found = problem(
                    _("This could not be looked at: %(error)s.") % {"error": type(error).__qualname__},
                    _("Cure what was found before; if nothing was, please report this."),
                )
        if found[0] in {"problem", "unknown"}:
            failed.add(look.id)
        yield Finding(look.id, str(look.title), *found)
