"""What happened to one email, in order: each entry an observation with its time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _

from emailoffload.dashboard import reasons, words
from emailoffload.outbox.models import Attempt, Email
from emailoffload.outbox.states import ClaimState, EmailState

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
        EmailState.BOUNCED,
        EmailState.COMPLAINED,
    }
)
"""States whose time is told by the claim, an attempt or a column of its own."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the timeline; `at` is aware, `details` are (name, value) pairs."""

    at: datetime
    title: str
    tone: str
    text: str = ""
    details: tuple[tuple[str, str], ...] = ()


def _held(value: object) -> str:
    """A column's value as Moodle's database shows it."""
    return "NULL" if value is None else str(value)


def entries(email: Email, attempts: Sequence[Attempt]) -> list[Entry]:
    """The timeline of an email, oldest first: from its claim (already loaded), columns and attempts."""
    found = [*_claim(email), *_resend(email), *(_attempt(attempt) for attempt in attempts), *_reports(email)]
    return sorted(found, key=lambda entry: entry.at)


def _claim(email: Email) -> list[Entry]:
    claim = email.claim
    row = _("row %(row)d of %(source)s") % {"row": claim.row_id, "source": words.source(claim.source)}
    found = [
        Entry(
            claim.created_at,
            _("Rendered, and meant to be claimed"),
            "wait",
            row,
            tuple((name, _held(value)) for name, value in claim.before.items()),
        )
    ]
    if claim.claimed_at:
        how = (
            _("while we held Moodle's cron lock")
            if claim.under_lock
            else _("ahead of time, before it was due")
        )
        found.append(
            Entry(
                claim.claimed_at,
                _("Claimed in Moodle"),
                "good",
                f"{row}; {how}",
                tuple(
                    (name, f"{_held(claim.before.get(name, '?'))} → {_held(value)}")
                    for name, value in claim.after.items()
                ),
            )
        )
    if claim.settled_at and claim.state != ClaimState.CLAIMED:
        title = {
            ClaimState.LOST: _("Lost: Moodle changed the row first"),
            ClaimState.DROPPED: _("Dropped: the claim was not made"),
            ClaimState.RELEASED: _("Released: the row has its former values again"),
        }.get(ClaimState(claim.state), words.humanised(claim.state))
        found.append(Entry(claim.settled_at, title, "quiet", claim.note))
    return found


def _resend(email: Email) -> list[Entry]:
    if email.resend_of_id is None:
        return []
    text = _("A copy of email %(id)d. The audit log names who and why.") % {"id": email.resend_of_id}
    return [Entry(email.created_at, _("Sent again, as a person asked"), "wait", text)]


def _attempt(attempt: Attempt) -> Entry:
    details = [
        (_("Error"), attempt.error_code),
        (_("HTTP status"), str(attempt.http_status or "")),
        (_("SES request id"), attempt.request_id),
        (_("SES message id"), attempt.message_id),
        (_("Process"), attempt.holder),
    ]
    if attempt.finished_at:
        took = (attempt.finished_at - attempt.started_at).total_seconds()
        details.append((_("Took"), f"{took:.2f} s"))
    title = _("Attempt %(n)d by %(route)s: %(outcome)s") % {
        "n": attempt.number,
        "route": words.route(attempt.route),
        "outcome": words.attempt_outcome(attempt.outcome),
    }
    return Entry(
        attempt.started_at,
        title,
        ATTEMPT_TONES.get(attempt.outcome, "warn"),
        attempt.error_message,
        tuple((name, value) for name, value in details if value),
    )


def _reports(email: Email) -> list[Entry]:
    columns = (
        (email.accepted_at, _("Accepted"), "good"),
        (email.delivered_at, _("Delivered: the recipient's mail server took it"), "good"),
        (email.bounced_at, _("Bounced"), "bad"),
        (email.complained_at, _("Complaint: marked as spam"), "bad"),
    )
    found = [Entry(at, title, tone) for at, title, tone in columns if at]
    if email.erased_at:
        text = _("It carried credentials.") if email.sensitive else ""
        found.append(Entry(email.erased_at, _("What it said was erased"), "quiet", text))
    if email.state not in RECORDED_ELSEWHERE:
        text = " ".join(
            part for part in (reasons.text(email.reason) if email.reason else "", email.detail) if part
        )
        found.append(
            Entry(email.state_at, words.state(email.state).capitalize(), words.tone(email.state), text)
        )
    return found
