"""An event that comes long after the others are gone takes nothing back."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from django.utils import timezone

from emailoffload.feedback import inbox, told
from emailoffload.feedback.fold import SENT_TWICE
from emailoffload.feedback.models import Event, EventType, Suppression
from emailoffload.outbox.models import Email, Forgotten
from emailoffload.outbox.states import EmailState
from emailoffload.worker.privacy import forget
from tests.dashboard.factories import make_email
from tests.privacy.rows import ADDRESS, ago, suppressed

S = EmailState
pytestmark = pytest.mark.django_db


def tell(email: Email, type_: str, at: datetime, **more: Any) -> None:
    """Let SES tell an event of a mail, as its queue does."""
    body = {
        "eventType": type_,
        "mail": {
            "messageId": email.message_id, "destination": [ADDRESS], "timestamp": at.isoformat(), "tags": {},
            "source": "noreply@learn.example.org",
        },
        type_.lower(): {"timestamp": at.isoformat(), **more},
    }  # fmt: skip
    assert inbox.receive([inbox.Message(json.dumps(body).encode())]).events == 1


@pytest.mark.parametrize(
    ("before", "type_", "after"),
    [
        (S.DELIVERED, "Open", S.OPENED),
        (S.DELIVERED, "Click", S.CLICKED),
        (S.OPENED, "Click", S.CLICKED),
        (S.CLICKED, "Open", S.CLICKED),
    ],
)
def test_who_opens_an_old_mail_does_not_make_it_undelivered(before: str, type_: str, after: str) -> None:
    email = make_email(before, address=ADDRESS)
    was = {name: getattr(email, name) for name in ("delivered_at", "opened_at", "clicked_at", "accepted_at")}
    tell(email, type_, timezone.now(), ipAddress="192.0.2.1", userAgent="x", link="https://learn.example.org")
    email.refresh_from_db()
    assert email.state == after
    assert all(getattr(email, name) == at for name, at in was.items() if at)


def test_a_complaint_a_year_later_is_seen_and_the_delivery_stays() -> None:
    email = make_email(S.DELIVERED, address=ADDRESS)
    tell(email, "Complaint", timezone.now(), complainedRecipients=[{"emailAddress": ADDRESS}])
    email.refresh_from_db()
    assert email.state == S.COMPLAINED and email.complained_at and email.delivered_at


@pytest.mark.parametrize("reason", ["bounced_permanent", "ses_suppression_list"])
def test_a_permanent_bounce_whose_event_is_gone_outranks_a_late_delivery(reason: str) -> None:
    email = make_email(S.BOUNCED, address=ADDRESS, reason=reason, detail="no such mailbox")
    tell(email, "Delivery", timezone.now(), recipients=[ADDRESS])
    email.refresh_from_db()
    assert (email.state, email.reason, email.detail) == (S.BOUNCED, reason, "no such mailbox")
    assert email.bounced_at and email.delivered_at


def test_a_transient_bounce_whose_event_is_gone_is_outranked_by_a_late_delivery() -> None:
    email = make_email(S.BOUNCED, address=ADDRESS, reason="bounced_transient")
    tell(email, "Delivery", timezone.now(), recipients=[ADDRESS])
    email.refresh_from_db()
    assert (email.state, email.bounced_at) == (S.DELIVERED, None)


def test_that_a_mail_was_sent_twice_stays_known() -> None:
    email = make_email(S.DELIVERED, address=ADDRESS, reason=SENT_TWICE)
    tell(email, "Open", timezone.now(), ipAddress="192.0.2.1", userAgent="x")
    email.refresh_from_db()
    assert (email.state, email.reason) == (S.OPENED, SENT_TWICE)


def test_of_an_erased_mail_a_late_bounce_is_seen_and_its_row_gets_no_words_again() -> None:
    email = make_email(S.DELIVERED, address=ADDRESS)
    forget.claims([email.claim_id], Forgotten.REQUEST, timezone.now())
    said = [{"emailAddress": ADDRESS, "diagnosticCode": f"550 no such user {ADDRESS}"}]
    tell(email, "Bounce", timezone.now(), bounceType="Permanent", bouncedRecipients=said)
    email.refresh_from_db()
    assert (email.state, email.reason, email.detail) == (S.BOUNCED, "bounced_permanent", "")


def test_while_the_events_are_there_nothing_is_added_to_them() -> None:
    email = make_email(S.DELIVERED, address=ADDRESS)
    tell(email, "Delivery", email.delivered_at or ago(0), recipients=[ADDRESS])
    facts, _noted = told.facts([email.pk])
    assert Event.objects.get().type == EventType.DELIVERY
    assert told.remembered(email, facts[email.pk]) == []


def test_an_address_that_was_suppressed_for_a_while_stays_so_when_it_bounces_after_an_erasure() -> None:
    email = make_email(S.ACCEPTED, address=ADDRESS)
    suppressed(
        1, reason=Suppression.Reason.TRANSIENT, until=ago(-20), agreement="ours", event=None, detail=""
    )
    said = [{"emailAddress": ADDRESS, "diagnosticCode": "452 full"}]
    tell(email, "Bounce", timezone.now(), bounceType="Transient", bouncedRecipients=said)
    assert Suppression.objects.filter(active_key=ADDRESS).exists()
    tell(email, "Delivery", timezone.now(), recipients=[ADDRESS])
    assert not Suppression.objects.filter(active_key=ADDRESS).exists()
