"""The watch over IOMAD's queue on the real site, step by step, with a clock that the test sets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import OperationalError, connection, connections
from django.test.utils import CaptureQueriesContext

from emailoffload.actions.release import release
from emailoffload.delivery import health
from emailoffload.delivery.errors import Outcome
from emailoffload.moodle import cronlock
from emailoffload.outbox import guardstate, switches
from emailoffload.outbox.models import Claim, Lease, Run, State
from emailoffload.outbox.states import ClaimState
from emailoffload.sandbox.email_cron import QUEUE_CLASS, SimulatedEmailCron
from emailoffload.sandbox.moodle_side import mysql_lock
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.worker import cronguard, guard_timing, tasks
from emailoffload.worker.newcomers import LATE_IDS, LATE_SECONDS, RETRY_SECONDS, Newcomers
from tests import settings as test_settings
from tests.claims import queue
from tests.conftest import Moodle

pytestmark = [
    pytest.mark.mariadb,
    pytest.mark.django_db(databases=["default", "moodle"], transaction=True),
]
LOCK = cronlock.lock_name_mysql(test_settings.MOODLE_DATABASE, "mdl_", QUEUE_CLASS)


class Site:
    """A site whose queue is empty and whose task runs in `ahead` seconds; `guard` watches it."""

    def __init__(self, moodle: Moodle) -> None:
        self.moodle = moodle
        self.now = time.time()
        self.guard = cronguard.Guard()
        moodle.execute("UPDATE mdl_email SET sent = modifiedtime WHERE sent IS NULL")
        self.task(next_in=100)

    def task(self, *, next_in: int, last: int = 60) -> None:
        self.moodle.execute(
            "UPDATE mdl_task_scheduled SET timestarted = NULL, disabled = 0, faildelay = 0, lastruntime = %s,"
            " nextruntime = %s WHERE classname = %s",
            [int(self.now) - last, int(self.now) + next_in, QUEUE_CLASS],
        )

    def step(self, later: float = 0.0) -> float:
        self.now += later
        return self.guard.step(self.now)

    def held(self) -> bool:
        return self.moodle.value("SELECT IS_USED_LOCK(%s)", [LOCK]) is not None

    def cron(self) -> list[int]:
        """A run of IOMAD's, at the time of the test; the rows that it mailed."""
        mailed: list[int] = []

        def connect() -> Any:
            return self.moodle.server.connect(test_settings.MOODLE_DATABASE)

        cron = SimulatedEmailCron(
            connect, prefix="mdl_", paramstyle="format", mail_seconds=0, now=lambda: self.now,
            lock=mysql_lock(connect, dbname=test_settings.MOODLE_DATABASE, prefix="mdl_"),
            mail=lambda mail: mailed.append(int(mail["row_id"])),
        )  # fmt: skip
        cron.run_queue()
        return mailed


@pytest.fixture
def site(moodle: Moodle, ses: SandboxSES, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    settings.MOODLE_CRON_GUARD = "tick"
    monkeypatch.setattr(cronguard, "close_old_connections", lambda: None)
    made = Site(moodle)
    yield made
    made.guard.close()


def claimed() -> set[int]:
    return set(Claim.objects.filter(state=ClaimState.CLAIMED).values_list("row_id", flat=True))


# --- new rows ---


@pytest.mark.parametrize("mode", ["off", "tick", "hold"])
def test_a_new_mail_is_claimed_by_the_next_look_and_its_sending_begins(
    site: Site, settings: Any, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    called: list[int] = []
    monkeypatch.setattr(tasks, "dispatch_soon", lambda: called.append(1))
    settings.MOODLE_CRON_GUARD = mode
    site.step()
    assert not called
    rows = queue.queued(site.moodle, 3)
    site.step(5)
    assert claimed() == set(rows) and called == [1]
    assert site.held() is (mode == "hold")


def test_a_look_that_finds_nothing_leaves_no_record_of_a_pass(site: Site) -> None:
    for _ in range(3):
        site.step(5)
    assert not Run.objects.exists()


def test_a_quick_look_reads_only_rows_above_the_mark_and_a_tick_reads_all(site: Site) -> None:
    old = queue.queued(site.moodle, 1)
    site.moodle.execute("UPDATE mdl_email SET sent = 1 WHERE id = %s", old)
    site.moodle.execute("ALTER TABLE mdl_email AUTO_INCREMENT = %s", [old[0] + LATE_IDS + 100])
    (new,) = queue.queued(site.moodle, 1)
    if new < old[0] + LATE_IDS:
        site.moodle.execute("UPDATE mdl_email SET id = id + %s WHERE id = %s", [LATE_IDS + 100, new])
        new += LATE_IDS + 100
    site.step()
    assert claimed() == {new}
    queue.queue_again(site.moodle, old)
    site.step(5)
    assert claimed() == {new}
    site.step(100)
    assert claimed() == {new, *old}


def test_a_row_that_becomes_visible_some_minutes_after_its_id_was_given_is_found(moodle: Moodle) -> None:
    news, now = Newcomers(), time.time()
    rows = queue.queued(moodle, 3)
    moodle.execute("DELETE FROM mdl_email WHERE sent IS NULL AND id < %s", [rows[0]])
    late = rows[0]
    moodle.execute("UPDATE mdl_email SET due = due + 100000 WHERE id = %s", [late])  # not to be seen yet
    assert [row.id for row in news.look(now)] == rows[1:]
    news.tried(news.look(now), now)
    assert news.look(now + LATE_SECONDS - 10) != []  # tried again after a minute
    moodle.execute("UPDATE mdl_email SET due = due - 100000 WHERE id = %s", [late])
    assert late in [row.id for row in news.look(now + LATE_SECONDS - 5)]


def test_what_a_pass_left_is_tried_again_after_a_minute_not_at_every_look(moodle: Moodle) -> None:
    news, now = Newcomers(), time.time()
    rows = queue.queued(moodle, 1)
    news.tried(found := news.look(now), now)
    assert rows[0] in [row.id for row in found]
    assert rows[0] not in [row.id for row in news.look(now + RETRY_SECONDS - 1)]
    assert rows[0] in [row.id for row in news.look(now + RETRY_SECONDS)]


def test_after_some_minutes_a_look_begins_at_what_was_the_highest_id_then(moodle: Moodle) -> None:
    news, now = Newcomers(), time.time()
    old = queue.queued(moodle, 1)
    news.look(now)
    news.look(now + LATE_SECONDS)
    queue.queued(moodle, 1)
    with CaptureQueriesContext(connections["moodle"]) as queries:
        news.look(now + LATE_SECONDS + 5)
    assert len(queries) == 3
    assert f"id > {old[0]}" in queries[1]["sql"]


def test_while_iomads_cron_is_running_due_rows_are_left_alone_and_later_ones_claimed(
    site: Site, settings: Any
) -> None:
    settings.MOODLE_CRON_GUARD = "off"
    due, later = queue.queued(site.moodle, 1), queue.queued(site.moodle, 1, due=120)
    site.moodle.value("SELECT GET_LOCK(%s, 0)", [LOCK])
    site.step()
    assert claimed() == set(later)
    site.moodle.value("SELECT RELEASE_LOCK(%s)", [LOCK])
    site.step(5)
    assert claimed() == {*due, *later}


def test_without_a_lock_that_can_be_shared_mails_that_are_due_later_are_claimed_ahead(
    site: Site, settings: Any
) -> None:
    settings.MOODLE_LOCK_FACTORY = "db_record_lock_factory"
    queue.queued(site.moodle, 2)
    later = queue.queued(site.moodle, 2, due=120)
    site.step()
    assert claimed() == set(later)
    state = guardstate.load()
    assert state is not None and state.why_not == "lock_unavailable"


# --- tick ---


def test_the_tick_claims_all_that_waits_and_lets_go(site: Site) -> None:
    site.task(next_in=1)
    rows = queue.queued(site.moodle, 3)
    site.step()
    assert claimed() == set(rows) and not site.held()
    assert site.guard._ticked_for == int(site.now) + 1


def test_a_lock_that_is_taken_is_not_waited_for_and_tried_again_soon(site: Site) -> None:
    site.task(next_in=1)
    site.moodle.value("SELECT GET_LOCK(%s, 0)", [LOCK])
    rows = queue.queued(site.moodle, 1)
    assert site.step() <= guard_timing.RETRY
    assert not claimed()
    site.moodle.value("SELECT RELEASE_LOCK(%s)", [LOCK])
    site.step(0.5)
    assert claimed() == set(rows)


# --- hold ---


@pytest.fixture
def holding(site: Site, settings: Any) -> Site:
    settings.MOODLE_CRON_GUARD = "hold"
    site.step()
    assert site.held()
    return site


def test_hold_yields_once_an_hour_until_iomads_task_has_run(holding: Site) -> None:
    holding.step(guard_timing.YIELD_EVERY - 10)
    assert holding.held()
    holding.step(20)
    assert not holding.held()
    holding.step(5)
    assert not holding.held()
    holding.cron()
    holding.step(5)
    assert holding.held()
    holding.step(guard_timing.YIELD_EVERY - 30)
    assert holding.held()


def test_a_yield_that_nobody_uses_ends(holding: Site) -> None:
    holding.step(guard_timing.YIELD_EVERY + 1)
    assert not holding.held()
    holding.step(guard_timing.YIELD_SECONDS)
    assert holding.held()


def test_hold_yields_soon_after_a_mail_was_handed_back_and_iomad_sends_it(holding: Site) -> None:
    rows = queue.queued(holding.moodle, 2)
    holding.step(5)
    release(list(Claim.objects.values_list("pk", flat=True)), actor="tester", reason="test")
    holding.step(guard_timing.YIELD_SPACING)
    holding.step(2)
    assert not holding.held()
    assert set(holding.cron()) == set(rows)
    holding.step(5)
    assert holding.held()
    holding.step(guard_timing.YIELD_SPACING)
    holding.step(2)
    assert holding.held()


def test_hold_yields_for_mails_that_we_cannot_send_but_only_once_for_those_that_iomad_leaves_too(
    holding: Site,
) -> None:
    (row,) = queue.queued(holding.moodle, 1)
    holding.moodle.execute("UPDATE mdl_email SET userid = 999999 WHERE id = %s", [row])
    holding.step(guard_timing.YIELD_SPACING)
    holding.step(2)
    assert not holding.held()
    assert holding.cron() == []
    holding.step(5)
    assert holding.held()
    holding.step(guard_timing.YIELD_SPACING)
    holding.step(2)
    assert holding.held()


def pause() -> None:
    switches.set_pause(switches.Pause(claims=True))


def break_ses() -> None:
    health.trip(Outcome("account", "AccountSuspendedException", "suspended"))


@pytest.mark.parametrize(("stop", "code"), [(pause, "claims_paused"), (break_ses, "delivery_unhealthy")])
def test_hold_lets_go_at_once_when_nothing_may_be_claimed(
    holding: Site, stop: Callable[[], None], code: str
) -> None:
    stop()
    rows = queue.queued(holding.moodle, 1)
    holding.step(1)
    assert not holding.held() and not claimed()
    state = guardstate.load()
    assert state is not None and (state.why_not, state.held_since) == (code, None)
    assert holding.cron() == rows


def test_a_site_whose_queue_cannot_be_claimed_from_keeps_its_lock(holding: Site) -> None:
    holding.moodle.set_config("version", "2031010100", plugin="local_email")
    holding.step(cronguard.READY_SECONDS)
    assert not holding.held()
    state = guardstate.load()
    assert state is not None and "2031010100" in state.why_not


def test_a_lock_lost_with_its_connection_is_taken_again(holding: Site) -> None:
    holding.moodle.execute(f"KILL {holding.moodle.value('SELECT IS_USED_LOCK(%s)', [LOCK])}")
    rows = queue.queued(holding.moodle, 1)
    holding.step(2)
    assert holding.held() and claimed() == set(rows)


# --- the watcher itself ---


def test_a_site_without_iomad_is_left_alone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from emailoffload.moodle.errors import IomadAbsent

    def absent(source: str) -> None:
        raise IomadAbsent("no IOMAD", "")

    monkeypatch.setattr(cronguard, "require_ready", absent)
    queue.queued(site.moodle, 1)
    assert site.step() == cronguard.NO_IOMAD_SECONDS
    assert not claimed() and not State.objects.filter(name="cron_guard").exists()
    assert not Lease.objects.exclude(token="").exists()


def test_a_second_watcher_does_nothing_until_the_first_has_gone(site: Site, settings: Any) -> None:
    settings.MOODLE_CRON_GUARD = "hold"
    second = cronguard.Guard()
    site.step()
    rows = queue.queued(site.moodle, 1)
    second.step(site.now + 5)
    assert not claimed()
    site.guard.close()
    second.step(site.now + 10)
    assert claimed() == set(rows) and site.held()
    second.close()
    assert not site.held()


def test_an_error_is_logged_by_its_type_and_the_watch_goes_on(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    steps: list[str] = []

    def step(self: cronguard.Guard, now: float) -> float:
        steps.append("step")
        if len(steps) == 1:
            raise OperationalError(2006, "someone@example.org")
        return 0

    monkeypatch.setattr(cronguard.Guard, "step", step)
    monkeypatch.setattr(cronguard, "_sleep", lambda seconds, stop: None)
    cronguard.watch(lambda: len(steps) >= 3)
    assert len(steps) == 3
    assert "OperationalError" in caplog.text and "someone" not in caplog.text


def test_however_often_it_fails_the_watch_goes_on_after_a_minute_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    def step(self: cronguard.Guard, now: float) -> float:
        raise OperationalError(2006, "gone")

    monkeypatch.setattr(cronguard.Guard, "step", step)
    monkeypatch.setattr(cronguard, "_sleep", lambda seconds, stop: pauses.append(seconds))
    cronguard.watch(lambda: len(pauses) >= 1500)
    assert pauses[0] < 5
    assert max(pauses) == cronguard.LONGEST_PAUSE


def test_broken_connections_are_renewed(site: Site) -> None:
    site.step()
    for alias in ("moodle", "default"):
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT CONNECTION_ID()")
            site.moodle.execute(f"KILL {cursor.fetchone()[0]}")
    rows = queue.queued(site.moodle, 1)
    with pytest.raises(OperationalError):
        site.step(5)
    site.guard.drop()
    site.step(5)
    assert claimed() == set(rows)


def test_the_watch_stops_within_a_second_and_gives_back_lock_and_lease(site: Site, settings: Any) -> None:
    settings.MOODLE_CRON_GUARD = "hold"
    stopped: list[bool] = []
    thread = cronguard.start(lambda: bool(stopped))
    deadline = time.monotonic() + 20
    while not site.held():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    stopped.append(True)
    thread.join(1.5)
    assert not thread.is_alive()
    assert not site.held()
    assert not Lease.objects.exclude(token="").exists()


def test_while_all_is_as_before_the_state_is_written_every_fifteen_seconds_at_most(site: Site) -> None:
    site.step()
    with CaptureQueriesContext(connection) as queries:
        for _ in range(3):
            site.step(4)
    assert not [query for query in queries if "UPDATE" in query["sql"] and "state" in query["sql"].lower()]
    site.step(5)
    state = guardstate.load()
    assert state is not None and state.last_look is not None
    assert state.last_look.timestamp() == pytest.approx(site.now, abs=0.01)
