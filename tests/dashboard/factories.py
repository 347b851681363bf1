"""Claims, emails, attempts and passes in every state, as the pages meet them."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from emailoffload.feedback.models import Event, Suppression
from emailoffload.outbox import content
from emailoffload.outbox.models import Attempt, Claim, Content, Email, RowError, Run
from emailoffload.outbox.reconciliation import ReconcileFinding
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.sources.protocol import RenderedMail

_numbers = itertools.count(1)
REASONS = {
    EmailState.QUEUED: "",
    EmailState.UNCERTAIN: "ReadTimeoutError",
    EmailState.SUPPRESSED: "not_enrolled",
    EmailState.FAILED: "MessageRejected",
    EmailState.BOUNCED: "bounced_permanent",
    EmailState.REJECTED: "ses_rejected",
    EmailState.DELAYED: "delivery_delayed",
    EmailState.RELEASED: "deadline",
}
HTML = (
    "<html><head><title>Reminder</title></head><body><h1>Fire safety</h1>"
    '<p style="color: #1d2530">Dear Ada, please complete <b>Fire safety</b> by Friday.</p></body></html>'
)


def make_run(kind: str = "intercept", **changes: Any) -> Run:
    """A pass that ended well a moment ago."""
    now = timezone.now()
    values: dict[str, Any] = {
        "kind": kind,
        "started_at": now - timedelta(seconds=70),
        "finished_at": now - timedelta(seconds=68),
        "outcome": "ok",
        "counts": {
            "seen": 1200,
            "claimed": 14,
            "lost": 0,
            "left": {"not_enrolled": 6, "too_late": 2},
            "errors": 0,
        },
    }
    return Run.objects.create(**values | changes)


def make_claim(**changes: Any) -> Claim:
    """A reminder claimed ahead of time, for user 15093 unless said otherwise."""
    number = next(_numbers)
    now = timezone.now()
    due = changes.pop("due_at", now - timedelta(minutes=5))
    emailtime = int(due.timestamp())
    values: dict[str, Any] = {
        "source": "reengagement",
        "row_id": 7000 + number,
        "state": ClaimState.CLAIMED,
        "before": {"emailsent": 0, "emailtime": emailtime, "completed": 0},
        "after": {"emailsent": 1, "emailtime": emailtime + 604800},
        "user_id": 15093,
        "user_name": "Ada Lovelace",
        "user_email": "ada@example.org",
        "activity_id": 12,
        "activity_name": "Fire safety reminder",
        "cmid": 345,
        "course_id": 67,
        "course_name": "Fire safety 2026",
        "company_id": 3,
        "company_name": "Northwind Mills",
        "due_at": due,
        "created_at": due - timedelta(minutes=10),
        "claimed_at": due - timedelta(minutes=10) + timedelta(seconds=1),
    }
    return Claim.objects.create(**values | changes)


def make_email(state: str = EmailState.ACCEPTED, claim: Claim | None = None, **changes: Any) -> Email:
    """An email in `state` with the columns that such an email has; its claim too, unless one is given."""
    body = changes.pop("body", None)
    now = timezone.now()
    due: datetime = changes.get(
        "due_at", now + timedelta(minutes=8) if state in _WAITING else now - timedelta(minutes=5)
    )
    claim = claim or make_claim(
        due_at=due, **({"user_id": changes["user_id"]} if "user_id" in changes else {})
    )
    number = next(_numbers)
    gone = state not in {*_WAITING, EmailState.SUPPRESSED, EmailState.CANCELLED, EmailState.RELEASED}
    taken = gone and state not in {EmailState.FAILED, EmailState.UNCERTAIN, EmailState.SENT_SMTP}
    values: dict[str, Any] = {
        "claim": claim,
        "source": claim.source,
        "role": "user",
        "user_id": claim.user_id,
        "recipient_id": claim.user_id,
        "activity_id": claim.activity_id,
        "course_id": claim.course_id,
        "company_id": claim.company_id,
        "address": "ada@example.org",
        "name": "Ada Lovelace",
        "subject": "Please complete Fire safety",
        "state": state,
        "state_at": now - timedelta(minutes=4),
        "reason": REASONS.get(EmailState(state), ""),
        "created_at": claim.created_at,
        "due_at": due,
        "next_try_at": due,
        "deadline_at": due + timedelta(minutes=15),
        "attempts": 1 if gone else 0,
        "message_id": f"0102018f{number:08x}-aaaabbbb-cccc-dddd-eeee-ffff00001111-000000" if taken else "",
        "accepted_at": due + timedelta(seconds=2) if taken or state == EmailState.SENT_SMTP else None,
        "delivered_at": due + timedelta(seconds=9) if state in _ARRIVED else None,
        "opened_at": due + timedelta(minutes=2) if state in (EmailState.OPENED, EmailState.CLICKED) else None,
        "clicked_at": due + timedelta(minutes=3) if state == EmailState.CLICKED else None,
        "bounced_at": due + timedelta(seconds=9) if state == EmailState.BOUNCED else None,
        "complained_at": due + timedelta(hours=1) if state == EmailState.COMPLAINED else None,
    }
    email = Email.objects.create(**values | changes)
    if email.attempts:
        make_attempt(email)
    if body is not None:
        seal(email, **body)
    return email


_WAITING = {EmailState.PREPARED, EmailState.QUEUED, EmailState.SENDING}
_ARRIVED = {EmailState.DELIVERED, EmailState.OPENED, EmailState.CLICKED, EmailState.COMPLAINED}
_OUTCOMES = {EmailState.FAILED: "permanent", EmailState.UNCERTAIN: "unknown"}


def make_attempt(email: Email, **changes: Any) -> Attempt:
    """The attempt that led to the email's state."""
    outcome = _OUTCOMES.get(EmailState(email.state), "accepted")
    refused = outcome == "permanent"
    values: dict[str, Any] = {
        "email": email,
        "number": 1,
        "route": "smtp" if email.state == EmailState.SENT_SMTP else "ses",
        "started_at": email.due_at + timedelta(seconds=1),
        "finished_at": email.due_at + timedelta(seconds=1, milliseconds=120),
        "outcome": outcome,
        "error_code": {"permanent": "MessageRejected", "unknown": "ReadTimeoutError"}.get(outcome, ""),
        "error_message": "Email address is not verified." if refused else "",
        "http_status": {"accepted": 200, "permanent": 400}.get(outcome),
        "request_id": "4f2f2b0e-0d4b-4d57-9d8c-6a4cf8d0a001",
        "message_id": email.message_id,
        "holder": "mail-1:4711:9f2c01ab",
    }
    return Attempt.objects.create(**values | changes)


def seal(
    email: Email, *, html: str | None = HTML, text: str = "Dear Ada, please complete Fire safety."
) -> Content:
    """Store what the email says, encrypted."""
    key_id, body = content.seal(
        RenderedMail(
            role="user",
            to_address=email.address,
            to_name=email.name,
            from_address="noreply@learn.example.org",
            from_name="Learn (via Example)",
            reply_to_address="noreply@learn.example.org",
            reply_to_name="",
            subject=email.subject,
            text=text,
            html=html,
        )
    )
    return Content.objects.create(email=email, key_id=key_id, body=body)


def make_suppression(email: Email | None = None, **changes: Any) -> Suppression:
    """An address that gets no mail since a mail to it bounced; both lists have it."""
    address = str(changes.get("address", email.address if email else "gone@example.org"))
    at = timezone.now() - timedelta(days=2)
    event = None
    if email:
        event = Event.objects.create(
            key=f"bounce-{next(_numbers)}", type="bounce", at=at, received_at=at, address=address, kind="permanent",
            subkind="NoEmail", status="5.1.1", diagnostic="smtp; 550 5.1.1 user unknown", email=email,
        )  # fmt: skip
    values: dict[str, Any] = {
        "address": address, "active_key": address, "reason": "bounce", "origin": "event", "event": event,
        "email": email, "detail": "smtp; 550 5.1.1 user unknown", "since": at, "agreement": "agreed",
        "checked_at": timezone.now() - timedelta(hours=1),
    }  # fmt: skip
    return Suppression.objects.create(**values | changes)


def make_finding(claim: Claim | None = None, **changes: Any) -> ReconcileFinding:
    """A claim whose row somebody else has changed."""
    claim = claim or make_claim()
    values: dict[str, Any] = {
        "claim": claim,
        "source": claim.source,
        "user_id": claim.user_id,
        "company_id": claim.company_id,
        "verdict": "touched",
        "detail": "other_values",
        "seen": {"row": {"emailsent": 1, "emailtime": 17}},
        "first_seen": timezone.now() - timedelta(minutes=20),
    }
    return ReconcileFinding.objects.create(**values | changes)


def make_row_error(**changes: Any) -> RowError:
    """A row of Moodle without a course module."""
    now = timezone.now()
    values: dict[str, Any] = {
        "source": "reengagement",
        "row_id": 9000 + next(_numbers),
        "activity_id": 12,
        "user_id": 15093,
        "reason": "no_course_module",
        "detail": "The activity 12 has no row in course_modules.",
        "first_seen": now - timedelta(hours=2),
        "last_seen": now - timedelta(minutes=4),
        "times": 30,
    }
    return RowError.objects.create(**values | changes)


def make_day() -> list[Email]:
    """A day of a site: one email at least in every state, siblings of a claim, passes, a row error."""
    make_run()
    make_run(
        "dispatch",
        counts={"sent": 12, "suppressed": 1, "retried": 2, "uncertain": 1, "failed": 1, "seconds": 4.2},
    )
    make_run("recover", counts={})
    make_row_error()
    people = [
        ("Ada Lovelace", "ada@example.org"),
        ("Grace Hopper", "grace@example.org"),
        ("Alan Turing", "alan@example.net"),
    ]
    emails = []
    for number, state in enumerate(EmailState.values):
        name, address = people[number % len(people)]
        claim = make_claim(user_id=15093 + number % len(people), user_name=name, user_email=address)
        emails.append(
            make_email(state, claim, name=name, address=address, recipient_id=claim.user_id, body={})
        )
    shared = make_claim()
    emails.append(make_email(EmailState.DELIVERED, shared, body={}))
    emails.append(
        make_email(
            EmailState.ACCEPTED,
            shared,
            role="thirdparty",
            name="",
            address="hr@example.org",
            recipient_id=None,
        )
    )
    emails.append(
        make_email(
            EmailState.BOUNCED,
            shared,
            role="manager",
            name="Charles Babbage",
            address="charles@example.org",
            recipient_id=77,
        )
    )
    for _number in range(12):
        emails.append(make_email(EmailState.DELIVERED))
    return emails
