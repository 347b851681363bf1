"""The statements of the sending path, column by column: what they write, what they leave alone, whom they ask."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from emailoffload.outbox import transitions
from emailoffload.outbox.figures import EMAILS, HourChange
from emailoffload.outbox.models import Attempt, Email
from emailoffload.outbox.states import EmailState
from tests.outbox.factory import queue_emails

S = EmailState
pytestmark = [pytest.mark.mariadb, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def now() -> datetime:
    """A moment at which all that was just queued is due, without fractions that a database could round."""
    return timezone.now().replace(microsecond=0) + timedelta(seconds=2)


def noted() -> bool:
    """Whether the hours of mails are to be counted anew; forgotten by that."""
    return bool(HourChange.objects.filter(kind=EMAILS).delete()[0])


def row(email: Email, *columns: str) -> tuple[Any, ...]:
    return tuple(Email.objects.values_list(*columns).get(pk=email.pk))


def test_a_move_frees_the_mail_says_when_and_has_its_hour_counted_anew(now: datetime) -> None:
    (mail,) = queue_emails(1, email={"lease": "x", "leased_until": now})
    noted()
    assert transitions.move([mail.pk], S.CANCELLED, now=now, reason="person") == 1
    assert row(mail, "state", "state_at", "lease", "leased_until", "reason") == (
        "cancelled",
        now,
        "",
        None,
        "person",
    )
    assert noted()
    assert transitions.move([mail.pk], S.QUEUED, now=now) == 0
    assert not noted()


def test_a_move_whose_note_for_the_counts_fails_is_none(
    now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(ids: object) -> None:
        raise RuntimeError

    (mail,) = queue_emails(1)
    monkeypatch.setattr(transitions.hourchanges, "emails", broken)
    with pytest.raises(RuntimeError):
        transitions.move([mail.pk], S.CANCELLED, now=now)
    assert row(mail, "state") == ("queued",)


@pytest.mark.parametrize("sensitive_first", [False, True])
def test_a_lease_takes_what_is_due_and_free_up_to_its_limit_and_says_until_when(
    now: datetime, sensitive_first: bool
) -> None:
    until = now + timedelta(minutes=5)
    late, secret, held, later, sent = queue_emails(5)
    for number, mail in enumerate((late, secret, held, later, sent)):
        Email.objects.filter(pk=mail.pk).update(next_try_at=now - timedelta(minutes=9 - number))
    Email.objects.filter(pk=secret.pk).update(sensitive=True)
    Email.objects.filter(pk=held.pk).update(lease="theirs", leased_until=now)
    Email.objects.filter(pk=later.pk).update(next_try_at=now + timedelta(seconds=1))
    Email.objects.filter(pk=sent.pk).update(state=S.ACCEPTED)
    assert transitions.due(9, now=now) == 2
    assert transitions.due(1, now=now) == 1

    def lease(limit: int) -> list[int]:
        return transitions.lease_due(limit, "ours", now=now, until=until, sensitive_first=sensitive_first)

    first, second = (secret, late) if sensitive_first else (late, secret)
    assert lease(1) == [first.pk]
    assert row(first, "lease", "leased_until", "state") == ("ours", until, "queued")
    assert lease(9) == [second.pk]
    assert lease(9) == []
    assert row(held, "lease", "leased_until") == ("theirs", now)
    assert {row(mail, "lease") for mail in (later, sent)} == {("",)}


def test_a_lease_passes_over_what_others_are_leasing_and_looks_at_nothing_when_nothing_is_due(
    now: datetime,
) -> None:
    with CaptureQueriesContext(connection) as none:
        assert transitions.lease_due(9, "ours", now=now, until=now) == []
    assert not [q for q in none if q["sql"].startswith("UPDATE")]
    queue_emails(2)
    with CaptureQueriesContext(connection) as queries:
        assert len(transitions.lease_due(9, "ours", now=now, until=now)) == 2
    (look,) = [q["sql"] for q in queries if q["sql"].startswith("SELECT")]
    assert look.endswith("LIMIT 9 FOR UPDATE SKIP LOCKED")


def test_a_lease_is_kept_for_longer_and_given_back_by_its_holder_only(now: datetime) -> None:
    ours, theirs, sending = queue_emails(3)
    until = now + timedelta(minutes=9)
    for mail, lease, state in (
        (ours, "ours", "queued"),
        (theirs, "theirs", "queued"),
        (sending, "ours", "sending"),
    ):
        Email.objects.filter(pk=mail.pk).update(lease=lease, state=state, leased_until=now)
    transitions.extend([ours.pk, theirs.pk], "ours", until)
    assert [row(mail, "leased_until")[0] for mail in (ours, theirs, sending)] == [until, now, now]
    assert transitions.unlease([ours.pk, theirs.pk, sending.pk], "ours") == 1
    assert row(ours, "lease", "leased_until") == ("", None)
    assert [row(mail, "lease")[0] for mail in (theirs, sending)] == ["theirs", "ours"]


@pytest.mark.parametrize("told", [False, True])
def test_before_the_first_byte_leaves_mail_and_attempt_say_all_about_it(now: datetime, told: bool) -> None:
    mine, theirs, other = queue_emails(3, email={"reason": "throttled", "detail": "slow down", "attempts": 4})
    until = now + timedelta(minutes=3)
    Email.objects.filter(pk__in=[mine.pk, other.pk]).update(lease="ours")
    Email.objects.filter(pk=theirs.pk).update(lease="theirs")
    noted()
    won = transitions.mark_sending(
        [(mine.pk, 5), (theirs.pk, 5)], "ours", "host:1", now=now, until=until, route="smtp", noted=told
    )
    assert won == {mine.pk}
    assert noted() is not told
    assert row(mine, "state", "state_at", "attempts", "leased_until", "reason", "detail", "lease") == (
        "sending", now, 5, until, "", "", "ours"
    )  # fmt: skip
    assert row(theirs, "state", "attempts", "reason") == row(other, "state", "attempts", "reason")
    (attempt,) = Attempt.objects.all()
    assert (attempt.email_id, attempt.number, attempt.route, attempt.outcome) == (
        mine.pk,
        5,
        "smtp",
        "in_flight",
    )
    assert (attempt.started_at, attempt.holder, attempt.finished_at, attempt.http_status) == (
        now,
        "host:1",
        None,
        None,
    )
    assert (attempt.error_code, attempt.error_message, attempt.request_id, attempt.message_id) == (
        "",
        "",
        "",
        "",
    )
    # Asked once more after a commit whose answer was lost: still one attempt.
    transitions._begin_attempts({mine.pk}, "host:1", now, "smtp")
    assert Attempt.objects.count() == 1


def test_none_of_several_is_sent_where_the_lease_went_to_another(now: datetime) -> None:
    (mail,) = queue_emails(1, email={"lease": "theirs"})
    noted()
    assert transitions.mark_sending([(mail.pk, 1)], "ours", "h", now=now, until=now) == set()
    assert not Attempt.objects.exists()
    assert not noted()


def sending(now: datetime, count: int = 1) -> list[Email]:
    """Mails that are being sent by `ours` at host `h`, each with its attempt."""
    mails = queue_emails(count, email={"lease": "ours"})
    transitions.mark_sending([(mail.pk, 1) for mail in mails], "ours", "h", now=now, until=now)
    noted()
    return mails


def ended(mail: Email, state: EmailState, outcome: str, now: datetime, **more: Any) -> transitions.Ended:
    return transitions.Ended(mail.pk, state, outcome, now, now + timedelta(minutes=2), **more)


@pytest.mark.parametrize("told", [False, True])
def test_how_attempts_ended_is_written_into_mails_and_attempts_each_its_own(
    now: datetime, told: bool
) -> None:
    good, again, never, other = sending(now, 4)
    later = now + timedelta(seconds=5)
    results = [
        ended(good, S.ACCEPTED, "accepted", now, message_id="m-1", request_id="r-1", http_status=200),
        ended(
            again, S.QUEUED, "throttled", now, reason="r" * 70, code="c" * 120, message="m" * 600, http_status=429,
            request_id="r-2",
        ),
        ended(never, S.FAILED, "permanent", now, reason="rejected", code="Bad", message="no"),
    ]  # fmt: skip
    transitions.record(results, "ours", "h", now=later, noted=told)
    assert noted() is not told
    columns = ("state", "state_at", "message_id", "accepted_at", "reason", "detail", "lease", "leased_until")
    assert row(good, *columns) == ("accepted", later, "m-1", now, "", "", "", None)
    assert row(again, *columns) == ("queued", later, "", None, "r" * 60, "m" * 500, "", None)
    assert row(again, "next_try_at") == (now + timedelta(minutes=2),)
    assert row(never, *columns) == ("failed", later, "", None, "rejected", "no", "", None)
    assert row(other, "state", "lease") == ("sending", "ours")
    told_of = Attempt.objects.order_by("email_id").values_list(
        "outcome", "finished_at", "error_code", "error_message", "http_status", "request_id", "message_id"
    )
    assert list(told_of) == [
        ("accepted", now, "", "", 200, "r-1", "m-1"),
        ("throttled", now, "c" * 100, "m" * 500, 429, "r-2", ""),
        ("permanent", now, "Bad", "no", None, "", ""),
        ("in_flight", None, "", "", None, "", ""),
    ]


def test_nothing_that_ended_is_no_statement(now: datetime, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        transitions.record([], "ours", "h", now=now)


def test_an_end_is_recorded_as_a_whole_or_not_at_all(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError

    (mail,) = sending(now)
    monkeypatch.setattr(transitions, "_record_attempts", broken)
    with pytest.raises(RuntimeError):
        transitions.record([ended(mail, S.FAILED, "permanent", now)], "ours", "h", now=now)
    assert row(mail, "state") == ("sending",)


@pytest.mark.parametrize(
    ("state", "lease", "becomes"),
    [
        ("sending", "ours", "accepted"), ("uncertain", "", "accepted"), ("queued", "", "accepted"),
        ("queued", "other", "accepted"), ("queued", "rhand", "queued"), ("delivered", "", "delivered"),
        ("failed", "", "failed"), ("released", "", "released"),
    ],
)  # fmt: skip
def test_an_acceptance_moves_what_waits_and_leaves_what_moodle_gets_or_what_went_on(
    now: datetime, state: str, lease: str, becomes: str
) -> None:
    (mail,) = sending(now)
    before = now - timedelta(minutes=1)
    Email.objects.filter(pk=mail.pk).update(
        state=state, lease=lease, reason="why", state_at=before, leased_until=now
    )
    transitions.record([ended(mail, S.ACCEPTED, "accepted", now, message_id="m")], "ours", "h", now=now)
    moved = becomes == "accepted"
    assert row(mail, "state", "lease", "reason", "state_at", "leased_until", "message_id", "accepted_at") == (
        *((becomes, "", "", now, None) if moved else (becomes, lease, "why", before, now)), "m", now
    )  # fmt: skip


def test_what_an_event_told_first_about_the_time_of_acceptance_stays(now: datetime) -> None:
    (mail,) = sending(now)
    first = now - timedelta(seconds=7)
    Email.objects.filter(pk=mail.pk).update(accepted_at=first)
    transitions.record([ended(mail, S.ACCEPTED, "accepted", now, message_id="m")], "ours", "h", now=now)
    assert row(mail, "accepted_at") == (first,)


@pytest.mark.parametrize(
    ("outcome", "code", "holder", "counts"),
    [
        ("in_flight", "", "h", True), ("unknown", transitions.INTERRUPTED, "h", True),
        ("unknown", "timeout", "h", False),
        ("in_flight", "", "other", False), ("unknown", transitions.INTERRUPTED, "other", False),
    ],
)  # fmt: skip
def test_an_answer_completes_the_attempt_that_it_belongs_to(
    now: datetime, outcome: str, code: str, holder: str, counts: bool
) -> None:
    (mail,) = sending(now)
    Attempt.objects.update(outcome=outcome, error_code=code, holder=holder)
    transitions.record([ended(mail, S.ACCEPTED, "accepted", now, message_id="m")], "ours", "h", now=now)
    assert Attempt.objects.get().outcome == ("accepted" if counts else outcome)


def test_what_dead_dispatchers_left_is_settled_and_nothing_else(now: datetime) -> None:
    over, alive = now - timedelta(seconds=1), now + timedelta(seconds=1)
    free, kept, by_smtp, not_due = queue_emails(4, email={"lease": "dead", "leased_until": over})
    Email.objects.filter(pk=kept.pk).update(leased_until=alive)
    Email.objects.filter(pk=by_smtp.pk).update(route="smtp")
    Email.objects.filter(pk=not_due.pk).update(next_try_at=alive)
    dead, unmarked, living = sending(now, 3)
    Email.objects.filter(pk=dead.pk).update(leased_until=over)
    Email.objects.filter(pk=unmarked.pk).update(leased_until=None)
    Email.objects.filter(pk=living.pk).update(leased_until=alive)
    with CaptureQueriesContext(connection) as queries:
        assert transitions.interrupted(now) == (1, 2)
    assert [row(mail, "lease")[0] for mail in (free, kept, by_smtp, not_due)] == ["", "dead", "dead", "dead"]
    assert row(free, "leased_until") == (None,)
    for mail in (dead, unmarked):
        assert row(mail, "state", "reason", "lease", "state_at") == ("uncertain", "interrupted", "", now)
        attempt = Attempt.objects.get(email=mail)
        assert (attempt.outcome, attempt.error_code, attempt.finished_at) == ("unknown", "interrupted", now)
    assert row(living, "state") == ("sending",)
    assert Attempt.objects.get(email=living).outcome == "in_flight"
    assert any(re.search(r"'sending'.*FOR UPDATE", query["sql"]) for query in queries)


def test_recovery_settles_a_bounded_number_at_once(now: datetime) -> None:
    over = now - timedelta(seconds=1)
    queue_emails(3, email={"lease": "dead", "leased_until": over})
    sending(now, 3)
    Email.objects.filter(state=S.SENDING).update(leased_until=over)
    assert transitions.interrupted(now, limit=2) == (2, 2)
    assert transitions.interrupted(now, limit=2) == (1, 1)
    assert transitions.interrupted(now, limit=2) == (0, 0)


@contextmanager
def meanwhile(what: Callable[[], object]) -> Iterator[None]:
    """Let others do something between the look and the first UPDATE of a block."""
    todo = [what]

    def execute(run: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if todo and sql.startswith("UPDATE"):
            todo.pop()()
        return run(sql, params, many, context)

    with connection.execute_wrapper(execute):
        yield
    assert not todo


def test_what_others_took_or_stopped_between_look_and_lease_is_not_leased(now: datetime) -> None:
    ours, taken, stopped, before = queue_emails(4)
    Email.objects.filter(pk=before.pk).update(lease="ours", leased_until=now)

    def others() -> None:
        Email.objects.filter(pk=taken.pk).update(lease="theirs")
        Email.objects.filter(pk=stopped.pk).update(state=S.CANCELLED)

    with meanwhile(others):
        leased = transitions.lease_due(9, "ours", now=now, until=now, sensitive_first=True)
    assert leased == [ours.pk]
    assert row(taken, "lease") == ("theirs",)
    assert row(stopped, "lease") == ("",)


def test_only_the_mails_named_are_given_back(now: datetime) -> None:
    named, other = queue_emails(2, email={"lease": "ours"})
    assert transitions.unlease([named.pk], "ours") == 1
    assert row(other, "lease") == ("ours",)


def test_of_several_only_those_that_are_still_ours_and_queued_are_sent(now: datetime) -> None:
    ours, theirs, stopped, other = queue_emails(4, email={"lease": "ours"})
    Email.objects.filter(pk=theirs.pk).update(lease="theirs", state=S.SENDING)
    Email.objects.filter(pk=stopped.pk).update(state=S.CANCELLED)
    Email.objects.filter(pk=other.pk).update(state=S.SENDING)
    items = [(mail.pk, 1) for mail in (ours, theirs, stopped)]
    assert transitions.mark_sending(items, "ours", "h", now=now, until=now) == {ours.pk}
    assert row(stopped, "state", "attempts") == ("cancelled", 0)
    assert Attempt.objects.get().email_id == ours.pk


def test_a_mail_is_sending_and_has_its_attempt_or_neither(
    now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError

    (mail,) = queue_emails(1, email={"lease": "ours"})
    monkeypatch.setattr(transitions, "_begin_attempts", broken)
    with pytest.raises(RuntimeError):
        transitions.mark_sending([(mail.pk, 1)], "ours", "h", now=now, until=now)
    assert row(mail, "state") == ("queued",)


def test_values_that_are_the_same_for_all_are_stated_once(now: datetime) -> None:
    first, second = sending(now, 2)
    with CaptureQueriesContext(connection) as queries:
        transitions.record(
            [ended(first, S.QUEUED, "throttled", now, message="x"), ended(second, S.QUEUED, "throttled", now)],
            "ours", "h", now=now,
        )  # fmt: skip
    emails, attempts = (q["sql"] for q in queries if q["sql"].startswith("UPDATE"))
    assert re.findall(r"(\w+) = CASE", emails) == ["detail"]
    assert re.findall(r"(\w+) = CASE", attempts) == ["error_message"]


def test_recovery_leaves_what_has_gone_on_since_it_looked_and_what_nobody_holds(now: datetime) -> None:
    over = now - timedelta(seconds=1)
    gone_on, odd = queue_emails(2, email={"leased_until": over})
    Email.objects.filter(pk=gone_on.pk).update(lease="slow")

    def goes_on() -> None:
        Email.objects.filter(pk=gone_on.pk).update(state=S.SENDING, leased_until=over)

    with meanwhile(goes_on):
        cleared, uncertain = transitions.interrupted(now)
    # What was begun in that moment is uncertain at once: its holder had its time.
    assert (cleared, uncertain) == (0, 1)
    assert row(odd, "leased_until") == (over,)


def test_recovery_leaves_the_earlier_attempts_of_a_mail_as_they_ended(now: datetime) -> None:
    (mail,) = sending(now)
    Email.objects.update(leased_until=now - timedelta(seconds=1))
    earlier = Attempt.objects.create(
        email=mail, number=9, route="ses", started_at=now, outcome="throttled", error_code="Slow", holder="h"
    )
    assert transitions.interrupted(now) == (0, 1)
    earlier.refresh_from_db()
    assert (earlier.outcome, earlier.error_code) == ("throttled", "Slow")
    assert Attempt.objects.exclude(pk=earlier.pk).get().outcome == "unknown"
