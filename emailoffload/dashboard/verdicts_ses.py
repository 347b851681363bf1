"""Did they get it, for mails that SES took: what SES reported about them, or that it reported nothing.

Opened and followed links only add to an arrival: a picture that is not loaded proves nothing.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from emailoffload.actions.settle import BY_PERSON
from emailoffload.dashboard import observed, reasons
from emailoffload.dashboard.known import Known, events_expected
from emailoffload.dashboard.sentences import Verdict, joined, say, suppressed, twice
from emailoffload.feedback.fold import BOUNCED_PERMANENT, BOUNCED_TRANSIENT, RENDERING, SES_LIST
from emailoffload.outbox.models import Email
from emailoffload.outbox.states import EmailState

S = EmailState
SILENT_AFTER = timedelta(hours=4)
"""An accepted mail without any report for so long is worth a look at the events: most come within minutes."""
SES_TRIES_FOR = timedelta(hours=14)
"""SES tries for so long at most (SES API v2, DeliveryOptions: MaxDeliverySeconds), then it reports a bounce."""


def _evidence(email: Email, known: Known) -> str:
    if known.event:
        return observed.evidence(known.event)
    text = _("Amazon SES reported it.")
    return (
        joined(text, _("The words with it: “%(words)s”.") % {"words": email.detail}) if email.detail else text
    )


def accepted(email: Email, known: Known) -> Verdict:
    """SES took it; what became of it is not reported, not yet, or never will be."""
    at = email.accepted_at or email.state_at
    if email.reason == BY_PERSON:
        return Verdict(
            _("Sent"),
            say(_("a person found out that it arrived at {address}."), address=email.shown_address),
            "good",
            _("Amazon SES itself never answered. The audit log says who found out, and how."),
            email.state_at,
        )
    evidence = (
        _("Amazon SES answered with the message id %(id)s.") % {"id": email.message_id}
        if email.message_id
        else _("Amazon SES reported that it took the mail.")
    )
    took = say(_("Amazon SES took the mail for {address} on {at}."), address=email.shown_address, at=at)
    if not events_expected():
        return Verdict(
            _("Sent"),
            joined(
                took, _("Whether it arrived is not known: this site gets no delivery reports."), twice(email)
            ),
            "good",
            evidence,
            at,
            _("To know it of future mails, have delivery reports set up; docs/events.md says how."),
        )
    if timezone.now() - at > SILENT_AFTER:
        return Verdict(
            _("Sent"),
            joined(
                took,
                _(
                    "Since then nothing was reported about it, although a report usually comes within minutes."
                ),
                twice(email),
            ),
            "warn",
            evidence,
            at,
            _("The page Events shows whether reports come in at all. Meanwhile, ask the recipient."),
        )
    return Verdict(
        _("Sent"),
        joined(
            took, _("Whether it arrived is not reported yet; that usually takes a few minutes."), twice(email)
        ),
        "good",
        evidence,
        at,
    )


def delayed(email: Email, known: Known) -> Verdict:
    """SES has it and tries again."""
    why = observed.cause(known.event).text if known.event else reasons.meaning(email.reason)
    until = (email.accepted_at or email.state_at) + SES_TRIES_FOR
    then = (
        say(
            _("Amazon SES goes on trying, until about {until}; if it gives up, this mail counts as bounced."),
            until=until,
        )
        if timezone.now() < until
        else _("By now Amazon SES should have given up, but it has not reported that.")
    )
    return Verdict(
        _("Not yet"),
        joined(say("{why}.", why=why), then, twice(email)),
        "warn",
        _evidence(email, known),
        email.state_at,
    )


def arrival(email: Email) -> SafeString:
    """That it was delivered, opened, and that a link in it was followed, each with its time, as one sentence."""
    if email.delivered_at:
        first = say(
            _("delivered to {address} on {at}, as Amazon SES reports"),
            address=email.shown_address,
            at=email.delivered_at,
        )
    else:
        first = say(_("it reached {address}"), address=email.shown_address)
    if email.opened_at and email.clicked_at:
        more = say(
            _("opened on {opened}, and a link in it followed on {clicked}"),
            opened=email.opened_at,
            clicked=email.clicked_at,
        )
    elif email.opened_at:
        more = say(_("opened on {opened}"), opened=email.opened_at)
    elif email.clicked_at:
        more = say(_("a link in it was followed on {clicked}"), clicked=email.clicked_at)
    else:
        return say("{first}.", first=first)
    return say(_("{first}; {more}."), first=first, more=more)


def delivered(email: Email, known: Known) -> Verdict:
    """The recipient's mail server took it; opens and clicks only add to that."""
    seen = email.opened_at or email.clicked_at
    return Verdict(
        _("Yes"),
        joined(arrival(email), twice(email)),
        "good",
        joined(
            _evidence(email, known)
            if email.delivered_at or not seen
            else _("Amazon SES saw it being opened."),
            _("Some mail programs open mails by themselves, so this is a sign, not proof.") if seen else "",
        ),
        email.delivered_at or seen or email.state_at,
        ""
        if seen
        else _("If they cannot find it: it may be in the spam folder, or a rule of theirs has moved it."),
    )


BY_REASON = {
    SES_LIST: observed.ACCOUNT_LIST,
    BOUNCED_PERMANENT: observed.FOR_GOOD,
    BOUNCED_TRANSIENT: observed.NOT_NOW,
}
"""Why it came back, where the event is not stored any more."""


def bounced(email: Email, known: Known) -> Verdict:
    """It came back, or SES's list kept it from leaving."""
    at = email.bounced_at or email.state_at
    why = observed.cause(known.event) if known.event else BY_REASON.get(email.reason, observed.FOR_GOOD)
    told = {"why": why.text, "address": email.shown_address, "at": at}
    if email.reason == SES_LIST:
        sentence = say(_("{why}. It said so on {at}."), **told)
    elif email.reason == BOUNCED_TRANSIENT:
        sentence = say(
            _("{why}. The mail to {address} came back on {at}, and Amazon SES does not try again."), **told
        )
    else:
        sentence = say(_("{why}. The mail to {address} came back on {at}."), **told)
    if email.delivered_at and email.reason != SES_LIST:
        sentence = joined(sentence, _("It had seemed to be delivered before."))
    return Verdict(_("No"), joined(sentence, twice(email)), "bad", _evidence(email, known), at, str(why.cure))


def complained(email: Email, known: Known) -> Verdict:
    """It arrived, and was not welcome."""
    at = email.complained_at or email.state_at
    return Verdict(
        _("Yes"),
        joined(
            say(
                _("it reached {address}, but {complaint} on {at}."),
                address=email.shown_address,
                complaint=observed.complaint(known.event),
                at=at,
            ),
            twice(email),
        ),
        "bad",
        _evidence(email, known),
        at,
        _("Speak with the recipient before anything more is sent to this address."),
    )


def rejected(email: Email, known: Known) -> Verdict:
    """SES took it and then would not deliver it."""
    if email.reason == RENDERING:
        sentence = _("Amazon SES took the mail, but could not fill in its template, so it never left.")
        cure = _(
            "Mails of this site have no templates at Amazon SES: ask who else sends through this account."
        )
    else:
        sentence = _(
            "Amazon SES took the mail, found something harmful in it, most likely a virus, and did not deliver it."
        )
        cure = _("Look at the text, the links and the attachments of the activity or the template.")
    return Verdict(
        _("No"), joined(sentence, twice(email)), "bad", _evidence(email, known), email.state_at, cure
    )


def also(email: Email, ours: Verdict) -> Verdict:
    """A mail that went another way, or was stopped, although SES had taken it before, without an answer."""
    other_way = email.state in (S.SENT_SMTP, S.RELEASED)
    came_back = email.bounced_at and not (email.delivered_at or email.opened_at or email.clicked_at)
    evidence = _("Amazon SES reported it later, with the id that the mail carried.")
    if came_back:
        sentence = joined(
            ours.sentence,
            say(_("Amazon SES had taken it as well; that mail came back on {at}."), at=email.bounced_at),
        )
        return replace(ours, sentence=sentence, evidence=evidence)
    if email.delivered_at or email.opened_at or email.clicked_at or email.complained_at:
        answer, took = _("Yes"), arrival(email)
    else:
        answer = _("Sent")
        took = say(
            _("Amazon SES took the mail for {address} on {at}, although it did not answer at the time."),
            address=email.shown_address,
            at=email.accepted_at or email.state_at,
        )
    then = (
        joined(_("It also went another way:"), ours.sentence, _("So the recipient may have it twice."))
        if other_way
        else _("We had stopped it by then, but it was on its way.")
    )
    return Verdict(answer, joined(took, then), "warn", evidence, email.accepted_at or email.state_at)


def address_suppressed(email: Email, known: Known) -> Verdict:
    """Not sent, because the address gets no mail."""
    now = suppressed(known.suppression)
    return Verdict(
        _("No"),
        joined(
            _("it was not sent.")
            if now
            else say(
                _("it was not sent: the address {address} was suppressed at the time."),
                address=email.shown_address,
            ),
            now,
        ),
        "warn",
        known.suppression.detail
        if known.suppression and known.suppression.detail
        else _("The list of suppressed addresses was looked at before sending."),
        email.state_at,
        _("If the address works again, let it get mail on the page Suppressions, and send the mail again.")
        if now
        else _("The address gets mail again by now: send the mail again if it is still wanted."),
    )
