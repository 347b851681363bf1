"""The protections of a claim, taken out one by one, to show that the race test would notice."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from django.db import connections

from emailoffload.moodle import claims, cronlock, guard
from emailoffload.moodle.claims import Swap
from emailoffload.worker import claiming, intercept


class NoLock(AbstractContextManager["NoLock"]):
    """A lock that everybody always gets."""

    acquired = True

    def __init__(self, classname: str) -> None:
        pass

    def __exit__(self, *args: object) -> None:
        pass

    def still_held(self) -> bool:
        """Never in doubt."""
        return True

    def binds(self) -> bool:
        """Never in doubt either."""
        return True


def no_lead() -> None:
    """Due rows are claimed like rows of the future, though nobody can hold the cron's lock."""

    def hasty(self: Any, candidates: Any, sealed: Any, *, under_lock: bool) -> set[int]:
        return self._make(candidates, sealed, None) if candidates else set()

    claiming.Claimer._claim = hasty  # type: ignore[method-assign]
    claiming.Claimer._too_late = lambda *args: set()  # type: ignore[method-assign]
    intercept._Pass._without_lock = lambda self, rows: iter(rows)  # type: ignore[method-assign]


def no_lock() -> None:
    """Due rows are claimed whether or not the cron is running."""
    cronlock.CronLock = NoLock  # type: ignore[assignment, misc]
    cronlock.is_free = lambda classname: True


def slow() -> None:
    """No protection is taken out, but much time passes between reading a row and claiming it."""
    whole = claiming.Claimer._claim

    def dawdling(self: Any, candidates: Any, sealed: Any, *, under_lock: bool) -> set[int]:
        time.sleep(1.5)
        return whole(self, candidates, sealed, under_lock=under_lock)

    claiming.Claimer._claim = dawdling  # type: ignore[method-assign]


def no_compare() -> None:
    """The claim writes whatever the row holds now, so long after it was read that Moodle must have been there."""

    def overwrite(source: str, swaps: Sequence[Swap]) -> set[int]:
        time.sleep(3)
        with guard.writing(), connections["moodle"].cursor() as cursor:
            for swap in swaps:
                cursor.execute(
                    "UPDATE mdl_reengagement_inprogress SET emailsent = %s, emailtime = %s WHERE id = %s",
                    [swap.after[0], swap.after[1], swap.row_id],
                )
        return {swap.row_id for swap in swaps}

    claims.apply = overwrite
    claiming.Claimer._as_of_now = lambda self, candidates: list(candidates)  # type: ignore[method-assign]


def apply(name: str) -> None:
    """Take one protection out of this process."""
    {"no_lead": no_lead, "no_lock": no_lock, "no_compare": no_compare, "slow": slow}[name]()
