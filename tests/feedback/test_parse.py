"""What SES publishes is read in every wrapping and shape; whatever else comes is unreadable, and nothing worse."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from emailoffload.feedback.models import EventType
from emailoffload.feedback.parse import MAX_BYTES, Parsed, Unreadable, parse
from tests.feedback import samples

LATER = samples.AT + timedelta(seconds=4)


def one(shape: Any) -> Parsed:
    (parsed,) = parse(samples.body(shape))
    return parsed


WRAPPINGS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "raw": lambda event: event,
    "SNS": samples.sns,
    "EventBridge": samples.event_bridge,
    "EventBridge in SNS": lambda event: samples.sns(samples.event_bridge(event)),
}


@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=list(WRAPPINGS))
@pytest.mark.parametrize("type_", samples.TYPES)
def test_every_type_is_read_in_every_wrapping(type_: str, wrap: Any) -> None:
    parsed = one(wrap(samples.event(type_, at=LATER)))
    assert parsed.type == type_.lower().replace(" ", "_").replace("deliverydelay", "delivery_delay")
    assert (parsed.at, parsed.message_id, parsed.ref) == (LATER, samples.MESSAGE_ID, samples.REF)
    assert (parsed.address, parsed.identity) == (samples.ADDRESS, "learn.example.org")
    assert parsed == one(samples.event(type_, at=LATER))
    assert not parsed.foreign


@pytest.mark.parametrize("type_", ["Bounce", "Complaint", "Delivery"])
def test_feedback_of_an_identity_says_the_same_as_event_publishing(type_: str) -> None:
    published = one(samples.event(type_, at=LATER))
    assert one(samples.identity_feedback(type_, at=LATER)) == published
    bare = one(samples.sns(samples.identity_feedback(type_, at=LATER, with_headers=False)))
    assert (bare.key, bare.ref, bare.foreign) == (published.key, "", False)


@pytest.mark.parametrize(
    ("type_", "detail", "expected"),
    [
        ("Bounce", {}, ("permanent", "General", "5.1.1")),
        ("Bounce", {"bounceType": "Transient", "bounceSubType": "MailboxFull"}, ("transient", "MailboxFull", "5.1.1")),
        ("Bounce", {"bounceType": None, "bounceSubType": 7}, ("undetermined", "", "5.1.1")),
        ("Complaint", {}, ("abuse", "", "")),
        ("Complaint", {"complaintSubType": "OnAccountSuppressionList", "complaintFeedbackType": None},
         ("", "OnAccountSuppressionList", "")),
        ("DeliveryDelay", {}, ("", "TransientCommunicationFailure", "4.4.1")),
        ("Delivery", {}, ("", "", "2.6.0")),
        ("Reject", {}, ("", "", "")),
    ],
)  # fmt: skip
def test_kind_sub_type_and_status_are_those_of_ses(
    type_: str, detail: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    parsed = one(samples.event(type_, detail=detail))
    assert (parsed.kind, parsed.subkind, parsed.status) == expected


def test_the_reason_of_a_reject_and_of_a_failed_template_is_kept() -> None:
    assert one(samples.event("Reject")).diagnostic == "Bad content"
    assert one(samples.event("Rendering Failure")).diagnostic == "Attribute 'name' is not present"


def test_each_recipient_has_an_event_of_its_own() -> None:
    recipients = [
        {"emailAddress": f"Person{n}@Example.org", "status": f"5.1.{n}", "diagnosticCode": f"smtp; 550 number {n}"}
        for n in range(3)
    ]  # fmt: skip
    detail = {"bouncedRecipients": [*recipients, recipients[0]]}
    shape = samples.event("Bounce", detail=detail, destination=[f"person{n}@example.org" for n in range(3)])
    found = parse(samples.body(shape))
    assert [(e.address, e.status, e.diagnostic) for e in found] == [
        (f"person{n}@example.org", f"5.1.{n}", f"smtp; 550 number {n}") for n in range(3)
    ]
    assert len({e.key for e in found}) == 3


def test_a_bounce_of_where_a_mail_was_forwarded_to_is_about_the_address_that_we_mailed() -> None:
    final = [
        {"emailAddress": "private@elsewhere.example", "status": "5.1.1",
         "diagnosticCode": "smtp; 550 private gone"}
    ]  # fmt: skip
    parsed = one(samples.event("Bounce", detail={"bouncedRecipients": final}))
    assert (parsed.address, parsed.status) == (samples.ADDRESS, "5.1.1")
    assert "private" not in parsed.diagnostic


@pytest.mark.parametrize(
    "words",
    [
        "smtp; 550 5.1.1 <anna.ahlberg@example.org>: user unknown",
        "smtp; 550 No such user ANNA.AHLBERG here",
        'smtp; 550 "anna ahlberg"@example.org rejected; see https://example.net/?to=anna.ahlberg%40example.org',
        "smtp; 550 anna.ahlberg=example.org@bounce.example.net unknown",
        "x" * 1990 + " anna.ahlberg@example.org",
    ],
)
def test_no_address_is_left_in_a_diagnostic(words: str) -> None:
    recipient = {"emailAddress": samples.ADDRESS, "diagnosticCode": words}
    parsed = one(samples.event("Bounce", detail={"bouncedRecipients": [recipient]}))
    assert "ahlberg" not in parsed.diagnostic.lower()
    assert parsed.diagnostic.startswith(words[:9])


def test_a_long_diagnostic_without_an_address_is_read_in_no_time() -> None:
    started = datetime.now(UTC)
    recipient = {"emailAddress": samples.ADDRESS, "diagnosticCode": "a." * 400_000}
    one(samples.event("Bounce", detail={"bouncedRecipients": [recipient]}))
    assert datetime.now(UTC) - started < timedelta(seconds=2)


def test_the_mail_of_another_sender_is_known_as_such() -> None:
    assert one(samples.event("Delivery", ref=None)).foreign
    feedback = samples.identity_feedback("Delivery", ref=None)
    assert one(feedback).foreign
    feedback["mail"]["headersTruncated"] = True
    assert not one(feedback).foreign  # ours may be among those that were cut off


def test_our_id_is_found_in_the_header_whatever_its_case() -> None:
    feedback = samples.identity_feedback("Bounce")
    for header in feedback["mail"]["headers"]:
        header["name"] = header["name"].upper()
    assert one(feedback).ref == samples.REF


SILENT = [
    b"Successfully validated SNS topic for Amazon SES event publishing.",
    samples.body(samples.sns("Successfully validated SNS topic for Amazon SES event publishing.")),
    samples.body({"notificationType": "AmazonSnsSubscriptionSucceeded", "message": "You have subscribed"}),
    samples.body({"notificationType": "Received", "mail": {"messageId": "AMAZON_SES_SETUP_NOTIFICATION"}}),
    samples.body(samples.event_bridge({"version": "1.0.0"}, "Sending Status Disabled")),
]


@pytest.mark.parametrize("body", SILENT, ids=["test", "test in SNS", "subscribed", "set-up", "status"])
def test_messages_by_which_ses_tries_a_topic_are_no_events_and_no_problems(body: bytes) -> None:
    assert parse(body) == []


def without(shape: dict[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        del shape[name]
    return shape


def changed_mail(**changes: Any) -> dict[str, Any]:
    return samples.event("Delivery", **changes)


NO_TIME = samples.event("Delivery", detail={"timestamp": "yesterday"}, timestamp=None)
UNREADABLE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not_json"),
    "not JSON": (b"Dear Sir", "not_json"),
    "not UTF-8": (b'{"eventType": "\xff\xfe"}', "encoding"),
    "too large": (b'"' + b"a" * MAX_BYTES + b'"', "too_large"),
    "nested": (b"[" * 200_000, "nested"),
    "nested objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested"),
    "a huge number": (b'{"eventType": ' + b"9" * 10_000 + b"}", "not_json"),
    "a list": (b"[1, 2]", "unknown_shape"),
    "another JSON": (b'{"hello": 1}', "unknown_shape"),
    "wrapped for ever": (
        samples.body(samples.sns(samples.sns(samples.sns(samples.sns(samples.sns({})))))),
        "nested",
    ),
    "another service": (samples.body(samples.event_bridge({}) | {"source": "aws.s3"}), "unknown_shape"),
    "a subscription to confirm": (
        samples.body(samples.sns("You have chosen to subscribe", Type="SubscriptionConfirmation")),
        "not_subscribed",
    ),
    "SNS without a message": (samples.body({"Type": "Notification", "Message": 5}), "unknown_shape"),
    "an unknown type": (samples.body({**changed_mail(), "eventType": "Teleport"}), "unknown_type"),
    "received mail": (samples.body({"notificationType": "Received", "mail": {"messageId": "m"}}), "unknown_type"),
    "no mail": (samples.body(without(changed_mail(), "mail")), "no_mail"),
    "a mail that is a list": (samples.body({**changed_mail(), "mail": []}), "no_mail"),
    "no ids": (samples.body(changed_mail(message_id="", ref=None)), "no_mail"),
    "an endless id": (samples.body(changed_mail(message_id="m" * 129)), "no_mail"),
    "no time": (samples.body(NO_TIME), "no_time"),
    "a time of long ago": (
        samples.body(samples.event("Delivery", detail={"timestamp": "0001-01-01T00:00:00+23:59"}, timestamp=1)),
        "no_time",
    ),
    "everybody": (
        samples.body(samples.event("Delivery", detail={"recipients": [f"p{n}@example.org" for n in range(101)]})),
        "too_many",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("body", "reason"), UNREADABLE.values(), ids=list(UNREADABLE))
def test_what_is_no_event_is_unreadable_for_a_reason_without_an_address(body: bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as caught:
        parse(body)
    assert caught.value.reason == reason
    assert caught.value.detail and "@" not in caught.value.detail


def test_a_missing_time_of_the_event_is_that_of_its_mail() -> None:
    assert one(samples.event("Delivery", at=LATER, detail={"timestamp": None})).at == samples.AT


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [here] if here else []
    items: Any = []
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        found += paths(inner, (*here, key))
    return found


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(samples.TYPES), st.sampled_from(sorted(WRAPPINGS)))
def test_wrong_values_anywhere_in_an_event_make_it_unreadable_at_worst(
    data: st.DataObject, type_: str, wrapping: str
) -> None:
    shape = json.loads(json.dumps(WRAPPINGS[wrapping](samples.event(type_))))
    for path in data.draw(st.lists(st.sampled_from(paths(shape)), min_size=1, max_size=3)):
        target: Any = shape
        try:
            for key in path[:-1]:
                target = target[key]
            target[path[-1]] = data.draw(_JSON)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took it away
    check(samples.body(shape))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=100).map(lambda text: json.dumps(text).encode()))
@example(b'{"eventType": "Send", "mail": {"messageId": "\\ud800", "timestamp": "2026-01-01T00:00:00Z"}}')
@example(b'{"eventType": "Send", "mail": {"messageId": "m\\u0000", "timestamp": "2026-01-01T00:00:00"}}')
def test_any_bytes_are_events_or_unreadable(body: bytes) -> None:
    check(body)


LENGTHS = {"message_id": 128, "ref": 32, "address": 254, "identity": 255, "kind": 20, "subkind": 40, "status": 20,
           "diagnostic": 500}  # fmt: skip


def check(body: bytes) -> None:
    """Whatever comes out fits the columns of every database, and nothing but Unreadable is raised."""
    why, found = None, []
    try:
        found = parse(body)
    except Unreadable as error:
        why = error
    assert why is None or (len(why.reason) <= 40 and len(why.detail) <= 255)
    for event in found:
        assert event.type in EventType.values and event.at.tzinfo is UTC
        for name, length in LENGTHS.items():
            value = getattr(event, name)
            assert len(value) <= length and "\0" not in value and value.encode().decode() == value
        assert len(event.key) == 64
