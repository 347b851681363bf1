"""One holder at a time: leases across threads, processes and deaths."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from emailoffload.outbox.models import Lease
from emailoffload.worker import lease

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.mariadb]
FORK = multiprocessing.get_context("fork")


def in_processes(count: int, target: Callable[..., None], *args: Any) -> list[Any]:
    """Run `target(queue, *args)` in `count` processes that share no connection; what they put."""
    connections.close_all()
    queue: Any = FORK.SimpleQueue()
    children = [FORK.Process(target=target, args=(queue, *args)) for _ in range(count)]
    for child in children:
        child.start()
    results = [queue.get() for _ in children]
    for child in children:
        child.join()
    return results


def try_to_take(queue: Any, barrier: Any, name: str) -> None:
    barrier.wait()
    queue.put(lease.take(name) is not None)
    connections.close_all()


def test_of_six_processes_that_ask_at_once_for_a_lease_nobody_ever_held_exactly_one_gets_it() -> None:
    results = in_processes(6, try_to_take, FORK.Barrier(6), "intercept")
    assert sorted(results) == [False] * 5 + [True]


def test_of_six_processes_that_ask_at_once_for_an_expired_lease_exactly_one_takes_it_over() -> None:
    Lease.objects.create(name="intercept", token="dead", expires_at=timezone.now() - timedelta(seconds=1))
    results = in_processes(6, try_to_take, FORK.Barrier(6), "intercept")
    assert sorted(results) == [False] * 5 + [True]


def hold_and_die(queue: Any, name: str) -> None:
    lease.take(name)
    queue.put(os.getpid())
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_lease_of_a_killed_process_is_taken_over_when_it_expires_and_not_before() -> None:
    in_processes(1, hold_and_die, "recover")
    assert lease.take("recover") is None
    Lease.objects.update(expires_at=timezone.now() - timedelta(milliseconds=1))
    assert lease.take("recover") is not None


def test_a_lease_is_free_again_right_after_its_block() -> None:
    with lease.hold("recover") as first:
        assert first is not None
        with lease.hold("recover") as second:
            assert second is None
    with lease.hold("recover") as third:
        assert third is not None


def test_a_lease_is_given_back_when_its_block_fails() -> None:
    with pytest.raises(ZeroDivisionError), lease.hold("recover"):
        raise ZeroDivisionError
    assert lease.running(["recover"]) == set()


def test_slots_are_taken_one_by_one_and_no_more_than_there_are() -> None:
    with lease.hold_any("dispatch", 2) as one, lease.hold_any("dispatch", 2) as two:
        with lease.hold_any("dispatch", 2) as three:
            assert one is not None and two is not None and three is None
        assert (one.name, two.name) == ("dispatch-1", "dispatch-2")
        assert lease.running(lease.slot_names("dispatch", 3)) == {"dispatch-1", "dispatch-2"}
    assert lease.running(lease.slot_names("dispatch", 3)) == set()


def test_a_heartbeat_extends_the_lease(settings: Any) -> None:
    with lease.hold("recover") as held:
        assert held is not None
        nearly_over = timezone.now() + timedelta(seconds=1)
        Lease.objects.update(expires_at=nearly_over)
        held._beaten -= settings.LEASE_SECONDS
        assert held.beat()
        assert Lease.objects.get().expires_at > nearly_over


def test_a_holder_whose_lease_was_taken_over_is_told_and_does_not_release_the_new_holders(
    settings: Any,
) -> None:
    with lease.hold("recover") as slow:
        assert slow is not None
        Lease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        new = lease.take("recover")
        assert new is not None
        slow._beaten -= settings.LEASE_SECONDS
        assert [slow.beat() for _ in range(3)] == [False] * 3
    assert lease.running(["recover"]) == {"recover"}


def test_heartbeats_in_a_tight_loop_cost_no_query(django_assert_num_queries: Any) -> None:
    with lease.hold("recover") as held:
        assert held is not None
        with django_assert_num_queries(0):
            assert all(held.beat() for _ in range(1000))
