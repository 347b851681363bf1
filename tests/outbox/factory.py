"""Mails in the outbox, as an interceptor leaves them there."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from emailoffload.outbox import content
from emailoffload.outbox.models import Claim, Content, Email
from emailoffload.outbox.states import ClaimState, EmailState

_numbers = itertools.count(1)


def parts(**changes: Any) -> content.Parts:
    """A mail with both parts; `changes` replace fields."""
    values: dict[str, Any] = {
        "to_address": "anna@example.org",
        "to_name": "Anna Ahlberg",
        "from_address": "noreply@learn.example.org",
        "from_name": "Admin User (via learn)",
        "reply_to_address": "noreply@learn.example.org",
        "reply_to_name": "Do not reply to this email",
        "subject": "Please finish First aid",
        "text": "Dear Anna, please finish First aid.",
        "html": "<p>Dear Anna, please finish First aid.</p>",
    }
    return content.Parts(**values | changes)


@transaction.atomic  # as the product stores them: a worker that is at work already sees a mail with its content
def queue_emails(
    count: int,
    *,
    due: datetime | None = None,
    source: str = "reengagement",
    roles: Sequence[str] = ("user",),
    email: dict[str, Any] | None = None,
    **changes: Any,
) -> list[Email]:
    """`count` claims, each with one queued email per role; due now unless said otherwise."""
    now = timezone.now()
    due = due or now
    numbers = [next(_numbers) for _ in range(count)]
    claims = [
        Claim(source=source, row_id=number, state=ClaimState.CLAIMED, user_id=number, activity_id=1,
              course_id=2, before={"emailsent": 0}, after={"emailsent": 1}, due_at=due, created_at=now,
              claimed_at=now)
        for number in numbers
    ]  # fmt: skip
    Claim.objects.bulk_create(claims)
    claims = list(Claim.objects.filter(source=source, row_id__in=numbers).order_by("row_id"))
    emails = []
    for claim in claims:
        for role in roles:
            values: dict[str, Any] = {
                "claim": claim, "source": source, "role": role, "user_id": claim.user_id, "activity_id": 1,
                "course_id": 2, "address": f"{role}{claim.row_id}@example.org", "name": "Anna Ahlberg",
                "subject": "Please finish First aid", "state": EmailState.QUEUED, "state_at": now,
                "created_at": now, "due_at": due, "next_try_at": due,
                "deadline_at": due + timedelta(minutes=15),
            }  # fmt: skip
            emails.append(Email(**values | (email or {})))
    Email.objects.bulk_create(emails)
    emails = list(Email.objects.filter(claim__in=claims).order_by("id"))
    contents = []
    for row in emails:
        key_id, body = content.seal(parts(**{"to_address": row.address} | changes))
        contents.append(Content(email=row, key_id=key_id, body=body))
    Content.objects.bulk_create(contents)
    return emails


def queue_email(**changes: Any) -> Email:
    """One queued email."""
    return queue_emails(1, **changes)[0]
