"""A sender whose identity SES has not verified costs its own mails; only where none gets through, the rest too."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from emailoffload.dashboard import reasons, words
from emailoffload.delivery import health
from emailoffload.outbox.models import Attempt, Email, State
from emailoffload.outbox.states import EmailState
from emailoffload.worker import dispatch, outcomes
from tests.fake_ses import FakeSes, Reply, Request
from tests.outbox.factory import queue_email, queue_emails

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.mariadb,
    pytest.mark.usefixtures("source"),
]
FOREIGN = "hr@company.example"
REFUSED = Reply(
    400,
    "MessageRejected",
    f"Email address is not verified. The following identities failed the check in region EU-WEST-1: {FOREIGN}",
)


def refuses(*senders: str) -> Callable[[Request], Reply | None]:
    return lambda request: REFUSED if any(s in request.body["FromEmailAddress"] for s in senders) else None


def run(**options: Any) -> dispatch.DispatchResult:
    return dispatch.run(**{"budget": 1.0} | options)


def opened_again() -> None:
    """The breaker's time is over: the next pass may try."""
    row = State.objects.get(name=health.BREAKER)
    row.value["open_until"] = 1.0
    row.save()


def test_the_mails_of_one_unverified_sender_wait_and_all_others_leave(ses: FakeSes, settings: Any) -> None:
    settings.DISPATCH_THREADS = 2
    ses.behave = refuses(FOREIGN)
    foreign = queue_emails(300, due=timezone.now() - timedelta(seconds=20), from_address=FOREIGN)
    ours = queue_emails(5)
    result = run()
    assert (result.sent, result.refused, health.breaker()) == (5, "", None)
    assert {email.state for email in Email.objects.filter(pk__in=[e.pk for e in ours])} == {
        EmailState.ACCEPTED
    }
    waiting = Email.objects.filter(pk__in=[e.pk for e in foreign])
    assert {(e.state, e.reason) for e in waiting} == {(EmailState.QUEUED, outcomes.IDENTITY)}
    assert all(e.next_try_at > timezone.now() + timedelta(seconds=5) for e in waiting)
    # One refusal tells enough: the others of this sender wait without being transmitted.
    assert len(ses.sent) <= 5 + 2


def test_at_its_deadline_such_a_mail_fails_with_that_reason(ses: FakeSes) -> None:
    ses.behave = refuses(FOREIGN)
    email = queue_email(due=timezone.now() - timedelta(minutes=20), from_address=FOREIGN)
    assert run().failed == 1
    email.refresh_from_db()
    assert (email.state, email.reason) == (EmailState.FAILED, outcomes.IDENTITY)
    assert "company.example" in email.detail and FOREIGN not in email.detail
    attempt = Attempt.objects.get()
    assert (attempt.outcome, attempt.error_code, attempt.http_status) == ("identity", "MessageRejected", 400)
    assert health.breaker() is None


def test_where_nobody_gets_through_ten_refusals_open_the_breaker(ses: FakeSes) -> None:
    ses.behave = lambda request: REFUSED
    queue_emails(5, from_address="noreply@site.example")
    queue_emails(5, from_address=FOREIGN)
    result = run()
    assert "MessageRejected" in result.refused and result.cure
    assert not health.healthy()[0]
    assert set(Email.objects.values_list("state", flat=True)) == {EmailState.QUEUED}


def test_nine_refusals_do_not(ses: FakeSes) -> None:
    ses.behave = lambda request: REFUSED
    queue_emails(9)
    assert run().refused == "" and health.breaker() is None


def test_while_the_breaker_is_half_open_a_refused_sender_neither_closes_nor_opens_it(ses: FakeSes) -> None:
    ses.behave = lambda request: REFUSED
    queue_emails(10)
    run()
    opened_again()
    queue_emails(3, from_address=FOREIGN)
    run()
    breaker = health.breaker()
    assert breaker is not None and breaker.times == 1
    ses.behave = refuses(FOREIGN)
    queue_email()
    assert run().sent == 1
    assert health.breaker() is None


def test_a_page_says_what_the_reason_and_the_attempt_mean_and_what_cures_it() -> None:
    assert "verified" in reasons.meaning(outcomes.IDENTITY) and reasons.cure(outcomes.IDENTITY)
    assert words.attempt_outcome("identity") != "identity"
