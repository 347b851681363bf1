"""Several fallbacks and dispatchers at once, and SIGKILL at each named point: nothing twice, nothing lost."""

from __future__ import annotations

import datetime as dt
import signal
from collections import Counter
from typing import Any

import pytest
from django.utils import timezone

from emailoffload.outbox.models import Attempt, Claim, Email, Lease
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.worker import dispatch, fallback
from emailoffload.worker.recover_intents import recover_intents
from emailoffload.worker.recover_sends import recover_sends
from tests.conftest import Moodle
from tests.fallback.sink import Sink
from tests.fallback.site import claimed, ends, rows, tried
from tests.processes import result, spawn, start

pytestmark = [
    pytest.mark.django_db(databases=["default", "moodle"], transaction=True),
    pytest.mark.kill,
]


def smtp_of(sink: Sink) -> dict[str, Any]:
    """The settings by which another process finds the SMTP server."""
    return {
        "SMTP_ROUTE": True, "EMAIL_HOST": "127.0.0.1", "EMAIL_PORT": sink.port, "EMAIL_TIMEOUT": 5,
        "SMTP_TIMEOUT_SECONDS": 5,
    }  # fmt: skip


@pytest.mark.parametrize("policy", ["moodle", "smtp"])
def test_two_fallbacks_and_a_dispatcher_at_once_send_nothing_twice_and_lose_nothing(
    moodle: Moodle, ses: SandboxSES, sink: Sink, policy: str
) -> None:
    before = claimed(moodle, 60, policy=policy)
    tried()
    work = [
        *(spawn("fallback", lane, **smtp_of(sink)) for lane in ("-1", "-2")),
        spawn("dispatch"),
    ]
    start(work)
    for process in work:
        result(process)
    claims = {claim.pk: claim for claim in Claim.objects.all()}
    ways: Counter[int] = Counter()
    sent = Counter([message.header("X-Email-Offload-Id") for message in ses.messages] + sink.refs())
    now = {row[0]: row for row in rows(moodle)}
    was = {row[0]: row for row in before}
    for email in Email.objects.all():
        claim = claims[email.claim_id]
        back = now[claim.row_id] == was[claim.row_id]
        assert back == (email.state == "released")
        ways[email.pk] = sent[email.ref.hex] + back
        assert email.state in {"released", "accepted", "sent_smtp"}
    assert set(ways.values()) == {1}
    assert len(ways) == 60


def killed_at(point: str, sink: Sink) -> None:
    process = spawn("fallback", env={"OFFLOAD_KILL_AT": point}, **smtp_of(sink))
    start([process])
    assert process.wait(60) == -signal.SIGKILL, process.communicate()


def later() -> None:
    """Recovery, when every lease is over."""
    Email.objects.filter(leased_until__lt=timezone.now() + dt.timedelta(days=1)).update(
        leased_until=timezone.now() - dt.timedelta(seconds=1)
    )
    recover_sends()
    recover_intents(timezone.now() + dt.timedelta(minutes=5))
    Email.objects.filter(state="queued").update(next_try_at=timezone.now())


def test_killed_after_setting_aside_for_smtp_every_mail_still_leaves_by_it_once(
    moodle: Moodle, ses: SandboxSES, sink: Sink
) -> None:
    claimed(moodle, 5, policy="smtp")
    tried()
    killed_at("fallback_reserved", sink)
    later()
    assert dispatch.run().sent == 0
    Lease.objects.filter(name="fallback").update(expires_at=None)
    fallback.run()
    assert {state for state, _ in ends()} == {"sent_smtp"}
    assert len(set(sink.refs())) == len(sink.taken) == 5


@pytest.mark.parametrize("point", ["smtp_before_send", "smtp_after_send", "smtp_before_record"])
def test_killed_around_an_smtp_send_that_mail_is_uncertain_and_the_others_leave_once(
    moodle: Moodle, ses: SandboxSES, sink: Sink, point: str
) -> None:
    claimed(moodle, 4, policy="smtp")
    tried()
    killed_at(f"{point}:2", sink)
    later()
    Lease.objects.filter(name="fallback").update(expires_at=None)
    fallback.run()
    assert dispatch.run().sent == 0
    assert Counter(ends()) == {
        ("sent_smtp", "EndpointConnectionError"): 3,
        ("uncertain", "interrupted"): 1,
    }
    taken = Counter(sink.refs())
    assert set(taken.values()) == {1}
    assert len(taken) == (3 if point == "smtp_before_send" else 4)
    assert Attempt.objects.get(outcome="unknown").route == "smtp"
    assert Email.objects.get(state="uncertain").route == "smtp"


@pytest.mark.parametrize("point", ["release_reserved", "release_written"])
def test_killed_while_handing_back_each_mail_is_moodles_or_ours_and_ends_once(
    moodle: Moodle, ses: SandboxSES, sink: Sink, point: str
) -> None:
    before = claimed(moodle, 4)
    tried()
    killed_at(point, sink)
    later()
    Lease.objects.filter(name="fallback").update(expires_at=None)
    fallback.run()
    assert {state for state, _ in ends()} == {"released"}
    assert rows(moodle) == before
    assert sink.taken == []
