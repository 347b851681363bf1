"""When the watch over IOMAD's queue takes Moodle's lock, keeps it and lets go: decided on numbers only.

Rows of the queue are due when they are born, so they can be claimed only while the lock of IOMAD's own task is
ours (facts §7.7). MOODLE_CRON_GUARD says how hard we try to be there in time (design §3.1):

* `off`: new rows are looked for every few seconds; each claim takes the lock for a moment.
* `tick`: also, the lock is taken just before Moodle's cron is next due to start the task, for one pass over all
  that waits. Between letting go and the cron's start (Moodle's cron looks once a minute, so up to a minute) new
  rows are looked for every second. A row that is born after the last look and before the cron's start is mailed
  by IOMAD, once: the run has the lock by then, and we leave due rows alone without it.
* `hold`: the lock stays ours. Once an hour, and where mails wait that are IOMAD's to send, it is let go until
  IOMAD's task has run, which also removes old rows.

Times are UNIX seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

AHEAD = 2.0
"""How long before the cron's next start the lock is taken: a pass and two clocks that differ need some time."""
RETRY = 0.5
"""How often a lock that is taken is tried again when its moment has come."""
WINDOW_LOOK = 1.0
"""How often new rows are looked for while the cron may start the task at any moment."""
WINDOW_SECONDS = 120.0
"""How long such a start is waited for. Moodle's cron looks every minute; one that does not is not running."""
HOLD_LOOK = 2.0
"""While we hold the lock, health is looked at this often: when it is bad IOMAD must be able to mail."""
YIELD_EVERY = 3600.0
"""IOMAD's task runs at least this often, for its own cleaning."""
YIELD_SPACING = 300.0
"""Mails that wait for IOMAD make us yield no more often than this."""
YIELD_SECONDS = 180.0
"""A run of IOMAD's that has not come within this time does not come: three looks of Moodle's cron."""


class Act(StrEnum):
    """What the watch does next."""

    REST = "rest"
    """Nothing can be claimed, so nothing is looked for."""
    LET_GO = "let_go"
    """Give the lock back; there is a reason not to claim."""
    LOOK = "look"
    """Look for new rows; a claim takes the lock for a moment."""
    TICK = "tick"
    """Take the lock, go over all that waits, give it back."""
    TAKE = "take"
    """Take the lock to keep it, and go over all that waits."""
    KEEP = "keep"
    """The lock is ours: look for new rows under it."""
    YIELD = "yield"
    """Go over all that waits, then let IOMAD's task run."""


@dataclass(frozen=True, slots=True)
class Task:
    """IOMAD's task as Moodle's table of scheduled tasks has it; 0 is "never" (facts §3.6)."""

    classname: str
    lastruntime: int = 0
    nextruntime: int = 0
    timestarted: int | None = None
    disabled: bool = False

    def ran_since(self, before: Task) -> bool:
        """Whether a run has ended since `before`; one that goes on has not. A failed run counts."""
        moved = (self.lastruntime, self.nextruntime) != (before.lastruntime, before.nextruntime)
        return moved and self.timestarted is None


@dataclass(frozen=True, slots=True)
class Situation:
    """All that decides what happens next."""

    now: float
    mode: str
    """MOODLE_CRON_GUARD."""
    why_not: str = ""
    """Why nothing may be claimed now, '' if something may."""
    lockable: bool = True
    """Whether Moodle's lock can be held on this site at all."""
    task: Task | None = None
    held: bool = False
    ticked_for: int | None = None
    """The next run time that the last tick was made for."""
    yielded_at: float = 0.0
    """When we last began to let IOMAD run; at first, when the watch began."""
    yielded_to: Task | None = None
    """The task as it was when we let go for it; None while we do not wait for its run."""
    owed: bool = False
    """Mails wait that only IOMAD can send."""


def next_act(at: Situation) -> Act:
    """What to do now."""
    if at.why_not:
        return Act.LET_GO if at.held else Act.REST
    if not at.lockable or at.task is None or at.mode == "off":
        return Act.LOOK
    if at.mode == "hold":
        return _hold(at, at.task)
    return Act.TICK if _tick_is_open(at, at.task) and _until_tick(at, at.task) <= 0 else Act.LOOK


def _hold(at: Situation, task: Task) -> Act:
    if at.yielded_to is not None:
        over = task.ran_since(at.yielded_to) or not 0 <= at.now - at.yielded_at < YIELD_SECONDS
        return Act.TAKE if over else Act.LOOK
    if not at.held:
        return Act.TAKE
    long_ago = at.now - max(task.lastruntime, at.yielded_at) >= YIELD_EVERY
    return Act.YIELD if long_ago or (at.owed and at.now - at.yielded_at >= YIELD_SPACING) else Act.KEEP


def pause(at: Situation, poll: float) -> float:
    """Seconds until the watch looks again; `poll` (QUEUE_POLL_SECONDS) at most."""
    if at.why_not or not at.lockable or at.task is None or at.mode == "off":
        return poll
    if at.mode == "hold":
        return min(poll, HOLD_LOOK)
    if _tick_is_open(at, at.task):
        # During a run there is nothing to win: it ends with another next run time.
        running = at.task.timestarted is not None and _until_tick(at, at.task) <= 0
        return poll if running else min(poll, max(RETRY, _until_tick(at, at.task)))
    waiting = at.now < at.task.nextruntime + WINDOW_SECONDS
    return min(poll, WINDOW_LOOK) if waiting else poll


def _tick_is_open(at: Situation, task: Task) -> bool:
    """Whether the task's next run has not had its tick yet."""
    return at.ticked_for != task.nextruntime


def _until_tick(at: Situation, task: Task) -> float:
    """Negative where the moment has passed: the cron may start the task at any time."""
    return task.nextruntime - AHEAD - at.now
