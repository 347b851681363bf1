"""What happened to one email, in order: each entry an observation with its time."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from emailoffload.dashboard import deeds, observed, reasons, sentences, words
from emailoffload.dashboard.known import NOTHING, Known
from emailoffload.dashboard.timeline_claim import claim_entries
from emailoffload.dashboard.timeline_entry import Entry, Id
from emailoffload.feedback.models import Event, EventType
from emailoffload.outbox.models import Attempt, AuditEntry, Email, Forgotten
from emailoffload.outbox.states import EmailState

ATTEMPT_TONES = {
    "accepted": "good",
    "in_flight": "wait",
    "permanent": "bad",
    "account": "bad",
    "quota": "bad",
    "unknown": "warn",
}
RECORDED_ELSEWHERE = frozenset(
    {
        EmailState.PREPARED,
        EmailState.QUEUED,
        EmailState.SENDING,
        EmailState.ACCEPTED,
        EmailState.DELIVERED,
        EmailState.OPENED,
        EmailState.CLICKED,
        EmailState.BOUNCED,
        EmailState.COMPLAINED,
    }
)
"""States whose time is told by the claim, an attempt or a column of its own."""
BY_EVENT = frozenset({EmailState.DELAYED, EmailState.REJECTED})
"""States without a column: told by their event, as long as that is stored."""
LOOK_HERE = frozenset({"deadline", "refused", "MessageRejected", "BadRequestException"})
"""Codes whose cure is to look at the attempts."""
EVENTS_SHOWN = 100
SIGHTS_SHOWN = 10
"""Of openings and followed links, of which there can be any number."""
SIGHTS = (EventType.OPEN, EventType.CLICK)
FORGOTTEN: Final[Mapping[str, Promise]] = {
    Forgotten.RETENTION: gettext_lazy("They had been kept for long enough (RETAIN_ADDRESSES_DAYS)."),
    Forgotten.REQUEST: gettext_lazy("Somebody asked for it; the audit log says who."),
    Forgotten.MOODLE: gettext_lazy("Moodle has deleted the user."),
}
"""Why they were erased."""
LATE = timedelta(minutes=5)
"""An event that came so much later than it happened says when it came."""


@dataclass(frozen=True, slots=True)
class Reports:
    """The events of one email, oldest first, and how many openings and followed links more there are at least."""

    events: Sequence[Event] = ()
    more: int = 0


def reports(email: Email) -> Reports:
    """The events of an email, as far as the timeline shows them; two queries."""
    mine = Event.objects.filter(email=email)
    told = list(mine.exclude(type__in=SIGHTS).order_by("at", "pk")[:EVENTS_SHOWN])
    seen = list(mine.filter(type__in=SIGHTS).order_by("at", "pk")[: EVENTS_SHOWN + 1])
    shown = seen[:SIGHTS_SHOWN]
    return Reports(sorted([*told, *shown], key=lambda event: (event.at, event.pk)), len(seen) - len(shown))


def entries(
    email: Email,
    attempts: Sequence[Attempt],
    told: Reports = Reports(),
    known: Known = NOTHING,
    done: Sequence[AuditEntry] = (),
) -> list[Entry]:
    """The timeline of an email, oldest first: from its claim (already loaded), columns, attempts, events, and
    what people did (`deeds.of`)."""
    found = [
        *claim_entries(email),
        *_resend(email, done),
        *deeds.entries(email, done),
        *(_attempt(attempt) for attempt in attempts),
        *_events(told, attempts),
        *_silence(known),
        *_aside(email, done),
        *_columns(email, {event.type for event in told.events}, attempts, {deed.action for deed in done}),
    ]
    return sorted(found, key=lambda entry: entry.at)


def _resend(email: Email, done: Sequence[AuditEntry]) -> list[Entry]:
    if email.resend_of_id is None:
        return []
    if any(deed.action == "resend" and deed.details.get("new_email") == email.pk for deed in done):
        return []  # told by the deed, with who and why
    text = _("A copy of email %(id)d.") % {"id": email.resend_of_id}
    return [Entry(email.created_at, _("Sent again, as a person asked"), "wait", text)]


def _aside(email: Email, done: Sequence[AuditEntry]) -> list[Entry]:
    """That a mail waits for the SMTP server, where no person asked for it."""
    waits = email.state == EmailState.QUEUED and email.route == "smtp"
    if not waits or any(deed.action == "smtp" for deed in done):
        return []
    text = reasons.text(email.reason) if email.reason else ""
    return [Entry(email.state_at, _("Set aside for the SMTP server"), "warn", text)]


def _attempt(attempt: Attempt) -> Entry:
    details = [
        (_("Error"), attempt.error_code),
        (_("HTTP status"), str(attempt.http_status or "")),
        (_("SES request id"), Id(attempt.request_id)),
        (_("SES message id"), Id(attempt.message_id)),
        (_("Process"), attempt.holder),
    ]
    if attempt.finished_at:
        took = (attempt.finished_at - attempt.started_at).total_seconds()
        details.append((_("Took"), _("%(n)s s") % {"n": number_format(took, 2)}))
    title = _("Attempt %(n)d by %(route)s: %(outcome)s") % {
        "n": attempt.number,
        "route": words.route(attempt.route),
        "outcome": words.attempt_outcome(attempt.outcome),
    }
    why, cure = _error(attempt)
    return Entry(
        attempt.started_at,
        title,
        ATTEMPT_TONES.get(attempt.outcome, "warn"),
        why,
        tuple((name, value) for name, value in details if value),
        cure=cure,
    )


def _error(attempt: Attempt) -> tuple[str, str]:
    """What went wrong with a try, in words and in those of the server, and what a person can do about it."""
    said = reasons.written(attempt.error_message)
    if not attempt.error_code or attempt.outcome == "accepted":
        return said, ""
    why = f"{capfirst(reasons.meaning(attempt.error_code))}."
    if said and said.rstrip(".") != why.rstrip("."):
        why = _("%(why)s The words with it: “%(words)s”.") % {"why": why, "words": said}
    # That its last attempt names the cause helps nobody who is reading just that.
    return why, "" if attempt.error_code in LOOK_HERE else reasons.cure(attempt.error_code)


def _events(told: Reports, attempts: Sequence[Attempt]) -> list[Entry]:
    settling = _settling(told.events, attempts)
    found = [_event(event, settled=event is settling) for event in told.events]
    if told.more:
        text = ngettext(
            "At least %(n)d more opening or followed link is not listed.",
            "At least %(n)d more openings and followed links are not listed.",
            told.more,
        )
        last = max(event.at for event in told.events)
        found.append(Entry(last, _("Opened again"), "quiet", text % {"n": told.more}))
    return found


def _settling(events: Sequence[Event], attempts: Sequence[Attempt]) -> Event | None:
    """The event by which an unanswered try turned out to have been taken, if there is one."""
    answered = {attempt.message_id for attempt in attempts}
    unanswered = [attempt.started_at for attempt in attempts if attempt.outcome in ("unknown", "in_flight")]
    if not unanswered:
        return None
    new = [event for event in events if event.message_id and event.message_id not in answered]
    return min(new, key=lambda event: (event.received_at, event.pk), default=None)


def _event(event: Event, *, settled: bool) -> Entry:
    title, tone = observed.title(event)
    clause = observed.meaning(event)
    sentence = f"{capfirst(clause)}." if clause else ""
    settles = _("It settled a try that had got no answer: Amazon SES had taken the mail.") if settled else ""
    details = [
        (_("Reported by"), _("Amazon SES")),
        (_("Kind"), observed.kind(event)),
        (_("Status code"), event.status),
        (_("Words of the mail server"), event.diagnostic),
        (_("SES message id"), Id(event.message_id)),
        (_("Came"), _came(event)),
    ]
    return Entry(
        event.at,
        title,
        "quiet" if event.noted else tone,
        " ".join(part for part in (sentence, settles, observed.why_noted(event)) if part),
        tuple((name, value) for name, value in details if value),
        event.noted,
    )


def _came(event: Event) -> str:
    late = event.received_at - event.at
    if late < LATE:
        return ""
    hours, minutes = divmod(int(late.total_seconds()) // 60, 60)
    return _("%(hours)d h %(minutes)02d min later") % {"hours": hours, "minutes": minutes}


def _silence(known: Known) -> list[Entry]:
    if known.not_taken is None:
        return []
    text = sentences.say(
        _(
            "The queue of reports was read to its end; it had that of a mail that left on {at}, after this one."
        ),
        at=known.not_taken.witness_at,
    )
    return [Entry(known.not_taken.drained_at, _("No report that Amazon SES took it"), "wait", text)]


def _columns(email: Email, told: Collection[str], attempts: Sequence[Attempt], done: Set[str]) -> list[Entry]:
    """What the email's row says and no event, attempt or deed of a person's tells in more detail."""
    answered = any(attempt.outcome == "accepted" for attempt in attempts)
    listed = EventType.BOUNCE in told or EventType.COMPLAINT in told
    columns = (
        (email.accepted_at, _("Accepted"), "good", EventType.SEND in told or (answered and bool(told))),
        (
            email.delivered_at,
            _("Delivered: the recipient's mail server took it"),
            "good",
            EventType.DELIVERY in told,
        ),
        (email.opened_at, _("Opened"), "good", EventType.OPEN in told),
        (email.clicked_at, _("A link in it was followed"), "good", EventType.CLICK in told),
        (email.bounced_at, _("Bounced"), "bad", listed),
        (email.complained_at, _("Complaint: marked as spam"), "bad", EventType.COMPLAINT in told),
    )
    found = [Entry(at, title, tone) for at, title, tone, elsewhere in columns if at and not elsewhere]
    if email.erased_at:
        text = _("It carried credentials.") if email.sensitive else ""
        found.append(Entry(email.erased_at, _("What it said was erased"), "quiet", text))
    if email.forgotten_at:
        why = str(FORGOTTEN.get(email.forgotten_because, ""))
        found.append(Entry(email.forgotten_at, _("Name, address and subject were erased"), "quiet", why))
    by_deed = email.state == EmailState.CANCELLED and not done.isdisjoint({"cancel", "dismiss"})
    if email.state not in RECORDED_ELSEWHERE and not (email.state in BY_EVENT and told) and not by_deed:
        reason, detail = reasons.own(email.reason, email.detail)
        text = " ".join(part for part in (reasons.text(reason) if reason else "", detail) if part)
        found.append(Entry(email.state_at, capfirst(words.state(email.state)), words.tone(email.state), text))
    return found
