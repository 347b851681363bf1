"""Claims, mails, events and the like of any age, with something personal in every column that may hold it."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from emailoffload.feedback.models import Event, EventProblem, Suppression
from emailoffload.outbox.models import Attempt, AuditEntry, Email
from emailoffload.outbox.states import EmailState
from tests.rollups.rows import store_claims, store_emails

DAY = timedelta(days=1)
NAME, ADDRESS = "Ada Lovelace", "ada@example.org"
BEFORE = {"emailsent": 0, "emailtime": 1_700_000_000, "completed": 0}


def ago(days: float) -> datetime:
    """So many days before now."""
    return timezone.now() - days * DAY


def claim(days: float, **changes: Any) -> int:
    """A claim of an age; its id."""
    values = {"user_id": 15093, "user_name": NAME, "user_email": ADDRESS, "before": BEFORE}
    return store_claims(1, ago(days), **values | changes)[0]


def mail(
    days: float, state: str = EmailState.DELIVERED, claim_id: int | None = None, **changes: Any
) -> Email:
    """A mail of an age with content, an attempt and an event."""
    at = ago(days)
    values: dict[str, Any] = {
        "state": state, "user_id": 15093, "address": ADDRESS, "name": NAME, "subject": "Dear Ada", "detail": "said Ada",
        "message_id": uuid.uuid4().hex, "state_at": at,
    }  # fmt: skip
    if state == EmailState.DELIVERED:
        values |= {"accepted_at": at, "delivered_at": at}
    found = store_emails(
        1, at, claim_id or claim(days, user_id=changes.get("user_id", 15093)), **values | changes
    )
    email = Email.objects.get(pk=found[0])
    Attempt.objects.create(
        email=email, number=1, started_at=at, outcome="accepted", error_message="no mailbox of Ada's"
    )
    if state == EmailState.DELIVERED:
        event(days, email)
    return email


def event(days: float, email: Email | None = None, **changes: Any) -> Event:
    """A delivery that was reported so many days ago."""
    values: dict[str, Any] = {
        "key": uuid.uuid4().hex * 2, "type": "delivery", "at": ago(days), "received_at": ago(days),
        "address": ADDRESS, "email": email, "message_id": email.message_id if email else "",
        "ref": email.ref.hex if email else "", "diagnostic": "said Ada",
    }  # fmt: skip
    return Event.objects.create(**values | changes)


def problem(days: float, **changes: Any) -> EventProblem:
    """An unreadable message that last came so many days ago."""
    values: dict[str, Any] = {
        "digest": uuid.uuid4().hex * 2, "origin": "queue", "reason": "json", "size": 3, "key_id": "0",
        "body": b"Ada", "first_seen": ago(days), "last_seen": ago(days),
    }  # fmt: skip
    return EventProblem.objects.create(**values | changes)


def suppressed(days: float, *, over: float | None = None, **changes: Any) -> Suppression:
    """An address that is suppressed since so many days; `over`: until so many days ago."""
    values: dict[str, Any] = {
        "address": ADDRESS, "active_key": None if over is not None else ADDRESS, "reason": "bounce",
        "origin": "event", "detail": "said Ada", "since": ago(days), "agreement": "agreed",
        "removed_at": None if over is None else ago(over), "removed_by": "" if over is None else "root",
    }  # fmt: skip
    return Suppression.objects.create(**values | changes)


def deed(days: float, **changes: Any) -> AuditEntry:
    """An entry of the audit log of an age."""
    entry = AuditEntry.objects.create(
        **{"actor": "root", "action": "resend", "object_type": "email", "object_id": "1"} | changes
    )
    AuditEntry.objects.filter(pk=entry.pk).update(at=ago(days))
    return entry
