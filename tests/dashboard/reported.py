"""Emails with the events that led to their state, and each reason that a state can have."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.utils import timezone

from emailoffload.actions.fallbacks import DEALT_WITH
from emailoffload.actions.settle import BY_PERSON
from emailoffload.delivery import errors, smtp
from emailoffload.feedback import fold
from emailoffload.feedback.models import Event, EventProblem, EventType
from emailoffload.moodle import refusals
from emailoffload.outbox import content
from emailoffload.outbox.models import Email
from emailoffload.outbox.states import ADDRESS_SUPPRESSED, EmailState
from emailoffload.sources import reasons as source_reasons
from emailoffload.worker import eligibility, outcomes, overdue, recover_intents
from emailoffload.worker.smtp_route import HELD
from tests.dashboard.factories import make_email

S = EmailState
T = EventType
_numbers = itertools.count(1)
SMTP = (
    smtp.UNREACHABLE, smtp.CERTIFICATE, smtp.LOGIN, smtp.SENDER, smtp.RECIPIENT, smtp.REFUSED, smtp.BUSY,
    smtp.NO_ANSWER,
)  # fmt: skip
NOT_SENT = (
    *errors.NOT_TRANSMITTED, *errors.THROTTLED,
    *(f"account:{code}" for code in (*errors.ACCOUNT, *errors.LOCAL, *errors.QUOTA)),
    outcomes.IDENTITY, "stopped", "SSLError",
    eligibility.MOODLE_UNREACHABLE, eligibility.MOODLE_OUTDATED, eligibility.RECHECK_FAILED,
)  # fmt: skip
"""Why a mail is still queued after a try, or after Moodle could not be asked."""
CAUSES = (*NOT_SENT, *overdue.CURABLE, *errors.UNKNOWN, overdue.PAUSED, overdue.DRAIN)
"""Why a mail went, or goes, another way than by SES."""
ENDS = (*overdue.CURABLE, *SMTP, recover_intents.UNCLEAR)
HERE = (*source_reasons.MEANINGS, *refusals.MEANINGS)
OF_STATE: dict[EmailState, tuple[str, ...]] = {
    S.PREPARED: ("", ADDRESS_SUPPRESSED),
    S.QUEUED: ("", *NOT_SENT, *CAUSES),
    S.SENDING: ("", *NOT_SENT),
    S.UNCERTAIN: ("", "interrupted", smtp.NO_ANSWER, *errors.UNKNOWN),
    S.ACCEPTED: ("", BY_PERSON, fold.SENT_TWICE),
    S.DELAYED: (fold.DELAYED,),
    S.DELIVERED: ("", fold.SENT_TWICE),
    S.OPENED: ("", fold.SENT_TWICE),
    S.CLICKED: ("", fold.SENT_TWICE),
    S.BOUNCED: (fold.BOUNCED_PERMANENT, fold.BOUNCED_TRANSIENT, fold.SES_LIST),
    S.COMPLAINED: ("", fold.SENT_TWICE),
    S.REJECTED: (fold.REJECTED, fold.RENDERING),
    S.SUPPRESSED: (ADDRESS_SUPPRESSED, fold.ALSO_BY_SES, *HERE),
    S.SENT_SMTP: ("", BY_PERSON, fold.ALSO_BY_SES, *CAUSES),
    S.RELEASED: ("", fold.ALSO_BY_SES, *CAUSES, *(f"{HELD}{code}" for code in CAUSES)),
    S.FAILED: (*ENDS, *(f"{HELD}{code}" for code in CAUSES)),
    S.CANCELLED: ("", DEALT_WITH, fold.ALSO_BY_SES),
}
"""Every reason that dispatch, fallback, people and SES's events give to a mail in each state."""


def pairs() -> Iterator[tuple[EmailState, str]]:
    """Every state with every reason that it can have."""
    for state, reasons in OF_STATE.items():
        for reason in dict.fromkeys(reasons):
            yield state, reason


def make_event(type_: str, email: Email | None = None, **changes: Any) -> Event:
    """An event about an email, a few seconds after it was accepted, that came at once."""
    number = next(_numbers)
    changes.setdefault(
        "at", (email.accepted_at or email.due_at) + timedelta(seconds=number % 50 + 5) if email else None
    )
    values: dict[str, Any] = {
        "key": f"{number:064x}",
        "type": type_,
        "received_at": changes["at"],
        "message_id": email.message_id if email else f"foreign-{number}",
        "ref": email.ref.hex if email else "",
        "address": email.address if email else "somebody@example.net",
        "identity": "learn.example.org",
        "email": email,
    }
    return Event.objects.create(**values | changes)


def no_mailbox(email: Email, **changes: Any) -> Event:
    """The bounce of a mailbox that does not exist."""
    values = {
        "kind": "permanent",
        "subkind": "NoEmail",
        "status": "5.1.1",
        "diagnostic": "smtp; 550 5.1.1 [address]: user unknown",
    }
    return make_event(T.BOUNCE, email, **values | changes)


def make_problem(body: bytes = b"No JSON, but words for anna@example.org") -> EventProblem:
    """A message that is no event, as the inbox keeps it."""
    now = timezone.now()
    key_id, sealed = content.seal_bytes(body)
    return EventProblem.objects.create(
        digest=f"{next(_numbers):064x}", origin="queue", reason="not_json", detail="It is not JSON.", size=len(body),
        key_id=key_id, body=sealed, first_seen=now - timedelta(hours=3), last_seen=now, times=3,
    )  # fmt: skip


def make_reports() -> list[Email]:
    """Mails with every kind of event, an event without a mail, and a message that is none."""
    bounced = make_email(S.BOUNCED, subject="First aid, part 3")
    no_mailbox(bounced)
    opened = make_email(S.OPENED, subject="First aid, part 4")
    make_event(T.SEND, opened)
    make_event(T.DELIVERY, opened, diagnostic="250 2.0.0 OK queued as 4711")
    make_event(T.OPEN, opened)
    make_event(T.BOUNCE, opened, kind="transient", subkind="General", noted=True)
    delayed = make_email(S.DELAYED, subject="First aid, part 5")
    make_event(
        T.DELIVERY_DELAY, delayed, subkind="MailboxFull", status="4.2.2", diagnostic="452 4.2.2 over quota"
    )
    complained = make_email(S.COMPLAINED, subject="First aid, part 6")
    make_event(T.COMPLAINT, complained, kind="abuse")
    make_event(T.SEND, at=timezone.now(), match_again_at=timezone.now() + timedelta(minutes=30))
    make_problem()
    return [bounced, opened, delayed, complained]
