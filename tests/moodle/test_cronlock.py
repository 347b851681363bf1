"""The lock we take is the very lock of Moodle's cron; it excludes, and it ends with its holder's process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
from django.db import connections

from emailoffload.moodle import cronlock
from emailoffload.moodle.cronlock import CronLock
from emailoffload.moodle.errors import TaskMissing

pytestmark = [pytest.mark.mariadb, pytest.mark.django_db(databases=["default", "moodle"])]

REENGAGEMENT = r"\mod_reengagement\task\cron_task"
EMAIL = r"\local_email\task\cron_task"


@pytest.mark.parametrize(
    ("classname", "name"),
    [
        (REENGAGEMENT, "cb6ccfc6581ecd872a51fa146a232a28ccfb9d8d"),
        (EMAIL, "ae38fe680a36a9d229202214ef7e3da3a2e221b8"),
    ],
)
def test_the_name_is_moodles_on_mysql(classname: str, name: str) -> None:
    assert cronlock.lock_name_mysql("moodle", "mdl_", classname) == name


@pytest.mark.parametrize(("classname", "second"), [(REENGAGEMENT, 16822959), (EMAIL, 189789076)])
def test_the_keys_are_moodles_on_postgres(classname: str, second: int) -> None:
    assert cronlock.lock_keys_postgres("moodle", "mdl_", classname) == (1289808297, second)


def test_the_first_postgres_key_is_a_signed_number() -> None:
    keys = {cronlock.lock_keys_postgres(f"db{n}", "mdl_", EMAIL)[0] for n in range(50)}
    assert min(keys) < 0 < max(keys)
    assert all(-(2**31) <= key < 2**31 for key in keys)


@pytest.mark.parametrize(
    ("factory", "vendor", "usable"),
    [
        ("auto", "mysql", True),
        ("", "mysql", True),
        ("mysql", "mysql", True),
        (r"\core\lock\mysql_lock_factory", "mysql", True),
        (r"core\lock\mysql_lock_factory", "mysql", True),
        (r"\core\lock\postgres_lock_factory", "mysql", False),
        (r"\core\lock\db_record_lock_factory", "mysql", False),
        ("db_record", "mysql", False),
        (r"\core\lock\file_lock_factory", "mysql", False),
        ("redis", "mysql", False),
        (r"\cachestore_redis\lock\redis_lock_factory", "mysql", False),
        (r"\local_own\mysql", "mysql", False),
        ("auto", "sqlite", False),
        ("mysql", "sqlite", False),
        ("auto", "postgresql", False),
    ],
)
def test_only_locks_of_the_database_server_count_as_available(
    factory: str, vendor: str, usable: bool
) -> None:
    found = cronlock.available(factory, vendor)
    assert (found.kind == "mysql") is usable
    assert bool(found.reason) is not usable


@pytest.mark.parametrize(
    ("variables", "size", "usable"),
    [
        ({"wsrep_on": "OFF", "read_only": "OFF"}, 0, True),
        ({}, 0, True),
        ({"wsrep_on": "ON"}, 0, False),
        ({"wsrep_on": "OFF"}, 3, False),
        ({"read_only": "ON"}, 0, False),
        ({"group_replication_group_name": "G", "group_replication_single_primary_mode": "OFF"}, 0, False),
        ({"group_replication_group_name": "G", "group_replication_single_primary_mode": "ON"}, 0, True),
        ({"group_replication_group_name": "", "group_replication_single_primary_mode": "OFF"}, 0, True),
    ],
)
def test_a_lock_that_binds_one_node_of_many_is_not_available(
    variables: dict[str, str], size: int, usable: bool
) -> None:
    assert (cronlock.server_reason(variables, size) == "") is usable


def test_the_suites_server_can_share_the_lock() -> None:
    assert cronlock.lock_availability() == cronlock.Availability("mysql")


def test_a_read_only_server_cannot(moodle: Any) -> None:
    moodle.execute("SET GLOBAL read_only = 1")
    try:
        with CronLock(REENGAGEMENT) as lock:
            assert not lock.acquired
            assert "read-only" in lock.reason
    finally:
        moodle.execute("SET GLOBAL read_only = 0")


def test_the_target_is_the_class_as_moodle_stores_it(moodle: Any) -> None:
    assert cronlock.reengagement_lock_target() == REENGAGEMENT
    moodle.execute("DELETE FROM mdl_task_scheduled WHERE component = 'mod_reengagement'")
    with pytest.raises(TaskMissing) as caught:
        cronlock.reengagement_lock_target()
    assert caught.value.cure


@pytest.fixture
def cron(moodle: Any) -> Any:
    """Moodle's cron as it takes and gives back the lock of the task, by the name of facts §3.5."""

    class Cron:
        def take(self) -> bool:
            return bool(moodle.value(f"SELECT GET_LOCK('{self.name}', 0)"))

        def give_back(self) -> None:
            moodle.value(f"SELECT RELEASE_LOCK('{self.name}')")

        name = "cb6ccfc6581ecd872a51fa146a232a28ccfb9d8d"

    return Cron()


def test_while_we_hold_it_the_cron_cannot_start_and_afterwards_it_can(cron: Any) -> None:
    with CronLock(REENGAGEMENT) as lock:
        assert lock.acquired
        assert lock.still_held()
        assert not cron.take()
        assert not cronlock.is_free(REENGAGEMENT)
    assert not lock.still_held()
    assert cron.take()


def test_while_the_cron_runs_we_get_nothing_at_once(cron: Any) -> None:
    assert cron.take()
    assert not cronlock.is_free(REENGAGEMENT)
    started = time.monotonic()
    with CronLock(REENGAGEMENT) as lock:
        assert not lock.acquired
        assert lock.reason
        assert not lock.still_held()
    assert time.monotonic() - started < 2
    cron.give_back()
    with CronLock(REENGAGEMENT) as lock:
        assert lock.acquired


def test_two_of_us_exclude_each_other_but_not_on_another_task() -> None:
    with CronLock(REENGAGEMENT) as first, CronLock(REENGAGEMENT) as second, CronLock(EMAIL) as other:
        assert (first.acquired, second.acquired, other.acquired) == (True, False, True)


def test_an_error_in_the_block_gives_the_lock_back() -> None:
    with pytest.raises(ZeroDivisionError), CronLock(REENGAGEMENT):
        raise ZeroDivisionError
    assert cronlock.is_free(REENGAGEMENT)


def test_a_lost_connection_is_noticed_and_the_cron_may_run(moodle: Any, cron: Any) -> None:
    with CronLock(REENGAGEMENT) as lock:
        assert lock.acquired
        moodle.execute(f"KILL {moodle.value(f'SELECT IS_USED_LOCK({cron.name!r})')}")
        assert not lock.still_held()
        assert _soon(cron.take)


def test_a_lock_that_somebody_else_holds_by_now_is_not_ours(cron: Any) -> None:
    with CronLock(REENGAGEMENT) as lock:
        assert lock._connection is not None
        lock._connection.cursor().execute("SELECT RELEASE_LOCK(%s)", [lock.name])
        assert cron.take()
        assert not lock.still_held()


def test_the_lock_is_on_a_connection_of_its_own() -> None:
    with CronLock(REENGAGEMENT) as lock:
        connections["moodle"].close()
        assert lock.still_held()


HOLDER = """
import sys, django
django.setup()
from emailoffload.moodle.cronlock import CronLock
with CronLock(sys.argv[1]) as lock:
    print("held" if lock.acquired else "refused", flush=True)
    sys.stdin.read()
"""


def test_when_the_holder_is_killed_the_server_frees_the_lock(cron: Any) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, REENGAGEMENT],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert not cron.take()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert _soon(cron.take)


def _soon(condition: Any) -> bool:
    """Whether something becomes true within ten seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
