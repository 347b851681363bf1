"""What SES publishes about a mail, shaped as SES shapes it.

SES developer guide, "Contents of event data that Amazon SES publishes to Amazon SNS" and "Monitoring SES sending
activity using EventBridge"; SNS developer guide, "Amazon SNS message and JSON formats", for the wrapping of a
subscription without raw message delivery.
"""

from __future__ import annotations

import html
import json
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate, parseaddr
from typing import Any, Literal

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from emailoffload.sandbox.mailbox import Message
from emailoffload.sandbox.sqs_api import ACCOUNT, REGION

Wrapping = Literal["raw", "sns", "eventbridge"]
Detail = dict[str, Any]
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:email-offload-events"
BUS = f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default"
QUEUE_POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow", "Principal": {"Service": f"{service}.amazonaws.com"}, "Action": "sqs:SendMessage",
                "Resource": f"arn:aws:sqs:{REGION}:{ACCOUNT}:email-offload-events",
                "Condition": {"ArnEquals": {"aws:SourceArn": arn}},
            }
            for service, arn in (("sns", TOPIC), ("events", f"arn:aws:events:{REGION}:{ACCOUNT}:rule/email-offload"))
        ],
    }
)  # fmt: skip
MTA = "a8-70.smtp-out.amazonses.com"
_LINK = re.compile(r"""<a\b[^>]*?\bhref\s*=\s*["']([^"'>]+)["']""", re.IGNORECASE)
_DETAIL_TYPES = {
    "Send": "Email Sent",
    "Reject": "Email Rejected",
    "Delivery": "Email Delivered",
    "Bounce": "Email Bounced",
    "Complaint": "Email Complaint Received",
    "DeliveryDelay": "Email Delivery Delayed",
    "Open": "Email Opened",
    "Click": "Email Clicked",
    "Rendering Failure": "Email Rendering Failed",
    "Subscription": "Email Subscribed",
}


@dataclass(frozen=True, slots=True)
class What:
    """One thing that can become of a mail. `type` is SES's name of the event, `detail` its own object."""

    type: str
    label: str | Promise
    detail: Callable[[str, str, Message], Detail]
    """Of the event's time as SES writes it, the recipient and the mail."""
    suppresses: str = ""
    """The reason for which SES then puts the address on the account's suppression list."""

    @property
    def matching(self) -> str:
        """The type's name among an event destination's MatchingEventTypes."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])| ", "_", self.type).upper()


def _delivery(at: str, address: str, message: Message) -> Detail:
    sent = datetime.fromtimestamp(message.received, UTC)
    taken = (datetime.fromisoformat(at) - sent).total_seconds()
    return {
        "timestamp": at,
        "processingTimeMillis": max(0, round(taken * 1000)),
        "recipients": [address],
        "smtpResponse": "250 2.6.0 Message received",
        "remoteMtaIp": "192.0.2.54",
        "reportingMTA": MTA,
    }


def _bounce(
    kind: str, subkind: str, status: str = "", words: str = ""
) -> Callable[[str, str, Message], Detail]:
    def detail(at: str, address: str, _message: Message) -> Detail:
        recipient = {"emailAddress": address}
        if status:
            recipient |= {"action": "failed", "status": status, "diagnosticCode": words}
        return {
            "bounceType": kind,
            "bounceSubType": subkind,
            "bouncedRecipients": [recipient],
            "timestamp": at,
            "feedbackId": feedback_id(at),
            "reportingMTA": f"dsn; {MTA}",
        }

    return detail


def _complaint(kind: str | None, subkind: str | None = None) -> Callable[[str, str, Message], Detail]:
    def detail(at: str, address: str, message: Message) -> Detail:
        found: Detail = {
            "complainedRecipients": [{"emailAddress": address}],
            "timestamp": at,
            "feedbackId": feedback_id(at),
            "complaintSubType": subkind,
        }
        if kind is not None:
            arrived = stamp(message.received)
            found |= {
                "userAgent": "Sandbox Feedback Loop/1.0",
                "complaintFeedbackType": kind,
                "arrivalDate": arrived,
            }
        return found

    return detail


def _delay(at: str, address: str, message: Message) -> Detail:
    return {
        "timestamp": at,
        "delayType": "TransientCommunicationFailure",
        "expirationTime": stamp(message.received + 12 * 3600),
        "reportingMTA": MTA,
        "delayedRecipients": [
            {
                "emailAddress": address,
                "status": "4.4.1",
                "diagnosticCode": "smtp; 421 4.4.1 Unable to connect to remote host",
            }
        ],
    }


def _look(at: str, _address: str, _message: Message) -> Detail:
    return {"timestamp": at, "ipAddress": "192.0.2.77", "userAgent": "Mozilla/5.0 (Sandbox)"}


def _click(at: str, address: str, message: Message) -> Detail:
    found = _LINK.search(message.html)
    return {**_look(at, address, message), "link": html.unescape(found[1]) if found else "", "linkTags": None}


def _subscription(at: str, _address: str, _message: Message) -> Detail:
    preferences = {"unsubscribeAll": False, "topicSubscriptionStatus": []}
    return {
        "contactList": "sandbox",
        "timestamp": at,
        "source": "UnsubscribeHeader",
        "newTopicPreferences": {**preferences, "unsubscribeAll": True},
        "oldTopicPreferences": preferences,
    }


_ON_LIST = "SES did not send the message: the address is on the suppression list"
WHATS: dict[str, What] = {
    "send": What("Send", _("Sent: SES will try to deliver it"), lambda _at, _to, _message: {}),
    "delivery": What("Delivery", _("Delivered"), _delivery),
    "delay": What("DeliveryDelay", _("Delayed: the mail server does not answer"), _delay),
    "bounce": What(
        "Bounce", _("Bounced: there is no such mailbox"),
        _bounce("Permanent", "General", "5.1.1", "smtp; 550 5.1.1 user unknown"), "BOUNCE",
    ),
    "full": What(
        "Bounce", _("Bounced: the mailbox is full"),
        _bounce("Transient", "MailboxFull", "5.2.2", "smtp; 552 5.2.2 mailbox full"),
    ),
    "autoreply": What(
        "Bounce", _("An autoresponder answers; SES calls it a transient bounce"), _bounce("Transient", "General")
    ),
    "suppressed": What(
        "Bounce", _("Not sent: on the suppression list of all SES's customers"),
        _bounce("Permanent", "Suppressed", "5.1.1", f"{_ON_LIST} of Amazon SES."),
    ),
    "account-list": What(
        "Bounce", _("Not sent: on the account's suppression list, for a bounce"),
        _bounce("Permanent", "OnAccountSuppressionList", "5.1.1", f"{_ON_LIST} of your account."),
    ),
    "account-list-complaint": What(
        "Complaint", _("Not sent: on the account's suppression list, for a complaint"),
        _complaint(None, "OnAccountSuppressionList"),
    ),
    "complaint": What("Complaint", _("Complained about: marked as spam"), _complaint("abuse"), "COMPLAINT"),
    "not-spam": What("Complaint", _("Taken out of the spam folder"), _complaint("not-spam")),
    "open": What("Open", _("Opened"), _look),
    "click": What("Click", _("A link was followed"), _click),
    "reject": What("Reject", _("Rejected by SES: a virus"), lambda _at, _to, _message: {"reason": "Bad content"}),
    "rendering-failure": What(
        "Rendering Failure", _("SES could not fill a template of its own"),
        lambda _at, _to, _message: {
            "templateName": "sandbox", "errorMessage": "Attribute 'name' is not present in the rendering data.",
        },
    ),
    "subscription": What("Subscription", _("Unsubscribed from an SES contact list"), _subscription),
}  # fmt: skip
"""By a short name of ours, that pages and the control endpoint use."""
_KEYS = {"DeliveryDelay": "deliveryDelay", "Rendering Failure": "failure"}


def stamp(seconds: float) -> str:
    """UNIX seconds as SES writes a time."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def feedback_id(at: str) -> str:
    """A new id for a bounce or a complaint at that time."""
    number = int(datetime.fromisoformat(at).timestamp() * 1000)
    return f"0102{number:012x}-{uuid.uuid4()}-000000"


def event(what: What, message: Message, address: str, at: float) -> dict[str, Any]:
    """The event itself; `at` is UNIX seconds. One that concerns the whole mail ignores `address`."""
    key = _KEYS.get(what.type, what.type.lower())
    return {"eventType": what.type, "mail": _mail(message), key: what.detail(stamp(at), address, message)}


def wrapped(event: dict[str, Any], wrapping: Wrapping, at: float) -> str:
    """The event as a consumer of the queue gets it; `at` is when it was published, UNIX seconds."""
    if wrapping == "raw":
        return json.dumps(event)
    if wrapping == "eventbridge":
        return json.dumps(
            {
                "version": "0", "id": str(uuid.uuid4()), "detail-type": _DETAIL_TYPES[event["eventType"]],
                "source": "aws.ses", "account": ACCOUNT, "time": stamp(at)[:19] + "Z", "region": REGION,
                "resources": [event["mail"]["sourceArn"]], "detail": event,
            }
        )  # fmt: skip
    return json.dumps(
        {
            "Type": "Notification", "MessageId": str(uuid.uuid4()), "TopicArn": TOPIC,
            "Subject": "Amazon SES Email Event Notification", "Message": json.dumps(event), "Timestamp": stamp(at),
            "SignatureVersion": "2", "Signature": "c2FuZGJveA==",
            "SigningCertURL": f"https://sns.{REGION}.amazonaws.com/SimpleNotificationService-sandbox.pem",
            "UnsubscribeURL": f"https://sns.{REGION}.amazonaws.com/?Action=Unsubscribe",
        }
    )  # fmt: skip


def _mail(message: Message) -> dict[str, Any]:
    sender = parseaddr(message.sender)[1]
    domain = sender.rpartition("@")[2]
    tags = {
        "ses:configuration-set": [str(message.request.get("ConfigurationSetName") or "")],
        "ses:source-ip": ["192.0.2.10"],
        "ses:from-domain": [domain],
        "ses:caller-identity": ["sandbox"],
    }
    tags |= {name: [value] for name, value in message.tags.items()}
    common = {
        "from": [message.sender],
        "date": formatdate(message.received, usegmt=True),
        "to": message.recipients,
        "messageId": message.message_id,
        "subject": message.subject,
    }
    if message.reply_to:
        common["replyTo"] = message.reply_to
    return {
        "timestamp": stamp(message.received),
        "source": message.sender,
        "sourceArn": f"arn:aws:ses:{REGION}:{ACCOUNT}:identity/{domain}",
        "sendingAccountId": ACCOUNT,
        "messageId": message.message_id,
        "destination": [parseaddr(each)[1] for each in message.recipients],
        "headersTruncated": False,
        "headers": [{"name": name, "value": value} for name, value in _headers(message)],
        "commonHeaders": common,
        "tags": tags,
    }


def _headers(message: Message) -> list[tuple[str, str]]:
    """All headers of the mail; of a raw one, those that it came with."""
    if "Raw" in message.request["Content"]:
        return message.headers
    own = [
        ("From", message.sender),
        ("Reply-To", ", ".join(message.reply_to)),
        ("To", ", ".join(message.recipients)),
    ]
    own += [("Subject", message.subject), ("MIME-Version", "1.0")]
    kind = (
        "multipart/alternative"
        if message.html and message.text
        else "text/html"
        if message.html
        else "text/plain"
    )
    return [(name, value) for name, value in [*own, ("Content-Type", kind)] if value] + message.headers
