"""What may be claimed when: facts §2.9 and §3.4 as a table, and the rule against a model of Moodle's runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emailoffload.moodle.types import InProgress
from emailoffload.sources import reasons
from emailoffload.sources.reengagement.timing import TICK_SLACK, TWO_DAYS, Clock, Plan, plan

NOW = 1_800_000_000
DAY = 86400
CLOCK = Clock(now=NOW, margin=30, cron_period=300)


def row(*, due: int, completes: int = NOW + 30 * DAY, sent: int = 0, completed: int = 0) -> InProgress:
    return InProgress(1, 1, 3, completes, due, sent, completed)


@pytest.mark.parametrize(
    ("given_row", "count", "expected"),
    [
        # ahead of time: s+1 and the due time plus the delay, never the claim's time plus the delay
        (row(due=NOW + 600), 1, Plan(1, NOW + 600 + DAY, is_last=False, under_lock=False)),
        (row(due=NOW + 600, sent=1), 3, Plan(2, NOW + 600 + DAY, is_last=False, under_lock=False)),
        (row(due=NOW + 30), 3, Plan(1, NOW + 30 + DAY, is_last=False, under_lock=False)),
        # due, or so soon that clocks might disagree: only under the lock
        (row(due=NOW + 29), 3, Plan(1, NOW + 29 + DAY, is_last=False, under_lock=True)),
        (row(due=NOW - 1000), 3, Plan(1, NOW - 1 + DAY, is_last=False, under_lock=True)),
        # completed = 1: the last mail owed
        (row(due=NOW + 600, completed=1), 3, Plan(3, NOW + 600, is_last=True, under_lock=False)),
        (row(due=NOW - 600, completed=1), 1, Plan(1, NOW - 600, is_last=True, under_lock=True)),
        # completes surely before the run that would find it due
        (row(due=NOW + 600, completes=NOW + 500), 3, Plan(3, NOW + 600, is_last=True, under_lock=False)),
        (row(due=NOW + 600, completes=NOW + 500, sent=1), 3, reasons.COMPLETES_FIRST),
        (row(due=NOW - 600, completes=NOW - 1, sent=2), 3, reasons.COMPLETES_FIRST),
        # completes in the very second in which it is due: the run that finds it due is a later one
        (row(due=NOW + 600, completes=NOW + 600), 3, Plan(3, NOW + 600, is_last=True, under_lock=False)),
        (row(due=NOW + 600, completes=NOW + 600, sent=1), 3, reasons.COMPLETES_FIRST),
        # completes at about that time
        (row(due=NOW + 600, completes=NOW + 601), 3, reasons.COMPLETION_UNCLEAR),
        (row(due=NOW + 600, completes=NOW + 960, sent=1), 3, reasons.COMPLETION_UNCLEAR),
        (
            row(due=NOW + 600, completes=NOW + 961),
            3,
            Plan(1, NOW + 600 + DAY, is_last=False, under_lock=False),
        ),
        (row(due=NOW - 600, completes=NOW + 300), 3, reasons.COMPLETION_UNCLEAR),
        # the two-day rule, to the second
        (row(due=NOW - TWO_DAYS), 3, Plan(1, NOW - 1 + DAY, is_last=False, under_lock=True)),
        (row(due=NOW - TWO_DAYS - 1), 3, reasons.TOO_LATE),
    ],
)
def test_each_situation_of_a_reminder_has_one_answer(
    given_row: InProgress, count: int, expected: Plan | str
) -> None:
    assert plan(given_row, count, DAY, CLOCK) == expected


def moodle_mails(row: InProgress, count: int, delay: int, first_run: int, runs: int, until: int) -> int:
    """How many mails Moodle itself sends for a row: phases B and C of facts §2.5-2.6, literally."""
    completed, sent, emailtime = row.completed, row.emailsent, row.emailtime
    mails = 0
    for timenow in range(first_run, until, runs):
        if row.completiontime < timenow and not completed:
            if sent:
                return mails
            completed = 1
        if emailtime < timenow and sent < count:
            due = emailtime
            if completed:
                return mails + (due + TWO_DAYS >= timenow)
            emailtime, sent = timenow + delay, sent + 1
            mails += due + TWO_DAYS >= timenow
    return mails


SITUATIONS = {
    "due": st.integers(-4000, 2000),
    "completes": st.integers(-4000, 6000),
    "sent": st.integers(0, 2),
    "completed": st.booleans(),
    "delay": st.integers(300, 3000),
    "phase": st.integers(0, 299),
}


def owed_and_rest(
    due: int, completes: int, sent: int, completed: bool, delay: int, phase: int, more: int
) -> tuple[int, int] | None:
    """Mails that Moodle would send without us, and after our claim; None where we do not claim."""
    before = InProgress(1, 1, 3, NOW + completes, NOW + due, sent, int(completed))
    found = plan(before, sent + more, delay, CLOCK)
    if isinstance(found, str) or (completed and sent):
        return None
    after = InProgress(1, 1, 3, NOW + completes, found.emailtime, found.emailsent, int(completed))
    first, until = NOW + 1 + phase, NOW + 50_000
    return (
        moodle_mails(before, sent + more, delay, first, 300, until),
        moodle_mails(after, sent + more, delay, first, 300, until),
    )


@given(**SITUATIONS)
def test_the_only_mail_left_is_owed_once_and_never_sent_by_moodle_after_our_claim(
    due: int, completes: int, sent: int, completed: bool, delay: int, phase: int
) -> None:
    assert owed_and_rest(due, completes, sent, completed, delay, phase, more=1) in (None, (1, 0))


@given(more=st.integers(2, 4), **SITUATIONS)
def test_a_claim_leaves_moodle_one_mail_fewer_wherever_completion_is_not_near(
    due: int, completes: int, sent: int, completed: bool, delay: int, phase: int, more: int
) -> None:
    found = owed_and_rest(due, completes, sent, completed, delay, phase, more)
    if found is None:
        return
    owed, rest = found
    assert owed >= 1
    assert rest <= more - 1
    everything_before_completion = completes > max(due, 0) + more * (delay + 300 + TICK_SLACK)
    if completed or completes <= due or everything_before_completion:
        assert owed == rest + 1


@given(
    due=st.integers(-TWO_DAYS, 4000),
    sent=st.integers(0, 5),
    delay=st.integers(300, DAY),
    run=st.integers(1, 3 * DAY),
)
def test_no_run_of_moodles_can_write_what_a_claim_writes(due: int, sent: int, delay: int, run: int) -> None:
    before = InProgress(1, 1, 3, NOW + 40 * DAY, NOW + due, sent, 0)
    found = plan(before, sent + 3, delay, CLOCK)
    assert isinstance(found, Plan)
    timenow = NOW - 1 + run if found.under_lock else NOW + due + run
    if timenow > before.emailtime:
        assert (sent + 1, timenow + delay) != (found.emailsent, found.emailtime)
