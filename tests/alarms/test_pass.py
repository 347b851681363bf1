"""Alarms are raised once, end once, and are told once of each, whatever flickers, fails or races."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis
import pytest
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import strategies as st

from emailoffload.feedback import alarms as record
from emailoffload.feedback.models import Alarm
from emailoffload.outbox.models import Lease, State
from emailoffload.worker import alarm_telling, alarms, lease
from emailoffload.worker.alarm_conditions import Condition, Seen
from emailoffload.worker.alarm_telling import Channel, NotTold

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)
START = datetime(2026, 11, 20, 12, tzinfo=UTC)


def look(*subjects: str) -> list[Seen]:
    return [Seen("fallbacks", "warning", f"about {subject}", "do it", subject) for subject in subjects]


def evaluate(
    now: datetime, seen: Sequence[Seen] | Exception, holds: timedelta = timedelta()
) -> alarms.AlarmsResult:
    def see(_now: datetime) -> Sequence[Seen]:
        if isinstance(seen, Exception):
            raise seen
        return seen

    result = alarms.AlarmsResult()
    condition = Condition("c", frozenset({"fallbacks"}), lambda: holds, see)
    alarms.evaluate([condition], now, result)
    return result


def opened() -> list[str]:
    return list(Alarm.objects.filter(ended_at=None).order_by("subject").values_list("subject", flat=True))


def test_an_alarm_is_raised_only_after_its_cause_has_lasted() -> None:
    holds = 2 * MINUTE
    assert [evaluate(START + number * MINUTE, look("a"), holds).raised for number in range(4)] == [0, 0, 1, 0]
    evaluate(START + 4 * MINUTE, [], holds)
    assert evaluate(START + 5 * MINUTE, look("b"), holds).raised == 0
    evaluate(START + 6 * MINUTE, [], holds)
    assert evaluate(START + 7 * MINUTE, look("b"), holds).raised == 0
    assert opened() == ["a"]


def test_an_alarm_ends_only_when_its_cause_has_been_gone_for_a_while() -> None:
    evaluate(START, look("a", "b"))
    for number in range(1, 5):
        assert evaluate(START + number * MINUTE, look("a")).ended == 0
    assert evaluate(START + 5 * MINUTE, look("a")).ended == 1
    assert opened() == ["a"]
    ended = Alarm.objects.get(subject="b")
    assert (ended.active_key, ended.raised_at, ended.ended_at) == (None, START, START + 5 * MINUTE)
    assert evaluate(START + 6 * MINUTE, look("a", "b")).raised == 1
    assert Alarm.objects.count() == 3


def test_what_flickers_is_one_alarm() -> None:
    for number in range(20):
        evaluate(START + number * MINUTE, look("a") if number % 4 == 0 else [])
    assert (Alarm.objects.count(), opened()) == (1, ["a"])


def test_a_condition_that_cannot_be_looked_at_neither_raises_nor_ends_and_hides_no_other() -> None:
    evaluate(START, look("a"))
    for number in range(1, 9):
        result = evaluate(START + number * MINUTE, ValueError("x"))
    assert (result.unknown, result.ended, opened()) == (["c"], 0, ["a"])
    assert evaluate(START + 9 * MINUTE, []).ended == 0


def test_what_was_seen_before_a_condition_could_not_be_looked_at_stays_seen() -> None:
    holds = 2 * MINUTE
    evaluate(START, look("a"), holds)
    evaluate(START + MINUTE, ValueError("x"), holds)
    assert evaluate(START + 2 * MINUTE, look("a"), holds).raised == 1


def test_an_alarm_that_this_version_does_not_know_ends() -> None:
    record.raise_alarm("of_old", "", "warning", "t", "c", now=START)
    assert evaluate(START, []).ended == 1


def test_the_figures_of_an_open_alarm_are_the_newest() -> None:
    evaluate(START, [Seen("fallbacks", "warning", "3 mails", "c", details={"n": 3})])
    evaluate(START + MINUTE, [Seen("fallbacks", "critical", "9 mails", "c", details={"n": 9})])
    alarm = Alarm.objects.get()
    assert (alarm.text, alarm.level, alarm.details, alarm.raised_at) == (
        "9 mails",
        "critical",
        {"n": 9},
        START,
    )


def test_a_pass_finds_another_at_work() -> None:
    with lease.hold(record.LEASE):
        assert alarms.run(conditions=()).busy
    assert not alarms.run(conditions=()).busy
    assert Lease.objects.get(name=record.LEASE).expires_at is None


# --- telling: the state machine ---


@dataclass
class Ear:
    """A channel that hears or fails."""

    heard: list[tuple[int, str]] = field(default_factory=list)
    deaf: bool = False

    def send(self, alarm: Alarm, what: Any, _server: Any) -> None:
        if self.deaf:
            raise NotTold("deaf")
        self.heard.append((alarm.pk, what))


def hear(monkeypatch: pytest.MonkeyPatch, **ears: Ear) -> None:
    ways = [Channel(name, ear.send) for name, ear in ears.items()]
    monkeypatch.setattr(alarm_telling, "channels", lambda: ways)


STEPS = st.lists(
    st.tuples(st.sets(st.sampled_from("ab")), st.booleans(), st.sampled_from([1, 2, 7, 70])), max_size=12
)


@hypothesis.settings(
    max_examples=25, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(STEPS)
def test_each_alarm_is_told_at_most_once_when_raised_and_exactly_once_when_ended(
    monkeypatch: pytest.MonkeyPatch, steps: list[tuple[set[str], bool, int]]
) -> None:
    ear, other = Ear(), Ear()
    hear(monkeypatch, ear=ear, other=other)
    with transaction.atomic():
        now = START
        for causes, deaf, minutes in steps:
            now += minutes * MINUTE
            ear.deaf = deaf
            evaluate(now, look(*sorted(causes)))
            alarm_telling.tell(now)
        ear.deaf = False
        for _ in range(3):
            now += timedelta(hours=2)
            evaluate(now, [])
            alarm_telling.tell(now)
        ids = list(Alarm.objects.order_by("pk").values_list("pk", flat=True))
        for heard in (ear.heard, other.heard):
            assert len(heard) == len(set(heard))
            assert sorted(pk for pk, what in heard if what == "ended") == ids
            for pk in ids:
                assert [what for each, what in heard if each == pk] in (["raised", "ended"], ["ended"])
        assert all((pk, "raised") in other.heard for pk in ids)
        transaction.set_rollback(True)


def test_telling_that_fails_is_tried_again_with_growing_pauses_until_a_day_after_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hear(monkeypatch, ear=Ear(deaf=True))
    evaluate(START, look("a"))
    tried = [
        number for number in range(300) if alarm_telling.tell(START + number * MINUTE).failed
    ]  # fmt: skip
    assert tried == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]
    assert Alarm.objects.get().told["ear"]["error"] == "deaf"
    evaluate(START + timedelta(days=2), [])
    assert alarm_telling.tell(START + timedelta(days=2)).failed == 1
    assert alarm_telling.tell(START + timedelta(days=4)).failed == 0


def test_a_pass_that_must_end_tells_the_rest_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ear = Ear()
    hear(monkeypatch, ear=ear)
    evaluate(START, look("a", "b"))
    answers = iter([True, False])
    assert alarm_telling.tell(START, lambda: next(answers)).told == 1
    assert alarm_telling.tell(START).told == 1
    assert len(set(ear.heard)) == 2


# --- races ---


def in_threads(count: int, work: Any) -> list[Any]:
    found: list[Any] = []
    barrier = threading.Barrier(count)

    def run() -> None:
        try:
            barrier.wait(10)
            found.append(work())
        except BaseException as error:
            found.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.django_db(transaction=True)
@pytest.mark.mariadb
def test_of_several_who_raise_end_and_tell_at_once_exactly_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    ear = Ear()
    hear(monkeypatch, ear=ear)
    for _ in range(3):
        raised = in_threads(4, lambda: record.raise_alarm("fallbacks", "x", "warning", "t", "c")[1])
        assert sorted(raised) == [False, False, False, True]
        assert sum(told.told for told in in_threads(4, lambda: alarm_telling.tell(timezone.now()))) == 1
        assert sorted(in_threads(4, lambda: record.end_alarm("fallbacks", "x"))) == [
            False,
            False,
            False,
            True,
        ]
        assert sum(told.told for told in in_threads(4, lambda: alarm_telling.tell(timezone.now()))) == 1
    assert len(ear.heard) == len(set(ear.heard)) == 6
    assert not State.objects.filter(name=alarms.MEMORY).exists()


def test_a_clock_that_was_wrong_for_a_moment_keeps_no_alarm_from_being_raised_told_and_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    channel = Channel("webhook", lambda alarm, what, _server: told.append(f"{what} {alarm.subject}"))
    monkeypatch.setattr(alarm_telling, "channels", lambda: [channel])
    ahead = START + timedelta(days=365)
    evaluate(ahead, look("begun"), 2 * MINUTE)
    evaluate(ahead, look("begun", "open"))
    entry = {"tries": 1, "next": (ahead + MINUTE).isoformat(), "error": "away"}
    Alarm.objects.filter(subject="open").update(told={"webhook": entry})
    Alarm.objects.filter(subject="begun").delete()
    for number in range(4):
        evaluate(START + number * MINUTE, look("begun"), 2 * MINUTE)
    alarm_telling.tell(START + 5 * MINUTE)
    assert opened() == ["begun"]
    assert sorted(told) == ["ended open", "raised begun"]


def test_an_alarm_about_a_very_long_name_is_raised_once_and_ends() -> None:
    name = "identity:" + "a" * 255
    assert evaluate(START, look(name)).raised == 1
    assert evaluate(START + MINUTE, look(name)).raised == 0
    assert evaluate(START + 10 * MINUTE, []).ended == 1
    assert opened() == []
