"""What a pass leaves to Moodle is on record, with the reason that holds now, and only as long as it is left."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connections
from django.utils import timezone

from emailoffload.moodle import cronlock
from emailoffload.moodle.types import InProgress, QueueRow
from emailoffload.outbox import intents, switches
from emailoffload.outbox.figures import LeftRow
from emailoffload.outbox.models import Claim, Run
from emailoffload.policy.routing import bucket
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.sources import reasons
from emailoffload.sources.iomad_queue.source import COMPONENT
from emailoffload.worker import intercept, left, recover
from tests.claims.candidates import some
from tests.claims.queue import queued
from tests.conftest import Moodle
from tests.queries import counted
from tests.reengagement.test_decisions import ACTIVITY, soon
from tests.routing.site import rule

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
UNENROL = "UPDATE mdl_user_enrolments SET status = %s WHERE userid = %s"
MINUTE, DAY = 60, 86400


def row(number: int, due: int = -MINUTE) -> QueueRow:
    """A row of IOMAD's queue, due in so many seconds."""
    now = int(time.time())
    return QueueRow(number, "user_create", now - 600, now + due, 4, None, 15, -20)


def kept(*rows: QueueRow | InProgress, reason: str = reasons.CLAIMS_PAUSED) -> Counter[str]:
    """What a pass counts that leaves these rows and puts them on record."""
    counts: Counter[str] = Counter()
    of = left.Left("iomad_queue", counts)
    of.rows(rows, reason)
    assert of.store() == ""
    return counts


def said() -> dict[int, str]:
    """The reasons on record, by row."""
    return dict(LeftRow.objects.values_list("row_id", "reason"))


def test_a_due_row_that_moodle_would_not_mail_is_on_record_with_whom_it_concerns_and_why(
    moodle: Moodle, ses: SandboxSES
) -> None:
    (row_id, user), *others = soon(moodle, 3, due=-MINUTE)
    moodle.execute(UNENROL, [1, user])
    before = timezone.now()
    result = intercept.run()
    assert (result.claimed, result.left) == (len(others), {reasons.NOT_ENROLLED: 1})
    (found,) = LeftRow.objects.all()
    assert (found.source, found.row_id, found.reason) == ("reengagement", row_id, reasons.NOT_ENROLLED)
    assert found.due_at == intents.moment(
        moodle.value("SELECT emailtime FROM mdl_reengagement_inprogress WHERE id = %s", [row_id])
    )
    claim = Claim.objects.filter(row_id=others[0][0]).get()
    assert (found.user_id, found.activity_id, found.course_id) == (user, ACTIVITY, claim.course_id)
    company = moodle.rows(
        "SELECT companyid FROM mdl_company_users WHERE userid = %s ORDER BY id LIMIT 1", [user]
    )
    assert found.company_id == (company[0][0] if company else None)
    assert before <= found.first_seen == found.last_seen <= timezone.now()


@pytest.mark.parametrize("why", ["pause", "rule", "roll-out", "cron"])
def test_rows_left_before_anybody_looked_at_them_say_why_and_whose_they_are(
    moodle: Moodle, ses: SandboxSES, why: str
) -> None:
    rows = dict(soon(moodle, 3, due=-MINUTE))
    reason = {
        "pause": reasons.CLAIMS_PAUSED, "rule": reasons.ROUTING_OFF, "roll-out": reasons.ROLLOUT,
        "cron": reasons.CRON_RUNNING,
    }[why]  # fmt: skip
    if why == "pause":
        switches.set_pause(switches.Pause(claims=True))
    elif why == "rule":
        rule(mode="off")
    elif why == "roll-out":
        names = (f"rule {number}" for number in range(1000))
        rule(next(n for n in names if all(bucket(n, user) for user in rows.values())), percentage=1)
    lock = cronlock.CronLock(cronlock.reengagement_lock_target()) if why == "cron" else nullcontext()
    with lock:
        result = intercept.run()
    assert result.left == {reason: 3}
    assert said() == dict.fromkeys(rows, reason)
    assert {(found.user_id, found.activity_id) for found in LeftRow.objects.all()} == {
        (user, ACTIVITY) for user in rows.values()
    }
    course = moodle.value("SELECT course FROM mdl_reengagement WHERE id = %s", [ACTIVITY])
    assert set(LeftRow.objects.values_list("course_id", flat=True)) == {course}


def test_a_mail_of_iomads_queue_brings_its_own_company_and_kind(moodle: Moodle, ses: SandboxSES) -> None:
    (row_id,) = queued(moodle, 1)
    switches.set_pause(switches.Pause(claims=True))
    intercept.run(source="iomad_queue")
    found = LeftRow.objects.get(row_id=row_id)
    assert (found.source, found.template, found.company_id) == ("iomad_queue", "completion_warn_user", 1)
    assert (found.activity_id, found.course_id) == (None, 4)


def test_a_row_that_is_claimed_later_is_no_longer_left(moodle: Moodle, ses: SandboxSES) -> None:
    rows = soon(moodle, 4, due=-MINUTE)
    switches.set_pause(switches.Pause(claims=True))
    intercept.run()
    assert LeftRow.objects.count() == 4
    switches.set_pause(switches.Pause())
    moodle.execute(UNENROL, [1, rows[0][1]])
    assert intercept.run().claimed == 3
    assert said() == {rows[0][0]: reasons.NOT_ENROLLED}


def test_what_recovery_finds_claimed_is_no_longer_left_either(moodle: Moodle) -> None:
    (candidate,) = some(moodle, 1)
    stored = intents.intend([candidate], None).claims[candidate.row_id]
    now = timezone.now()
    LeftRow.objects.create(
        source=candidate.source, row_id=candidate.row_id, due_at=stored.due_at, reason="x", first_seen=now,
        last_seen=now,
    )  # fmt: skip
    other = LeftRow.objects.create(
        source=candidate.source, row_id=candidate.row_id, due_at=stored.due_at - timedelta(days=7), reason="x",
        first_seen=now, last_seen=now,
    )  # fmt: skip
    intents.settle([stored.pk], [])
    assert list(LeftRow.objects.all()) == [other]  # the reminder of last week stays left


def test_what_is_not_due_before_the_next_pass_is_not_left(moodle: Moodle, ses: SandboxSES) -> None:
    rows = soon(moodle, 2, due=10 * MINUTE)
    switches.set_pause(switches.Pause(claims=True))
    assert intercept.run().left == {reasons.CLAIMS_PAUSED: 2}
    assert said() == {}
    moodle.execute(
        "UPDATE mdl_reengagement_inprogress SET emailtime = emailtime - 400 WHERE id = %s", [rows[0][0]]
    )
    intercept.run()
    assert said() == {rows[0][0]: reasons.CLAIMS_PAUSED}  # Moodle's cron may have it before we look again


def test_the_newest_pass_gives_the_reason_and_the_first_one_the_time(moodle: Moodle, ses: SandboxSES) -> None:
    ((row_id, user),) = soon(moodle, 1, due=-MINUTE)
    switches.set_pause(switches.Pause(claims=True))
    intercept.run()
    first = LeftRow.objects.get()
    switches.set_pause(switches.Pause())
    moodle.execute(UNENROL, [1, user])
    intercept.run()
    found = LeftRow.objects.get()
    assert (found.pk, found.row_id, found.reason) == (first.pk, row_id, reasons.NOT_ENROLLED)
    assert found.first_seen == first.first_seen < found.last_seen


def test_that_moodle_mails_nothing_holds_until_a_pass_looks_at_the_row_again(
    moodle: Moodle, ses: SandboxSES
) -> None:
    ((_, user),) = soon(moodle, 1, due=-MINUTE)
    moodle.execute(UNENROL, [1, user])
    intercept.run()
    old = timezone.now() - 2 * left.REFRESH
    LeftRow.objects.update(last_seen=old)
    switches.set_pause(switches.Pause(claims=True))
    intercept.run()
    found = LeftRow.objects.get()
    assert found.reason == reasons.NOT_ENROLLED
    assert found.last_seen > old
    switches.set_pause(switches.Pause())
    moodle.execute(UNENROL, [0, user])
    moodle.execute("UPDATE mdl_user SET email = 'nowhere' WHERE id = %s", [user])
    intercept.run()
    assert LeftRow.objects.get().reason == "address_invalid"


def test_an_unchanged_row_is_written_again_only_after_ten_minutes() -> None:
    kept(row(1), row(2))
    before = list(LeftRow.objects.order_by("row_id").values())
    kept(row(1), row(2))
    assert list(LeftRow.objects.order_by("row_id").values()) == before
    old = timezone.now() - left.REFRESH - timedelta(seconds=5)
    LeftRow.objects.filter(row_id=1).update(last_seen=old, first_seen=old)
    kept(row(1), row(2))
    one, two = LeftRow.objects.order_by("row_id")
    assert (one.first_seen, two.last_seen) == (old, before[1]["last_seen"])
    assert one.last_seen > before[0]["last_seen"]


def test_a_row_that_stays_in_moodles_table_for_ever_is_written_once() -> None:
    dead = row(1, due=-3 * DAY)
    kept(dead)
    old = timezone.now() - timedelta(days=20)
    LeftRow.objects.update(last_seen=old, first_seen=old)
    with counted() as queries:
        kept(dead)
        kept(dead, reason=reasons.USER_DELETED)
    assert queries["default"] == 2
    assert list(LeftRow.objects.values_list("reason", "last_seen")) == [(reasons.CLAIMS_PAUSED, old)]


def test_a_row_from_long_before_is_counted_and_not_put_on_record() -> None:
    assert kept(row(1, due=-40 * DAY), row(2, due=-(2**62))) == {reasons.CLAIMS_PAUSED: 2}
    assert said() == {}


def test_a_pass_that_only_shows_what_it_would_do_writes_nothing(moodle: Moodle, ses: SandboxSES) -> None:
    (_, user), *_others = soon(moodle, 2, due=-MINUTE)
    moodle.execute(UNENROL, [1, user])
    call_command("intercept", "--shadow")
    assert intercept.run(shadow=True).left == {reasons.NOT_ENROLLED: 1}
    assert said() == {}


def test_unchanged_rows_cost_one_query_for_each_thousand_and_new_ones_a_few() -> None:
    many = [row(number) for number in range(1, 2501)]
    with counted() as first:
        kept(*many)
    with counted() as second:
        kept(*many)
    assert LeftRow.objects.count() == 2500
    assert (first["default"] <= 15, second["default"]) == (True, 3)


def test_a_pass_writes_a_bounded_number_of_rows_and_the_next_one_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(left, "MOST_FRESH", 3)
    monkeypatch.setattr(left, "MOST_CHANGED", 2)
    monkeypatch.setattr(left, "CHUNK", 2)
    rows = [row(number) for number in range(1, 9)]
    assert [kept(*rows), LeftRow.objects.count()] == [{reasons.CLAIMS_PAUSED: 8}, 3]
    kept(*rows)
    kept(*rows)
    assert LeftRow.objects.count() == 8
    for number in (2, 4, 6, 8):
        kept(*rows, reason=reasons.CRON_RUNNING)
        assert Counter(said().values())[reasons.CRON_RUNNING] == number


def test_while_moodles_cron_is_kept_out_only_a_moment_is_spent_on_the_record(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(left, "CHUNK", 1)
    monkeypatch.setattr(left, "UNDER_LOCK_SECONDS", 0.0)
    ids = queued(moodle, 3)
    switches.set_pause(switches.Pause(claims=True))
    with cronlock.CronLock(cronlock.task_of(COMPONENT)) as lock:
        assert intercept.run(source="iomad_queue", lock=lock).left == {reasons.CLAIMS_PAUSED: 3}
        assert said() == {}
    intercept.run(source="iomad_queue")
    assert sorted(said()) == ids


def test_a_record_is_not_made_of_what_another_pass_is_claiming(moodle: Moodle) -> None:
    due = int(time.time()) - MINUTE
    claimed, free = (replace(found, due=due) for found in some(moodle, 2))
    intents.intend([claimed], None)
    other = left.Left("reengagement", Counter())
    other.candidates([claimed, free], reasons.CRON_RUNNING)
    assert other.store() == ""
    assert said() == {free.row_id: reasons.CRON_RUNNING}


def test_passes_at_the_same_time_keep_each_row_once() -> None:
    rows = [row(number) for number in range(1, 1501)]
    troubles: list[str] = []
    begin = threading.Barrier(3)

    def work(reason: str) -> None:
        of = left.Left("iomad_queue", Counter())
        of.rows(rows, reason)
        begin.wait(10)
        troubles.append(of.store())
        connections.close_all()

    threads = [
        threading.Thread(target=work, args=(reason,))
        for reason in (reasons.CRON_RUNNING, reasons.CLAIMS_PAUSED, reasons.NO_CAPACITY)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert troubles == [""] * 3
    assert sorted(said()) == list(range(1, 1501))


def test_who_cannot_write_it_down_claims_all_the_same_and_says_so(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch
) -> None:
    (_, user), *others = soon(moodle, 3, due=-MINUTE)
    moodle.execute(UNENROL, [1, user])

    def away(*args: Any, **kwargs: Any) -> None:
        raise DatabaseError("ada@example.org")

    monkeypatch.setattr(left, "_make", away)
    result = intercept.run()
    assert (result.claimed, result.errors, result.left) == (len(others), 0, {reasons.NOT_ENROLLED: 1})
    run = Run.objects.get(kind="intercept")
    assert run.outcome == "errors"
    assert "What was left to Moodle could not be recorded (DatabaseError)." in run.message
    assert "ada@" not in run.message


def test_a_moodle_that_cannot_say_whose_a_row_is_does_not_keep_it_from_the_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(*args: Any) -> Any:
        raise DatabaseError("gone")

    monkeypatch.setattr("emailoffload.moodle.loaders.load_company_of", away)
    now = int(time.time())
    kept(InProgress(1, ACTIVITY, 15, now + DAY, now - MINUTE, 0, 0))
    assert LeftRow.objects.values_list("activity_id", "course_id", "company_id").get() == (
        ACTIVITY,
        None,
        None,
    )


def test_records_go_after_ninety_days_and_do_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(left, "FORGOTTEN_AT_ONCE", 2)
    kept(*(row(number) for number in range(1, 6)))
    now = timezone.now()
    LeftRow.objects.filter(row_id__lt=4).update(last_seen=now - left.KEPT - timedelta(minutes=1))
    LeftRow.objects.filter(row_id=4).update(last_seen=now - left.KEPT + timedelta(minutes=1))
    assert [left.forget(), recover.run().counts["left_forgotten"], left.forget()] == [2, 1, 0]
    assert sorted(said()) == [4, 5]
    assert left.KEPT > left.OLDEST + left.SETTLED
