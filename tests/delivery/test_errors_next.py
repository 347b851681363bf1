"""What follows from each class of docs/errors.md: the mail's state, the pause, the breaker, and another way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from emailoffload.delivery import errors, health, rate
from emailoffload.delivery import ses as product
from emailoffload.delivery.errors import Outcome
from emailoffload.outbox.models import Attempt, Email, State
from emailoffload.worker import dispatch, outcomes, overdue
from emailoffload.worker.senders import Job, Result
from tests.delivery.test_errors_documented import CLASSES
from tests.fake_ses import FakeSes, Reply
from tests.outbox.factory import queue_emails
from tests.worker.conftest import source

__all__ = ["source"]
NOW = datetime(2031, 1, 1, tzinfo=UTC)


def after(kind: str, *, deadline: datetime, attempt: int = 1, code: str = "Code") -> Any:
    job = Job(1, 1, "reengagement", "user", "0" * 32, attempt, NOW, deadline, NOW, "", b"")
    status = 400 if kind in {"permanent", "throttled"} else None
    outcome = Outcome(kind, code, "words", http_status=status)  # type: ignore[arg-type]  # from the page
    return outcomes.follow(Result(job, outcome, NOW), NOW)


@pytest.mark.parametrize("kind", CLASSES)
def test_before_and_at_its_deadline_a_mail_goes_where_its_class_says(kind: str) -> None:
    row = CLASSES[kind]
    early = after(kind, deadline=NOW + timedelta(hours=1))
    assert early.state == row["Before its deadline"].strip("`")
    assert after(kind, deadline=NOW).state == row["At its deadline"].strip("`")
    assert (row["May it have left?"] == "yes") == (early.state in {"accepted", "uncertain"})
    if row["First pause"]:
        first = int(row["First pause"].removesuffix(" s"))
        pauses = [
            (after(kind, deadline=NOW + timedelta(hours=1), attempt=n).next_try_at - NOW).total_seconds()
            for n in (1, 30)
        ]
        assert first * 0.5 <= pauses[0] <= first * 1.5 and pauses[1] <= 90
        near = after(kind, deadline=NOW + timedelta(seconds=0.1))
        assert near.next_try_at <= NOW + timedelta(seconds=0.1) or kind in errors.WHOLE_ACCOUNT


ANSWER_OF = {
    "accepted": lambda: Reply(),
    "throttled": lambda: Reply(429, "TooManyRequestsException", "Maximum sending rate exceeded."),
    "identity": lambda: Reply(400, "MailFromDomainNotVerifiedException", "words"),
    "quota": lambda: Reply(400, "LimitExceededException", "Daily message quota exceeded"),
    "account": lambda: Reply(400, "AccountSuspendedException", "words"),
    "permanent": lambda: Reply(400, "MessageRejected", "words"),
    "unknown": lambda: Reply(500, "InternalFailure", "words"),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", CLASSES)
def test_the_breaker_does_what_its_class_says(
    ses: FakeSes, source: Any, kind: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DISPATCH_THREADS = 1
    # The pass ends when all was tried once, instead of staying on for the next try.
    monkeypatch.setattr(dispatch, "SOON", timedelta(seconds=0.05))
    rate.known()
    if kind == "not_transmitted":
        monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", "http://127.0.0.1:9")
        product.forget_client()
    else:
        ses.behave = lambda request: ANSWER_OF[kind]()
    says = CLASSES[kind]["Breaker"]
    queue_emails(9 if "ten" in says else 1)
    if says == "closes":
        health.trip(Outcome("account", "x", "x"))
        State.objects.filter(name=health.BREAKER).update(value=opened() | {"open_until": 1.0})
        dispatch.run(budget=20)
        assert health.breaker() is None
        return
    result = dispatch.run(budget=20)
    assert (health.breaker() is not None) == (says == "at once")
    assert result.opened == (says == "at once")
    if "ten" in says:
        health.close()
        Attempt.objects.all().delete()
        Email.objects.update(state="suppressed")
        queue_emails(12)
        dispatch.run(budget=20)
        assert health.breaker() is not None


def opened() -> dict[str, Any]:
    value: dict[str, Any] = State.objects.get(name=health.BREAKER).value
    return value


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", CLASSES)
def test_only_what_refuses_the_whole_account_sends_another_way_what_is_due(kind: str) -> None:
    queue_emails(1, due=timezone.now() - timedelta(seconds=5))
    health.trip(Outcome(kind, "Code", "x"))  # type: ignore[arg-type]  # from the page
    cases, _ = overdue.find(timezone.now(), overdue.situation())
    assert bool(cases) == ("or goes another way" in CLASSES[kind]["Next"])


@pytest.mark.parametrize("code", sorted(errors.PERMANENT))
def test_what_is_refused_for_good_goes_another_way_at_once(code: str) -> None:
    assert after("permanent", deadline=NOW, code=code).reason == code
    assert code in overdue.BY_ALL


def test_what_is_refused_for_good_by_an_unheard_of_error_does_too() -> None:
    assert after("permanent", deadline=NOW, code="TeapotException").reason in overdue.BY_ALL
