"""Moves between states: every pair of the table, and the statements of the sending path."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db.models import QuerySet
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from hypothesis.strategies import sampled_from

from emailoffload.outbox import transitions
from emailoffload.outbox.models import Attempt, Content, Email
from emailoffload.outbox.states import (
    AFTER_ACCEPTANCE,
    LEFT,
    OPEN,
    TRANSITIONS,
    EmailState,
    IllegalTransition,
    check,
    sources_of,
)
from tests.outbox.factory import queue_email, queue_emails

S = EmailState
EVIDENCE = [S.ACCEPTED, S.DELAYED, S.DELIVERED, S.OPENED, S.CLICKED]


def test_the_table_names_every_state() -> None:
    assert set(TRANSITIONS) == set(EmailState)


@pytest.mark.parametrize("old", EmailState)
@pytest.mark.parametrize("new", EmailState)
def test_only_moves_of_the_table_are_allowed(old: EmailState, new: EmailState) -> None:
    if new in TRANSITIONS[old]:
        check(old, new)
    else:
        with pytest.raises(IllegalTransition, match=f"{old} to {new}"):
            check(old, new)


def test_each_state_counts_as_work_to_do_as_left_or_as_the_end() -> None:
    told_by_events = {S.DELAYED, S.DELIVERED, S.OPENED, S.CLICKED, S.BOUNCED, S.COMPLAINED, S.REJECTED}
    assert told_by_events == AFTER_ACCEPTANCE
    assert {S.PREPARED, S.QUEUED, S.SENDING, S.UNCERTAIN} == OPEN
    assert {S.SENDING, S.UNCERTAIN, S.ACCEPTED, S.SENT_SMTP} | told_by_events == LEFT
    assert set(EmailState) - OPEN - LEFT == {S.SUPPRESSED, S.RELEASED, S.FAILED, S.CANCELLED}


@pytest.mark.parametrize("new", EmailState)
def test_what_may_come_to_a_state_is_the_table_read_backwards(new: EmailState) -> None:
    assert sources_of(new) == {old for old in EmailState if new in TRANSITIONS[old]}


def test_no_state_follows_itself_and_no_late_event_pulls_a_state_back() -> None:
    assert not any(state in targets for state, targets in TRANSITIONS.items())
    for later in EVIDENCE:
        for earlier in EVIDENCE[: EVIDENCE.index(later)]:
            assert earlier not in TRANSITIONS[later]


def test_what_may_have_left_never_returns_to_the_outbox_except_where_nothing_was_transmitted() -> None:
    back = {state for state in LEFT if S.QUEUED in TRANSITIONS[state]}
    assert back == {S.SENDING, S.UNCERTAIN}
    assert not any(TRANSITIONS[state] & OPEN for state in AFTER_ACCEPTANCE)


@pytest.mark.mariadb
@pytest.mark.django_db(transaction=True)
class TestMoves:
    """The same table, as the database applies it."""

    def test_a_set_based_move_moves_exactly_those_that_may_move(self) -> None:
        emails = queue_emails(len(EmailState))
        for email, state in zip(emails, EmailState, strict=True):
            Email.objects.filter(pk=email.pk).update(state=state)
        ids = [email.pk for email in emails]
        for new in EmailState:
            before = dict(Email.objects.values_list("pk", "state"))
            transitions.move(ids, new, now=timezone.now())
            for pk, state in Email.objects.values_list("pk", "state"):
                allowed = new in TRANSITIONS[EmailState(before[pk])]
                assert state == (new if allowed else before[pk])
            for pk, state in before.items():
                Email.objects.filter(pk=pk).update(state=state)

    def test_a_move_for_a_lease_leaves_what_others_hold(self) -> None:
        mine, theirs = queue_emails(2)
        Email.objects.filter(pk=mine.pk).update(lease="mine")
        Email.objects.filter(pk=theirs.pk).update(lease="theirs")
        ids = [mine.pk, theirs.pk]
        assert transitions.move(ids, S.SUPPRESSED, now=timezone.now(), lease="mine", reason="x") == 1
        assert dict(Email.objects.values_list("state", "lease")) == {"suppressed": "", "queued": "theirs"}

    def test_the_longest_due_are_leased_first_and_none_twice(self) -> None:
        now = timezone.now()
        late = queue_email(due=now - timedelta(minutes=3))
        later = queue_email(due=now - timedelta(minutes=2))
        queue_email(due=now + timedelta(minutes=2))
        until = now + timedelta(minutes=1)
        assert transitions.lease_due(1, "a", now=now, until=until) == [late.pk]
        assert transitions.lease_due(9, "b", now=now, until=until) == [later.pk]
        assert transitions.lease_due(9, "c", now=now, until=until) == []

    def test_an_attempt_is_on_record_for_each_mail_that_is_about_to_leave_and_for_no_other(self) -> None:
        now = timezone.now()
        emails = queue_emails(3)
        transitions.lease_due(9, "a", now=now + timedelta(seconds=1), until=now)
        Email.objects.filter(pk=emails[2].pk).update(lease="rsomebody")
        won = transitions.mark_sending([(email.pk, 1) for email in emails], "a", "h", now=now, until=now)
        assert won == {emails[0].pk, emails[1].pk}
        assert set(Attempt.objects.values_list("email", "outcome", "holder")) == {
            (pk, "in_flight", "h") for pk in won
        }
        assert set(Email.objects.values_list("state", "attempts")) == {("sending", 1), ("queued", 0)}

    def test_an_acceptance_counts_even_after_recovery_called_the_send_uncertain(self) -> None:
        email = self.sending("a")
        assert transitions.interrupted(timezone.now() + timedelta(minutes=1)) == (0, 1)
        email.refresh_from_db()
        assert (email.state, email.reason) == ("uncertain", "interrupted")
        self.record(email, S.ACCEPTED, "accepted", message_id="m-1")
        email.refresh_from_db()
        assert (email.state, email.reason, email.message_id) == ("accepted", "", "m-1")
        attempt = Attempt.objects.get()
        assert (attempt.outcome, attempt.error_code, attempt.message_id) == ("accepted", "", "m-1")

    def test_an_acceptance_that_comes_after_the_mail_was_queued_once_more_keeps_it_from_leaving_again(
        self,
    ) -> None:
        email = self.sending("a")
        transitions.interrupted(timezone.now() + timedelta(minutes=1))
        Email.objects.update(state=S.QUEUED, lease="another", leased_until=timezone.now())
        self.record(email, S.ACCEPTED, "accepted", message_id="m-1")
        email.refresh_from_db()
        assert (email.state, email.lease, email.message_id) == ("accepted", "", "m-1")
        now = timezone.now()
        assert transitions.mark_sending([(email.pk, 2)], "another", "h", now=now, until=now) == set()

    def test_any_other_end_counts_only_while_the_mail_is_still_ours(self) -> None:
        email = self.sending("a")
        Email.objects.filter(pk=email.pk).update(state=S.DELIVERED)
        self.record(email, S.UNCERTAIN, "unknown")
        email.refresh_from_db()
        assert email.state == "delivered"
        assert Attempt.objects.get().outcome == "unknown"

    def test_recovery_leaves_what_is_alive_and_what_a_release_holds(self) -> None:
        alive = self.sending("alive", until=timezone.now() + timedelta(minutes=1))
        held, silent = queue_emails(2)
        now = timezone.now()
        Email.objects.filter(pk=held.pk).update(lease="rhand", leased_until=now + timedelta(days=3650))
        Email.objects.filter(pk=silent.pk).update(lease="dead", leased_until=now - timedelta(seconds=1))
        assert transitions.interrupted(now) == (1, 0)
        assert dict(Email.objects.values_list("pk", "lease")) == {
            alive.pk: "alive",
            held.pk: "rhand",
            silent.pk: "",
        }

    def test_a_thousand_mails_are_recorded_in_a_handful_of_statements(
        self, django_assert_max_num_queries: Any
    ) -> None:
        now = timezone.now()
        emails = queue_emails(1000)
        ids = transitions.lease_due(1000, "a", now=now + timedelta(seconds=1), until=now)
        with django_assert_max_num_queries(10):
            transitions.mark_sending([(pk, 1) for pk in ids], "a", "h", now=now, until=now)
            transitions.record(
                [transitions.Ended(pk, S.ACCEPTED, "accepted", now, now, message_id=f"m-{pk}") for pk in ids],
                "a",
                "h",
                now=now,
            )
        assert {email.pk: f"m-{email.pk}" for email in emails} == dict(
            Email.objects.filter(state=S.ACCEPTED).values_list("pk", "message_id")
        )

    def sending(self, lease: str, until: Any = None) -> Email:
        now = timezone.now()
        email = queue_email(due=now - timedelta(seconds=1))
        transitions.lease_due(1, lease, now=now, until=now)
        transitions.mark_sending([(email.pk, 1)], lease, "h", now=now, until=until or now)
        return email

    def record(self, email: Email, state: EmailState, outcome: str, **values: Any) -> None:
        now = timezone.now()
        ended = transitions.Ended(email.pk, state, outcome, now, now, **values)
        transitions.record([ended], "a", "h", now=now)

    def test_no_order_of_moves_takes_a_mail_where_the_table_does_not_lead(self) -> None:
        run_state_machine_as_test(
            Life,
            settings=settings(
                max_examples=25,
                stateful_step_count=12,
                deadline=None,
                suppress_health_check=[HealthCheck.function_scoped_fixture],
            ),
        )


class Life(RuleBasedStateMachine):
    """One email through dispatch, recovery, events and people, in any order."""

    def __init__(self) -> None:
        super().__init__()
        for model in (Attempt, Content, Email):
            model.objects.all().delete()
        self.email = queue_email(due=timezone.now() - timedelta(seconds=1))
        self.state: str = "queued"
        self.accepted = False

    def now_is(self) -> str:
        self.email.refresh_from_db()
        return self.email.state

    @rule()
    def begin(self) -> None:
        now = timezone.now()
        Email.objects.filter(pk=self.email.pk).update(next_try_at=now)
        lease = uuid.uuid4().hex
        ids = [pk for pk in transitions.lease_due(1, lease, now=now, until=now) if pk == self.email.pk]
        won = transitions.mark_sending(
            [(pk, self.email.attempts + 1) for pk in ids], lease, "h", now=now, until=now
        )
        assert bool(won) == (self.state == "queued")

    @rule(
        end=sampled_from(
            [
                (S.ACCEPTED, "accepted"),
                (S.UNCERTAIN, "unknown"),
                (S.QUEUED, "throttled"),
                (S.FAILED, "permanent"),
            ]
        )
    )
    def end(self, end: tuple[EmailState, str]) -> None:
        if not Attempt.objects.filter(email=self.email, outcome="in_flight").exists():
            return
        now = timezone.now()
        message_id = "m" if end[1] == "accepted" else ""
        self.accepted |= bool(message_id)
        ended = transitions.Ended(self.email.pk, end[0], end[1], now, now, message_id=message_id)
        transitions.record([ended], self.email.lease, "h", now=now)

    @rule()
    def recover(self) -> None:
        transitions.interrupted(timezone.now() + timedelta(minutes=5))

    @rule(new=sampled_from([*AFTER_ACCEPTANCE, S.CANCELLED, S.SUPPRESSED, S.QUEUED, S.RELEASED]))
    def move(self, new: EmailState) -> None:
        transitions.move([self.email.pk], new, now=timezone.now())

    @invariant()
    def moved_as_the_table_says(self) -> None:
        new = self.now_is()
        # A rule makes at most two moves: lease and mark, or none.
        assert new == self.state or EmailState(new) in TRANSITIONS[EmailState(self.state)]
        self.state = new
        if self.accepted:
            assert self.email.message_id == "m" and new not in {"prepared", "released", "suppressed"}


@pytest.mark.mariadb
@pytest.mark.django_db(transaction=True)
def test_of_mails_that_another_dispatcher_leases_meanwhile_only_the_others_are_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mails = queue_emails(4)
    now = timezone.now() + timedelta(seconds=1)
    until = now + timedelta(minutes=1)
    update = QuerySet.update

    def late(query: QuerySet[Any], **values: Any) -> int:
        # Somebody who does not wait for our locks: here, ourselves on the same connection.
        if values.get("lease") == "ours":
            update(Email.objects.filter(pk=mails[1].pk), lease="theirs", leased_until=until)
        return update(query, **values)

    monkeypatch.setattr(QuerySet, "update", late)
    ids = transitions.lease_due(4, "ours", now=now, until=until)
    assert sorted(ids) == sorted(mail.pk for mail in mails if mail is not mails[1])
    assert Email.objects.get(pk=mails[1].pk).lease == "theirs"


def test_times_of_other_zones_are_stored_as_utc() -> None:
    here = datetime(2026, 3, 1, 12, 30, 0, 7, tzinfo=UTC)
    there = here.astimezone(timezone.get_fixed_timezone(330))
    assert there.hour == 18
    assert transitions.sql_time(there) == transitions.sql_time(here) == "2026-03-01 12:30:00.000007"
