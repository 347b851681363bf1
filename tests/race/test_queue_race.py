"""The watch over IOMAD's queue, other interceptors and IOMAD's cron, while mails are queued all the time (P1, P2)."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from emailoffload.moodle import cronlock
from emailoffload.outbox.models import Email, Lease
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.sandbox.email_cron import QUEUE_CLASS
from emailoffload.sandbox.ses_server import SandboxSES
from tests import settings as test_settings
from tests.claims import queue
from tests.conftest import Moodle
from tests.processes import result, spawn, start
from tests.race.conftest import Doubles
from tests.race.ledger import Ledger

pytestmark = [
    pytest.mark.django_db(databases=["default", "moodle"], transaction=True),
    pytest.mark.race,
    pytest.mark.mariadb,
]
PACE: dict[str, Any] = {
    "CLAIM_MARGIN_SECONDS": 2,
    "CLAIM_LEAD_SECONDS": 60,
    "QUEUE_POLL_SECONDS": 0.3,
    "LEASE_SECONDS": 20,
}
"""Shorter than in life."""
SECONDS = 6
MAIL_SECONDS = 0.02
WATCHERS: list[subprocess.Popen[str]] = []
LOCK = cronlock.lock_name_mysql(test_settings.MOODLE_DATABASE, "mdl_", QUEUE_CLASS)


def our_mails() -> Counter[int]:
    """The users' mails in our outbox, by the row that they are for."""
    mails = Email.objects.filter(state=EmailState.QUEUED, role="user", claim__state=ClaimState.CLAIMED)
    return Counter(mails.values_list("claim__row_id", flat=True))


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def held(moodle: Moodle) -> bool:
    """Whether somebody holds the lock of IOMAD's task."""
    return moodle.value("SELECT IS_USED_LOCK(%s)", [LOCK]) is not None


@pytest.fixture(autouse=True)
def _no_watcher_is_left() -> Iterator[None]:
    yield
    while WATCHERS:
        watcher = WATCHERS.pop()
        watcher.kill()
        watcher.communicate()


def watch(mode: str, sabotage: str = "none", factory: str = "auto") -> subprocess.Popen[str]:
    """A watcher's process; it ends with its test."""
    WATCHERS.append(spawn("watch", sabotage, MOODLE_CRON_GUARD=mode, MOODLE_LOCK_FACTORY=factory, **PACE))
    return WATCHERS[-1]


def ready(moodle: Moodle) -> None:
    """A queue in which nothing waits, and whose task may be run at any time."""
    moodle.execute("UPDATE mdl_email SET sent = modifiedtime WHERE sent IS NULL")
    moodle.execute(
        "UPDATE mdl_task_scheduled SET timestarted = NULL, disabled = 0, faildelay = 0, nextruntime = 0,"
        " lastruntime = %s WHERE classname = %s",
        [int(time.time()), QUEUE_CLASS],
    )


def race(moodle: Moodle, mode: str, *, lock: bool = True, sabotage: str = "none") -> Ledger:
    """Queue mails all the time, let them race, then count."""
    ready(moodle)
    factory = "auto" if lock else "db_record"
    watcher = watch(mode, sabotage, factory)
    interceptor = spawn(
        "intercept", "-2", SECONDS, sabotage, "iomad_queue", MOODLE_LOCK_FACTORY=factory, **PACE
    )
    cron = spawn("queue_cron", SECONDS, MAIL_SECONDS, "lock" if lock else "none")
    start([watcher, interceptor, cron])
    owed: list[int] = []
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        # Without the lock, IOMAD's delay setting is what gives us time.
        owed += queue.queued(moodle, 6, due=-1 if lock else 5 if len(owed) % 12 else 1, age=2)
        time.sleep(0.1)
    if not lock:
        until(
            lambda: (
                not moodle.value(
                    "SELECT COUNT(*) FROM mdl_email WHERE sent IS NULL AND due >= %s", [int(time.time())]
                )
            )
        )
    mailed = Counter(result(cron)["mailed"])
    assert not result(interceptor)["refused"]
    result(watcher)
    last = spawn("queue_cron", 0, 0, "lock" if lock else "none")
    start([last])
    mailed += Counter(result(last)["mailed"])
    return Ledger(set(owed), mailed, our_mails())


@pytest.mark.parametrize(
    ("mode", "lock"),
    [("tick", True), ("hold", True), ("off", True), ("tick", False)],
    ids=["tick", "hold", "off", "lock not available, mails delayed"],
)
def test_each_mail_of_the_queue_goes_out_once_in_total(
    moodle: Moodle, ses: SandboxSES, mode: str, lock: bool
) -> None:
    ledger = race(moodle, mode, lock=lock)
    assert len(ledger.owed) > 150
    assert not ledger.doubles
    assert not ledger.never
    assert len(ledger.ours) > 30, "we must have taken a good part of it"
    if mode != "hold":
        assert ledger.moodle, "IOMAD must have been mailing at the same time"


def test_without_the_lock_the_same_race_sends_doubles(
    moodle: Moodle, ses: SandboxSES, doubles: Doubles
) -> None:
    assert doubles(lambda: race(moodle, "tick", sabotage="no_lock"))


def test_with_hold_all_mails_are_ours_until_the_watcher_is_killed_and_the_next_run_takes_over(
    moodle: Moodle, ses: SandboxSES
) -> None:
    ready(moodle)
    watcher = watch("hold")
    start([watcher])
    until(lambda: held(moodle))
    cron = spawn("queue_cron", 2, MAIL_SECONDS, "lock")
    start([cron])
    owed: list[int] = []
    while cron.poll() is None:
        owed += queue.queued(moodle, 6, due=-1, age=2)
        time.sleep(0.1)
    report = result(cron)
    assert (report["mailed"], report["runs"]) == ([], 0) and report["skipped"]
    until(lambda: our_mails() == Counter(owed))
    watcher.kill()
    watcher.communicate()
    until(lambda: not held(moodle))
    left = queue.queued(moodle, 20, due=-60)
    successor = spawn("queue_cron", 0, 0, "lock")
    start([successor])
    assert sorted(result(successor)["mailed"]) == left
    assert our_mails() == Counter(owed)


def test_of_two_watchers_the_second_one_takes_over_from_the_one_that_was_told_to_stop(
    moodle: Moodle, ses: SandboxSES
) -> None:
    ready(moodle)
    first, second = watch("hold"), watch("hold")
    start([first])
    until(lambda: held(moodle))
    start([second])
    holder = Lease.objects.get(name="cron-guard").holder
    result(first)
    until(lambda: held(moodle))
    assert Lease.objects.get(name="cron-guard").holder != holder
    result(second)
    assert not held(moodle) and not Lease.objects.get(name="cron-guard").token
