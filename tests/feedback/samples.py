"""Messages as SES, SNS and EventBridge write them: fields of their documentation, values of our own."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

AT = datetime(2026, 11, 3, 9, 30, 15, 250000, tzinfo=UTC)
MESSAGE_ID = "0102018f3a2b4c5d-1a2b3c4d-0000-4000-8000-123456789abc-000000"
REF = "0123456789abcdef0123456789abcdef"
ADDRESS = "anna.ahlberg@example.org"
TYPES = (
    "Send", "Reject", "Delivery", "Bounce", "Complaint", "DeliveryDelay", "Open", "Click",
    "Rendering Failure", "Subscription",
)  # fmt: skip


def stamp(at: datetime) -> str:
    """A time as SES writes it."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def mail(
    *,
    message_id: str = MESSAGE_ID,
    ref: str | None = REF,
    to: str = ADDRESS,
    at: datetime = AT,
    **changes: Any,
) -> dict[str, Any]:
    """The object `mail` of event publishing; `ref=None`: somebody else's."""
    tags: dict[str, list[str]] = {
        "ses:configuration-set": ["email-offload"],
        "ses:source-ip": ["192.0.2.10"],
        "ses:from-domain": ["learn.example.org"],
        "ses:caller-identity": ["offload"],
    }
    headers = [
        {"name": "From", "value": '"Admin User (via learn)" <noreply@learn.example.org>'},
        {"name": "To", "value": to},
        {"name": "Subject", "value": "Please finish First aid"},
    ]
    if ref is not None:
        tags["email-offload-id"] = [ref]
        headers.append({"name": "X-Email-Offload-Id", "value": ref})
    return {
        "timestamp": stamp(at),
        "source": "Admin User <noreply@learn.example.org>",
        "sourceArn": "arn:aws:ses:eu-west-1:123456789012:identity/learn.example.org",
        "sendingAccountId": "123456789012",
        "messageId": message_id,
        "destination": [to],
        "headersTruncated": False,
        "headers": headers,
        "commonHeaders": {"from": ["noreply@learn.example.org"], "to": [to], "messageId": message_id},
        "tags": tags,
        **changes,
    }


def details(type_: str, at: datetime = AT, to: str = ADDRESS) -> dict[str, Any]:
    """The object that is the type's own."""
    match type_:
        case "Send":
            return {}
        case "Reject":
            return {"reason": "Bad content"}
        case "Delivery":
            return {
                "timestamp": stamp(at), "processingTimeMillis": 640, "recipients": [to],
                "smtpResponse": "250 2.6.0 Message received", "reportingMTA": "a8-70.smtp-out.amazonses.com",
                "remoteMtaIp": "192.0.2.54",
            }  # fmt: skip
        case "Bounce":
            return {
                "bounceType": "Permanent", "bounceSubType": "General", "timestamp": stamp(at),
                "feedbackId": "0102018f3a2b4c5d-feedback-000000", "reportingMTA": "dsn; a8-70.smtp-out.amazonses.com",
                "remoteMtaIp": "192.0.2.54",
                "bouncedRecipients": [
                    {"emailAddress": to, "action": "failed", "status": "5.1.1",
                     "diagnosticCode": f"smtp; 550 5.1.1 <{to}>: user unknown"}
                ],
            }  # fmt: skip
        case "Complaint":
            return {
                "complainedRecipients": [{"emailAddress": to}], "timestamp": stamp(at),
                "feedbackId": "0102018f3a2b4c5d-feedback-000001", "complaintSubType": None,
                "complaintFeedbackType": "abuse", "userAgent": "ExampleCorp Feedback Loop (V0.01)",
                "arrivalDate": stamp(at),
            }  # fmt: skip
        case "DeliveryDelay":
            return {
                "timestamp": stamp(at), "delayType": "TransientCommunicationFailure",
                "expirationTime": stamp(at), "reportingMTA": "a8-70.smtp-out.amazonses.com",
                "delayedRecipients": [
                    {"emailAddress": to, "status": "4.4.1", "diagnosticCode": "smtp; 421 4.4.1 Unable to connect"}
                ],
            }  # fmt: skip
        case "Open":
            return {"ipAddress": "192.0.2.77", "timestamp": stamp(at), "userAgent": "Mozilla/5.0"}
        case "Click":
            return {
                "ipAddress": "192.0.2.77", "timestamp": stamp(at), "userAgent": "Mozilla/5.0",
                "link": "https://learn.example.org/mod/reengagement/view.php?id=4", "linkTags": None,
            }  # fmt: skip
        case "Rendering Failure":
            return {"templateName": "Welcome", "errorMessage": "Attribute 'name' is not present"}
        case "Subscription":
            return {
                "contactList": "Learners", "timestamp": stamp(at), "source": "UnsubscribeHeader",
                "newTopicPreferences": {"unsubscribeAll": True, "topicSubscriptionStatus": []},
                "oldTopicPreferences": {"unsubscribeAll": False, "topicSubscriptionStatus": []},
            }  # fmt: skip
    raise KeyError(type_)


KEYS = {"DeliveryDelay": "deliveryDelay", "Rendering Failure": "failure"}


def event(
    type_: str, *, at: datetime = AT, to: str = ADDRESS, detail: dict[str, Any] | None = None, **of_mail: Any
) -> dict[str, Any]:
    """An event of event publishing; `detail` changes fields of the type's own object."""
    of_mail.setdefault("at", at if type_ in ("Send", "Reject", "Rendering Failure") else AT)
    return {
        "eventType": type_,
        "mail": mail(to=to, **of_mail),
        KEYS.get(type_, type_.lower()): details(type_, at, to) | (detail or {}),
    }


def identity_feedback(type_: str, *, with_headers: bool = True, **values: Any) -> dict[str, Any]:
    """A Bounce, Complaint or Delivery as the notifications of an identity have it: no tags, headers if asked for."""
    shape = event(type_, **values)
    shape["notificationType"] = shape.pop("eventType")
    del shape["mail"]["tags"]
    shape["mail"] |= {"sourceIp": "192.0.2.10", "callerIdentity": "offload"}
    if not with_headers:
        for name in ("headers", "headersTruncated", "commonHeaders"):
            del shape["mail"][name]
    return shape


def sns(message: Any, **changes: Any) -> dict[str, Any]:
    """The envelope of SNS; `message` is an object or a text."""
    return {
        "Type": "Notification",
        "MessageId": "5e2d1c3b-0000-4000-8000-123456789abc",
        "TopicArn": "arn:aws:sns:eu-west-1:123456789012:email-offload-events",
        "Subject": "Amazon SES Email Event Notification",
        "Message": message if isinstance(message, str) else json.dumps(message),
        "Timestamp": stamp(AT),
        "SignatureVersion": "2",
        "Signature": "AAAA",
        "SigningCertURL": "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem",
        "UnsubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=Unsubscribe",
    } | changes


def event_bridge(detail: dict[str, Any], detail_type: str = "Email Delivered") -> dict[str, Any]:
    """The envelope of EventBridge."""
    return {
        "version": "0",
        "id": "6a7b8c9d-0000-4000-8000-123456789abc",
        "detail-type": detail_type,
        "source": "aws.ses",
        "account": "123456789012",
        "time": "2026-11-03T09:30:15Z",
        "region": "eu-west-1",
        "resources": ["arn:aws:ses:eu-west-1:123456789012:configuration-set/email-offload"],
        "detail": detail,
    }


def body(shape: Any) -> bytes:
    """As it travels."""
    return json.dumps(shape).encode()
