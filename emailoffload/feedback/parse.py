"""What SES publishes, read: from bytes to events, or to the reason why not.

The same event comes in several wrappings: as SES wrote it (raw message delivery), inside of an SNS notification,
inside of an EventBridge event, or in both; and in two shapes, that of event publishing (`eventType`) and that
of identity feedback (`notificationType`). Field names: SES developer guide, "Contents of event data that Amazon
SES publishes", "Amazon SNS notification contents", "Monitoring using EventBridge".

Whoever can post to the queue or the topic decides what is read here, so nothing is taken for granted: a field of
a wrong type counts as missing, texts are cut to what their columns hold, and addresses are removed from
whatever a mail server wrote.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parseaddr
from typing import Any

from django.utils.translation import gettext as _

from emailoffload.delivery.message import HEADER, TAG
from emailoffload.feedback.models import EventType

MAX_BYTES = 1024 * 1024
"""Of one message: the most that SQS itself takes."""
MAX_RECIPIENTS = 100
"""Of one event; SES sends to 50 at most."""
MAX_WRAPPINGS = 4
ADDRESS = "[address]"
EARLIEST = datetime(2011, 1, 1, tzinfo=UTC)
"""SES began in 2011."""
LATEST = datetime(2200, 1, 1, tzinfo=UTC)

_TYPES: dict[str, EventType] = {
    "Send": EventType.SEND,
    "Reject": EventType.REJECT,
    "Delivery": EventType.DELIVERY,
    "Bounce": EventType.BOUNCE,
    "Complaint": EventType.COMPLAINT,
    "DeliveryDelay": EventType.DELIVERY_DELAY,
    "Open": EventType.OPEN,
    "Click": EventType.CLICK,
    "Rendering Failure": EventType.RENDERING_FAILURE,
    "RenderingFailure": EventType.RENDERING_FAILURE,
    "Subscription": EventType.SUBSCRIPTION,
}
_DETAILS: dict[EventType, str] = {
    EventType.SEND: "send",
    EventType.REJECT: "reject",
    EventType.DELIVERY: "delivery",
    EventType.BOUNCE: "bounce",
    EventType.COMPLAINT: "complaint",
    EventType.DELIVERY_DELAY: "deliveryDelay",
    EventType.OPEN: "open",
    EventType.CLICK: "click",
    EventType.RENDERING_FAILURE: "failure",
    EventType.SUBSCRIPTION: "subscription",
}
_RECIPIENTS: dict[EventType, str] = {
    EventType.DELIVERY: "recipients",
    EventType.BOUNCE: "bouncedRecipients",
    EventType.COMPLAINT: "complainedRecipients",
    EventType.DELIVERY_DELAY: "delayedRecipients",
}
_SETUP = "AMAZON_SES_SETUP_NOTIFICATION"
_VALIDATED = re.compile(r"\s*Successfully validated SNS topic for Amazon SES", re.ASCII)
_REF = re.compile(r"[0-9a-f]{32}\Z", re.ASCII)
_STATUS = re.compile(r"(?<![\d.])[245]\.\d{1,3}\.\d{1,3}(?![\d.])", re.ASCII)
# Written so that a long text without an address is looked at once: what is before the sign is bounded.
_ADDRESSES = re.compile(r"""(?:"[^"\n]{1,64}"|[^\s<>()\[\],;:"]{1,128})(?:@|%40|=40)[^\s<>()\[\],;:"]*""")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class Unreadable(Exception):
    """A message that is no event. `reason` is a short code; `detail` says what is wrong, without addresses."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Parsed:
    """One event about one recipient. The fields are those of `models.Event`; `at` is an aware datetime."""

    type: EventType
    at: datetime
    message_id: str = ""
    ref: str = ""
    address: str = field(default="", repr=False)
    identity: str = ""
    kind: str = ""
    subkind: str = ""
    status: str = ""
    diagnostic: str = ""
    foreign: bool = False
    """It carries tags or all headers, and none of ours: the mail is somebody else's, of the same account."""

    @property
    def key(self) -> str:
        """What makes it the same event, however often and by whatever way it comes: 64 hex digits."""
        # A mail without an id of SES's is told apart by ours. The kind, because which of two bounces at the same
        # moment came first must not decide what is believed.
        parts = (
            self.message_id or self.ref,
            self.type.value,
            self.address,
            self.at.isoformat(),
            self.kind,
            self.subkind,
        )
        return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()


def parse(body: bytes) -> list[Parsed]:
    """The events of one message, one per recipient; none for what SES writes to try a topic or to tell of itself.

    Raises Unreadable, and nothing else, for everything that is no event.
    """
    try:
        event = _unwrapped(body)
        return [] if event is None else _events(event)
    except Unreadable:
        raise
    except RecursionError:
        raise Unreadable("nested", _("It is nested too deeply.")) from None
    except Exception as error:
        # Broad on purpose: whatever a message makes of this code concerns that message only.
        raise Unreadable(
            "error", _("It could not be read (%(error)s).") % {"error": type(error).__name__}
        ) from None


def _unwrapped(body: bytes) -> Mapping[str, Any] | None:
    """The event itself, without its wrappings; None for a message that is known and says nothing of mails."""
    if len(body) > MAX_BYTES:
        raise Unreadable("too_large", _("It has more than %(most)s bytes.") % {"most": MAX_BYTES})
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unreadable("encoding", _("It is not UTF-8.")) from None
    for _depth in range(MAX_WRAPPINGS):
        if _VALIDATED.match(text):
            return None
        value = _json(text)
        if isinstance(value.get("eventType"), str) or isinstance(value.get("notificationType"), str):
            return value
        if isinstance(value.get("detail-type"), str):
            return _of_event_bridge(value)
        if not isinstance(value.get("Type"), str):
            raise Unreadable(
                "unknown_shape", _("It is JSON, but nothing that SES, SNS or EventBridge write.")
            )
        text = _of_sns(value)
    raise Unreadable("nested", _("It is wrapped too often."))


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        raise Unreadable("not_json", _("It is not JSON.")) from None
    if not isinstance(value, dict):
        raise Unreadable("unknown_shape", _("It is JSON, but no object."))
    return value


def _of_sns(value: Mapping[str, Any]) -> str:
    if value["Type"] == "Notification" and isinstance(value.get("Message"), str):
        return str(value["Message"])
    if value["Type"] == "SubscriptionConfirmation":
        raise Unreadable(
            "not_subscribed",
            _(
                "SNS asks to confirm a subscription. A queue is confirmed by itself when its "
                "policy lets the topic send."
            ),
        )
    raise Unreadable("unknown_shape", _("It is a message of SNS, but no notification."))


def _of_event_bridge(value: Mapping[str, Any]) -> Mapping[str, Any] | None:
    detail = value.get("detail")
    if isinstance(detail, dict) and isinstance(detail.get("eventType"), str):
        return detail
    if value.get("source") == "aws.ses":
        return None  # the account's status, the advisor's recommendations: no mail
    raise Unreadable("unknown_shape", _("It is an event of EventBridge, but none of SES's."))


def _events(event: Mapping[str, Any]) -> list[Parsed]:
    name = event.get("eventType") or event.get("notificationType")
    mail = event.get("mail")
    if name == "AmazonSnsSubscriptionSucceeded" or (
        isinstance(mail, dict) and mail.get("messageId") == _SETUP
    ):
        return []
    kind = _TYPES.get(name) if isinstance(name, str) else None
    if kind is None:
        raise Unreadable(
            "unknown_type",
            _("Its type is %(type)s.") % {"type": without_addresses(_text(name, 60)) or "not a word"},
        )
    if not isinstance(mail, dict):
        raise Unreadable("no_mail", _("It does not say which mail it is about."))
    detail = event.get(_DETAILS[kind])
    if not isinstance(detail, dict):
        detail = {}
    ref, foreign = _reference(mail)
    message_id = _text(mail.get("messageId"), 129)
    if len(message_id) > 128 or not (message_id or ref):
        raise Unreadable("no_mail", _("It carries neither a message id of SES's nor an id of ours."))
    at = _time(detail.get("timestamp")) or _time(mail.get("timestamp"))
    if at is None:
        raise Unreadable("no_time", _("It does not say when it happened."))
    about: dict[str, Any] = {
        "at": at,
        "message_id": message_id,
        "ref": ref,
        "foreign": foreign,
        "identity": _identity(mail),
        **_kinds(kind, detail),
    }
    return [
        Parsed(kind, address=address, status=status, diagnostic=diagnostic, **about)
        for address, status, diagnostic in _recipients(kind, mail, detail)
    ]


def _reference(mail: Mapping[str, Any]) -> tuple[str, bool]:
    """(our id or '', whether the mail is certainly not ours)."""
    tags = mail.get("tags")
    if isinstance(tags, dict):
        values = tags.get(TAG)
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, str) and _REF.match(value):
                return value, False
    headers = mail.get("headers")
    names = 0
    for header in headers if isinstance(headers, list) else []:
        if not isinstance(header, dict) or not isinstance(header.get("name"), str):
            continue
        names += 1
        value = header.get("value")
        if header["name"].lower() == HEADER.lower() and isinstance(value, str) and _REF.match(value.strip()):
            return value.strip(), False
    complete = names > 0 and mail.get("headersTruncated") is False
    return "", bool(tags and isinstance(tags, dict)) or complete


def _identity(mail: Mapping[str, Any]) -> str:
    """The sender's domain, lower case; else the identity that its ARN names."""
    domain = _address(mail.get("source")).rpartition("@")[2]
    if not domain:
        _arn, found, identity = _text(mail.get("sourceArn"), 400).partition(":identity/")
        domain = identity.rpartition("@")[2] if found else ""
    return domain.lower()[:255]


def _kinds(kind: EventType, detail: Mapping[str, Any]) -> dict[str, str]:
    match kind:
        case EventType.BOUNCE:
            return {
                "kind": _text(detail.get("bounceType"), 20).lower() or "undetermined",
                "subkind": _text(detail.get("bounceSubType"), 40),
            }
        case EventType.COMPLAINT:
            return {
                "kind": _text(detail.get("complaintFeedbackType"), 20).lower(),
                "subkind": _text(detail.get("complaintSubType"), 40),
            }
        case EventType.DELIVERY_DELAY:
            return {"subkind": _text(detail.get("delayType"), 40)}
    return {}


def _recipients(
    kind: EventType, mail: Mapping[str, Any], detail: Mapping[str, Any]
) -> Iterable[tuple[str, str, str]]:
    """(address, status code, diagnostic) of each recipient, each once; one without an address if none is named.

    A mail to one address is about that address. Of a bounce SES names the last recipient (Final-Recipient of the
    DSN), which is another one where a mailbox forwards.
    """
    mailed = mail.get("destination")
    alone = mailed[0] if isinstance(mailed, list) and len(mailed) == 1 else None
    only = _address(alone)
    listed = detail.get(_RECIPIENTS[kind]) if kind in _RECIPIENTS else None
    if not isinstance(listed, list) or not listed:
        listed = mail.get("destination")
        listed = listed if isinstance(listed, list) else []
        if kind in (EventType.OPEN, EventType.CLICK, EventType.COMPLAINT) and len(listed) > 1:
            listed = []  # any of them: nobody knows who
    if len(listed) > MAX_RECIPIENTS:
        raise Unreadable("too_many", _("It names more than %(most)s recipients.") % {"most": MAX_RECIPIENTS})
    said = _text(detail.get("smtpResponse") or detail.get("reason") or detail.get("errorMessage"), 2000)
    found: dict[str, tuple[str, str, str]] = {}
    for each in listed:
        own = each if isinstance(each, dict) else {"emailAddress": each}
        raw = own.get("emailAddress")
        named = only if only and raw == alone else _address(raw)
        address = only or named
        words = _text(own.get("diagnosticCode"), 2000) or said
        status = _STATUS.search(_text(own.get("status"), 40)) or _STATUS.search(words)
        diagnostic = without_addresses(words, address)
        if named != address:
            diagnostic = without_addresses(diagnostic, named)
        diagnostic = diagnostic[:500]
        found.setdefault(address, (address, status[0] if status else "", diagnostic))
    return found.values() or [("", "", without_addresses(said)[:500])]


def _address(value: Any) -> str:
    """A bare address, lower case, or ''."""
    text = _text(value, 1000)
    bare = parseaddr(text)[1] if "<" in text else text
    bare = bare.strip().lower()
    return bare if "@" in bare and len(bare) <= 254 else ""


def without_addresses(text: str, address: str = "") -> str:
    """A mail server's words without addresses; also without the name part of `address` where it stands alone."""
    if "@" in text or "%40" in text or "=40" in text:
        text = _ADDRESSES.sub(ADDRESS, text)
    local = address.rpartition("@")[0]
    if len(local) > 2 and local.lower() in text.lower():
        text = re.sub(rf"(?<!\w){re.escape(local)}(?!\w)", ADDRESS, text, flags=re.IGNORECASE)
    return text


def _text(value: Any, length: int) -> str:
    """A text of at most `length` characters on one line that any database takes; '' for what is no text."""
    if not isinstance(value, str):
        return ""
    text = value[: 2 * length].encode("utf-8", "replace").decode()
    return _CONTROLS.sub(" ", text).strip()[:length]


def _time(value: Any) -> datetime | None:
    """A time of SES's, in UTC; None for what is none, or cannot be one."""
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        at = datetime.fromisoformat(value)
        at = (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return at if EARLIEST <= at <= LATEST else None
