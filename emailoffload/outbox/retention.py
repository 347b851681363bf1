"""How long what is kept: the ladder of settings, and what about it contradicts itself (docs/privacy.md).

| Step | What goes | Counted from |
|---|---|---|
| `content` | what mails say | when the mail was made |
| `events` | SES's events and their addresses, what unreadable messages said, errors with rows | when it came |
| `addresses` | names, addresses, subjects: emptied, the rows stay | when the newest mail of the claim was made |
| `records` | the rows of mails and claims | the same |
| `audit` | who did what | when it was done |

0 days means for good. Counts of hours and days hold no personal data and stay.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Literal

from django.conf import settings

from emailoffload.outbox.counting import FROZEN_AFTER
from emailoffload.outbox.figures import CLAIMS, EMAILS

Step = Literal["content", "events", "addresses", "records", "audit"]
STEPS: Final[tuple[Step, ...]] = ("content", "events", "addresses", "records", "audit")
FROZEN: Final = max(FROZEN_AFTER[EMAILS], FROZEN_AFTER[CLAIMS]) + timedelta(days=2)
"""No mail or claim is deleted sooner: its hour's counts are final, and nobody compares them with rows any more."""


def setting(step: Step) -> str:
    """The name of a step's setting."""
    return f"RETAIN_{step.upper()}_DAYS"


def days(step: Step) -> int:
    """How many days a step keeps what it is about; 0: for good."""
    found: int = getattr(settings, setting(step))
    return found


def cutoff(step: Step, now: datetime) -> datetime | None:
    """What is older than this goes in a step; None: nothing does."""
    kept = days(step)
    if not kept:
        return None
    if step == "records":
        return now - max(timedelta(days=kept), FROZEN)
    return now - timedelta(days=kept)


def contradictions() -> list[tuple[str, str]]:
    """Where the ladder's steps contradict each other, or what else needs the data: (what is wrong, the cure)."""
    found: list[tuple[str, str]] = []

    def longer(first: Step, second: Step, why: str) -> None:
        if _endless(first) > _endless(second):
            found.append(
                (
                    f"{setting(first)} ({_said(first)}) is longer than {setting(second)} ({_said(second)}): {why}",
                    f"Set {setting(first)} to at most {days(second)}, or {setting(second)} to "
                    + (f"at least {days(first)}." if days(first) else "0 (for good)."),
                )
            )

    longer("content", "addresses", "what mails say names the people whose names are gone.")
    longer("events", "addresses", "events hold the addresses that are gone elsewhere.")
    longer("addresses", "records", "rows cannot be gone before what is in them.")
    longer("addresses", "audit", "nobody could tell who looked at addresses that are still there.")
    frozen = FROZEN.days
    if 0 < days("records") < frozen:
        found.append(
            (
                f"RETAIN_RECORDS_DAYS is {days('records')}: hourly counts are compared with their rows for "
                f"{frozen - 2} days, and would be counted down.",
                f"Set it to at least {frozen}, or to 0.",
            )
        )
    needs: tuple[tuple[Step, int, str], ...] = (
        ("addresses", settings.RECONCILE_DAYS + 1, "the reconciler compares subjects for RECONCILE_DAYS"),
        ("events", _ladder_days(), "TRANSIENT_BOUNCES counts bounces over that time"),
    )
    for step, needed, why in needs:
        if 0 < days(step) < needed:
            name = setting(step)
            found.append(
                (f"{name} is {days(step)}, but {why}.", f"Set {name} to at least {needed}, or to 0.")
            )
    return found


def _ladder_days() -> int:
    """The longest time over which transient bounces count, in whole days."""
    longest = max((window for _count, window, _duration in settings.TRANSIENT_BOUNCES), default=timedelta())
    return -(-longest // timedelta(days=1))


def _endless(step: Step) -> float:
    return days(step) or float("inf")


def _said(step: Step) -> str:
    return str(days(step)) if days(step) else "for good"
