"""Is this HTTPS post really from SNS, from a topic of ours, and of now? Nothing here changes anything.

The rules are those of the SNS developer guide ("Parsing message formats", "Verifying the signatures of Amazon SNS
messages"), each taken at its strictest. Cheap checks come first; the certificate, which may have to be fetched, last.

*Replays.* A post that was verified once verifies again until it is too old. Nothing is stored against that: SNS itself
repeats posts, so receiving one again must change nothing anyway. Events are stored once (`inbox`), confirming a
subscription twice gives the same subscription, and the end of one counts only where it is the newest word.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from django.conf import settings

from emailoffload.feedback import certificates, topics
from emailoffload.feedback.topics import Topic

NOTIFICATION = "Notification"
CONFIRMATION = "SubscriptionConfirmation"
ENDED = "UnsubscribeConfirmation"
_CONFIRMING = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
SIGNED = {
    NOTIFICATION: ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    CONFIRMATION: _CONFIRMING,
    ENDED: _CONFIRMING,
}
"""What is signed of each type, in this order. Only `Subject` may be absent, and then its name is too."""

MAX_BYTES = 1024 * 1024
"""SNS's messages have at most 256 KB; JSON's escapes make them longer."""
MAX_SKEW = dt.timedelta(minutes=5)
"""How far two clocks may differ."""
MAX_AGE = dt.timedelta(hours=1) + MAX_SKEW
"""SNS tries for an hour at most to deliver a post, whatever its delivery policy, with the time of publication."""
CONTENT_TYPES = frozenset({"text/plain", "application/json"})
"""SNS's own, and the other one that a delivery policy may ask for."""

_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z", re.ASCII)
_WORD = re.compile(r"[\x21-\x7e]{1,4096}")
"""Ids and tokens: a line break in one would let a signed text be read in two ways."""


class Refused(Exception):
    """The post is not to be believed; the text is a code for the log and holds nothing of what was posted."""


class NotNow(Exception):
    """The post could not be checked now: SNS should post it again. The text is a code for the log."""


@dataclass(frozen=True, slots=True)
class Post:
    """A post that SNS sent. `token` is that of the two kinds about subscriptions, else empty."""

    kind: str
    topic: Topic
    message_id: str
    at: dt.datetime
    message: str
    token: str = ""


def verify(body: bytes, headers: Mapping[str, str], now: dt.datetime) -> Post:
    """The post, where all of it is right; `headers` are the request's, found whatever the case of their names.

    Raises Refused and NotNow.
    """
    if len(body) > MAX_BYTES:
        raise Refused("too_large")
    if headers.get("Content-Type", "").partition(";")[0].strip().lower() not in CONTENT_TYPES:
        raise Refused("content_type")
    if headers.get("X-Amz-Sns-Rawdelivery", "").lower() == "true":
        raise Refused("raw_delivery")
    fields = _fields(body)
    if headers.get("X-Amz-Sns-Message-Type") != fields["Type"]:
        raise Refused("header")
    topic = topics.read(fields["TopicArn"])
    if topic is None or topic.arn not in settings.SNS_TOPICS:
        raise Refused("topic")
    at = _time(fields["Timestamp"])
    if now - at > MAX_AGE:
        raise Refused("too_old")
    if at - now > MAX_SKEW:
        raise Refused("too_new")
    _check_signature(fields, topic)
    return Post(fields["Type"], topic, fields["MessageId"], at, fields["Message"], fields.get("Token", ""))


def _fields(body: bytes) -> dict[str, str]:
    """The fields that count, all of them texts."""
    try:
        data: Any = json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise Refused("not_json") from error
    kind = data.get("Type") if isinstance(data, dict) else None
    if not isinstance(kind, str) or kind not in SIGNED:
        raise Refused("shape")
    wanted = (*SIGNED[kind], "SignatureVersion", "Signature", "SigningCertURL")
    # An empty Subject is signed like any other; null stands for none.
    fields = {name: data[name] for name in wanted if data.get(name) is not None}
    if set(wanted) - fields.keys() - {"Subject"} or not all(
        isinstance(value, str) for value in fields.values()
    ):
        raise Refused("shape")
    if not all(_WORD.fullmatch(fields[name]) for name in ("MessageId", "Token") if name in fields):
        raise Refused("shape")
    return fields


def _time(text: str) -> dt.datetime:
    try:
        if _TIMESTAMP.fullmatch(text):
            return dt.datetime.fromisoformat(text)
    except ValueError:
        pass
    raise Refused("shape")


def certificate_url(url: str, topic: Topic) -> bool:
    """Whether this is the address of a certificate on SNS's own host in the topic's region.

    Compared as text, character by character: what no URL parser has taken apart, none can take apart differently.
    """
    name = re.compile(
        rf"https://{re.escape(topic.host)}/SimpleNotificationService-[0-9a-f]{{1,64}}\.pem", re.ASCII
    )
    return name.fullmatch(url) is not None


def signed_text(fields: Mapping[str, str]) -> bytes:
    """What SNS signs: each field's name and value on lines of their own. Raises UnicodeEncodeError."""
    names = (name for name in SIGNED[fields["Type"]] if name in fields)
    return "".join(f"{name}\n{fields[name]}\n" for name in names).encode()


def _check_signature(fields: Mapping[str, str], topic: Topic) -> None:
    version = fields["SignatureVersion"]
    if version == "2":
        algorithm: hashes.HashAlgorithm = hashes.SHA256()
    elif version == "1" and settings.SNS_SIGNATURE_VERSION_1:
        algorithm = hashes.SHA1()  # noqa: S303 - SNS's own choice, taken only where the site asks for it
    else:
        raise Refused("signature_version")
    try:
        signature = base64.b64decode(fields["Signature"], validate=True)
        text = signed_text(fields)
    except (binascii.Error, ValueError) as error:
        raise Refused("shape") from error
    if not certificate_url(fields["SigningCertURL"], topic):
        raise Refused("certificate_url")
    try:
        certificates.public_key(fields["SigningCertURL"], topic).verify(
            signature, text, PKCS1v15(), algorithm
        )
    except InvalidSignature as error:
        raise Refused("signature") from error
    except certificates.Wrong as error:
        raise Refused(str(error)) from error
    except certificates.NotNow as error:
        raise NotNow(str(error)) from error
