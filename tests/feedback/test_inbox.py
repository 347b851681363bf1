"""What arrives is stored once, finds its mail, and moves it; what is no event is kept and blocks nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from emailoffload.feedback import inbox
from emailoffload.feedback.models import Event, EventProblem
from emailoffload.outbox import content, transitions
from emailoffload.outbox.models import Attempt, Content, Email
from emailoffload.outbox.states import EmailState
from tests.feedback import samples
from tests.outbox.factory import queue_email, queue_emails

S = EmailState
pytestmark = pytest.mark.django_db


def message(shape: Any) -> inbox.Message:
    return inbox.Message(shape if isinstance(shape, bytes) else samples.body(shape))


def about(email: Email, type_: str, **values: Any) -> inbox.Message:
    """An event about this mail, with our id and an id of SES's that we may know or not."""
    values = {
        "ref": email.ref.hex,
        "to": email.address,
        "message_id": email.message_id or f"ses-{email.pk}",
    } | values
    return message(samples.event(type_, **values))


def in_state(state: EmailState, **values: Any) -> Email:
    return queue_email(email={"state": state, "attempts": 1} | values)


def test_an_event_is_stored_once_and_moves_its_mail() -> None:
    email = in_state(S.ACCEPTED, message_id="m-1", accepted_at=samples.AT)
    delivery = about(email, "Delivery", at=samples.AT + timedelta(seconds=3))
    first = inbox.receive([delivery, delivery])
    again = inbox.receive([delivery])
    assert (first.events, first.repeated, first.changed) == (1, 1, 1)
    assert (again.events, again.repeated, again.changed) == (0, 1, 0)
    email.refresh_from_db()
    assert (email.state, email.delivered_at) == ("delivered", samples.AT + timedelta(seconds=3))
    assert Event.objects.get().email_id == email.pk
