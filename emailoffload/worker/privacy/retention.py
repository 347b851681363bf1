"""The pass that lets go of what was kept for long enough: the ladder's steps, then whom Moodle has deleted.

Every ten minutes, under a lease, for some seconds a step: a site with years behind it is brought down to its ladder
in days, beside its work. What a pass does not come to, the next one does; a process that dies leaves whole batches.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.utils import timezone
from django.utils.translation import gettext as _

from emailoffload.moodle.errors import MoodleProblem, check_reachable, translated
from emailoffload.outbox import erasure, retention
from emailoffload.worker import lease, runs, stopping
from emailoffload.worker.privacy import deleted, steps

LEASE: Final = "retention"
BUDGET_SECONDS: Final = 3.0
"""For each of the steps."""
Do = Callable[[datetime, datetime, steps.GoOn], int]
LADDER: Final[tuple[tuple[str, retention.Step, Do], ...]] = (
    ("contents", "content", steps.contents),
    ("events", "events", steps.events),
    ("unreadable", "events", steps.problems),
    ("row_errors", "events", steps.row_errors),
    ("claims_emptied", "addresses", steps.addresses),
    ("suppressions", "addresses", steps.suppressions),
    ("leftovers", "records", steps.leftovers),
    ("audit", "audit", steps.audit),
)
"""What a pass counts, the step of the ladder that says how old it must be, and what does it."""
RECORDS: Final[tuple[str, retention.Step, Do]] = ("records", "records", steps.records)
"""The one that has to ask Moodle."""


@dataclass
class RetentionResult:
    """What one pass let go."""

    counts: dict[str, int] = field(default_factory=dict)
    more: bool = False
    """Time ran out for one of the steps: the next pass goes on."""
    seconds: float = 0.0
    busy: bool = False
    refused: str = ""
    cure: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The result under stable keys."""
        return {
            **self.counts,
            "more": self.more,
            "seconds": round(self.seconds, 3),
            "busy": self.busy,
            "refused": self.refused,
            "cure": self.cure,
        }


def run(*, now: datetime | None = None, budget: float | None = None) -> RetentionResult:
    """One pass; `busy` when another is at work. `budget`: other seconds for each step than BUDGET_SECONDS.

    A ladder that contradicts itself is refused as a whole, and so is, without Moodle's database, what has to ask it.
    Raises errors of our own database; what was done until then stays.
    """
    result = RetentionResult()
    started = time.monotonic()
    with lease.hold(LEASE) as held:
        if held is None:
            result.busy = True
            return result
        with runs.record(LEASE, held.holder) as recording:
            wrong = retention.contradictions()
            if wrong:
                result.refused, result.cure = wrong[0]
            else:
                _Pass(held, result, now or timezone.now(), BUDGET_SECONDS if budget is None else budget).go()
                erasure.clean_log()
            result.seconds = time.monotonic() - started
            recording.counts = dict(result.counts)
            if result.refused:
                recording.refused(f"{result.refused} {result.cure}".strip())
            elif stopping.requested():
                recording.interrupted(_("the pass was asked to stop"))
    return result


class _Pass:
    """One pass under its lease."""

    def __init__(self, held: lease.Held, result: RetentionResult, now: datetime, budget: float) -> None:
        self._held = held
        self._result = result
        self._now = now
        self._budget = budget
        self._until = 0.0

    def go(self) -> None:
        """Each step in its turn; what needs Moodle is left out where Moodle does not answer."""
        for name, step, do in LADDER:
            self._do(name, step, do)
        try:
            check_reachable()
            with translated():
                self._do(*RECORDS)
                self._until = time.monotonic() + self._budget
                self._result.counts |= deleted.follow(self._now, self._go_on)
        except MoodleProblem as problem:
            self._result.refused, self._result.cure = str(problem), problem.cure

    def _do(self, name: str, step: retention.Step, do: Do) -> None:
        before = retention.cutoff(step, self._now)
        if before is not None:
            self._until = time.monotonic() + self._budget
            self._result.counts[name] = do(before, self._now, self._go_on)

    def _go_on(self) -> bool:
        if stopping.requested() or not self._held.beat():
            return False
        if time.monotonic() < self._until:
            return True
        self._result.more = True
        return False
