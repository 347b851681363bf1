"""When the watch over IOMAD's queue takes Moodle's lock, keeps it and lets go: numbers only, no clock."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from emailoffload.worker.guard_timing import (
    AHEAD,
    HOLD_LOOK,
    RETRY,
    WINDOW_LOOK,
    WINDOW_SECONDS,
    YIELD_EVERY,
    YIELD_SECONDS,
    YIELD_SPACING,
    Act,
    Situation,
    Task,
    next_act,
    pause,
)

NOW = 1_900_000_000.0
NEXT = int(NOW) + 100
POLL = 5.0
TASK = Task(r"\local_email\task\cron_task", lastruntime=int(NOW) - 200, nextruntime=NEXT)


def situation(mode: str = "tick", **changes: Any) -> Situation:
    return replace(Situation(NOW, mode, task=TASK, yielded_at=NOW - 1000), **changes)


def overdue(**changes: Any) -> Task:
    return replace(TASK, nextruntime=int(NOW) - 40, **changes)


@pytest.mark.parametrize("mode", ["off", "tick", "hold"])
@pytest.mark.parametrize(("held", "act"), [(True, Act.LET_GO), (False, Act.REST)])
def test_where_nothing_may_be_claimed_the_lock_is_given_back_and_never_taken(
    mode: str, held: bool, act: Act
) -> None:
    for task in (TASK, overdue()):
        at = situation(mode, why_not="claims_paused", held=held, task=task)
        assert next_act(at) is act
        assert pause(at, POLL) == POLL


@pytest.mark.parametrize("mode", ["off", "tick", "hold"])
@pytest.mark.parametrize("lacking", [{"lockable": False}, {"task": None}])
def test_without_a_lock_or_a_task_to_lock_new_rows_are_looked_for_all_the_same(
    mode: str, lacking: dict[str, Any]
) -> None:
    at = situation(mode, **lacking)
    assert next_act(at) is Act.LOOK
    assert pause(at, POLL) == POLL


def test_off_takes_the_lock_for_claims_only() -> None:
    for task in (TASK, overdue(), replace(TASK, nextruntime=0)):
        assert next_act(situation("off", task=task)) is Act.LOOK


@pytest.mark.parametrize(
    ("now", "act"),
    [(NEXT - AHEAD - 0.1, Act.LOOK), (NEXT - AHEAD, Act.TICK), (NEXT, Act.TICK), (NEXT + 9999, Act.TICK)],
)
def test_tick_takes_the_lock_just_before_the_crons_next_run_and_at_once_where_that_has_passed(
    now: float, act: Act
) -> None:
    assert next_act(situation(now=now)) is act


def test_each_run_of_the_cron_gets_one_tick() -> None:
    at = situation(now=NEXT - 1, ticked_for=NEXT)
    assert next_act(at) is Act.LOOK
    assert next_act(replace(at, now=NEXT + 50)) is Act.LOOK
    later = replace(TASK, nextruntime=NEXT + 300)
    assert next_act(replace(at, now=NEXT + 60, task=later)) is Act.LOOK
    assert next_act(replace(at, now=NEXT + 298, task=later)) is Act.TICK


def test_a_task_that_has_never_run_is_due_at_any_moment() -> None:
    assert next_act(situation(task=Task(TASK.classname))) is Act.TICK


@pytest.mark.parametrize(
    ("before", "seconds"), [(60.0, POLL), (AHEAD + 3.0, 3.0), (AHEAD + 0.1, RETRY), (0.0, RETRY)]
)
def test_the_watch_wakes_up_for_its_tick_and_tries_again_soon_where_the_lock_is_taken(
    before: float, seconds: float
) -> None:
    assert pause(situation(now=NEXT - before), POLL) == pytest.approx(seconds)


def test_during_a_run_the_lock_is_not_tried_for_twice_a_second() -> None:
    assert pause(situation(task=overdue(timestarted=int(NOW) - 30)), POLL) == POLL


@pytest.mark.parametrize(
    ("after", "seconds"), [(-1.0, WINDOW_LOOK), (59.0, WINDOW_LOOK), (WINDOW_SECONDS, POLL)]
)
def test_between_the_tick_and_the_crons_start_new_rows_are_looked_for_every_second(
    after: float, seconds: float
) -> None:
    assert pause(situation(now=NEXT + after, ticked_for=NEXT), POLL) == seconds


def test_hold_takes_the_lock_at_once_and_keeps_it() -> None:
    at = situation("hold")
    assert next_act(at) is Act.TAKE
    assert next_act(replace(at, held=True)) is Act.KEEP
    assert next_act(replace(at, held=True, now=NEXT + 1)) is Act.KEEP
    assert pause(replace(at, held=True), POLL) == HOLD_LOOK


@pytest.mark.parametrize(
    ("ran", "yielded", "act"),
    [
        (YIELD_EVERY, YIELD_EVERY, Act.YIELD),
        (YIELD_EVERY - 1, YIELD_EVERY, Act.KEEP),
        (YIELD_EVERY, YIELD_EVERY - 1, Act.KEEP),
        (99999, YIELD_EVERY, Act.YIELD),
    ],
)
def test_hold_lets_iomads_own_run_happen_once_an_hour(ran: float, yielded: float, act: Act) -> None:
    at = situation("hold", held=True, yielded_at=NOW - yielded)
    assert next_act(replace(at, task=replace(TASK, lastruntime=int(NOW - ran)))) is act


@pytest.mark.parametrize(("ago", "act"), [(YIELD_SPACING - 1, Act.KEEP), (YIELD_SPACING, Act.YIELD)])
def test_mails_that_only_iomad_can_send_make_hold_yield_but_not_all_the_time(ago: float, act: Act) -> None:
    at = situation("hold", held=True, yielded_at=NOW - ago)
    assert next_act(at) is Act.KEEP
    assert next_act(replace(at, owed=True)) is act


def test_a_yield_lasts_until_iomads_run_has_ended_or_does_not_come() -> None:
    at = situation("hold", yielded_at=NOW, yielded_to=TASK, now=NOW + 20)
    assert next_act(at) is Act.LOOK
    running = replace(TASK, timestarted=int(NOW) + 10)
    assert next_act(replace(at, task=running)) is Act.LOOK
    done = replace(TASK, lastruntime=int(NOW) + 10, nextruntime=NEXT + 300)
    assert next_act(replace(at, task=done)) is Act.TAKE
    failed = replace(TASK, nextruntime=NEXT + 60)
    assert next_act(replace(at, task=failed)) is Act.TAKE
    assert next_act(replace(at, now=NOW + YIELD_SECONDS - 1)) is Act.LOOK
    assert next_act(replace(at, now=NOW + YIELD_SECONDS)) is Act.TAKE


def test_a_clock_that_was_set_back_does_not_prolong_a_yield() -> None:
    assert next_act(situation("hold", yielded_at=NOW, yielded_to=TASK, now=NOW - 3600)) is Act.TAKE
