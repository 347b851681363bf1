"""From a mail that the sandbox takes to its state: the product's own client, queue and pass over the sandbox's wire."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from emailoffload.actions.diagnosis import events as looks
from emailoffload.actions.diagnosis.finding import ok
from emailoffload.delivery import message, ses
from emailoffload.feedback import queue
from emailoffload.outbox.models import Email
from emailoffload.outbox.states import EmailState
from emailoffload.sandbox.events import Options
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.worker import feedback
from tests.outbox.factory import parts, queue_emails

S = EmailState
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[SandboxSES]:
    with SandboxSES(events=Options(delay=0, wrapping="sns", duplicates=0.5)) as server:
        for service in ("SESV2", "SQS"):
            monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", server.url)
        settings.SES_CONFIGURATION_SET = "email-offload"
        settings.SES_EVENTS_QUEUE_URL = server.queue_url
        ses.forget_client()
        queue.forget_client()
        yield server
    ses.forget_client()
    queue.forget_client()


def send(email: Email, address: str) -> None:
    """Send a mail as the dispatcher does, and record what SES answered."""
    html = '<p><a href="https://learn.example/course">Please finish.</a></p>'
    outcome = ses.send(message.build(parts(to_address=address, html=html), email.ref.hex, email.source))
    assert outcome.kind == "accepted"
    Email.objects.filter(pk=email.pk).update(
        address=address, state=S.ACCEPTED, attempts=1, message_id=outcome.message_id
    )


def test_each_mailbox_of_the_sample_leads_to_a_state_of_its_own(sandbox: SandboxSES) -> None:
    expected = {
        "anna": S.DELIVERED,
        "anna+open": S.OPENED,
        "anna+click": S.CLICKED,
        "anna+stuck": S.DELAYED,
        "anna+delay": S.DELIVERED,
        "anna+ooto": S.DELIVERED,
        "anna+full": S.BOUNCED,
        "anna+bounce": S.BOUNCED,
        "anna+complaint": S.COMPLAINED,
        "anna+reject": S.REJECTED,
        "anna+suppressionlist": S.BOUNCED,
    }
    for email, local in zip(queue_emails(len(expected)), expected, strict=True):
        send(email, f"{local}@alderfinch.example")
    result = feedback.run(until_empty=True)
    assert not (result.refused or result.trouble or result.received.problems)
    assert result.received.repeated > 0
    states = dict(Email.objects.values_list("address", "state"))
    assert {address.partition("@")[0]: state for address, state in states.items()} == expected
    assert sandbox.api.sqs.queue.counts() == (0, 0, 0)
    for look in (looks.configured, looks.destination, looks.queue_reachable, looks.dead_letters):
        assert look()[0] == ok("")[0]


def test_what_is_published_on_command_changes_the_mail(sandbox: SandboxSES) -> None:
    (email,) = queue_emails(1)
    send(email, "anna@alderfinch.example")
    feedback.run(until_empty=True)
    sandbox.publish("complaint", 1)
    feedback.run(until_empty=True)
    email.refresh_from_db()
    assert email.state == S.COMPLAINED
