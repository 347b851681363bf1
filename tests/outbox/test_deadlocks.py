"""A transaction that a server chose as a deadlock's victim is run again; anything else is not."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, OperationalError, transaction

from emailoffload.outbox import deadlocks

pytestmark = pytest.mark.django_db(transaction=True)
VICTIM = OperationalError(deadlocks.DEADLOCK, "Deadlock found when trying to get lock")


class Work:
    """Fails with `error` so many times, then answers 7."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error, self.left, self.tries = error, times, 0

    def __call__(self) -> int:
        self.tries += 1
        if self.left:
            self.left -= 1
            raise self.error
        return 7


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was slept, without sleeping it."""
    slept: list[float] = []
    monkeypatch.setattr(deadlocks.time, "sleep", slept.append)
    return slept


@pytest.mark.parametrize("times", [0, 1, deadlocks.TRIES - 1])
def test_a_victim_is_run_again_after_a_pause_that_grows(times: int, no_waiting: list[float]) -> None:
    work = Work(VICTIM, times)
    assert deadlocks.survive(work) == 7
    assert (work.tries, len(no_waiting)) == (times + 1, times)
    assert all(0 <= pause <= 0.01 * 2**number for number, pause in enumerate(no_waiting))


def test_one_that_is_a_victim_every_time_ends_with_the_servers_own_error() -> None:
    work = Work(VICTIM, deadlocks.TRIES)
    with pytest.raises(OperationalError) as told:
        deadlocks.survive(work)
    assert told.value is VICTIM
    assert work.tries == deadlocks.TRIES


@pytest.mark.parametrize(
    "error", [OperationalError(2006, "gone"), OperationalError(), IntegrityError(1062, "double")], ids=repr
)
def test_what_is_no_deadlock_is_not_run_again(error: Exception) -> None:
    work = Work(error, 1)
    with pytest.raises(type(error)):
        deadlocks.survive(work)
    assert work.tries == 1


def test_within_a_larger_transaction_the_whole_of_it_is_what_must_be_run_again() -> None:
    work = Work(VICTIM, 1)
    with pytest.raises(OperationalError), transaction.atomic():
        deadlocks.survive(work)
    assert work.tries == 1
