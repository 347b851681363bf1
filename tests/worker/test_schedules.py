"""What runs when, and what a task does beside its pass."""

from __future__ import annotations

import io
import json
import signal
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DataError
from django.utils import timezone
from django.utils.module_loading import import_string
from django_q.models import OrmQ, Schedule

from emailoffload.worker import dispatch, lease, schedules, stopping, tasks
from tests.fake_ses import FakeSes
from tests.outbox.factory import queue_email

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.mariadb]


def table() -> set[tuple[str, str, str, int]]:
    return {(row.name, row.func.rpartition(".")[2], row.cron, row.repeats) for row in Schedule.objects.all()}


EXPECTED = {
    ("Email Offload: intercept", "intercept", "*/4 * * * *", -1),
    ("Email Offload: recover", "recover", "* * * * *", -1),
    ("Email Offload: alarms", "alarms", "* * * * *", -1),
    ("Email Offload: rollups", "rollups", "* * * * *", -1),
    ("Email Offload: suppressions", "suppressions", "*/5 * * * *", -1),
    ("Email Offload: reconcile", "reconcile", "17 * * * *", -1),
    ("Email Offload: coverage", "coverage", "41 * * * *", -1),
    ("Email Offload: logins", "logins", "53 * * * *", -1),
    ("Email Offload: retention", "retention", "9-59/10 * * * *", -1),
    ("Email Offload: checkup", "take", "43 * * * *", -1),
    ("Email Offload: dispatch 1", "dispatch", "* * * * *", -1),
    ("Email Offload: dispatch 2", "dispatch", "* * * * *", -1),
}


def test_the_schedules_are_created_once_and_left_alone_afterwards() -> None:
    assert schedules.ensure() == {"created": len(EXPECTED)}
    assert table() == EXPECTED
    next_runs = list(Schedule.objects.values_list("next_run", flat=True))
    assert not schedules.ensure()
    assert list(Schedule.objects.values_list("next_run", flat=True)) == next_runs


def test_the_doctor_looks_soon_after_a_worker_starts_but_not_before_its_passes_have_run() -> None:
    schedules.ensure()
    mine = Schedule.objects.filter(name="Email Offload: checkup")
    for planned, expected in ((50, 3), (1, 1), (-9, 3), (0, 3)):
        now = timezone.now()
        mine.update(next_run=now + timedelta(minutes=planned))
        schedules.check_up_soon()
        found = mine.get().next_run
        assert abs(found - now - timedelta(minutes=expected)) < timedelta(seconds=30)
    assert mine.get().cron == "43 * * * *"
    schedules.ensure()
    assert mine.get().next_run == found


def test_changed_doubled_and_superfluous_schedules_are_put_right_and_others_are_left(settings: Any) -> None:
    schedules.ensure()
    Schedule.objects.filter(name="Email Offload: recover").update(cron="0 3 * * *", repeats=0)
    Schedule.objects.create(name="Email Offload: intercept", func=f"{schedules.MODULE}.intercept")
    Schedule.objects.create(name="my own", func="math.floor")
    assert schedules.ensure() == {"repaired": 1, "removed": 1}
    settings.DISPATCH_SLOTS = 1
    assert schedules.ensure() == {"removed": 1}
    Schedule.objects.get(name="my own").delete()
    assert table() == EXPECTED - {("Email Offload: dispatch 2", "dispatch", "* * * * *", -1)}


def test_every_scheduled_function_exists() -> None:
    for func, _ in schedules.wanted().values():
        assert callable(import_string(func))


def test_the_command_makes_the_schedules_right() -> None:
    out = io.StringIO()
    call_command("offloadschedules", "--json", stdout=out)
    assert json.loads(out.getvalue()) == {"created": len(EXPECTED), "repaired": 0, "removed": 0}


def queued() -> list[str]:
    return [row.task["func"].rpartition(".")[2] for row in OrmQ.objects.order_by("id")]


def test_a_pass_that_claimed_calls_each_dispatcher_that_is_not_at_work() -> None:
    with lease.hold("dispatch-1"):
        assert tasks.dispatch_soon() == 1
    assert queued() == ["dispatch"]


def test_a_worker_starts_with_recovery_and_work() -> None:
    tasks.start_up()
    assert queued() == ["recover", "intercept", "dispatch", "dispatch", "coverage"]


@pytest.mark.parametrize("kind", ["intercept", "dispatch", "recover", "alarms", "rollups"])
def test_what_django_q_stores_of_a_failed_pass_names_its_error_and_quotes_nothing(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def run(**options: Any) -> None:
        raise DataError(1406, "Data too long for 'anna@example.org'")

    monkeypatch.setattr(f"emailoffload.worker.{kind}.run", run)
    monkeypatch.setattr("emailoffload.worker.intercept.sources_here", lambda: ("reengagement",))
    try:
        getattr(tasks, kind)()
    except tasks.PassFailed as error:
        stored = f"{error} : {traceback.format_exc()}"  # as django-q does it
    assert "django.db.utils.DataError in " in stored
    assert "anna@example.org" not in stored


@pytest.mark.usefixtures("source")
def test_a_dispatcher_calls_its_successor_only_where_mails_fall_due_soon(ses: FakeSes, settings: Any) -> None:
    settings.DISPATCH_BUDGET_SECONDS = 0.2
    tasks.dispatch()
    assert queued() == []
    queue_email(due=timezone.now() + timedelta(seconds=60))
    result = tasks.dispatch()
    assert queued() == ["dispatch"]
    assert "@" not in json.dumps(result) and result["sent"] == 0


@pytest.mark.usefixtures("source")
def test_a_refused_dispatcher_calls_no_successor_but_the_fallback(ses: FakeSes) -> None:
    queue_email()
    ses.account["SendingEnabled"] = False
    assert tasks.dispatch()["refused"]
    assert queued() == ["fallback"]


def test_a_signal_asks_the_pass_of_a_command_to_end_and_is_forgotten_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stopping.on_signals():
        assert not stopping.requested()
        signal.raise_signal(signal.SIGTERM)
        assert stopping.requested()
    assert not stopping.requested()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_worker_process_that_is_signalled_finishes_its_pass_and_then_ends() -> None:
    ended: list[int] = []
    previous: Callable[..., Any] | int | None = signal.signal(
        signal.SIGTERM, lambda number, frame: ended.append(number)
    )
    try:
        with stopping.in_worker():
            signal.raise_signal(signal.SIGTERM)
            assert stopping.requested() and not ended
            assert dispatch.run(budget=1.0).sent == 0
        assert ended == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, previous)
        stopping._here.clear()
