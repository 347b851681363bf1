"""The 24-hour quota: asked for anew in time, nothing claimed and nothing tried while it is used up."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from emailoffload.delivery import health, rate
from emailoffload.delivery import ses as product
from emailoffload.delivery.errors import Outcome
from emailoffload.outbox.models import Attempt, Email, State
from emailoffload.worker import dispatch
from tests.fake_ses import FakeSes, Reply
from tests.outbox.factory import queue_emails
from tests.worker.conftest import source

__all__ = ["source"]
pytestmark = pytest.mark.django_db(transaction=True)
EXCEEDED = Reply(429, "TooManyRequestsException", "Daily message quota exceeded.")


def quota(ses: FakeSes, left: int) -> None:
    ses.account["SendQuota"] |= {"Max24HourSend": 1000.0, "SentLast24Hours": 1000.0 - left}


def change(name: str, **values: Any) -> None:
    row = State.objects.get(name=name)
    State.objects.filter(pk=name).update(value=row.value | values)


def due_again() -> None:
    Email.objects.filter(state="queued").update(next_try_at=timezone.now())


def test_after_a_refusal_the_account_is_asked_anew_and_nothing_is_claimed(ses: FakeSes, source: Any) -> None:
    quota(ses, 500)
    queue_emails(3)
    ses.behave = lambda request: EXCEEDED
    rate.known()
    reads = ses.account_reads
    assert dispatch.run(budget=20).opened
    breaker = health.breaker()
    assert breaker is not None and (breaker.kind, breaker.code) == ("quota", "DailyQuota")
    assert breaker.open_until - time.time() <= health.QUOTA_SECONDS
    assert not health.healthy()[0]
    rate.known()
    assert ses.account_reads == reads + 1, "a minute has not passed: the refusal alone made it ask"


def test_while_getaccount_says_that_none_is_left_no_mail_is_tried_and_a_minute_later_it_is_asked_again(
    ses: FakeSes, source: Any
) -> None:
    quota(ses, 500)
    queue_emails(3)
    ses.behave = lambda request: EXCEEDED
    dispatch.run(budget=20)
    tried = Attempt.objects.count()
    quota(ses, 0)
    for _ in range(5):
        change(health.BREAKER, open_until=1.0)
        due_again()
        assert dispatch.run(budget=20).opened
        breaker = health.breaker()
        assert breaker is not None and breaker.open_until - time.time() <= health.QUOTA_SECONDS
    assert Attempt.objects.count() == tried
    assert (health.healthy()[0], health.room().used_up) == (False, True)


def test_once_getaccount_says_that_there_is_room_all_leaves_again(ses: FakeSes, source: Any) -> None:
    quota(ses, 0)
    queue_emails(3)
    dispatch.run(budget=20)
    assert Attempt.objects.count() == 0
    quota(ses, 100)
    change(health.BREAKER, open_until=1.0)
    due_again()
    assert dispatch.run(budget=20).sent == 3
    assert (health.breaker(), health.healthy()[0]) == (None, True)


def test_other_refusals_of_the_account_still_wait_longer_each_time(ses: FakeSes) -> None:
    for _ in range(4):
        health.trip(Outcome("account", "SendingPausedException", "paused"))
        change(health.BREAKER, open_until=1.0)
    last = health.trip(Outcome("account", "SendingPausedException", "paused"))
    assert last.open_until - time.time() > 4 * health.QUOTA_SECONDS


def test_what_is_known_is_never_older_than_a_minute_while_ses_answers(ses: FakeSes) -> None:
    quota(ses, 500)
    rate.known()
    quota(ses, 10)
    change(rate.ACCOUNT, read_at=time.time() - rate.ACCOUNT_SECONDS - 1)
    assert rate.available_24h(rate.known()) == 10


def test_an_account_that_could_not_be_read_for_a_day_has_an_unknown_quota(ses: FakeSes) -> None:
    quota(ses, 5)
    rate.known()
    rate.reserve(5, 1000.0)
    assert not health.healthy()[0]
    ses.account_reply = Reply(403, "AccessDeniedException", "not authorized")
    change(rate.ACCOUNT, read_at=time.time() - timedelta(hours=23).total_seconds())
    assert not health.healthy()[0]
    change(rate.ACCOUNT, read_at=time.time() - timedelta(hours=25).total_seconds())
    assert health.healthy() == (True, "")
    assert health.room().ordinary > 0


def test_a_getaccount_that_hangs_is_not_waited_for_by_every_batch(
    ses: FakeSes, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    clock = [time.time()]
    monkeypatch.setattr(time, "time", lambda: clock[0])

    def hangs() -> Outcome:
        asked.append(1)
        clock[0] += 15.0  # longer than FAILURE_SECONDS
        return Outcome("unknown", "ReadTimeoutError", "no answer")

    monkeypatch.setattr(product, "get_account", hangs)
    for _ in range(5):
        rate.known()
        clock[0] += 1.0
    assert len(asked) == 1
