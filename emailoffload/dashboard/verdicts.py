"""Did they get their mail? One sentence per email, from its state, its reason and the observation behind it.

The first word answers: *Yes* (a report says it arrived), *Sent* (a server took it, no report yet), *Not yet*,
*No*, *Unknown*. A sentence never says more than what was observed (promise P6).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from emailoffload.actions.resend import reset_advice
from emailoffload.actions.settle import BY_PERSON
from emailoffload.dashboard import reasons, words
from emailoffload.outbox.models import Email
from emailoffload.outbox.states import EmailState
from emailoffload.worker import uncertain

Tone = Literal["good", "wait", "warn", "bad", "quiet"]
S = EmailState


@dataclass(frozen=True, slots=True)
class Verdict:
    """A sentence with its first word apart, the tone of its colour, and what it rests on.

    `at` is when the observation was made (aware), `evidence` what was observed, `cure` what a person can do;
    both texts may be empty.
    """

    answer: str
    sentence: str
    tone: Tone
    evidence: str
    at: datetime | None
    cure: str = ""

    def __str__(self) -> str:
        return f"{self.answer}: {self.sentence}"


def _because(email: Email) -> str:
    """The reason as the end of a sentence, or nothing."""
    return f" {reasons.text(email.reason)}" if email.reason else ""


def _ses_evidence(email: Email) -> str:
    if email.reason == BY_PERSON:
        return _(
            "Amazon SES never answered; a person found out that it arrived. The audit log names who and how."
        )
    if email.message_id:
        return _("Amazon SES answered with message id %(id)s.") % {"id": email.message_id}
    return _("Amazon SES reported that it accepted the mail.")


def _event_evidence(email: Email) -> str:
    text = _("Reported by an event of Amazon SES.")
    return f"{text} {email.detail}" if email.detail else text


def _prepared(email: Email) -> Verdict:
    return Verdict(
        _("Not yet"),
        _("the mail is rendered, and its row in Moodle is about to be claimed. Until then it is Moodle's."),
        "wait",
        _("Rendered; the claim is not made yet."),
        email.created_at,
    )


def _queued(email: Email) -> Verdict:
    if email.attempts:
        sentence = _("the last try did not get through; it is tried again by itself.") + _because(email)
        evidence = email.detail or _("Nothing was transmitted so far.")
        return Verdict(_("Not yet"), sentence, "warn", evidence, email.state_at)
    return Verdict(
        _("Not yet"),
        _("the mail is claimed and waits in the outbox until it is due.") + _because(email),
        "wait",
        _("Claimed; in the outbox."),
        email.state_at,
    )


def _sending(email: Email) -> Verdict:
    return Verdict(
        _("Not yet"),
        _("the mail is being sent at this moment."),
        "wait",
        _("A dispatcher holds it; an attempt is recorded."),
        email.state_at,
    )


ROUTES = {"resend": "ses", "smtp": "smtp"}
"""By UNCERTAIN_POLICY: the route of the second try."""


def _countdown(email: Email) -> str:
    """How long evidence is still waited for, in words."""
    left = uncertain.deadline(email) - timezone.now()
    policy = settings.UNCERTAIN_POLICY
    if left.total_seconds() <= 0:
        if policy != "hold" and not uncertain.ruled_out(email):
            return _(
                "No evidence came in time: it is sent once more by %(route)s as soon as that can be."
            ) % {"route": words.route(ROUTES[policy])}
        return _("No evidence came in time: a person must find out and settle it, on the page Fallbacks.")
    then = (
        _(" Then it is sent once more by %(route)s, if that has not been done yet and it is still owed.")
        % {"route": words.route(ROUTES[policy])}
        if policy in ROUTES
        else ""
    )
    hours, minutes = divmod(int(left.total_seconds()) // 60, 60)
    values = {"hours": hours, "minutes": minutes}
    return (
        _(
            "Evidence is waited for during another %(hours)d h %(minutes)02d min; a person may settle it before."
        )
        % values
    ) + then


def _uncertain(email: Email) -> Verdict:
    return Verdict(
        _("Unknown"),
        _("the mail was handed to %(server)s, which never answered. It may or may not have gone out.")
        % {"server": words.route(email.route)}
        + _because(email),
        "warn",
        email.detail or _("The connection ended without an answer."),
        email.state_at,
        _("It is not sent again blindly, so that nobody gets it twice.") + " " + _countdown(email),
    )


def _accepted(email: Email) -> Verdict:
    return Verdict(
        _("Sent"),
        _("Amazon SES accepted the mail for %(address)s. Whether it arrived is not reported yet.")
        % {"address": email.address},
        "good",
        _ses_evidence(email),
        email.accepted_at or email.state_at,
    )


def _delayed(email: Email) -> Verdict:
    return Verdict(
        _("Not yet"),
        _("Amazon SES has the mail, but the server of %(address)s does not take it yet. SES goes on trying.")
        % {"address": email.address},
        "warn",
        _event_evidence(email),
        email.state_at,
    )


def _delivered(email: Email) -> Verdict:
    return Verdict(
        _("Yes"),
        _("the mail server of %(address)s took the mail.") % {"address": email.address},
        "good",
        _event_evidence(email),
        email.delivered_at or email.state_at,
    )


def _opened(email: Email) -> Verdict:
    return Verdict(
        _("Yes"),
        _("the mail reached %(address)s and was opened.") % {"address": email.address},
        "good",
        _event_evidence(email),
        email.state_at,
    )


def _clicked(email: Email) -> Verdict:
    return Verdict(
        _("Yes"),
        _("the mail reached %(address)s, and a link in it was followed.") % {"address": email.address},
        "good",
        _event_evidence(email),
        email.state_at,
    )


def _bounced(email: Email) -> Verdict:
    return Verdict(
        _("No"),
        _("the mail to %(address)s came back.") % {"address": email.address} + _because(email),
        "bad",
        _event_evidence(email),
        email.bounced_at or email.state_at,
        _("Check the address in the user's Moodle profile."),
    )


def _complained(email: Email) -> Verdict:
    return Verdict(
        _("Yes"),
        _("the mail reached %(address)s, and the recipient marked it as spam.") % {"address": email.address},
        "bad",
        _event_evidence(email),
        email.complained_at or email.state_at,
        _("Speak with the recipient before sending more to this address."),
    )


def _rejected(email: Email) -> Verdict:
    return Verdict(
        _("No"),
        _("Amazon SES accepted the mail and then refused to deliver it.") + _because(email),
        "bad",
        _event_evidence(email),
        email.state_at,
        _("SES rejects mails in which it finds a virus: check the text and links of the activity."),
    )


def _suppressed(email: Email) -> Verdict:
    return Verdict(
        _("No"),
        _("the mail was stopped before it left.") + _because(email),
        "quiet",
        email.detail or _("Checked just before sending."),
        email.state_at,
    )


def _sent_smtp(email: Email) -> Verdict:
    return Verdict(
        _("Sent"),
        _("the SMTP server accepted the mail for %(address)s. SMTP gives no delivery report.")
        % {"address": email.address}
        + _because(email),
        "good",
        _("Sent by the fallback route, SMTP."),
        email.accepted_at or email.state_at,
    )


def _released(email: Email) -> Verdict:
    return Verdict(
        _("Unknown"),
        _("the mail was handed back to Moodle, which sends it with its own cron.") + _because(email),
        "quiet",
        _("Its row in Moodle has its former values again."),
        email.state_at,
        _("What happened then is in Moodle's own records."),
    )


def _failed(email: Email) -> Verdict:
    return Verdict(
        _("No"),
        _("the mail could not be sent, and nothing more is tried.") + _because(email),
        "bad",
        email.detail or _("Recorded with its last attempt."),
        email.state_at,
        reasons.cure(email.reason) or _("A person must decide what happens with it."),
    )


def _cancelled(email: Email) -> Verdict:
    return Verdict(
        _("No"),
        _("a person stopped the mail before it left.") + _because(email),
        "quiet",
        email.detail or _("The audit log names who and why."),
        email.state_at,
    )


BY_STATE: dict[EmailState, Callable[[Email], Verdict]] = {
    S.PREPARED: _prepared,
    S.QUEUED: _queued,
    S.SENDING: _sending,
    S.UNCERTAIN: _uncertain,
    S.ACCEPTED: _accepted,
    S.DELAYED: _delayed,
    S.DELIVERED: _delivered,
    S.OPENED: _opened,
    S.CLICKED: _clicked,
    S.BOUNCED: _bounced,
    S.COMPLAINED: _complained,
    S.REJECTED: _rejected,
    S.SUPPRESSED: _suppressed,
    S.SENT_SMTP: _sent_smtp,
    S.RELEASED: _released,
    S.FAILED: _failed,
    S.CANCELLED: _cancelled,
}


def verdict(email: Email) -> Verdict:
    """What became of one email, as a sentence with its evidence (design §4, §7)."""
    found = BY_STATE[EmailState(email.state)](email)
    if email.sensitive and email.erased_at and found.tone not in {"good", "wait"}:
        return replace(found, cure=f"{_('It carried credentials, which are erased.')} {reset_advice()}")
    return found


def user_verdict(newest: Email | None, user_id: int, *, bound: bool = False) -> Verdict:
    """Whether a user got their mail, judged by the newest mail addressed to that user.

    `newest` is None where we never had a mail for that user: then only Moodle can know. To people who are
    `bound` to companies, that mails of others exist is not said.
    """
    if newest is None and bound:
        return Verdict(
            _("Unknown"),
            _("no mail of your companies to user %(id)d has passed through Email Offload.") % {"id": user_id},
            "quiet",
            _("No claim of this user is on record for them."),
            None,
        )
    if newest is None:
        return Verdict(
            _("Unknown"),
            _("no mail to user %(id)d has passed through Email Offload.") % {"id": user_id},
            "quiet",
            _("No claim of this user is on record."),
            None,
            _("What Moodle itself sent is in Moodle's records."),
        )
    return verdict(newest)
