"""What SES reports about the emails of the benchmark (`stage.accepted_mails`). Needs no Django."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

PER_MAIL = 2
"""Events per mail: a send, and how it ended."""
SENT = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


def bodies(mails: int, count: int, lot: int) -> Iterator[bytes]:
    """`count` messages about mails spread over all of them, as SNS puts them into a queue; each lot of other mails.

    Of a hundred mails two bounce, and one in a thousand is complained of.
    """
    wanted = count // PER_MAIL
    step = max(1, mails // (wanted + 1))
    for number in range(wanted):
        mail = 1 + (number * step + lot) % mails
        yield _message(mail, "Send", number)
        ending = "Complaint" if number % 1000 == 7 else "Bounce" if number % 50 == 3 else "Delivery"
        yield _message(mail, ending, number)


def _message(mail: int, kind: str, number: int) -> bytes:
    at = SENT + timedelta(milliseconds=number + (2000 if kind != "Send" else 0))
    stamp = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    address = f"learner{mail // 20}@example.org"
    ref = f"{mail:032X}"
    detail = {
        "Send": {},
        "Delivery": {"timestamp": stamp, "processingTimeMillis": 640, "recipients": [address],
                     "smtpResponse": "250 2.0.0 OK", "reportingMTA": "a8-70.smtp-out.amazonses.com"},
        "Bounce": {"timestamp": stamp, "bounceType": "Permanent", "bounceSubType": "General",
                   "bouncedRecipients": [{"emailAddress": address, "action": "failed", "status": "5.1.1",
                                          "diagnosticCode": f"smtp; 550 5.1.1 <{address}> unknown"}]},
        "Complaint": {"timestamp": stamp, "complaintFeedbackType": "abuse",
                      "complainedRecipients": [{"emailAddress": address}]},
    }[kind]  # fmt: skip
    headers = {
        "From": '"Admin User (via learn)" <noreply@learn.example.org>', "To": address,
        "Subject": "Please finish First aid", "X-Email-Offload-Id": ref.lower(), "MIME-Version": "1.0",
        "Reply-To": "noreply@learn.example.org", "Content-Type": "multipart/alternative",
    }  # fmt: skip
    event = {
        "eventType": kind,
        "mail": {
            "timestamp": SENT.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "source": "noreply@learn.example.org",
            "sourceArn": "arn:aws:ses:eu-west-1:123456789012:identity/learn.example.org",
            "sendingAccountId": "123456789012",
            "messageId": f"bench-{mail}",
            "destination": [address],
            "headersTruncated": False,
            "headers": [{"name": name, "value": value} for name, value in headers.items()],
            "commonHeaders": {"from": [headers["From"]], "to": [address], "subject": headers["Subject"]},
            "tags": {"ses:configuration-set": ["email-offload"], "email-offload-id": [ref.lower()]},
        },
        kind.lower(): detail,
    }
    envelope = {
        "Type": "Notification", "MessageId": f"{mail}-{kind}", "TopicArn": "arn:aws:sns:eu-west-1:1:events",
        "Message": json.dumps(event), "Timestamp": stamp, "SignatureVersion": "2", "Signature": "A" * 344,
        "SigningCertURL": "https://sns.eu-west-1.amazonaws.com/a.pem", "UnsubscribeURL": "https://sns.example/",
    }  # fmt: skip
    return json.dumps(envelope).encode()
