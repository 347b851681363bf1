"""Did they get their mail? One sentence per email, from its state, its reason and the observation behind it.

The first word answers: *Yes* (a report says it arrived), *Sent* (a server took it, no report yet), *Not yet*,
*No*, *Moodle has it*, *Unknown*. A sentence never says more than what was observed (promise P6). This module has
the states that say what we did, `verdicts_ses` those that say what SES reported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from emailoffload.actions.cancel import STOPPED_UNSURE
from emailoffload.actions.fallbacks import DEALT_WITH
from emailoffload.actions.resend import reset_advice
from emailoffload.actions.settle import BY_PERSON
from emailoffload.dashboard import reasons, verdicts_ses, words
from emailoffload.dashboard.known import NOTHING, Known
from emailoffload.dashboard.sentences import Verdict, joined, say, with_suppression
from emailoffload.feedback.evidence import evidence_comes
from emailoffload.feedback.fold import ALSO_BY_SES
from emailoffload.outbox.models import Email
from emailoffload.outbox.states import ADDRESS_SUPPRESSED, EmailState
from emailoffload.sources.reasons import HANDED_BACK, ROW_RESTORED
from emailoffload.worker import reconcile_words, uncertain

S = EmailState
__all__ = ["BY_STATE", "Verdict", "user_verdict", "verdict"]


def _prepared(email: Email, known: Known) -> Verdict:
    if email.reason == ADDRESS_SUPPRESSED:
        return verdicts_ses.address_suppressed(email, known)
    return Verdict(
        _("Not yet"),
        _("the mail is written, and we are about to take it over. Until then it is Moodle's to send."),
        "wait",
        _("Rendered; the claim of Moodle's row is not made yet."),
        email.created_at,
    )


def _queued(email: Email, known: Known) -> Verdict:
    if email.route == "smtp":
        return Verdict(
            _("Not yet"),
            reasons.because(_("it goes by SMTP instead, as soon as the SMTP server takes it"), email.reason),
            "warn",
            reasons.written(email.detail) or _("Set aside for the SMTP server."),
            email.state_at,
        )
    if email.attempts:
        return Verdict(
            _("Not yet"),
            joined(
                reasons.because(_("the last try did not get through"), email.reason)
                if email.reason
                else _("it is sent once more."),
                say(_("The next try follows by itself on {at}."), at=email.next_try_at),
            ),
            "warn",
            reasons.written(email.detail) or _("Nothing was transmitted so far."),
            email.state_at,
        )
    if email.reason:
        sentence = reasons.because(
            say(_("it was due on {at} and has not left yet"), at=email.due_at), email.reason
        )
        return Verdict(_("Not yet"), sentence, "warn", _("Claimed; in the outbox."), email.state_at)
    due = email.next_try_at > timezone.now()
    return Verdict(
        _("Not yet"),
        say(_("the mail waits in our outbox until it is due, on {at}."), at=email.next_try_at)
        if due
        else _("the mail is due and will be sent in a moment."),
        "wait",
        _("Claimed; in the outbox."),
        email.state_at,
    )


def _sending(email: Email, known: Known) -> Verdict:
    return Verdict(
        _("Not yet"),
        _("the mail is being handed to %(server)s at this moment.") % {"server": words.route(email.route)},
        "wait",
        _("A dispatcher holds it; an attempt is recorded."),
        email.state_at,
    )


ROUTES = {"resend": "ses", "smtp": "smtp"}
"""By what `uncertain` decides: the route of another try."""


def _countdown(email: Email, known: Known) -> str:
    """How long evidence is still waited for and what follows, in words."""
    left = uncertain.deadline(email) - timezone.now()
    route = ROUTES.get("resend" if known.not_taken else settings.UNCERTAIN_POLICY, "")
    way = {"route": words.route(route)} if route else {}
    if left.total_seconds() <= 0:
        if not route or uncertain.ruled_out(email):
            return _("No evidence came in time: a person must find out and settle it, on the page Fallbacks.")
        if known.not_taken:
            return (
                _("So it is sent once more by %(route)s as soon as that can be, if it is still owed.") % way
            )
        return _("No evidence came in time: it is sent once more by %(route)s as soon as that can be.") % way
    hours, minutes = divmod(int(left.total_seconds()) // 60, 60)
    waits = _(
        "Evidence is waited for during another %(hours)d h %(minutes)02d min; a person may settle it before."
    ) % {"hours": hours, "minutes": minutes}
    if known.not_taken:
        then = _(
            "If no report of it comes until then, it is sent once more by %(route)s, if it is still owed."
        )
        return joined(waits, then % way)
    return joined(
        waits,
        _("If it shows by then that Amazon SES did not take it, it is sent once more.")
        if evidence_comes() and route != "ses"
        else "",
        _("Then it is sent once more by %(route)s, if that has not been done yet and it is still owed.") % way
        if route
        else "",
    )


def _uncertain(email: Email, known: Known) -> Verdict:
    sentence = reasons.because(
        say(
            _("the mail was handed to {server} on {at}, but whether it was taken is not known"),
            server=words.route(email.route),
            at=email.state_at,
        ),
        email.reason,
    )
    evidence = reasons.written(email.detail) or _("The connection ended without an answer.")
    if known.not_taken:
        sentence = joined(
            sentence,
            _("Most likely it did not go out: Amazon SES has reported later mails since, and not this one."),
        )
        evidence = say(
            _(
                "The queue of reports was read to its end on {drained}; it had the report of a mail that left on "
                "{witness}, after this one, and none of this one."
            ),
            drained=known.not_taken.drained_at,
            witness=known.not_taken.witness_at,
        )
    else:
        sentence = joined(sentence, _("It may or may not have gone out."))
    return Verdict(
        _("Unknown"),
        sentence,
        "warn",
        evidence,
        email.state_at,
        joined(_("It is not sent again blindly, so that nobody gets it twice."), _countdown(email, known)),
    )


def _suppressed(email: Email, known: Known) -> Verdict:
    reason, detail = reasons.own(email.reason, email.detail)
    if reason == ADDRESS_SUPPRESSED:
        return verdicts_ses.address_suppressed(email, known)
    evidence = detail or _("Moodle's database was asked just before sending.")
    if reason in (ROW_RESTORED, HANDED_BACK):
        return Verdict(
            _("Moodle has it"),
            reasons.because(_("we did not send it"), reason),
            "quiet",
            evidence,
            email.state_at,
            _("Whether Moodle has sent it by now is in Moodle's own records."),
        )
    return Verdict(_("No"), reasons.because(_("it was not sent"), reason), "quiet", evidence, email.state_at)


def _sent_smtp(email: Email, known: Known) -> Verdict:
    reason, detail = reasons.own(email.reason, email.detail)
    at = email.accepted_at or email.state_at
    if reason == BY_PERSON:
        sentence = say(_("a person found out that it arrived at {address}."), address=email.shown_address)
        evidence = _("The SMTP server itself never answered. The audit log says who found out, and how.")
    else:
        took = say(
            _("the SMTP server took the mail for {address} on {at}."), address=email.shown_address, at=at
        )
        why = reasons.because(_("It went by SMTP"), reason) if reason else ""
        sentence = joined(took, why, _("SMTP gives no delivery reports, so more is not known."))
        evidence = joined(_("The SMTP server accepted it."), detail)
    return Verdict(
        _("Sent"),
        sentence,
        "good",
        evidence,
        at,
        _("If it came back, the notice is in the sender's mailbox."),
    )


def _released(email: Email, known: Known) -> Verdict:
    reason, _detail = reasons.own(email.reason, email.detail)
    back = reasons.because(say(_("we handed it back on {at}"), at=email.state_at), reason)
    who = "" if reason else _("The audit log says who handed it back, and why.")
    seen = known.finding
    if seen is None or seen.verdict == reconcile_words.WAITING:
        return Verdict(
            _("Moodle has it"),
            joined(back, _("Moodle sends it with its own cron, as if we were not there.")),
            "quiet",
            str(reconcile_words.DETAILS[seen.detail].meaning)
            if seen
            else _("Its row in Moodle has its former values again."),
            seen.first_seen if seen else email.state_at,
            joined(who, _("What Moodle did with it is in Moodle's own records.")),
        )
    observed = reconcile_words.DETAILS[seen.detail]
    if seen.verdict == reconcile_words.PICKED_UP:
        return Verdict(
            _("Moodle sent it itself"), back, "good", str(observed.meaning), seen.first_seen, joined(who)
        )
    if seen.verdict == reconcile_words.OVERDUE:
        answer, then = _("Not yet"), _("Moodle has not sent it since, although it was its turn.")
    else:
        answer, then = _("Unknown"), _("Whether Moodle has sent it since cannot be told.")
    return Verdict(
        answer,
        joined(back, then),
        reconcile_words.VERDICTS[seen.verdict][1],  # type: ignore[arg-type]  # its tones are ours
        str(observed.meaning),
        seen.first_seen,
        joined(str(observed.cure), who),
    )


def _failed(email: Email, known: Known) -> Verdict:
    held = email.reason.startswith(reasons.HELD)
    sentence = (
        joined(
            reasons.because(_("it has not been sent"), email.reason), _("It waits for a person to decide.")
        )
        if held
        else joined(
            reasons.because(_("it was not sent"), email.reason), _("Nothing more is tried by itself.")
        )
    )
    return Verdict(
        _("No"),
        sentence,
        "bad",
        reasons.written(email.detail) or _("Its last attempt has the details."),
        email.state_at,
        joined(
            reasons.cure(email.reason),
            _("On the page Fallbacks it can be sent again, sent another way, or marked as dealt with."),
        ),
    )


def _cancelled(email: Email, known: Known) -> Verdict:
    reason, detail = reasons.own(email.reason, email.detail)
    evidence = detail or _("The timeline names who and why.")
    if reason == STOPPED_UNSURE or email.accepted_at:
        return _stopped_late(email, evidence)
    if reason == DEALT_WITH:
        sentence: str = _("we did not send it; a person dealt with it in another way.")
    else:
        sentence = reasons.because(_("a person stopped it before it left"), reason)
    cure = "" if reason == DEALT_WITH else _("If it is to go out after all, send it again.")
    return Verdict(_("No"), sentence, "quiet", evidence, email.state_at, cure)


def _stopped_late(email: Email, evidence: str) -> Verdict:
    """Stopped after a try without an answer: the answer may have come since, also where a person was sure of none."""
    if email.accepted_at:
        took = say(
            _("{server} had taken it on {at}, before a person stopped it."),
            server=words.route(email.route),
            at=email.accepted_at,
        )
        return Verdict(_("Sent"), took, "warn", evidence, email.accepted_at)
    return Verdict(
        _("Unknown"),
        _("a person stopped it after a try that got no answer, so it may have gone out before."),
        "warn",
        evidence,
        email.state_at,
        _("It is not tried any more. Ask the recipient before you send it again."),
    )


BY_STATE: dict[EmailState, Callable[[Email, Known], Verdict]] = {
    S.PREPARED: _prepared,
    S.QUEUED: _queued,
    S.SENDING: _sending,
    S.UNCERTAIN: _uncertain,
    S.ACCEPTED: verdicts_ses.accepted,
    S.DELAYED: verdicts_ses.delayed,
    S.DELIVERED: verdicts_ses.delivered,
    S.OPENED: verdicts_ses.delivered,
    S.CLICKED: verdicts_ses.delivered,
    S.BOUNCED: verdicts_ses.bounced,
    S.COMPLAINED: verdicts_ses.complained,
    S.REJECTED: verdicts_ses.rejected,
    S.SUPPRESSED: _suppressed,
    S.SENT_SMTP: _sent_smtp,
    S.RELEASED: _released,
    S.FAILED: _failed,
    S.CANCELLED: _cancelled,
}


def verdict(email: Email, known: Known = NOTHING) -> Verdict:
    """What became of one email, as a sentence with its evidence (design §4, §7)."""
    found = BY_STATE[EmailState(email.state)](email, known)
    if email.reason == ALSO_BY_SES:
        found = verdicts_ses.also(email, found)
    if known.suppression and email.reason != ADDRESS_SUPPRESSED:
        found = with_suppression(found, known.suppression)
    if email.sensitive and email.erased_at and found.tone not in {"good", "wait"}:
        return replace(found, cure=_("It carried credentials, which are erased.") + f" {reset_advice()}")
    if email.erased_at and found.cure and found.tone not in {"good", "wait"}:
        return replace(found, cure=_("What it said is erased: it cannot be sent again."))
    return found


def user_verdict(
    newest: Email | None, user_id: int, known: Known = NOTHING, *, bound: bool = False
) -> Verdict:
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
    return verdict(newest, known)
