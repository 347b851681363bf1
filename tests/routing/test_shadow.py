"""What Moodle did to the rows that we only watched, as its own crons leave them."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from emailoffload.outbox.models import Run, Shadow
from emailoffload.policy.models import RoutingRule
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.worker import intercept, recover, shadow
from tests.claims.queue import queued
from tests.conftest import Moodle
from tests.queries import counted
from tests.reengagement.test_decisions import ACTIVITY, soon
from tests.routing.site import queue, reminders, rule

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)


def later(**time: int) -> dt.datetime:
    return timezone.now() + dt.timedelta(**time)


def verdicts() -> list[tuple[str, str]]:
    return list(Shadow.objects.order_by("row_id").values_list("verdict", "detail"))


def watched(moodle: Moodle, count: int = 3) -> list[int]:
    """Some reminders that were recorded as shadows."""
    ids = [row for row, _user in soon(moodle, count)]
    rule(mode="shadow")
    intercept.run()
    assert Shadow.objects.count() == count
    return ids


def test_a_reminder_that_moodle_counted_was_sent_as_foreseen(moodle: Moodle, ses: SandboxSES) -> None:
    watched(moodle)
    assert shadow.compare(later(minutes=1)) == {"shadows_compared": 0, "shadows_forgotten": 0}
    reminders(moodle)
    assert shadow.compare(later(minutes=16))["shadows_compared"] == 3
    assert verdicts() == [(shadow.SENT, shadow.COUNTED)] * 3
    assert shadow.compare(later(minutes=17))["shadows_compared"] == 0


def test_the_last_mail_owed_is_sent_as_foreseen_when_moodle_removed_the_row(
    moodle: Moodle, ses: SandboxSES
) -> None:
    soon(moodle, 2)
    moodle.execute("UPDATE mdl_reengagement_inprogress SET completed = 1, emailsent = 0")
    rule(mode="shadow")
    intercept.run()
    assert set(Shadow.objects.values_list("is_last", flat=True)) == {True}
    reminders(moodle)
    shadow.compare(later(minutes=16))
    assert verdicts() == [(shadow.SENT, shadow.LAST_REMOVED)] * 2


def test_a_mail_of_the_queue_that_iomad_sent_was_sent_as_foreseen(moodle: Moodle, ses: SandboxSES) -> None:
    queued(moodle, 3)
    rule(mode="shadow")
    intercept.run(source="iomad_queue")
    queue(moodle)
    assert shadow.compare()["shadows_compared"] == 3
    assert verdicts() == [(shadow.SENT, shadow.QUEUE_SENT)] * 3


def test_a_row_that_is_gone_or_changed_is_told_apart(moodle: Moodle, ses: SandboxSES) -> None:
    ids = watched(moodle, 3)
    moodle.execute("DELETE FROM mdl_reengagement_inprogress WHERE id = %s", ids[:1])
    moodle.execute("UPDATE mdl_reengagement_inprogress SET emailtime = emailtime - 5 WHERE id = %s", ids[1:2])
    moodle.execute("UPDATE mdl_reengagement_inprogress SET completed = 1 WHERE id = %s", ids[2:])
    shadow.compare(later(minutes=16))
    assert verdicts() == [
        (shadow.GONE, shadow.ROW_GONE),
        (shadow.CHANGED, shadow.OTHER_VALUES),
        (shadow.WAITING, ""),
    ]


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ("DELETE FROM mdl_email WHERE id = %s", (shadow.GONE, shadow.ROW_GONE)),
        ("UPDATE mdl_email SET modifiedtime = 5 WHERE id = %s", (shadow.CHANGED, shadow.OTHER_VALUES)),
        ("UPDATE mdl_email SET subject = 'x' WHERE id = %s", (shadow.WAITING, "")),
    ],
)
def test_a_row_of_the_queue_that_is_gone_or_changed_is_told_apart(
    moodle: Moodle, ses: SandboxSES, change: str, verdict: tuple[str, str]
) -> None:
    ids = queued(moodle, 1)
    rule(mode="shadow")
    intercept.run(source="iomad_queue")
    moodle.execute(change, ids)
    shadow.compare()
    assert verdicts() == [verdict]


def test_a_row_that_moodle_leaves_for_hours_is_untouched(moodle: Moodle, ses: SandboxSES) -> None:
    watched(moodle, 2)
    shadow.compare(later(minutes=100))
    assert verdicts() == [(shadow.WAITING, "")] * 2
    shadow.compare(later(minutes=130))
    assert verdicts() == [(shadow.UNTOUCHED, shadow.NOT_HANDLED)] * 2


def test_a_row_that_was_overdue_when_it_was_seen_gets_its_time_from_then_on(
    moodle: Moodle, ses: SandboxSES
) -> None:
    soon(moodle, 1, due=-20 * 3600)
    rule(mode="shadow")
    intercept.run()
    shadow.compare(later(minutes=5))
    assert verdicts() == [(shadow.WAITING, "")]
    shadow.compare(later(minutes=125))
    assert verdicts() == [(shadow.UNTOUCHED, shadow.NOT_HANDLED)]


def test_a_slow_cron_is_given_three_of_its_periods(moodle: Moodle, ses: SandboxSES, settings: Any) -> None:
    watched(moodle, 1)
    settings.MOODLE_CRON_PERIOD_SECONDS = 7200
    shadow.compare(later(minutes=240))
    assert verdicts() == [(shadow.WAITING, "")]


def test_a_row_that_we_claimed_after_all_is_not_taken_for_moodle_s_work(
    moodle: Moodle, ses: SandboxSES
) -> None:
    watched(moodle, 2)
    RoutingRule.objects.all().delete()
    assert intercept.run().claimed == 2
    shadow.compare(later(minutes=16))
    assert verdicts() == [(shadow.CHANGED, shadow.CLAIMED_BY_US)] * 2


def test_the_next_reminder_of_a_row_is_a_shadow_of_its_own(moodle: Moodle, ses: SandboxSES) -> None:
    watched(moodle, 1)
    moodle.execute(
        "UPDATE mdl_reengagement SET emaildelay = 300, remindercount = 5 WHERE id = %s", [ACTIVITY]
    )
    reminders(moodle)
    moodle.execute("UPDATE mdl_reengagement_inprogress SET emailtime = %s", [int(time.time()) + 500])
    intercept.run()
    assert Shadow.objects.count() == 2
    assert Shadow.objects.values("row_id").distinct().count() == 1


def test_recovery_compares_in_its_minute_pass(moodle: Moodle, ses: SandboxSES) -> None:
    soon(moodle, 2, due=-60)
    rule(mode="shadow")
    intercept.run()
    reminders(moodle)
    result = recover.run()
    assert result.counts["shadows_compared"] == 2
    assert Run.objects.filter(kind="recover").latest("pk").counts["shadows_compared"] == 2


def test_comparing_costs_the_same_queries_for_many_as_for_few(moodle: Moodle) -> None:
    costs = []
    for count in (1, 2, 300):  # the first one also opens the connections
        many(count)
        with counted() as queries:
            assert shadow.compare()["shadows_compared"] == count
        costs.append(queries)
        Shadow.objects.all().delete()
    assert costs[1] == costs[2]
    assert costs[1]["moodle"] == 1


# --- bounds ---


def many(count: int, make: Callable[[int], dict[str, Any]] = lambda n: {}) -> None:
    now = timezone.now()
    Shadow.objects.bulk_create(
        Shadow(
            **{
                "source": "reengagement", "row_id": 10**9 + n, "user_id": 3, "activity_id": 12, "course_id": 2,
                "before": {"emailsent": 0, "emailtime": 1, "completed": 0}, "mails": 1, "due_at": now,
                "seen_at": now, **make(n),
            }
        )
        for n in range(count)
    )  # fmt: skip


def test_no_more_are_recorded_than_may_wait(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "MOST_WAITING", 5)
    many(3)
    soon(moodle, 4)
    rule(mode="shadow")
    assert intercept.run().left == {"routing_shadow": 4}
    assert Shadow.objects.count() == 5


def test_one_pass_compares_the_longest_due_and_no_more_than_its_share(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "MOST_COMPARED", 4)
    monkeypatch.setattr(shadow, "CHUNK", 3)
    now = timezone.now()
    many(6, lambda n: {"due_at": now - dt.timedelta(minutes=n)})
    assert shadow.compare(now)["shadows_compared"] == 4
    left = Shadow.objects.filter(verdict=shadow.WAITING).order_by("row_id")
    assert list(left.values_list("row_id", flat=True)) == [10**9, 10**9 + 1]


def test_old_comparisons_are_forgotten_and_waiting_ones_are_not(moodle: Moodle) -> None:
    now = timezone.now()
    old, young = now - dt.timedelta(days=15), now - dt.timedelta(days=13)
    many(2, lambda n: {"verdict": shadow.SENT, "due_at": (old, young)[n]})
    Shadow.objects.create(
        source="iomad_queue", row_id=1, user_id=3, activity_id=0, course_id=0, mails=1, due_at=later(days=9),
        seen_at=now,
    )  # fmt: skip
    assert shadow.compare(now)["shadows_forgotten"] == 1
    assert set(Shadow.objects.values_list("verdict", "due_at__date")) == {
        (shadow.SENT, young.date()),
        (shadow.WAITING, later(days=9).date()),
    }
