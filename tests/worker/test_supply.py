"""The next batch: fetched while another one is sent, never more than is ours to send, given back where it fails."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from emailoffload.outbox import switches
from emailoffload.outbox.models import Email
from emailoffload.worker import dispatch, eligibility, supply
from tests.fake_ses import FakeSes
from tests.outbox.factory import queue_emails
from tests.worker.conftest import Source

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.mariadb,
    pytest.mark.usefixtures("source"),
]


def until() -> Any:
    return timezone.now() + timedelta(minutes=5)


def leases() -> set[str]:
    return set(Email.objects.values_list("lease", flat=True))


def test_a_batch_is_leased_loaded_and_rechecked_without_the_caller(ses: FakeSes, source: Source) -> None:
    emails = queue_emails(5)
    here = threading.get_ident()
    seen: list[int] = []
    source.bar = lambda views: seen.append(threading.get_ident()) or []  # type: ignore[func-returns-value]
    fetch = supply.Supply("token", until)
    fetch.ask(0)
    batch = fetch.take(10)
    assert batch is not None
    assert {job.email_id for job in batch.jobs} == batch.leased == {email.pk for email in emails}
    assert leases() == {"token"}
    assert seen and here not in seen
    assert fetch.close() == set()


def test_what_was_fetched_and_not_taken_is_named_at_the_end(ses: FakeSes) -> None:
    emails = queue_emails(3)
    fetch = supply.Supply("token", until)
    fetch.ask(0)
    assert fetch.close() == {email.pk for email in emails}


def test_a_fetch_that_fails_is_raised_to_the_caller_and_what_it_leased_is_named(
    ses: FakeSes, monkeypatch: pytest.MonkeyPatch
) -> None:
    emails = queue_emails(3)

    def fail(*args: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(eligibility, "check", fail)
    fetch = supply.Supply("token", until)
    fetch.ask(0)
    with pytest.raises(RuntimeError):
        fetch.take(10)
    assert fetch.close() == {email.pk for email in emails}


def test_a_pass_whose_fetch_fails_gives_everything_back(
    ses: FakeSes, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue_emails(3)

    def fail(*args: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(eligibility, "check", fail)
    with pytest.raises(RuntimeError):
        dispatch.run(budget=5)
    assert leases() == {""}


def test_a_pass_waits_for_a_slow_fetch_instead_of_ending(
    ses: FakeSes, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue_emails(3)
    check = eligibility.check

    def slow(*args: Any) -> Any:
        time.sleep(2.5 * dispatch.POLL)
        return check(*args)

    monkeypatch.setattr(eligibility, "check", slow)
    assert dispatch.run(until_empty=True).sent == 3


def test_towards_the_end_a_dispatcher_leaves_others_their_share(
    ses: FakeSes, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supply, "LEAST", 4)
    settings.DISPATCH_SLOTS = 2
    queue_emails(20)
    sizes = []
    fetch = supply.Supply("token", until)
    for _ in range(5):
        fetch.ask(0)
        batch = fetch.take(10)
        assert batch is not None
        sizes.append(len(batch.jobs))
    fetch.close()
    assert sizes == [10, 5, 4, 1, 0]


def test_at_a_slow_rate_little_is_rechecked_ahead(ses: FakeSes) -> None:
    ses.account["SendQuota"]["MaxSendRate"] = 2.0
    queue_emails(30)
    fetch = supply.Supply("token", until)
    fetch.ask(0)
    batch = fetch.take(10)
    fetch.close()
    assert batch is not None
    assert len(batch.jobs) == 10, "two such batches leave within RECHECK_SECONDS"


def test_passes_leave_no_connection_behind(ses: FakeSes) -> None:
    def connections() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM information_schema.processlist")
            return int(cursor.fetchone()[0])

    queue_emails(10)
    dispatch.run(until_empty=True)
    before = connections()
    for _ in range(5):
        queue_emails(2)
        assert dispatch.run(until_empty=True).sent == 2
    assert connections() <= before


def test_nothing_comes_that_was_not_asked_for(ses: FakeSes) -> None:
    fetch = supply.Supply("token", until)
    assert fetch.take(0) is None
    assert not fetch.busy
    assert fetch.close() == set()


def test_a_batch_that_is_not_there_yet_is_not_waited_for_any_longer_than_said(
    ses: FakeSes, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue_emails(1)
    go = threading.Event()
    check = eligibility.check

    def slow(*args: Any) -> Any:
        go.wait(30)
        return check(*args)

    monkeypatch.setattr(eligibility, "check", slow)
    fetch = supply.Supply("token", until)
    fetch.ask(0)
    assert fetch.take(0.01) is None
    assert fetch.busy
    go.set()
    batch = fetch.take(30)
    assert batch is not None and len(batch.jobs) == 1
    fetch.close()


def test_a_fetch_that_ran_out_of_time_itself_is_no_batch_to_wait_for(
    ses: FakeSes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*args: Any) -> None:
        raise TimeoutError("of the fetch itself")

    monkeypatch.setattr(supply.switches, "pause", late)
    fetch = supply.Supply("token", until)
    fetch.ask(0)
    with pytest.raises(TimeoutError, match="of the fetch itself"):
        fetch.take(30)
    fetch.close()


def test_while_sending_is_paused_or_the_quota_is_used_up_nothing_is_leased(
    ses: FakeSes, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue_emails(2)
    fetch = supply.Supply("token", until)
    monkeypatch.setattr(supply.rate, "available_24h", lambda known: 3)
    fetch.ask(3)
    batch = fetch.take(30)
    assert batch is not None and batch.used_up and not batch.jobs
    switches.set_pause(switches.Pause(sends=True, by="anna"))
    fetch.ask(0)
    batch = fetch.take(30)
    assert batch is not None and batch.paused == "anna" and not batch.jobs
    fetch.close()
    assert leases() == {""}
