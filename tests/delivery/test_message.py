"""One mail as a SendEmail request."""

from __future__ import annotations

import email.header
import email.utils
from typing import Any

import boto3
import pytest
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from emailoffload.delivery import message
from emailoffload.sources.protocol import Attachment
from tests.outbox.factory import parts

REF = "0123456789abcdef0123456789abcdef"
SHAPE = (
    boto3.session.Session()
    .client("sesv2", region_name="eu-west-1")
    .meta.service_model.operation_model("SendEmail")
    .input_shape
)


def decoded(mailbox: str) -> tuple[str, str]:
    name, address = email.utils.parseaddr(mailbox)
    return str(email.header.make_header(email.header.decode_header(name))), address


def validate(request: dict[str, Any]) -> None:
    report = ParamValidator().validate(request, SHAPE)
    assert not report.has_errors(), report.generate_report()


@pytest.mark.parametrize("html", ["<p>x</p>", None, ""])
@pytest.mark.parametrize("text", ["x", ""])
@pytest.mark.parametrize("reply_to", ["noreply@example.org", ""])
def test_every_request_passes_the_sdks_own_validation(
    html: str | None, text: str, reply_to: str, settings: Any
) -> None:
    settings.SES_CONFIGURATION_SET = "email-offload"
    request = message.build(parts(html=html, text=text, reply_to_address=reply_to), REF, "reengagement")
    validate(request)
    assert request["ConfigurationSetName"] == "email-offload"
    assert ("Html" in request["Content"]["Simple"]["Body"]) == bool(html)
    assert ("ReplyToAddresses" in request) == bool(reply_to)


def test_a_file_leaves_with_its_name_type_and_content_and_counts_for_the_size() -> None:
    logo = Attachment('Logo für\n"Lab".png', "image/png", b"\x89PNG\0")
    request = message.build(parts(attachments=(logo,)), REF, "iomad_queue")
    validate(request)
    (sent,) = request["Content"]["Simple"]["Attachments"]
    assert (sent["FileName"], sent["ContentType"], sent["RawContent"]) == (
        'Logo für "Lab".png',
        "image/png",
        b"\x89PNG\0",
    )
    assert "Attachments" not in message.build(parts(), REF, "iomad_queue")["Content"]["Simple"]
    with pytest.raises(message.Unsendable):
        message.build(parts(attachments=(Attachment("a", "a/b", b"0" * 7_000_000),)), REF, "iomad_queue")


def test_our_id_leaves_as_a_header_and_as_a_tag() -> None:
    request = message.build(parts(), REF, "iomad queue")
    assert request["Content"]["Simple"]["Headers"] == [{"Name": "X-Email-Offload-Id", "Value": REF}]
    assert request["EmailTags"] == [
        {"Name": "email-offload-id", "Value": REF},
        {"Name": "email-offload-source", "Value": "iomad_queue"},
    ]


@pytest.mark.parametrize(
    "name",
    [
        "Anna Ahlberg",
        'Anna "Nan" \\ O\'Hara, PhD; (x) <y@z>',
        "Zoë Åström",
        "王小明",
        "ü" * 200,
        "=?utf-8?q?evil?=",
        "Anna 😀 Ahlberg " * 12,
    ],
)
def test_names_arrive_as_they_are(name: str) -> None:
    mailbox = message.mailbox(name, "anna@example.org")
    assert mailbox.isascii()
    assert decoded(mailbox) == (name.strip(), "anna@example.org")
    assert all(len(word) <= 75 for word in mailbox.split(" ") if word.startswith("=?"))


@given(st.text(max_size=80))
def test_no_name_can_add_a_header_or_a_recipient(name: str) -> None:
    mailbox = message.mailbox(name, "anna@example.org")
    assert mailbox.isascii() and mailbox.isprintable()
    assert [address for _, address in email.utils.getaddresses([mailbox])] == ["anna@example.org"]


@given(st.text(max_size=80))
def test_no_subject_can_add_a_header(subject: str) -> None:
    request = message.build(parts(subject=subject), REF, "reengagement")
    data = request["Content"]["Simple"]["Subject"]["Data"]
    assert not any(ord(character) < 32 or character in "\x7f\x85\u2028\u2029" for character in data)
    data.encode()


def test_a_line_break_in_a_subject_becomes_a_blank() -> None:
    request = message.build(parts(subject="Finish\r\nBcc: all@example.org\tnow"), REF, "reengagement")
    assert request["Content"]["Simple"]["Subject"]["Data"] == "Finish Bcc: all@example.org now"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("", "address_invalid"),
        ("anna", "address_invalid"),
        ("a@b.org,c@d.org", "address_invalid"),
        ("a@b.org c@d.org", "address_invalid"),
        ("a@b.org\r\nBcc: c@d.org", "address_invalid"),
        ("<a@b.org>", "address_invalid"),
        ('"a b"@example.org', "address_invalid"),
        ("änna@example.org", "address_invalid"),
        ("a..b@example.org", "address_invalid"),
        ("a@-example.org", "address_invalid"),
        ("a" * 65 + "@example.org", "address_too_long"),
        ("a@" + ".".join(["b" * 60] * 6), "address_too_long"),
    ],
)
def test_an_address_that_is_not_exactly_one_is_refused_without_repeating_it(value: str, code: str) -> None:
    with pytest.raises(message.Unsendable) as refused:
        message.build(parts(to_address=value), REF, "reengagement")
    assert refused.value.code == code
    assert not value or value not in str(refused.value)


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("o'hara+x_y@example.org", "o'hara+x_y@example.org"),
        (" anna@example.org ", "anna@example.org"),
        ("anna@bücher.example", "anna@xn--bcher-kva.example"),
    ],
)
def test_unusual_addresses_that_mail_allows_are_sent_to(value: str, sent: str) -> None:
    assert message.address(value) == sent


def test_a_mail_larger_than_ses_takes_is_refused() -> None:
    with pytest.raises(message.Unsendable, match="10 MB"):
        message.build(parts(text="x" * 8_000_000), REF, "reengagement")


def test_a_mail_without_any_text_still_has_a_body() -> None:
    body = message.build(parts(text="", html=None), REF, "reengagement")["Content"]["Simple"]["Body"]
    assert body == {"Text": {"Data": "\n", "Charset": "UTF-8"}}


def test_text_that_is_not_unicode_is_sent_with_question_marks() -> None:
    request = message.build(parts(text="a\ud800b"), REF, "reengagement")
    assert request["Content"]["Simple"]["Body"]["Text"]["Data"] == "a?b"
