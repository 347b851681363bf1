"""What SES observed, in plain words: an event's title, its cause, what it rests on, and what helps.

SES says why a mail came back in a word of its own (the sub-type) and, mostly, by the enhanced status code of
the recipient's mail server (RFC 3463, with the codes of the IANA registry). Both become one clause that a support
person can say on the phone; the code itself stays in the evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from emailoffload.feedback.fold import ON_SES_LIST, PERMANENT
from emailoffload.feedback.models import Event, EventType
from emailoffload.feedback.testmail import is_test

NOT_SPAM: Final = "not-spam"
_ADDRESS: Final = gettext_lazy(
    "Ask the user for the right address and correct it in their Moodle profile. If it is right after all, let it "
    "get mail again on the page Suppressions, and send the mail again."
)
_THEIR_RULES: Final = gettext_lazy(
    "Ask whoever runs the recipient's mail server to let mails of this site through, and show them the words below."
)
_LATER: Final = gettext_lazy(
    "Nothing is wrong with the address as far as is known: send the mail again later."
)


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a mail did not arrive: a clause without a full stop, and what a person can do ('' where nothing)."""

    text: Promise
    cure: Promise | str = ""


NO_MAILBOX = Cause(gettext_lazy("the mailbox does not exist"), _ADDRESS)
NO_DOMAIN = Cause(
    gettext_lazy("what stands behind the @ in the address does not exist, or takes no mail"), _ADDRESS
)
MALFORMED = Cause(gettext_lazy("the address is not written correctly"), _ADDRESS)
MOVED = Cause(gettext_lazy("the recipient has moved to another address that is not known"), _ADDRESS)
DISABLED = Cause(gettext_lazy("the mailbox is switched off"), _ADDRESS)
FULL = Cause(
    gettext_lazy("the mailbox is full"),
    gettext_lazy("Ask the recipient, in another way, to make room; then send the mail again."),
)
TOO_LARGE = Cause(gettext_lazy("the mail is too large for the recipient's mail server"))
SENDER = Cause(
    gettext_lazy("the recipient's mail server does not take mail from this sender's address"), _THEIR_RULES
)
CLOSED = Cause(gettext_lazy("the recipient's mail server takes no mail at present"), _LATER)
UNREACHABLE = Cause(gettext_lazy("the recipient's mail server cannot be reached"), _LATER)
NO_ROUTE = Cause(gettext_lazy("no way to the recipient's mail server could be found"), _ADDRESS)
LOOP = Cause(gettext_lazy("the mail went round in circles on the recipient's side"), _THEIR_RULES)
TOO_LONG = Cause(gettext_lazy("the recipient's mail server did not take it in time"), _LATER)
PROTOCOL = Cause(gettext_lazy("the recipient's mail server broke off the conversation"), _LATER)
CONTENT = Cause(
    gettext_lazy("the recipient's mail server does not like what the mail contains"), _THEIR_RULES
)
ATTACHMENT = Cause(gettext_lazy("the recipient's mail server does not take its attachment"), _THEIR_RULES)
POLICY = Cause(
    gettext_lazy("the recipient's mail server refuses it by its own rules, such as a spam filter"),
    _THEIR_RULES,
)
SPAM = Cause(gettext_lazy("the recipient's mail server takes it for spam"), _THEIR_RULES)
NOT_BELIEVED = Cause(
    gettext_lazy(
        "the recipient's mail server does not believe that the sender is who it says (SPF, DKIM or DMARC)"
    ),
    gettext_lazy(
        "Check the DNS records of the sender's domain: SPF, DKIM and DMARC, as Amazon SES shows them."
    ),
)
OUR_ADDRESS = Cause(
    gettext_lazy("the recipient's mail server does not take mail from Amazon SES's network address"),
    _THEIR_RULES,
)
AT_SES = Cause(gettext_lazy("Amazon SES has trouble of its own, or sends more slowly on purpose"))
ACCOUNT_LIST = Cause(
    gettext_lazy(
        "Amazon SES has the address on this account's suppression list, so it did not send the mail"
    ),
    gettext_lazy(
        "If the address works again, let it get mail on the page Suppressions, and send the mail again."
    ),
)
GLOBAL_LIST = Cause(
    gettext_lazy(
        "Amazon SES did not send the mail: lately, mails of other senders to this address came back for good"
    ),
    _ADDRESS,
)
UNSUBSCRIBED = Cause(gettext_lazy("the recipient has unsubscribed from a list of the Amazon SES account"))
FOR_GOOD = Cause(gettext_lazy("the recipient's mail server refuses it for good"), _ADDRESS)
NOT_NOW = Cause(gettext_lazy("the recipient's mail server did not take it"), _LATER)

SUBTYPES: Final[Mapping[str, Cause]] = {
    "NoEmail": NO_MAILBOX,
    "MailboxFull": FULL,
    "MessageTooLarge": TOO_LARGE,
    "ContentRejected": CONTENT,
    "AttachmentRejected": ATTACHMENT,
    "OnAccountSuppressionList": ACCOUNT_LIST,
    "Suppressed": GLOBAL_LIST,
    "UnsubscribedRecipient": UNSUBSCRIBED,
    "SpamDetected": SPAM,
    "RecipientServerError": CLOSED,
    "TransientCommunicationFailure": UNREACHABLE,
    "IPFailure": OUR_ADDRESS,
    "BYOIPHostNameLookupUnavailable": OUR_ADDRESS,
    "InternalFailure": AT_SES,
    "SendingDeferral": AT_SES,
}
"""SES's words for bounces and delays that say more than *General* and *Undetermined* do."""
STATUSES: Final[Mapping[str, Cause]] = {
    "1.1": NO_MAILBOX, "1.2": NO_DOMAIN, "1.3": MALFORMED, "1.4": NO_MAILBOX, "1.6": MOVED, "1.7": SENDER,
    "1.8": SENDER, "1.9": MOVED, "1.10": NO_DOMAIN, "1": NO_MAILBOX,
    "2.1": DISABLED, "2.2": FULL, "2.3": TOO_LARGE, "2": CLOSED,
    "3.1": FULL, "3.4": TOO_LARGE, "3": CLOSED,
    "4.4": NO_ROUTE, "4.6": LOOP, "4.7": TOO_LONG, "4": UNREACHABLE,
    "5.3": TOO_LARGE, "5": PROTOCOL, "6": CONTENT,
    "7.20": NOT_BELIEVED, "7.21": NOT_BELIEVED, "7.22": NOT_BELIEVED, "7.23": NOT_BELIEVED, "7.24": NOT_BELIEVED,
    "7.25": OUR_ADDRESS, "7.26": NOT_BELIEVED, "7.27": SENDER, "7": POLICY,
}  # fmt: skip
"""By what follows the first digit of an enhanced status code; else by its subject alone."""
COMPLAINTS: Final[Mapping[str, Promise]] = {
    "abuse": gettext_lazy("the recipient marked it as spam"),
    "fraud": gettext_lazy("the recipient reported it as fraud"),
    "virus": gettext_lazy("the recipient's side reported a virus in it"),
    "auth-failure": gettext_lazy("the recipient's side reported that its sender could not be verified"),
    NOT_SPAM: gettext_lazy("the recipient took it out of the spam folder"),
}
_TITLES: Final[Mapping[str, tuple[Promise, str]]] = {
    EventType.SEND: (gettext_lazy("Amazon SES took it"), "good"),
    EventType.DELIVERY: (gettext_lazy("Delivered: the recipient's mail server took it"), "good"),
    EventType.DELIVERY_DELAY: (gettext_lazy("Delayed"), "warn"),
    EventType.REJECT: (gettext_lazy("Refused by Amazon SES"), "bad"),
    EventType.RENDERING_FAILURE: (gettext_lazy("Amazon SES could not make it from its template"), "bad"),
    EventType.OPEN: (gettext_lazy("Opened"), "good"),
    EventType.CLICK: (gettext_lazy("A link in it was followed"), "good"),
    EventType.SUBSCRIPTION: (gettext_lazy("A subscription was changed"), "quiet"),
}
KINDS: Final[Mapping[str, Promise]] = {
    "permanent": gettext_lazy("permanent"),
    "transient": gettext_lazy("transient"),
    "undetermined": gettext_lazy("undetermined"),
}
"""What kind of bounce it is, in a word."""
_BOUNCES: Final[Mapping[str, Promise]] = {
    "permanent": gettext_lazy("permanent bounce"),
    "transient": gettext_lazy("transient bounce"),
    "undetermined": gettext_lazy("undetermined bounce"),
}


def cause(event: Event) -> Cause:
    """Why a bounce or a delay happened; the sub-type where it says something, else the status code."""
    if event.subkind in SUBTYPES:
        return SUBTYPES[event.subkind]
    code, _dot, rest = event.status.partition(".")
    if code in ("4", "5"):
        for key in (rest, rest.partition(".")[0]):
            if key in STATUSES:
                return STATUSES[key]
    return FOR_GOOD if event.kind == PERMANENT else NOT_NOW


def title(event: Event) -> tuple[str, str]:
    """What an event is called on pages, and the tone of its colour."""
    listed = event.subkind in ON_SES_LIST
    if listed and event.type in (EventType.BOUNCE, EventType.COMPLAINT):
        return _("Not sent by Amazon SES: the address is on its suppression list"), "bad"
    if event.type == EventType.BOUNCE:
        if event.kind == PERMANENT:
            return _("Came back for good"), "bad"
        return (_("Came back after it had arrived"), "quiet") if event.noted else (_("Came back"), "bad")
    if event.type == EventType.COMPLAINT:
        if event.kind == NOT_SPAM:
            return _("Taken out of the spam folder"), "quiet"
        return _("Complaint: marked as spam"), "bad"
    words, tone = _TITLES[event.type]
    return str(words), tone


def meaning(event: Event) -> str:
    """What an event says beyond its title, as a clause; '' where the title says it all."""
    if event.type in (EventType.BOUNCE, EventType.DELIVERY_DELAY) or event.subkind in ON_SES_LIST:
        return str(cause(event).text)
    if event.type == EventType.COMPLAINT:
        return complaint(event)
    if event.type == EventType.REJECT:
        return _("Amazon SES found something harmful in it, most likely a virus")
    return ""


def kind(event: Event) -> str:
    """The kind of an event in our words, and the sub-type in SES's own; '' where it has neither."""
    return ", ".join(str(part) for part in (KINDS.get(event.kind, event.kind), event.subkind) if part)


def codes(event: Event) -> str:
    """Kind, sub-type and status code of an event in one line."""
    return ", ".join(part for part in (kind(event), event.status) if part)


def complaint(event: Event | None) -> str:
    """What a recipient complained of, as a clause."""
    return str(COMPLAINTS.get(event.kind if event else "", COMPLAINTS["abuse"]))


def evidence(event: Event) -> str:
    """What was observed, in SES's own terms, and the mail server's words."""
    bounce = _BOUNCES.get(event.kind) if event.type == EventType.BOUNCE else None
    what = bounce or EventType(event.type).label
    codes = ", ".join(part for part in (event.subkind, event.status) if part)
    text = (
        _("Amazon SES reported: %(what)s (%(codes)s).") % {"what": what, "codes": codes}
        if codes
        else _("Amazon SES reported: %(what)s.") % {"what": what}
    )
    if not event.diagnostic:
        return text
    if event.type in (EventType.REJECT, EventType.RENDERING_FAILURE):
        return f"{text} " + _("Its words: “%(words)s”.") % {"words": event.diagnostic}
    return f"{text} " + _("The mail server's words: “%(words)s”.") % {"words": event.diagnostic}


def why_noted(event: Event) -> str:
    """Why an event has no bearing on the state, as a sentence; '' for one that has."""
    if not event.noted:
        return ""
    if is_test(event.ref):
        return _("It is about a test mail of the doctor's, so it counts for nothing.")
    if event.type == EventType.BOUNCE:
        return _(
            "It does not count: the mail had arrived. Most likely it is an automatic reply, such as “on holiday”."
        )
    if event.type == EventType.COMPLAINT:
        return _("It does not count: this is the opposite of a complaint.")
    return _("It does not count: it says nothing about whether the mail arrived.")
