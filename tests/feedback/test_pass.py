"""The pass over the queue, on SQS's real wire protocol: nothing is deleted that is not stored, nothing stored twice."""

from __future__ import annotations

import json
import signal
import threading
import time
from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError
from django.utils import timezone

from emailoffload.feedback import inbox, queue, queuestate
from emailoffload.feedback.models import Event, EventProblem
from emailoffload.outbox.models import Email, Lease, Run
from emailoffload.outbox.states import EmailState
from emailoffload.worker import feedback, schedules, stopping
from tests.feedback import samples
from tests.feedback.conftest import Queue
from tests.outbox.factory import queue_emails
from tests.processes import spawn, start

S = EmailState
pytestmark = pytest.mark.django_db(transaction=True)


def sent(count: int) -> list[Email]:
    """Mails that SES has accepted."""
    emails = queue_emails(count, email={"state": S.ACCEPTED, "attempts": 1})
    for email in emails:
        email.message_id = f"m-{email.pk}"
    Email.objects.bulk_update(emails, ["message_id"])
    return emails


def about(email: Email, type_: str) -> bytes:
    return samples.body(
        samples.sns(
            samples.event(
                type_, ref=email.ref.hex, message_id=email.message_id or f"m-{email.pk}", to=email.address
            )
        )
    )


def drain() -> feedback.FeedbackResult:
    return feedback.run(until_empty=True)


def test_what_waits_in_the_queue_is_stored_applied_and_deleted(events_queue: Queue) -> None:
    emails = sent(60)
    events_queue.put(*(about(email, type_) for email in emails for type_ in ("Delivery", "Send")))
    started = timezone.now()
    result = drain()
    assert result.received.events == 120 and result.received.changed >= 60
    assert result.received.messages == 120 + result.received.repeated  # SQS may hand out a message twice
    # On a busy machine a deletion may be answered too late: the message comes again, and is known then.
    assert events_queue.left() == (0, result.undeleted)
    assert set(Email.objects.values_list("state", flat=True)) == {"delivered"}
    run = Run.objects.get()
    assert (run.kind, run.outcome, run.counts["events"]) == ("feedback", "ok", 120)
    known = queuestate.load()
    assert known.polled_at and known.event_at and known.drained_at
    assert known.drained_at >= started and not (known.error or known.waiting)
    assert not known.in_flight or result.undeleted


def test_poison_is_kept_and_does_not_stop_the_rest(events_queue: Queue) -> None:
    (email,) = sent(1)
    events_queue.put(b"poison", *[b"[" * 5000] * 3, about(email, "Delivery"), b'{"Type": "Notification"}')
    result = drain()
    assert (result.received.problems, result.received.events) == (5, 1)
    assert events_queue.left() == (0, 0)
    assert sorted(EventProblem.objects.values_list("reason", "times")) == [
        ("nested", 3), ("not_json", 1), ("unknown_shape", 1),
    ]  # fmt: skip


def test_nothing_is_deleted_while_the_database_is_away(
    events_queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    events_queue.put(*(about(email, "Delivery") for email in sent(12)))

    def away(messages: Any) -> None:
        raise OperationalError(2006, "Server has gone away")

    with monkeypatch.context() as patched:
        patched.setattr(inbox, "receive", away)
        with pytest.raises(OperationalError):
            drain()
    assert sum(events_queue.left()) == 12
    assert Run.objects.get().outcome == "failed"


@pytest.mark.kill
def test_killed_between_storing_and_deleting_the_replay_changes_nothing(
    events_queue: Queue, aws: str
) -> None:
    emails = sent(5)
    events_queue.put(*(about(email, type_) for email in emails for type_ in ("Delivery", "Open")))
    process = spawn(
        "feedback",
        env={"OFFLOAD_KILL_AT": "feedback_stored", "AWS_ENDPOINT_URL_SQS": aws},
        SES_EVENTS_QUEUE_URL=events_queue.url,
    )
    start([process])
    assert process.wait(60) == -signal.SIGKILL, process.communicate()
    assert Event.objects.count() == 10
    assert events_queue.left() == (0, 10)
    before = sorted(Email.objects.values_list())
    freed()
    result = feedback.FeedbackResult()
    while result.received.messages < 10:
        # The dead process's last request is still open at the server, and may swallow some of them.
        events_queue.put(*(about(email, type_) for email in emails for type_ in ("Open", "Delivery")))
        result = drain()
    assert result.received.events == result.received.changed == 0
    assert result.received.repeated == result.received.messages >= 10
    assert sorted(Email.objects.values_list()) == before
    assert queuestate.load().drained_at is None  # ten messages are still in a dead process's hands


def freed() -> None:
    """The lease of a dead pass is over."""
    Lease.objects.filter(name="feedback").update(expires_at=None)


def test_messages_that_sqs_does_not_delete_come_again_and_change_nothing(
    events_queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    (email,) = sent(1)
    events_queue.put(about(email, "Delivery"), about(email, "Send"))
    delete = queue.client().delete_message_batch

    def refused(**request: Any) -> Any:
        """Handles that SQS does not know: an answer of 200 that says so for each."""
        for entry in request["Entries"]:
            entry["ReceiptHandle"] = "unknown"
        return delete(**request)

    monkeypatch.setattr(queue, "HIDDEN_SECONDS", 0)
    with monkeypatch.context() as patched:
        patched.setattr(queue.client(), "delete_message_batch", refused)
        until = time.monotonic() + 20
        done = feedback.run(budget=0.2)
        while not done.received.events and time.monotonic() < until:
            done = feedback.run(budget=0.2)
        assert done.undeleted >= 2
    assert sum(events_queue.left()) == 2
    again = drain()
    assert again.received.events == 0 and again.received.repeated >= 1
    assert events_queue.left() == (0, 0)
    assert Event.objects.count() == 2


def test_a_stop_ends_a_pass_that_waits_for_messages_and_loses_none(events_queue: Queue) -> None:
    ended: list[float] = []

    def stop() -> None:
        time.sleep(0.6)
        ended.append(time.monotonic())
        stopping._here.set()

    with stopping.on_signals():
        threading.Thread(target=stop).start()
        result = feedback.run()
    assert time.monotonic() - ended[0] < 3
    assert Run.objects.get().outcome == "interrupted" and not result.refused


def test_what_a_stopped_pass_still_receives_it_gives_back(events_queue: Queue) -> None:
    receivers = feedback._Receivers(time.monotonic() + 60)
    receivers.close()
    (email,) = sent(1)
    events_queue.put(about(email, "Delivery"))
    receivers.threads[0].join(25)
    assert not receivers.threads[0].is_alive()
    assert events_queue.left() == (1, 0)


def test_a_queue_that_does_not_exist_refuses_the_pass_with_the_cure(
    aws: str, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.SES_EVENTS_QUEUE_URL = f"{aws}/123456789012/nowhere"
    with pytest.raises(SystemExit) as caught:
        call_command("feedback", "--until-empty", "--json")
    assert caught.value.code == 1
    report = json.loads(capsys.readouterr().out)
    assert "does not exist" in report["refused"] and "SES_EVENTS_QUEUE_URL" in report["cure"]
    assert Run.objects.get().outcome == "refused"
    assert queuestate.load().error == report["refused"]


def test_a_server_that_does_not_answer_is_trouble_that_goes_away_by_itself(
    events_queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setenv("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:9")
        queue.forget_client()
        result = drain()
    assert result.trouble and not result.refused
    assert Run.objects.get().outcome == "errors"
    assert queuestate.load().error_at is not None
    queue.forget_client()
    drain()
    assert queuestate.load().error_at is None and queuestate.load().error == ""


def test_without_a_queue_or_a_webhook_nothing_is_scheduled_and_the_command_says_what_to_set(
    settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"{schedules.NAME}feedback" not in schedules.wanted()
    with pytest.raises(SystemExit):
        call_command("feedback")
    assert "SES_EVENTS_QUEUE_URL" in capsys.readouterr().out
    settings.SNS_TOPICS = ["arn:aws:sns:eu-west-1:123456789012:email-offload-events"]
    assert f"{schedules.NAME}feedback" in schedules.wanted()
    call_command("feedback")


def test_one_pass_at_a_time(events_queue: Queue) -> None:
    from emailoffload.worker import lease

    with lease.hold("feedback"):
        assert drain().busy


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Note how the queue is after every round."""
    monkeypatch.setattr(feedback, "NOTE_EVERY", 0.0)
