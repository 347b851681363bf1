"""One bucket for all processes: the rate, the quota, and what happens when the account cannot be read."""

from __future__ import annotations

import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections
from hypothesis import given
from hypothesis import strategies as st

from emailoffload.delivery import health, rate
from emailoffload.delivery.errors import Outcome
from emailoffload.outbox.models import State
from tests.fake_ses import FakeSes, Reply
from tests.outbox.factory import queue_emails

FORK = multiprocessing.get_context("fork")


@given(
    st.floats(0.1, 5000),
    st.lists(st.tuples(st.floats(0, 3), st.integers(1, 300)), min_size=1, max_size=60),
)
def test_over_any_span_the_bucket_grants_at_most_rate_times_time_plus_one_burst(
    limit: float, steps: list[tuple[float, int]]
) -> None:
    now, spent, grants = 1e9, 0.0, []
    for pause, wanted in steps:
        now += pause
        granted, spent, wait = rate.grant(wanted, limit, spent, now)
        assert 0 <= granted <= wanted and (wait == 0) == (granted == wanted)
        grants.append((now, granted))
    burst = max(1.0, limit * rate.BURST_SECONDS)
    for first, (start, _) in enumerate(grants):
        total = 0
        for end, granted in grants[first:]:
            total += granted
            assert total <= limit * (end - start) + burst + 0.01


@given(st.floats(0.1, 5000))
def test_who_waits_as_long_as_told_is_granted_a_mail(limit: float) -> None:
    _, spent, _ = rate.grant(10**6, limit, 0.0, 1e9)
    granted, _, wait = rate.grant(1, limit, spent, 1e9)
    assert granted == 0
    assert rate.grant(1, limit, spent, 1e9 + wait)[0] == 1


def take(queue: Any, limit: float, seconds: float) -> None:
    total, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        total += rate.reserve(16, limit)[0]
    connections.close_all()
    queue.put(total)


@pytest.mark.django_db(transaction=True)
@pytest.mark.mariadb
@pytest.mark.race
def test_four_processes_together_stay_below_the_rate() -> None:
    limit, seconds = 200.0, 1.5
    connections.close_all()
    queue: Any = FORK.SimpleQueue()
    started = time.monotonic()
    children = [FORK.Process(target=take, args=(queue, limit, seconds)) for _ in range(4)]
    for child in children:
        child.start()
    total = sum(queue.get() for _ in children)
    passed = time.monotonic() - started
    for child in children:
        child.join()
    assert total <= limit * passed + limit * rate.BURST_SECONDS + 1
    assert total >= limit * seconds * 0.8
    assert State.objects.get(name=rate.BUCKET).value["granted"] == total


@pytest.mark.django_db(transaction=True)
@pytest.mark.mariadb
class TestAccount:
    """What all processes know about the account."""

    def test_the_account_is_read_once_a_minute_for_all(self, ses: FakeSes) -> None:
        first = rate.known()
        assert rate.known() == first and ses.account_reads == 1
        State.objects.filter(name=rate.ACCOUNT).update(value=self.aged(61))
        rate.known()
        assert ses.account_reads == 2

    def aged(self, seconds: float) -> dict[str, Any]:
        value: dict[str, Any] = State.objects.get(name=rate.ACCOUNT).value
        return value | {
            "read_at": value["read_at"] - seconds,
            "failed_at": value.get("failed_at", 0) - seconds,
        }

    def test_the_rate_is_the_accounts_capped_by_the_setting(self, ses: FakeSes, settings: Any) -> None:
        ses.account["SendQuota"]["MaxSendRate"] = 14.0
        assert rate.known().rate == 14.0
        settings.SES_MAX_SEND_RATE = 5.0
        assert rate.known().rate == 5.0
        settings.SES_MAX_SEND_RATE = 50.0
        assert rate.known().rate == 14.0

    def test_the_last_known_rate_stays_in_use_while_the_account_cannot_be_read(self, ses: FakeSes) -> None:
        ses.account["SendQuota"]["MaxSendRate"] = 14.0
        rate.known()
        ses.account_reply = Reply(500, "InternalFailure")
        State.objects.filter(name=rate.ACCOUNT).update(value=self.aged(61))
        known = rate.known()
        assert known.rate == 14.0 and known.problem is not None and known.problem.code == "InternalFailure"
        assert health.healthy() == (True, "")
        reads = ses.account_reads
        rate.known()
        assert ses.account_reads == reads, "a failing endpoint is not asked again at once"
        ses.account_reply = None
        State.objects.filter(name=rate.ACCOUNT).update(value=self.aged(61))
        assert rate.known().problem is None

    def test_an_account_that_may_not_be_read_is_sent_from_carefully(self, ses: FakeSes) -> None:
        ses.account_reply = Reply(403, "AccessDeniedException", "not authorized")
        known = rate.known()
        assert (known.rate, known.account) == (rate.CAREFUL_RATE, None)
        assert known.problem is not None and health.healthy() == (True, "")

    @pytest.mark.parametrize(
        ("reply", "says"),
        [
            (Reply(403, "SignatureDoesNotMatch"), "AWS_SECRET_ACCESS_KEY"),
            (Reply(403, "ExpiredTokenException"), "Renew"),
            (Reply(raw=b"<html></html>"), "AWS_ENDPOINT_URL_SESV2"),
        ],
    )
    def test_an_account_that_refuses_us_is_not_healthy(self, ses: FakeSes, reply: Reply, says: str) -> None:
        ses.account_reply = reply
        healthy, why = health.healthy()
        assert not healthy and says in why

    def test_sending_switched_off_at_ses_is_not_healthy(self, ses: FakeSes) -> None:
        ses.account["SendingEnabled"] = False
        healthy, why = health.healthy()
        assert not healthy and "switched off" in why

    def test_what_was_sent_since_the_account_was_read_counts_against_the_quota(self, ses: FakeSes) -> None:
        ses.account["SendQuota"] |= {"Max24HourSend": 100.0, "SentLast24Hours": 90.0}
        assert rate.available_24h(rate.known()) == 10
        rate.reserve(7, 1000.0)
        assert rate.available_24h(rate.known()) == 3
        rate.reserve(7, 1000.0)
        assert rate.available_24h(rate.known()) == 0
        assert health.healthy()[0] is False

    def test_an_account_without_a_limit_has_no_quota(self, ses: FakeSes) -> None:
        ses.account["SendQuota"]["Max24HourSend"] = -1
        assert rate.available_24h(rate.known()) is None

    def test_no_more_is_claimed_than_the_quota_and_the_rate_can_take(
        self, ses: FakeSes, settings: Any
    ) -> None:
        settings.SEND_DEADLINE_SECONDS, settings.SENSITIVE_QUOTA_RESERVE = 100, 0
        ses.account["SendQuota"] |= {"Max24HourSend": 50.0, "MaxSendRate": 10.0}
        assert health.room().ordinary == 50
        queue_emails(20)
        assert health.room().ordinary == 30
        settings.SES_MAX_SEND_RATE = 0.3
        assert health.room().ordinary == 10
        queue_emails(20)
        assert health.room().ordinary == 0

    def test_the_last_of_the_quota_is_kept_for_mails_with_credentials(
        self, ses: FakeSes, settings: Any
    ) -> None:
        settings.SENSITIVE_QUOTA_RESERVE = 7.5
        ses.account["SendQuota"] |= {"Max24HourSend": 100.0, "SentLast24Hours": 80.0}
        room = health.room()
        assert (room.ordinary, room.sensitive) == (12, 20)
        assert room.take(12, sensitive=False)
        assert not room.take(1, sensitive=False)
        assert not room.take(9, sensitive=True)
        assert room.take(8, sensitive=True)
        assert room.used_up

    def test_mails_with_credentials_that_wait_leave_less_room_for_others(self, ses: FakeSes) -> None:
        ses.account["SendQuota"] |= {"Max24HourSend": 100.0, "SentLast24Hours": 80.0}
        room = health.room()
        assert room.take(10, sensitive=True)
        assert (room.ordinary, room.sensitive) == (5, 10)
        queue_emails(18)
        assert (health.room().ordinary, health.room().sensitive) == (0, 2)

    def test_an_account_without_a_limit_needs_no_reserve(self, ses: FakeSes) -> None:
        ses.account["SendQuota"]["Max24HourSend"] = -1
        room = health.room()
        assert room.ordinary == room.sensitive > 0

    def test_until_ses_takes_a_mail_again_only_a_few_are_claimed(self, ses: FakeSes) -> None:
        ses.account["SendQuota"] |= {"MaxSendRate": 100.0}
        health.trip(Outcome("account", "MessageRejected", "the sender is not verified"))
        row = State.objects.get(name=health.BREAKER)
        State.objects.filter(pk=row.pk).update(value=row.value | {"open_until": time.time() - 1})
        assert health.healthy() == (True, "")
        assert health.room().ordinary == health.MOST_PROBES
        queue_emails(health.MOST_PROBES)
        assert health.room().ordinary == 0
        health.close()
        assert health.room().ordinary > 10_000


@pytest.mark.django_db(transaction=True)
@pytest.mark.mariadb
def test_dispatchers_that_are_the_first_ever_do_not_deadlock_on_the_bucket() -> None:
    def reserves(ready: threading.Barrier) -> None:
        try:
            for _ in range(25):
                if ready.wait(20) == 0:
                    State.objects.filter(name=rate.BUCKET).delete()
                ready.wait(20)
                rate.reserve(1, 1000.0)
        except BaseException:
            ready.abort()
            raise
        finally:
            connections.close_all()

    ready = threading.Barrier(6)
    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(reserves, ready) for _ in range(6)]:
            done.result()
    assert State.objects.get(name=rate.BUCKET).value["granted"] == 6


@pytest.mark.django_db(transaction=True)
@pytest.mark.mariadb
def test_the_breaker_stays_open_longer_each_time_and_closes_with_the_first_success() -> None:
    outcome = Outcome("account", "SendingPausedException", "paused")
    first = health.trip(outcome)
    assert first.open and first.open_until - time.time() <= health.SHORTEST
    assert health.trip(outcome) == first, "several dispatchers that see the same refusal count once"
    for _ in range(8):
        row = State.objects.get(name=health.BREAKER)
        State.objects.filter(pk=row.pk).update(value=row.value | {"open_until": time.time() - 1})
        last = health.trip(outcome)
    assert last.times == 9 and health.LONGEST - 5 < last.open_until - time.time() <= health.LONGEST
    health.close()
    assert health.breaker() is None
