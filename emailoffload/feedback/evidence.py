"""Whether an unanswered send can be called *not taken by SES*: the one conclusion that rests on silence.

SES publishes a Send event for each mail that it takes. That none came proves something only if it would have
come: all of this must hold, else there is no evidence and the mail stays uncertain.

1. Events come by the queue, and the mail left with a configuration set, which publishes them.
2. No event of the mail is stored, nor one that only carries its id, about whomever.
3. Well after the last try (MARGIN) the queue was found empty, with nothing in anybody's hands.
4. Send events do come: one arrived for a mail that SES took after that try, and before the queue was empty.
   A queue that is silent because publishing is broken, or late, proves nothing.
5. Nothing unreadable arrived since the try: it could have been the event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Max

from emailoffload.feedback import queuestate
from emailoffload.feedback.models import Event, EventProblem, EventType
from emailoffload.outbox.models import Attempt, Email
from emailoffload.outbox.states import EmailState

MARGIN = timedelta(minutes=15)
"""How long after a try the queue must have been empty: events come within seconds, redeliveries within minutes."""
LOOKED_AT = 20_000
"""Events among which the one of another mail is looked for, the newest."""


@dataclass(frozen=True, slots=True)
class NotTaken:
    """Why we believe that SES did not take a mail."""

    tried_at: datetime
    """The last try."""
    drained_at: datetime
    """The queue was empty then, well after it."""
    witness_at: datetime
    """Another mail's Send event came, for a mail that left after that try."""


def evidence_comes() -> bool:
    """Whether this site is set up so that silence can show anything: events by the queue, for all that leaves."""
    return bool(settings.SES_EVENTS_QUEUE_URL and settings.SES_CONFIGURATION_SET)


def no_send_event(emails: Sequence[Email], now: datetime) -> dict[int, NotTaken]:
    """Which of these uncertain emails SES did not take, as far as its silence can show that, by their ids.

    Emails that are not in the answer may have been taken. A handful of queries, however many emails.
    """
    drained = queuestate.load().drained_at if evidence_comes() else None
    if drained is None:
        return {}
    uncertain = [email for email in emails if email.state == EmailState.UNCERTAIN]
    tried = _tried(uncertain)
    tried = {pk: at for pk, at in tried.items() if at + MARGIN <= min(drained, now)}
    if not tried:
        return {}
    reported = _reported([email for email in uncertain if email.pk in tried])
    odd = EventProblem.objects.aggregate(last=Max("last_seen"))["last"]
    newest = Event.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    witness = (
        Event.objects.filter(pk__gt=newest - LOOKED_AT, type=EventType.SEND, email__isnull=False)
        .filter(received_at__lte=drained, at__gt=min(tried.values()))
        .aggregate(last=Max("at"))["last"]
    )
    if witness is None:
        return {}
    return {
        email.pk: NotTaken(at, drained, witness)
        for email in uncertain
        if (at := tried.get(email.pk))
        and email.pk not in reported
        and at < witness
        and (odd is None or odd < at)
    }


def _reported(emails: Sequence[Email]) -> set[int]:
    """The ids of those with an event; two queries."""
    found = set(
        Event.objects.filter(email__in=[email.pk for email in emails]).values_list("email_id", flat=True)
    )
    refs = {email.ref.hex: email.pk for email in emails}
    since = min(email.created_at for email in emails) - MARGIN
    # The inbox takes an event with our id for another's where its recipient is not ours; here any doubt counts.
    strays = Event.objects.filter(email=None, at__gte=since, ref__in=refs).values_list("ref", flat=True)
    return {pk for pk in found if pk} | {refs[ref] for ref in strays}


def _tried(emails: Sequence[Email]) -> dict[int, datetime]:
    """When each was tried last; only those all of whose tries went to SES and ended without a message id."""
    rows = Attempt.objects.filter(email__in=[email.pk for email in emails]).values_list(
        "email_id", "started_at", "finished_at", "route", "message_id"
    )
    last: dict[int, datetime] = {}
    out = set()
    for email_id, started, finished, route, message_id in rows:
        last[email_id] = max(last.get(email_id, started), finished or started)
        if route != "ses" or message_id:
            out.add(email_id)
    return {email_id: at for email_id, at in last.items() if email_id not in out}
