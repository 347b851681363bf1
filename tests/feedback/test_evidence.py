"""Silence proves that SES did not take a mail only where an event would have come."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from emailoffload.feedback import evidence, inbox, queuestate
from emailoffload.feedback.models import Event
from emailoffload.outbox.models import Attempt, Email
from emailoffload.outbox.states import EmailState
from tests.feedback import samples
from tests.outbox.factory import queue_email

pytestmark = pytest.mark.django_db
NOW = timezone.now().replace(microsecond=0)
TRIED = NOW - timedelta(hours=2)
MINUTE = timedelta(minutes=1)


class Scene:
    """An unanswered send two hours ago; since then another mail's Send event came, and the queue was empty."""

    def __init__(self, settings: Any) -> None:
        settings.SES_EVENTS_QUEUE_URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/events"
        settings.SES_CONFIGURATION_SET = "email-offload"
        self.email = queue_email(
            email={"state": EmailState.UNCERTAIN, "attempts": 1, "created_at": TRIED - MINUTE}
        )
        Attempt.objects.create(
            email=self.email, number=1, started_at=TRIED, finished_at=TRIED, outcome="unknown"
        )
        self.drained(TRIED + 20 * MINUTE)

    def drained(self, at: Any) -> None:
        queuestate.save(queuestate.QueueState(polled_at=NOW, drained_at=at))

    def witness(self, at: Any = TRIED + MINUTE, received: Any = None, **values: Any) -> None:
        other = queue_email(email={"state": EmailState.ACCEPTED, "attempts": 1})
        event = samples.event(
            "Send", at=at, to=other.address, ref=other.ref.hex, message_id=f"m-{other.pk}", **values
        )
        inbox.receive([inbox.Message(samples.body(event))], now=received or at)

    def shown(self) -> bool:
        email = Email.objects.get(pk=self.email.pk)
        return self.email.pk in evidence.no_send_event([email], NOW)


@pytest.fixture
def scene(settings: Any) -> Scene:
    return Scene(settings)


def test_a_later_mails_event_and_an_empty_queue_show_that_ses_did_not_take_it(scene: Scene) -> None:
    scene.witness()
    found = evidence.no_send_event([scene.email], NOW)[scene.email.pk]
    assert found == evidence.NotTaken(TRIED, TRIED + 20 * MINUTE, TRIED + MINUTE)


def test_a_silent_queue_shows_nothing(scene: Scene) -> None:
    assert not scene.shown()
    scene.witness(at=TRIED - MINUTE)
    assert not scene.shown()


def test_a_queue_that_was_not_empty_well_after_the_try_shows_nothing(scene: Scene) -> None:
    scene.witness()
    scene.drained(TRIED + 14 * MINUTE)
    assert not scene.shown()
    scene.drained(None)
    assert not scene.shown()


def test_the_event_of_a_later_mail_counts_only_if_it_came_before_the_queue_was_empty(scene: Scene) -> None:
    scene.witness(received=TRIED + 30 * MINUTE)
    assert not scene.shown()


@pytest.mark.parametrize("name", ["SES_EVENTS_QUEUE_URL", "SES_CONFIGURATION_SET"])
def test_without_events_from_the_queue_there_is_no_evidence(scene: Scene, settings: Any, name: str) -> None:
    scene.witness()
    setattr(settings, name, "")
    assert not scene.shown()


@pytest.mark.parametrize("to", ["", "forwarded@example.net"])
def test_any_event_with_the_mails_id_is_evidence_of_the_contrary(scene: Scene, to: str) -> None:
    scene.witness()
    assert scene.shown()
    event = samples.event(
        "Subscription", at=TRIED + MINUTE, to=to or scene.email.address, ref=scene.email.ref.hex
    )
    inbox.receive([inbox.Message(samples.body(event))])
    assert Event.objects.filter(email=scene.email).exists() is not bool(to)
    assert not scene.shown()


def test_an_unreadable_message_since_the_try_may_have_been_the_event(scene: Scene) -> None:
    scene.witness()
    inbox.receive([inbox.Message(b"?")], now=TRIED + MINUTE)
    assert not scene.shown()


def test_a_mail_that_was_answered_or_tried_by_another_route_is_not_judged(scene: Scene) -> None:
    scene.witness()
    attempt = Attempt.objects.get()
    for change in ({"message_id": "m-1"}, {"route": "smtp"}):
        Attempt.objects.filter(pk=attempt.pk).update(**{"message_id": "", "route": "ses"} | change)
        assert not scene.shown()


def test_only_uncertain_mails_are_judged(scene: Scene) -> None:
    scene.witness()
    Email.objects.filter(pk=scene.email.pk).update(state=EmailState.QUEUED)
    assert not scene.shown()


def test_a_thousand_mails_are_judged_by_a_handful_of_queries(
    scene: Scene, django_assert_max_num_queries: Any
) -> None:
    scene.witness()
    emails = [scene.email] * 1000
    with django_assert_max_num_queries(8):
        assert evidence.no_send_event(emails, NOW)
