"""Posts that somebody else than SNS could make: one table, for every door that takes posts of SNS's."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from emailoffload.feedback import sns
from tests.feedback import pki
from tests.feedback.pki import HOST, TOPIC, Answer, Sns
from tests.feedback.site import Aws

OTHER_TOPIC = "arn:aws:sns:eu-west-1:123456789012:other"
"""Allowed as well, where a test allows topics."""
FOREIGN_TOPIC = "arn:aws:sns:eu-west-1:666666666666:email-offload-events"
CHINA_TOPIC = "arn:aws-cn:sns:cn-north-1:123456789012:events"
PATH = "SimpleNotificationService-0123456789abcdef0123456789abcdef.pem"


@dataclass
class Sent:
    """What arrives: a post with its headers, or a body that is none."""

    post: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    declared: str | None = None

    @property
    def body(self) -> bytes:
        """The body as it arrives."""
        return pki.body(self.post) if self.raw is None else self.raw

    @property
    def all_headers(self) -> dict[str, str]:
        """SNS's headers with what is different here."""
        return {**pki.headers(self.post), **self.headers}


@dataclass(frozen=True)
class Attack:
    """One way to be believed, and the code of the check that stops it."""

    name: str
    make: Callable[[Aws], Sent]
    code: str
    fetches: bool = False
    """Whether SNS's certificate is looked at before it is stopped."""


def _changed(name: str, value: Any) -> Callable[[Aws], Sent]:
    """A genuine notification with one field changed after it was signed; None takes the field away."""

    def make(aws: Aws) -> Sent:
        post = aws.sns.notification("{}", Subject="Amazon SES")
        post[name] = value(post[name]) if callable(value) else value
        return Sent({key: each for key, each in post.items() if each is not None})

    return make


def _changed_confirmation(name: str, value: str) -> Callable[[Aws], Sent]:
    return lambda aws: Sent({**aws.sns.confirmation(), name: value})


def _signed(**fields: Any) -> Callable[[Aws], Sent]:
    """A notification that the genuine key has signed as it is."""
    return lambda aws: Sent(aws.sns.notification(**fields))


def _with(**headers: str) -> Callable[[Aws], Sent]:
    """A genuine notification with other headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda aws: Sent(aws.sns.notification(), named)


def _body(raw: bytes, declared: str | None = None) -> Callable[[Aws], Sent]:
    return lambda aws: Sent(aws.sns.notification(), raw=raw, declared=declared)


def _declared(change: int) -> Callable[[Aws], Sent]:
    """A genuine notification whose Content-Length is not its length."""

    def make(aws: Aws) -> Sent:
        post = aws.sns.notification()
        return Sent(post, declared=str(len(pki.body(post)) + change))

    return make


def _certificate(
    issue: Callable[[Aws], pki.Pair], show: Callable[[bytes], Answer] = Answer
) -> Callable[[Aws], Sent]:
    """A post signed with a key whose certificate SNS's host does show, and that is still none of SNS's."""

    def make(aws: Aws) -> Sent:
        pair = issue(aws)
        url = pki.new_certificate_url()
        aws.pages[url.removeprefix(f"https://{HOST}")] = show(pair.pem)
        signer = pair if isinstance(pair.key, RSAPrivateKey) else aws.signer
        return Sent(Sns(signer, url).notification())

    return make


def _redirect(aws: Aws) -> Sent:
    """SNS's host sends us on to a page with the genuine certificate."""
    path = "/SimpleNotificationService-0a.pem"
    aws.pages[path] = Answer(b"", "302 Found", {"Location": aws.certificate_url})
    return Sent(Sns(aws.signer, f"https://{HOST}{path}").notification())


def _escape(aws: Aws) -> Sent:
    """The right signature of a text in which a line break makes one field look like two."""
    post = aws.sns.notification("{}\nMessageId\nforged", MessageId="real")
    return Sent({**post, "Message": "{}", "MessageId": "forged\nMessageId\nreal"})


def _lone_surrogate(aws: Aws) -> Sent:
    raw = pki.body(aws.sns.notification("MARK")).replace(b"MARK", b"\\ud800")
    return Sent(aws.sns.notification(), raw=raw)


URLS = {
    "look-alike domain": f"https://{HOST}.evil.example/{PATH}",
    "look-alike host": f"https://evil-{HOST}/{PATH}",
    "look-alike in front": f"https://evil.{HOST}/{PATH}",
    "look-alike suffix": f"https://sns.eu-west-1.amazonaws.com.cn/{PATH}",
    "look-alike without dot": f"https://sns.eu-west-1xamazonaws.com/{PATH}",
    "user in front of the host": f"https://{HOST}@evil.example/{PATH}",
    "user in front of SNS's host": f"https://evil@{HOST}/{PATH}",
    "backslash": f"https://evil.example\\@{HOST}/{PATH}",
    "letters that look alike": f"https://sns.eu-west-1.\u0430mazonaws.com/{PATH}",
    "wide letters": f"https://sns.eu-west-1.amazonaws.\uff43om/{PATH}",
    "wide full stop": f"https://sns\u3002eu-west-1.amazonaws.com/{PATH}",
    "upper case": f"https://SNS.EU-WEST-1.AMAZONAWS.COM/{PATH}",
    "full stop at the end": f"https://{HOST}./{PATH}",
    "port": f"https://{HOST}:8443/{PATH}",
    "standard port": f"https://{HOST}:443/{PATH}",
    "address instead of a name": f"https://127.0.0.1/{PATH}",
    "address of the metadata service": f"https://169.254.169.254/{PATH}",
    "http": f"http://{HOST}/{PATH}",
    "file": f"file:///etc/{PATH}",
    "data": "data:application/x-pem-file;base64,LS0tLS1CRUdJTg==",
    "bucket of S3": f"https://sns.eu-west-1.s3.amazonaws.com/{PATH}",
    "path on S3": f"https://s3.amazonaws.com/{HOST}/{PATH}",
    "other service": f"https://sqs.eu-west-1.amazonaws.com/{PATH}",
    "other region": f"https://sns.us-east-1.amazonaws.com/{PATH}",
    "host without region": f"https://sns.amazonaws.com/{PATH}",
    "other path": f"https://{HOST}/evil.pem",
    "path with steps up": f"https://{HOST}/x/../{PATH}",
    "path below": f"https://{HOST}/x/{PATH}",
    "name not of hex digits": f"https://{HOST}/SimpleNotificationService-xyz.pem",
    "other ending": f"https://{HOST}/{PATH}.html",
    "query": f"https://{HOST}/{PATH}?Action=Publish",
    "question in place of the name": f"https://{HOST}/?SimpleNotificationService-0a.pem",
    "fragment": f"https://{HOST}/{PATH}#evil",
    "line break": f"https://{HOST}/{PATH}\n",
    "blank in front": f" https://{HOST}/{PATH}",
    "no scheme": f"//{HOST}/{PATH}",
    "nothing": "",
}

TAMPERED = [
    Attack("message changed", _changed("Message", '{"eventType": "Bounce"}'), "signature", True),
    Attack("message id changed", _changed("MessageId", "0"), "signature", True),
    Attack("subject changed", _changed("Subject", "Amazon"), "signature", True),
    Attack("subject taken away", _changed("Subject", None), "signature", True),
    Attack("subject added", lambda aws: Sent({**aws.sns.notification(), "Subject": "x"}), "signature", True),
    Attack(
        "time changed",
        _changed("Timestamp", lambda at: at.replace("Z", "1Z")),
        "signature",
        True,
    ),
    Attack("topic changed to another of ours", _changed("TopicArn", OTHER_TOPIC), "signature", True),
    Attack(
        "kind changed",
        lambda aws: Sent({**aws.sns.confirmation(), "Type": "UnsubscribeConfirmation"}),
        "signature",
        True,
    ),
    Attack("token changed", _changed_confirmation("Token", "0"), "signature", True),
    Attack("subscribe URL changed", _changed_confirmation("SubscribeURL", "http://x/"), "signature", True),
    Attack("signature of something else", _changed("Signature", "AAAA"), "signature", True),
    Attack("signature empty", _changed("Signature", ""), "signature", True),
    Attack("signature not base64", _changed("Signature", "§"), "shape"),
    Attack(
        "signature in two lines",
        _changed("Signature", lambda text: base64.encodebytes(base64.b64decode(text)).decode()),
        "shape",
    ),
    Attack("signature taken away", _changed("Signature", None), "shape"),
    Attack("fields run into each other", _escape, "shape"),
    Attack("version says SHA-1", _changed("SignatureVersion", "1"), "signature_version"),
    Attack("signed with SHA-1", _signed(SignatureVersion="1"), "signature_version"),
    Attack("unknown version", _signed(SignatureVersion="3"), "signature_version"),
    Attack("version is a number", _signed(SignatureVersion=2), "shape"),
]

POSTS = [
    Attack("foreign topic, rightly signed", _signed(TopicArn=FOREIGN_TOPIC), "topic"),
    Attack("topic of another partition", _signed(TopicArn=CHINA_TOPIC), "topic"),
    Attack("our topic with something after it", _signed(TopicArn=f"{TOPIC}:x"), "topic"),
    Attack("our topic in upper case", _signed(TopicArn=TOPIC.upper()), "topic"),
    Attack("part of our topic's name", _signed(TopicArn=TOPIC[:-1]), "topic"),
    Attack("no topic", _signed(TopicArn=""), "topic"),
    Attack("old", _signed(Timestamp=pki.timestamp(-sns.MAX_AGE - dt.timedelta(minutes=1))), "too_old"),
    Attack("very old", _signed(Timestamp="2012-04-25T21:49:25.719Z"), "too_old"),
    # Hours: the table is made when the suite begins, and tried some time later.
    Attack("of the future", _signed(Timestamp=pki.timestamp(dt.timedelta(hours=3))), "too_new"),
    Attack("time without zone", _signed(Timestamp="2026-04-25T21:49:25.719"), "shape"),
    Attack("time that is none", _signed(Timestamp="2026-13-45T99:99:99.999Z"), "shape"),
    Attack("header of another kind", _with(x_amz_sns_message_type="SubscriptionConfirmation"), "header"),
    Attack("header empty", _with(x_amz_sns_message_type=""), "header"),
    Attack("unwrapped and unsigned", _with(x_amz_sns_rawdelivery="true"), "raw_delivery"),
    Attack("form", _with(Content_Type="application/x-www-form-urlencoded"), "content_type"),
    Attack("no content type", _with(Content_Type=""), "content_type"),
    Attack("kind that does not exist", _changed("Type", "Publish"), "shape"),
    Attack("nothing", _body(b""), "not_json"),
    Attack("not JSON", _body(b"<xml/>"), "not_json"),
    Attack("not UTF-8", _body(b'{"Type": "\xff"}'), "not_json"),
    Attack("JSON that breaks off", _body(b'{"Type": "Notification"'), "not_json"),
    Attack("JSON nested deeply", _body(b"[" * 100_000), "not_json"),
    Attack("very long number", _body(b"1" * 10_000), "not_json"),
    Attack("half a character", _lone_surrogate, "shape"),
    Attack("a list", _body(b"[]"), "shape"),
    Attack("field that is an object", _signed(MessageId={"a": 1}), "shape"),
    Attack("oversized", _body(b'{"a":"' + b"x" * sns.MAX_BYTES + b'"}'), "too_large"),
]

LENGTHS = [
    Attack("says it is oversized", _body(b"{}", str(sns.MAX_BYTES + 1)), "too_large"),
    Attack("says a size beyond all measure", _body(b"{}", "9" * 5000), "too_large"),
    Attack("says it is longer", _declared(1), "length"),
    Attack("says it is shorter", _declared(-1), "not_json"),
    Attack("says no length", _body(b"{}", ""), "length"),
    Attack("says a negative length", _body(b"{}", "-2"), "length"),
]
"""What only a web server can be told."""

CERTIFICATES = [
    Attack("redirected", _redirect, "certificate_redirected", True),
    Attack(
        "not there",
        lambda aws: Sent(Sns(aws.signer, pki.new_certificate_url()).notification()),
        "certificate_not_there",
        True,
    ),
    Attack(
        "expired",
        _certificate(
            lambda aws: aws.authority.issue(HOST, begins=-dt.timedelta(days=9), ends=-dt.timedelta(minutes=1))
        ),
        "certificate_expired",
        True,
    ),
    Attack(
        "not valid yet",
        _certificate(lambda aws: aws.authority.issue(HOST, begins=dt.timedelta(hours=1))),
        "certificate_expired",
        True,
    ),
    Attack(
        "key that is not RSA",
        _certificate(lambda aws: aws.authority.issue(HOST, key=ec.generate_private_key(ec.SECP256R1()))),
        "certificate_key",
        True,
    ),
    Attack(
        "short key",
        _certificate(lambda aws: aws.authority.issue(HOST, key=pki.rsa_key(1024))),
        "certificate_key",
        True,
    ),
    Attack(
        "of another service",
        _certificate(lambda aws: aws.authority.issue("s3.amazonaws.com")),
        "certificate_name",
        True,
    ),
    Attack(
        "of another region",
        _certificate(lambda aws: aws.authority.issue("sns.us-east-1.amazonaws.com")),
        "certificate_name",
        True,
    ),
    Attack(
        "of an authority",
        _certificate(lambda aws: aws.authority.issue(HOST, authority=True)),
        "certificate_name",
        True,
    ),
    Attack(
        "garbage",
        _certificate(lambda aws: aws.signer, lambda pem: Answer(pem[:200] + b"\0" + pem[200:])),
        "certificate_unreadable",
        True,
    ),
    Attack(
        "empty", _certificate(lambda aws: aws.signer, lambda pem: Answer(b"")), "certificate_unreadable", True
    ),
    Attack(
        "oversized",
        _certificate(lambda aws: aws.signer, lambda pem: Answer(pem + b"#" * 20_000)),
        "certificate_too_large",
        True,
    ),
    Attack(
        "signed with another key",
        lambda aws: Sent(
            Sns(pki.Pair(aws.other_key, aws.signer.certificate), aws.certificate_url).notification()
        ),
        "signature",
        True,
    ),
]

ATTACKS = [
    *(
        Attack(f"certificate: {name}", _signed(SigningCertURL=url), "certificate_url")
        for name, url in URLS.items()
    ),
    *TAMPERED,
    *POSTS,
    *(Attack(f"certificate {each.name}", each.make, each.code, each.fetches) for each in CERTIFICATES),
]
