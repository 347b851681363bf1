"""What is known of emails beyond their rows: the event that a state rests on, a suppressed address, a silence.

A handful of queries for a whole page of emails, however many.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.utils import timezone

from emailoffload.feedback import suppression
from emailoffload.feedback.evidence import NotTaken, no_send_event
from emailoffload.feedback.fold import STATES, Fact, Rank, rank
from emailoffload.feedback.models import Event, EventType, Suppression
from emailoffload.outbox import scope
from emailoffload.outbox.models import Email
from emailoffload.outbox.reconciliation import ReconcileFinding
from emailoffload.outbox.states import AFTER_ACCEPTANCE, EmailState

S = EmailState
MOST = 1000
"""Events looked at for one page of emails; a mail has one or two, one that is delayed for long a dozen."""
_TELLING = (
    EventType.DELIVERY, EventType.BOUNCE, EventType.COMPLAINT, EventType.REJECT, EventType.RENDERING_FAILURE,
    EventType.DELIVERY_DELAY,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one email beyond its row; each None where there is nothing."""

    event: Event | None = None
    """The one that its state rests on; for one that was opened, its delivery."""
    suppression: Suppression | None = None
    """Why its address gets no mail now."""
    not_taken: NotTaken | None = None
    """Why an unanswered send seems not to have been taken."""
    finding: ReconcileFinding | None = None
    """Of one that was handed back: what was seen of it in Moodle afterwards."""


NOTHING = Known()


def events_expected() -> bool:
    """Whether this site is set up to learn from SES what became of its mails."""
    return bool(settings.SES_EVENTS_QUEUE_URL or settings.SNS_TOPICS)


def gather(emails: Sequence[Email], viewer: scope.Person, now: datetime | None = None) -> dict[int, Known]:
    """What is known of these emails, by id; at most ten queries, and those only where the states ask for them.

    `viewer` may see all of `emails`. People bound to companies are told why an address is suppressed only where that
    follows from a mail of theirs; that it is, and since when, concerns their mails to it too.
    """
    now = now or timezone.now()
    events = _events([email for email in emails if email.state in AFTER_ACCEPTANCE])
    barred = _suppressions(emails, viewer, now)
    uncertain = [email for email in emails if email.state == S.UNCERTAIN]
    silent = no_send_event(uncertain, now) if uncertain else {}
    findings = _findings([email for email in emails if email.state == S.RELEASED])
    return {
        email.pk: Known(
            events.get(email.pk), barred.get(email.pk), silent.get(email.pk), findings.get(email.claim_id)
        )
        for email in emails
    }


def _events(emails: Collection[Email]) -> dict[int, Event]:
    """Of each email the event that its state rests on: that of the state's rank which happened first."""
    if not emails:
        return {}
    wanted = {email.pk: EmailState(email.state) for email in emails}
    rows = Event.objects.filter(email__in=wanted, type__in=_TELLING, noted=False).order_by("-at", "-pk")[
        :MOST
    ]
    found: dict[int, Event] = {}
    for event in rows:
        if event.email_id and _tells(event, wanted[event.email_id]):
            held = found.get(event.email_id)
            # From the newest to the oldest: the oldest of the highest rank is the one that `fold` believes.
            if held is None or _rank(event) >= _rank(held):
                found[event.email_id] = event
    return found


def _rank(event: Event) -> Rank:
    return rank(Fact(event.pk, event.type, event.at, kind=event.kind, subkind=event.subkind))


def _tells(event: Event, state: EmailState) -> bool:
    return STATES.get(_rank(event)) == (S.DELIVERED if state in (S.OPENED, S.CLICKED) else state)


def _findings(emails: Collection[Email]) -> dict[int, ReconcileFinding]:
    """What was found of the claims of these emails, by claim: what holds now, else what was seen last."""
    if not emails:
        return {}
    rows = ReconcileFinding.objects.filter(claim__in={email.claim_id for email in emails})
    # The last of a claim stays: open ones after closed ones.
    found = sorted(rows.order_by("pk"), key=lambda row: row.closed_at is None)
    return {row.claim_id: row for row in found if row.closed_because not in ("agrees", "changed")}


def _suppressions(emails: Sequence[Email], viewer: scope.Person, now: datetime) -> dict[int, Suppression]:
    rows: Mapping[str, Suppression] = suppression.suppressed([email.address for email in emails], now)
    if not rows:
        return {}
    visible = {row.email_id for row in rows.values() if row.email_id}
    if scope.is_bound(viewer):
        visible = set(scope.emails_for(viewer).filter(pk__in=visible).values_list("pk", flat=True))
    for row in rows.values():
        if row.email_id not in visible and scope.is_bound(viewer):
            row.reason = row.detail = ""  # what a mail server said to others, or a person about them
    wanted = {email.pk: suppression.key(email.address) for email in emails}
    return {pk: rows[key] for pk, key in wanted.items() if key in rows}
