"""What the clock and the counters say about one reminder: whether it may be claimed, how, and what to write.

Pure functions of numbers, so that every row of facts §2.9 and §3.4 is a line of a test table.
"""

from __future__ import annotations

from dataclasses import dataclass

from emailoffload.moodle.types import InProgress
from emailoffload.sources import reasons
from emailoffload.sources.protocol import Clock as Clock

TWO_DAYS = 172800
"""Moodle drops a reminder that is more than this many seconds overdue (facts §2.7)."""
TICK_SLACK = 60
"""A cron run may start this many seconds after its period: cron starts once a minute."""
MOST_REMINDERS = 32767
"""What `emailsent` can hold. Beyond this, or below nothing, no claim can be written, nor the batch that it is in."""
LONGEST_DELAY = 100 * 366 * 24 * 3600
"""Seconds between two reminders, far more than Moodle's form takes; what is longer does not fit `emailtime`."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A reminder that may be claimed: what to write, and whether only under the cron lock."""

    emailsent: int
    emailtime: int
    is_last: bool
    under_lock: bool


def plan(row: InProgress, remindercount: int, emaildelay: int, clock: Clock) -> Plan | str:
    """Decide one due or soon due row; returns a Plan, or the reason code why it stays with Moodle.

    T, the first run of Moodle's that would find the row due, lies in (lo, hi]: after the due time, or after
    now where the row is overdue already, and no later than one cron period plus slack.

    * completed = 1: one mail is owed and Moodle would delete the row with it.
    * completes surely before T, nothing sent yet: the same. Something sent: Moodle sends nothing. What completes
      in the very second in which it is due is among them: T is later than the due time.
    * completes surely after T: a reminder like any other.
    * else: what Moodle would do cannot be known, so the row is left alone.

    Rules: facts §2.7, §2.9, §3.4; the values written: design §3.2.
    """
    due, sent = row.emailtime, row.emailsent
    if not (
        0 <= sent < MOST_REMINDERS
        and 0 <= remindercount <= MOST_REMINDERS
        and 0 <= emaildelay <= LONGEST_DELAY
    ):
        return reasons.BROKEN_ROW
    if due + TWO_DAYS < clock.now:
        return reasons.TOO_LATE
    under_lock = due < clock.now + clock.margin
    lo = max(due, clock.now)
    hi = lo + clock.cron_period + TICK_SLACK
    last = Plan(remindercount, due, is_last=True, under_lock=under_lock)
    if row.completed:
        return last
    if row.completiontime <= due or row.completiontime < lo:
        return last if sent == 0 else reasons.COMPLETES_FIRST
    if row.completiontime <= hi:
        return reasons.COMPLETION_UNCLEAR
    return Plan(sent + 1, max(due, clock.now - 1) + emaildelay, is_last=False, under_lock=under_lock)
