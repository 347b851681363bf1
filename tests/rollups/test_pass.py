"""The pass: what it finds, its bounds, and what is left when it dies, doubles or does not come."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from emailoffload.outbox import bulk, counting, hourchanges, transitions
from emailoffload.outbox import rollups as figures
from emailoffload.outbox.counting import Hour
from emailoffload.outbox.figures import EMAILS, KINDS, LEFT, CountSum, HourChange, HourCount
from emailoffload.outbox.models import Email, Run, State
from emailoffload.outbox.states import EmailState
from emailoffload.worker import lease, rollups, tasks
from tests.queries import counted
from tests.rollups.rows import (
    in_the_counts,
    in_the_rows,
    store_claims,
    store_emails,
    store_left,
    sums_in_the_counts,
    sums_in_the_rows,
)
from tests.settings import SERVER

S = EmailState
HOUR = timedelta(hours=1)


@pytest.fixture
def hour() -> datetime:
    """The beginning of the hour before this one."""
    return hourchanges.hour_of(timezone.now()) - HOUR


@pytest.mark.django_db
class TestOnePass:
    @pytest.fixture(autouse=True)
    def counted_before(self) -> None:
        """The first walk is over."""
        rollups.run()

    def test_only_hours_that_changed_are_counted(self, hour: datetime) -> None:
        store_emails(2, hour)
        old = store_emails(1, hour - timedelta(days=20))
        store_left(3, hour)
        assert rollups.run().counted == 5  # two of emails, two of their claims, one of left rows
        assert rollups.run().counted == 0
        transitions.move(old, S.CANCELLED, now=timezone.now())
        assert rollups.run().counted == 1
        assert in_the_counts() == in_the_rows()

    def test_an_hour_that_another_process_has_just_counted_is_not_counted_again(self, hour: datetime) -> None:
        store_emails(2, hour)
        changed = [each for each in counting.waiting() if each.kind == EMAILS]
        assert [counting.recount(each) for each in changed] == [True]
        assert [counting.recount(each) for each in changed] == [False]

    def test_a_pass_that_did_not_come_is_made_up_for_by_the_next(self, hour: datetime) -> None:
        ids = store_emails(3, hour)
        transitions.move(ids[:2], S.CANCELLED, now=timezone.now() - timedelta(days=3))
        transitions.move(ids[2:], S.FAILED, now=timezone.now())
        rollups.run()
        assert in_the_counts() == in_the_rows()
        assert figures.totals(EMAILS, hour, hour + HOUR) == {S.CANCELLED: 2, S.FAILED: 1}

    def test_what_was_counted_until_is_the_beginning_of_the_last_pass_that_left_nothing_over(
        self, hour: datetime
    ) -> None:
        before = timezone.now()
        rollups.run()
        until = figures.counted_until()
        assert until is not None and before <= until <= timezone.now()
        store_emails(1, hour)
        store_emails(1, hour - HOUR)
        assert rollups.run(budget=0).left
        assert figures.counted_until() == until
        while rollups.run(budget=0).left:
            pass
        later = figures.counted_until()
        assert later is not None and later > until

    def test_its_work_is_bounded_and_begins_with_the_newest_hours(self, hour: datetime) -> None:
        for hours in (9, 3, 5):
            store_left(1, hour - hours * HOUR)
        seen = []
        while rollups.run(budget=0).left:
            seen.append(min(row.hour for row in HourCount.objects.all()))
        assert seen == [hour - 3 * HOUR, hour - 5 * HOUR]
        assert in_the_counts() == in_the_rows()

    def test_hours_that_change_all_the_time_do_not_keep_older_ones_waiting(self, hour: datetime) -> None:
        busy, quiet = hour - 5 * HOUR, hour - 9 * HOUR
        store_left(1, quiet)
        for _ in range(3):
            store_left(1, busy)
            rollups.run(budget=0)
        assert figures.totals(LEFT, quiet, quiet + HOUR) == {"not_enrolled": 1}

    def test_a_large_hour_rests_and_how_fresh_the_counts_are_is_said_all_the_same(
        self, hour: datetime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store_left(1, hour)
        monkeypatch.setattr(rollups, "SLOW_SECONDS", 0.0)
        monkeypatch.setattr(rollups, "REST", 10**6)
        before = timezone.now()
        assert rollups.run().counted == 1
        after = timezone.now()
        store_left(1, hour)
        result = rollups.run()
        assert (result.counted, result.resting, result.more) == (0, 1, False)
        until = figures.counted_until()
        assert until is not None and before <= until <= after
        monkeypatch.setattr(rollups, "REST", 0)
        State.objects.filter(name=figures.STATE).update(
            value=State.objects.get(name=figures.STATE).value | {"slow": {}}
        )
        assert rollups.run().counted == 1
        assert in_the_counts() == in_the_rows()

    def test_another_pass_at_work_is_left_alone(self) -> None:
        runs = Run.objects.count()
        with lease.hold(rollups.LEASE):
            assert rollups.run().busy
        assert Run.objects.count() == runs

    def test_it_stands_among_the_runs_with_its_numbers(self, hour: datetime) -> None:
        store_left(1, hour)
        rollups.run()
        run = Run.objects.filter(kind="rollups").latest("pk")
        assert (run.outcome, run.counts["counted"], run.counts["left_over"]) == ("ok", 1, 0)

    def test_the_worker_goes_on_at_once_where_hours_are_left_over(
        self, hour: datetime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        called: list[str] = []
        monkeypatch.setattr(tasks, "_enqueue", called.append)
        monkeypatch.setattr(rollups, "BUDGET_SECONDS", 0.0)
        store_left(1, hour)
        store_left(1, hour - HOUR)
        assert tasks.rollups()["left_over"] == 1
        assert called == ["rollups"]
        assert tasks.rollups()["left_over"] == 0
        assert called == ["rollups"]

    def test_a_pass_without_changes_asks_few_questions(self) -> None:
        with counted() as seen:
            rollups.run()
        assert seen["default"] < 30

    def test_a_large_hour_is_counted_by_the_minute_and_comes_to_the_same(
        self, hour: datetime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        claim_id = store_claims(1, hour)[0]
        for minutes in (0, 1, 30, 59.99):
            store_emails(2, hour + timedelta(minutes=minutes), claim_id)
            store_left(1, hour + timedelta(minutes=minutes))
        whole = [counting.count(Hour(hour, kind)) for kind in KINDS]
        monkeypatch.setattr(counting, "LARGE", 0)
        with counted() as seen:
            assert [counting.count(Hour(hour, kind)) for kind in KINDS] == whole
        assert seen["default"] == 3 * 61

    def test_counting_an_hour_takes_as_few_queries_however_many_rows_it_has(self, hour: datetime) -> None:
        claim_id = store_claims(1, hour)[0]
        for company in range(20):
            store_emails(3, hour, claim_id, company_id=company)
        with counted() as seen:
            assert counting.recount(Hour(hour, EMAILS))
        assert seen["default"] <= 20  # notes, size, count; one transaction

    def test_a_change_without_a_note_is_found_by_the_walk_and_said(self, hour: datetime) -> None:
        ids = store_emails(2, hour)
        rollups.run()
        Email.objects.filter(pk__in=ids).update(state=S.FAILED)
        repaired = sum(rollups.run().repaired for _ in range(4))
        assert repaired == 1
        assert in_the_counts() == in_the_rows()
        messages = set(Run.objects.filter(kind="rollups").values_list("message", flat=True))
        assert "The counts of 1 hours were not those of their rows, and now are." in messages

    def test_the_walk_comes_to_every_hour_of_the_last_weeks_again_and_again(self, hour: datetime) -> None:
        for days in (0, 1, 20):
            store_left(1, hour - timedelta(days=days))
        rollups.run()
        for _ in range(2):
            HourCount.objects.update(number=99)
            # One hour a pass; a pass at the end finds none before it begins anew.
            assert sum(rollups.run().repaired for _ in range(4)) == 3
            assert in_the_counts() == in_the_rows()

    def test_sums_that_are_wrong_are_put_right_by_the_walk(self, hour: datetime) -> None:
        store_emails(2, hour)
        rollups.run()
        CountSum.objects.filter(unit="day").update(number=99)
        CountSum.objects.filter(unit="hour", kind=EMAILS).delete()
        assert len(list(rollups.differences())) == 2  # emails and claims
        assert sum(rollups.run().repaired for _ in range(4)) == 2
        assert sums_in_the_counts() == sums_in_the_rows()

    def test_counts_of_hours_long_ago_outlive_their_rows(self, hour: datetime) -> None:
        old = hour - counting.FROZEN_AFTER[LEFT] - timedelta(days=2)
        HourCount.objects.create(kind=LEFT, hour=old, source="reengagement", key="too_late", number=7)
        CountSum.objects.create(
            kind=LEFT, unit="hour", begins=old, source="reengagement", key="too_late", number=7
        )
        store_left(1, old)
        result = rollups.run()
        assert (result.counted, result.frozen) == (0, 1)
        assert not HourChange.objects.exists()
        assert figures.totals(LEFT, old, old + HOUR) == {"too_late": 7}
        rollups.run(rebuild=True)
        assert figures.totals(LEFT, old, old + HOUR) == {"too_late": 7}


@pytest.mark.django_db
class TestASiteThatWasThereBefore:
    """Emails older than the counts: no note was ever written of them."""

    @pytest.fixture
    def days(self, hour: datetime) -> list[datetime]:
        days = [hour - timedelta(days=n) for n in (0, 1, 40, 80)]
        for day in days:
            store_emails(2, day)
            store_left(1, day + timedelta(minutes=59))
        HourChange.objects.all().delete()
        return days

    def test_the_first_walk_counts_everything(self, days: list[datetime]) -> None:
        assert figures.counted_until() is None
        result = rollups.run()
        assert not result.building and result.repaired == 0 and not result.more
        assert in_the_counts() == in_the_rows() != {}
        HourChange.objects.all().delete()

    def test_until_the_first_walk_is_over_it_is_said_how_far_back_it_came(self, days: list[datetime]) -> None:
        result = rollups.run(budget=0)
        assert result.building and result.more
        since = figures.counted_from()
        assert since is not None and since > days[0]
        rollups.run()
        assert figures.counted_from() is None
        assert in_the_counts() == in_the_rows()

    def test_a_rebuild_makes_right_what_somebody_broke(self, days: list[datetime]) -> None:
        rollups.run()
        HourCount.objects.filter(hour=days[3]).delete()
        HourCount.objects.filter(hour=days[1]).update(number=99)
        assert not rollups.run(rebuild=True).building
        assert in_the_counts() == in_the_rows()


def elsewhere(work: Callable[[], object]) -> None:
    """Do something in another connection, and wait for its end."""
    problems: list[BaseException] = []

    def do() -> None:
        try:
            work()
        except BaseException as problem:
            problems.append(problem)
        finally:
            connection.close()

    thread = threading.Thread(target=do)
    thread.start()
    thread.join(60)
    assert not problems and not thread.is_alive(), problems


@pytest.mark.mariadb
@pytest.mark.django_db(transaction=True)
class TestTrouble:
    def test_a_pass_that_dies_between_deletion_and_insertion_has_changed_nothing(
        self, hour: datetime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ids = store_emails(2, hour)
        rollups.run()
        transitions.move(ids, S.CANCELLED, now=timezone.now())
        before, insert = in_the_counts(), bulk.insert

        def die(model: Any, rows: Any) -> None:
            if model is HourCount:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT CONNECTION_ID()")
                    number = cursor.fetchone()[0]
                    cursor.execute("SELECT COUNT(*) FROM emailoffload_hourcount WHERE kind = 'email'")
                    assert cursor.fetchone()[0] == 0
                SERVER.run(f"KILL {number}")
            insert(model, rows)

        with monkeypatch.context() as patch:
            patch.setattr(bulk, "insert", die)
            with pytest.raises(OperationalError):
                counting.recount(Hour(hour, EMAILS))
        connection.close()
        assert in_the_counts() == before
        rollups.run()
        assert in_the_counts() == in_the_rows() != before

    def test_of_two_passes_at_once_the_older_count_never_replaces_the_newer(
        self, hour: datetime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A pass whose lease was taken over wakes up with what it had counted."""
        ids = store_emails(3, hour)
        count = counting.count
        slow = True

        def recount(each: Hour) -> counting.Figures:
            nonlocal slow
            found = count(each)
            if slow:
                slow = False
                elsewhere(lambda: transitions.move(ids, S.CANCELLED, now=timezone.now()))
                elsewhere(lambda: counting.recount(each))
            return found

        monkeypatch.setattr(counting, "count", recount)
        assert counting.recount(Hour(hour, EMAILS)) is False
        assert counting.stored(Hour(hour, EMAILS)) == {("reengagement", 3, S.CANCELLED): 3}

    def test_a_change_while_an_hour_is_counted_is_counted_by_the_next_pass(
        self, hour: datetime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ids = store_emails(3, hour)
        count = counting.count

        def recount(each: Hour) -> counting.Figures:
            found = count(each)
            elsewhere(lambda: transitions.move(ids, S.CANCELLED, now=timezone.now()))
            return found

        with monkeypatch.context() as patch:
            patch.setattr(counting, "count", recount)
            assert counting.recount(Hour(hour, EMAILS)) is True
        assert counting.stored(Hour(hour, EMAILS)) == {("reengagement", 3, S.QUEUED): 3}
        rollups.run()
        assert in_the_counts() == in_the_rows()

    def test_a_change_that_commits_late_is_counted_when_it_has(self, hour: datetime) -> None:
        """It said its time before the pass began, and neither waits for the other."""
        ids = store_emails(3, hour)
        rollups.run()
        with transaction.atomic():
            transitions.move(ids, S.CANCELLED, now=timezone.now() - timedelta(minutes=30))
            elsewhere(rollups.run)
            elsewhere(lambda: transitions.move(store_emails(1, hour), S.FAILED, now=timezone.now()))
        rollups.run()
        assert in_the_counts() == in_the_rows()
        assert figures.totals(EMAILS, hour, hour + HOUR) == {S.CANCELLED: 3, S.FAILED: 1}

    def test_a_change_that_is_rolled_back_leaves_no_note(self, hour: datetime) -> None:
        ids = store_emails(1, hour)
        rollups.run()
        with transaction.atomic():
            transitions.move(ids, S.CANCELLED, now=timezone.now())
            transaction.set_rollback(True)
        assert not HourChange.objects.exists()

    def test_what_a_pass_remembers_may_be_lost(self, hour: datetime) -> None:
        store_emails(2, hour)
        rollups.run()
        State.objects.filter(name=figures.STATE).delete()
        assert figures.counted_until() is None
        rollups.run()
        assert in_the_counts() == in_the_rows()
