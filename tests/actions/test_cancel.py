"""Stopping a mail: only what has not left, for good, and its claim's other mails stay as they are."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from emailoffload.actions import release
from emailoffload.actions.cancel import STOPPED_UNSURE, Cancelled, cancel, may_have_left, refusal
from emailoffload.actions.fallbacks import act
from emailoffload.actions.resend import resend
from emailoffload.actions.settle import settle
from emailoffload.dashboard.verdicts import verdict
from emailoffload.outbox import transitions
from emailoffload.outbox.models import Attempt, AuditEntry, Claim, Email
from emailoffload.outbox.states import TRANSITIONS, ClaimState, EmailState
from emailoffload.worker import dispatch, smtp_route
from tests.fake_ses import FakeSes
from tests.outbox.factory import queue_email, queue_emails

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])
S = EmailState
STOPPABLE = [state for state, targets in TRANSITIONS.items() if S.CANCELLED in targets]


def stop(email: Email) -> Cancelled:
    (outcome,) = cancel([email.pk], actor="sam", reason="sent by mistake")
    email.refresh_from_db()
    return outcome


def unanswered(email: Email) -> None:
    Attempt.objects.create(
        email=email, number=1, started_at=timezone.now(), outcome=transitions.NO_ANSWER, error_code="ReadTimeoutError"
    )  # fmt: skip


@pytest.mark.parametrize("state", list(S))
def test_what_the_table_of_states_allows_is_stopped_and_nothing_else(state: S) -> None:
    email = queue_email(email={"state": state, "detail": "as it was"})
    outcome = stop(email)
    assert outcome.cancelled == (state in STOPPABLE)
    if outcome.cancelled:
        assert (email.state, email.lease, email.detail) == (S.CANCELLED, "", "")
        entry = AuditEntry.objects.get()
        assert (entry.actor, entry.action, entry.object_id) == ("sam", "cancel", str(email.pk))
        assert (entry.reason, entry.details) == ("sent by mistake", {"was": state})
    else:
        assert email.state == state
        assert outcome.why_not.endswith(".")
        assert not AuditEntry.objects.exists()


@pytest.mark.parametrize("state", list(ClaimState))
def test_a_mail_that_is_being_handed_back_is_not_stopped(state: ClaimState) -> None:
    assert bool(refusal(S.QUEUED, state)) == (state == ClaimState.RELEASING)


def test_a_second_click_changes_nothing_and_says_so() -> None:
    email = queue_email()
    assert stop(email).cancelled
    assert stop(email).why_not == "A person has stopped it already, and nobody sends it."
    assert AuditEntry.objects.count() == 1


def test_of_several_each_has_its_own_outcome_in_the_order_asked_for() -> None:
    good, gone = queue_email(), queue_email(email={"state": S.DELIVERED})
    outcomes = cancel([gone.pk, 999_999, good.pk, good.pk], actor="sam", reason="x")
    assert [outcome.cancelled for outcome in outcomes] == [False, False, True, True]
    assert outcomes[1].why_not == "There is no email 999999."
    assert AuditEntry.objects.count() == 1


def test_a_reason_is_needed() -> None:
    with pytest.raises(ValueError, match="reason"):
        cancel([queue_email().pk], actor="sam", reason="  ")


def test_many_are_stopped_with_few_queries(django_assert_max_num_queries: Any) -> None:
    ids = [email.pk for email in queue_emails(50)]
    with django_assert_max_num_queries(12):
        assert all(outcome.cancelled for outcome in cancel(ids, actor="sam", reason="x"))


# --- Honest about what may have left ---


def test_a_mail_whose_try_got_no_answer_is_stopped_and_stays_unknown() -> None:
    email = queue_email(email={"state": S.UNCERTAIN, "reason": "ReadTimeoutError"})
    unanswered(email)
    assert may_have_left(email)
    stop(email)
    assert email.reason == STOPPED_UNSURE
    found = verdict(email)
    assert found.answer == "Unknown"
    assert "may have gone out" in found.sentence


def test_a_mail_that_was_queued_once_more_after_such_a_try_stays_unknown_too() -> None:
    email = queue_email()
    unanswered(email)
    stop(email)
    assert (email.reason, verdict(email).answer) == (STOPPED_UNSURE, "Unknown")


def test_an_answer_that_comes_after_the_stop_is_told() -> None:
    email = queue_email(email={"state": S.UNCERTAIN})
    stop(email)
    email.accepted_at = timezone.now()
    assert verdict(email).answer == "Sent"


def test_an_answer_that_comes_after_a_person_was_sure_of_none_is_told_too() -> None:
    email = queue_email(email={"state": S.UNCERTAIN})
    unanswered(email)
    settle([email.pk], decision="resend", actor="sam", reason="SES does not know it")
    stop(email)
    assert verdict(email).answer == "No"
    email.accepted_at = timezone.now()
    assert verdict(email).answer == "Sent"


def test_a_mail_that_surely_did_not_leave_was_not_sent() -> None:
    email = queue_email()
    assert not may_have_left(email)
    stop(email)
    assert (email.reason, verdict(email).answer) == ("", "No")
    assert "before it left" in verdict(email).sentence


# --- What follows ---


@pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
def test_it_is_never_sent_and_its_siblings_are(ses: FakeSes, source: Any) -> None:
    learner, manager = queue_emails(1, roles=("user", "manager"))
    stop(manager)
    assert dispatch.run(until_empty=True).sent == 1
    assert ses.times() == {learner.ref.hex: 1}


def test_a_mail_that_a_dispatcher_has_leased_is_stopped_and_not_marked(ses: FakeSes) -> None:
    email = queue_email()
    now = timezone.now()
    assert transitions.lease_due(10, "d" * 32, now=now, until=now + timedelta(minutes=1)) == [email.pk]
    assert stop(email).cancelled
    won = transitions.mark_sending(
        [(email.pk, 1)], "d" * 32, "host", now=now, until=now + timedelta(minutes=1)
    )
    assert won == set()
    assert not Attempt.objects.exists()


def test_a_mail_that_a_dispatcher_has_marked_is_not_stopped() -> None:
    email = queue_email()
    now = timezone.now()
    transitions.lease_due(10, "d" * 32, now=now, until=now + timedelta(minutes=1))
    transitions.mark_sending([(email.pk, 1)], "d" * 32, "host", now=now, until=now + timedelta(minutes=1))
    assert stop(email).why_not == "It is being handed over at this moment: it is too late to stop it."


def test_a_mail_that_waits_for_the_smtp_server_is_stopped(settings: Any) -> None:
    settings.SMTP_ROUTE = {"HOST": "localhost"}
    email = queue_email(email={"state": S.FAILED})
    act("smtp", [email.pk], actor="sam", reason="x")
    assert stop(email).cancelled
    assert not smtp_route.wanted().exists()


def test_a_claim_of_which_a_mail_was_stopped_does_not_go_back_to_moodle() -> None:
    learner, manager = queue_emails(1, roles=("user", "manager"))
    stop(manager)
    (outcome,) = release.release([learner.claim_id], actor="sam", reason="x")
    assert not outcome.released
    claim = Claim.objects.get(pk=learner.claim_id)
    assert "was stopped" in release.why_not(claim, list(claim.emails.all()), set())


def test_a_stopped_mail_can_be_sent_again_as_a_new_one() -> None:
    email = queue_email()
    stop(email)
    (outcome,) = resend([email.pk], actor="sam", reason="after all")
    assert outcome.new_id
    email.refresh_from_db()
    assert email.state == S.CANCELLED


# --- The command ---


def run_command(*args: str) -> tuple[Any, int]:
    """What `manage.py cancel … --json` printed, and its exit status."""
    out, status = StringIO(), 0
    try:
        call_command("cancel", *args, "--json", stdout=out)
    except SystemExit as stopped:
        status = int(stopped.code or 0)
    return json.loads(out.getvalue()), status


def test_the_command_stops_and_says_what_it_could_not() -> None:
    good, bad = queue_email(), queue_email(email={"state": S.ACCEPTED})
    answer, status = run_command(str(good.pk), str(bad.pk), "--reason", "asked by phone")
    assert status == 1
    assert answer == {
        "cancelled": [good.pk],
        "not_cancelled": {str(bad.pk): "It has left: Amazon SES took it."},
    }
    assert AuditEntry.objects.get().actor.startswith("command line (")
    assert run_command(str(queue_email().pk), "--reason", "asked")[1] == 0


def test_the_command_wants_a_reason() -> None:
    with pytest.raises(CommandError) as refused:
        call_command("cancel", str(queue_email().pk), "--reason", " ")
    assert refused.value.returncode == 2
