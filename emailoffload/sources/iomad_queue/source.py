"""IOMAD's mail queue as a source: find waiting rows, decide each with a reason, render, recheck.

Rows of the queue are due when they are born, so a claim is always made under the lock of IOMAD's own task
(design §3.1), except where IOMAD's delay setting puts `due` far enough ahead.
"""

from __future__ import annotations

from collections.abc import Sequence

from emailoffload.moodle import variants
from emailoffload.moodle.site import load_site
from emailoffload.moodle.types import QueueRow
from emailoffload.sources import reasons
from emailoffload.sources.protocol import Candidate, ClaimView, Decision, Recheck
from emailoffload.sources.reengagement import timing

NAME = "iomad_queue"
LOCK_TARGET = r"\local_email\task\cron_task"
"""The task whose lock guards the queue, as `task_scheduled` has it (facts §3.7)."""


class QueueSource:
    """The source for one pass: the site's configuration is read once and used for the whole pass."""

    name = NAME

    def __init__(self, *, parity: str, variant: variants.Variant | None = None) -> None:
        self.site = load_site()
        self.variant = variant or variants.detect()
        self.strict = parity == "strict"

    def decide(self, rows: Sequence[QueueRow], clock: timing.Clock) -> list[Decision]:
        """One decision per row, in the order given; what is to be claimed is rendered."""
        return [Decision(row.id, reasons.BROKEN_ROW) for row in rows]

    def as_of(self, candidate: Candidate, now: int) -> Candidate:
        """The candidate with the values to write as of `now` (UNIX seconds)."""
        return candidate

    def recheck(self, views: Sequence[ClaimView], now: int) -> list[Recheck]:
        """Which claims' mails may no longer leave, and why."""
        return []

    def lock_target(self) -> str:
        """The name of the task whose lock guards due rows."""
        return LOCK_TARGET

    def obstacle(self) -> str:
        """Why due rows may not be claimed even under the lock; nothing ever does here."""
        return ""
