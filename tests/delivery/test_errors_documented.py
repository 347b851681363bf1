"""docs/errors.md is true: each of its errors is made to happen, and ends as the tables say."""

from __future__ import annotations

import re
import socket
import ssl
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import exceptions as aws
from botocore.parsers import ResponseParserError
from django.conf import settings as django_settings
from django.test import override_settings

from emailoffload.dashboard import reasons, words
from emailoffload.delivery import errors, health, rate, transport
from emailoffload.delivery import ses as product
from emailoffload.delivery.errors import Outcome, classify
from tests.delivery.test_transport import (
    BODY,
    LENGTH,
    OK,
    MailServer,
    Start,
    certificate,
    send,
    start,
)
from tests.fake_ses import FakeSes, Reply

__all__ = ["certificate", "start"]
PAGE = Path(django_settings.BASE_DIR, "docs", "errors.md").read_text()
ANSWERS, ACCOUNT, MIDDLEBOX, SILENCE, LOCAL = (
    "What SES answers",
    "GetAccount has answers",
    "Answers that do not come from SES",
    "When there is no answer",
    "When nothing could be asked",
)


def table(after: str) -> list[dict[str, str]]:
    """The rows of the first table that follows this text, by the names of its columns."""
    lines = iter(PAGE[PAGE.index(after) :].splitlines())
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in _table_lines(lines)]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def _table_lines(lines: Iterator[str]) -> Iterator[str]:
    begun = False
    for line in lines:
        if line.startswith("|"):
            begun = True
            yield line
        elif begun:
            return


def errors_of(section: str) -> list[tuple[str, str, str]]:
    """(code, what tells it apart, class) of each error of a section."""
    found = []
    for row in table(section):
        codes, _, apart = row["Error"].partition(", ")
        found += [(code, apart, row["Class"].strip("`")) for code in re.findall(r"`([^`]+)`", codes)]
    return found


CLASSES = {row["Class"].strip("`"): row for row in table("## Classes")}
ALL = {
    section: errors_of(section) for section in (f"## {ANSWERS}", ACCOUNT, f"## {MIDDLEBOX}", SILENCE, LOCAL)
}


# --- complete ---


def test_every_error_that_the_sdk_knows_of_sendemail_has_a_row() -> None:
    model = boto3.client("sesv2", region_name="eu-west-1").meta.service_model
    shapes = {shape.name for shape in model.operation_model("SendEmail").error_shapes}
    assert len(shapes) >= 8
    assert shapes <= {code for code, _, _ in ALL[f"## {ANSWERS}"]}


def test_the_common_errors_of_aws_have_a_row() -> None:
    common = {
        "AccessDeniedException", "ExpiredTokenException", "IncompleteSignature", "InternalFailure",
        "MalformedHttpRequestException", "NotAuthorized", "OptInRequired", "RequestAbortedException",
        "RequestEntityTooLargeException", "RequestExpired", "RequestTimeoutException", "ServiceUnavailable",
        "ThrottlingException", "UnrecognizedClientException", "UnknownOperationException", "ValidationError",
        "InvalidClientTokenId", "InvalidAction", "MissingAuthenticationToken",
    }  # fmt: skip
    assert common <= {code for code, _, _ in ALL[f"## {ANSWERS}"]}


def test_the_tables_of_the_code_and_of_the_page_name_the_same_errors() -> None:
    in_code: dict[str, set[str]] = {
        "throttled": set(errors.THROTTLED), "quota": set(errors.QUOTA), "identity": set(errors.IDENTITY),
        "account": {*errors.ACCOUNT, *errors.LOCAL}, "permanent": set(errors.PERMANENT),
        "not_transmitted": set(errors.NOT_TRANSMITTED), "unknown": set(errors.UNKNOWN),
    }  # fmt: skip
    documented: dict[str, set[str]] = defaultdict(set)
    for rows in ALL.values():
        for code, apart, kind in rows:
            # What tells two rows of an error apart is its words; the code's tables have its usual meaning.
            if not apart or not {other for c, a, other in rows if c == code} - {kind}:
                documented[kind].add(code)
    statuses = {str(number) for number in range(300, 600)}
    two_fold = {"LimitExceededException", "TooManyRequestsException", "ThrottlingException", "MessageRejected",
                "BadRequestException", "SSLError"}  # fmt: skip
    for kind, codes in in_code.items():
        assert codes - two_fold - statuses == documented[kind] - two_fold - statuses, kind
    named = {code for rows in ALL.values() for code, _, _ in rows}
    assert two_fold <= named and two_fold <= set().union(*in_code.values())


def test_each_error_has_the_next_step_of_its_class() -> None:
    for section in ALL:
        for row in table(section):
            assert row["Next"] == CLASSES[row["Class"].strip("`")]["Next"], row["Error"]
            assert row["Means"] and row["To do"], row["Error"]


def test_each_class_and_each_error_has_words_on_the_pages() -> None:
    assert set(CLASSES) == set(words.ATTEMPT_OUTCOMES) - {"in_flight", "not_arrived"}
    for rows in ALL.values():
        for code, _, kind in rows:
            if kind != "throttled" and not code.isdigit():
                assert code not in reasons.meaning(code), code


# --- what SES and others answer, over the wire ---

STATUS = {
    "TooManyRequestsException": 429, "NotFoundException": 404, "AccessDeniedException": 403,
    "AccessDenied": 403, "NotAuthorized": 401, "InvalidClientTokenId": 403,
    "UnrecognizedClientException": 403, "SignatureDoesNotMatch": 403, "InvalidSignatureException": 403,
    "IncompleteSignature": 403, "MissingAuthenticationToken": 403, "ExpiredTokenException": 403,
    "ExpiredToken": 403, "OptInRequired": 403, "UnknownOperationException": 404,
    "RequestEntityTooLargeException": 413, "RequestTimeoutException": 408, "InternalFailure": 500,
    "ServiceUnavailable": 503,
}  # fmt: skip
"""As AWS documents them; 400 where not named."""
UNVERIFIED = "Email address is not verified. The following identities failed the check in region EU-WEST-1: "
WORDS = {
    "daily quota": "Daily message quota exceeded.",
    "sender not verified": UNVERIFIED + "noreply@learn.example.org",
    "recipient not verified": UNVERIFIED + "anna@example.org",
    "configuration set": "Configuration set <x> does not exist.",
    "": "The words of SES.",
}


def sent(ses: FakeSes) -> Outcome:
    from emailoffload.delivery import message
    from tests.outbox.factory import parts

    request = message.build(parts(), "0" * 32, "reengagement")
    return product.send(request, sender="noreply@learn.example.org", recipient="anna@example.org")


@pytest.mark.parametrize(("code", "apart", "kind"), ALL[f"## {ANSWERS}"])
def test_what_ses_answers_has_the_class_of_its_row(ses: FakeSes, code: str, apart: str, kind: str) -> None:
    ses.behave = lambda request: Reply(STATUS.get(code, 400), code, WORDS[apart])
    outcome = sent(ses)
    assert outcome.kind == kind
    assert outcome.code == ("DailyQuota" if kind == "quota" else code)
    assert outcome.message and outcome.http_status == STATUS.get(code, 400)


@pytest.mark.parametrize(("code", "apart", "kind"), ALL[f"## {MIDDLEBOX}"])
def test_an_answer_of_somebody_in_between_has_the_class_of_its_row(
    ses: FakeSes, code: str, apart: str, kind: str
) -> None:
    status = int(code) if code.isdigit() else 200
    ses.behave = lambda request: Reply(status, raw=b"<html><title>Sign in</title></html>")
    outcome = sent(ses)
    assert (outcome.kind, outcome.code) == (kind, code)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(418, "TeapotException", "permanent"), (400, "", "account"), (599, "", "unknown"), (200, "", "unknown")],
)
def test_an_error_in_no_table_is_sorted_as_the_page_says(
    ses: FakeSes, status: int, code: str, kind: str
) -> None:
    ses.behave = lambda request: Reply(status, code, "words", raw=None if status != 200 else b"[]")
    assert sent(ses).kind == kind


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("code", "apart", "kind"), ALL[ACCOUNT])
def test_what_getaccount_says_stops_sending_before_a_mail_is_tried(
    ses: FakeSes, code: str, apart: str, kind: str
) -> None:
    if code == "DailyQuota":
        ses.account["SendQuota"] |= {"Max24HourSend": 5.0, "SentLast24Hours": 5.0}
    elif code == "SendingDisabled":
        ses.account["SendingEnabled"] = False
    else:
        ses.account_reply = Reply(raw=b"{}")
    refused = health.refusal(rate.known())
    assert refused is not None and (refused.kind, refused.code) == (kind, code)
    assert not health.healthy()[0]


# --- no answer ---


def tried() -> Outcome:
    outcome: Outcome = send()
    return outcome


def _name_not_known(start: Start, monkeypatch: pytest.MonkeyPatch, certificate: Any) -> Outcome:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", "http://nobody.invalid")
    product.forget_client()
    return tried()


def _refused(start: Start, monkeypatch: pytest.MonkeyPatch, certificate: Any) -> Outcome:
    start().stop()
    return tried()


def _connect_timeout(start: Start, monkeypatch: pytest.MonkeyPatch, certificate: Any) -> Outcome:
    start()

    def never(*args: Any, **kwargs: Any) -> None:
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", never)
    return tried()


def _certificate(start: Start, monkeypatch: pytest.MonkeyPatch, certificate: Any) -> Outcome:
    start(OK + LENGTH + b"\r\n" + BODY, tls=certificate[1])
    return tried()


def _handshake(start: Start, monkeypatch: pytest.MonkeyPatch, certificate: Any) -> Outcome:
    plain = MailServer()
    monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", plain.url.replace("http:", "https:"))
    product.forget_client()
    try:
        return tried()
    finally:
        plain.stop()


def _proxy(start: Start, monkeypatch: pytest.MonkeyPatch, certificate: Any) -> Outcome:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", "https://ses.example")
    product.forget_client()
    return tried()


def _hangs(start: Start, monkeypatch: pytest.MonkeyPatch, certificate: Any) -> Outcome:
    with override_settings(SES_READ_TIMEOUT_SECONDS=0.2):
        start(b"")
        return tried()


def _answers(answer: bytes) -> Callable[..., Outcome]:
    def provoke(start: Start, monkeypatch: pytest.MonkeyPatch, certificate: Any) -> Outcome:
        start(answer)
        return tried()

    return provoke


def _raised(error: Exception) -> Callable[..., Outcome]:
    return lambda start, monkeypatch, certificate: classify(error)


PROVOKED: dict[tuple[str, str], Callable[..., Outcome]] = {
    ("EndpointConnectionError", "name not known"): _name_not_known,
    ("EndpointConnectionError", "refused"): _refused,
    ("ConnectTimeoutError", ""): _connect_timeout,
    ("SSLError", "certificate"): _certificate,
    ("HandshakeFailed", ""): _handshake,
    ("ProxyConnectionError", ""): _proxy,
    ("SSLError", "later"): _raised(aws.SSLError(endpoint_url="https://ses", error=ssl.SSLError("bad record"))),
    ("ReadTimeoutError", ""): _hangs,
    ("ConnectionClosedError", "reset"): _answers(b"(close)"),
    ("ConnectionClosedError", "truncated"): _answers(OK + LENGTH + b"\r\n" + BODY[:5] + b"(close)"),
    ("ConnectionClosedError", "garbage"): _answers(b"SSH-2.0-OpenSSH\r\n(close)"),
    ("ResponseParserError", ""): _raised(ResponseParserError("x")),
    ("ResponseStreamingError", ""): _raised(aws.ResponseStreamingError(error="x")),
    ("IncompleteReadError", ""): _raised(aws.IncompleteReadError(actual_bytes=1, expected_bytes=2)),
    ("HTTPClientError", ""): _raised(aws.HTTPClientError(error="x")),
    ("NoCredentialsError", ""): _raised(aws.NoCredentialsError()),
    ("PartialCredentialsError", ""): _raised(aws.PartialCredentialsError(provider="env", cred_var="x")),
    ("CredentialRetrievalError", ""): _raised(aws.CredentialRetrievalError(provider="x", error_msg="x")),
    ("MetadataRetrievalError", ""): _raised(aws.MetadataRetrievalError(error_msg="x")),
    ("TokenRetrievalError", ""): _raised(aws.TokenRetrievalError(provider="x", error_msg="x")),
    ("UnauthorizedSSOTokenError", ""): _raised(aws.UnauthorizedSSOTokenError()),
    ("SSOTokenLoadError", ""): _raised(aws.SSOTokenLoadError(error_msg="x")),
    ("NoRegionError", ""): _raised(aws.NoRegionError()),
    ("InvalidRegionError", ""): _raised(aws.InvalidRegionError(region_name="x")),
    ("ProfileNotFound", ""): _raised(aws.ProfileNotFound(profile="x")),
    ("ConfigParseError", ""): _raised(aws.ConfigParseError(path="x")),
    ("BundleUnreadable", ""): _raised(transport.BundleUnreadable("FileNotFoundError")),
    ("ParamValidationError", ""): _raised(aws.ParamValidationError(report="x")),
}  # fmt: skip


@pytest.mark.parametrize(("code", "apart", "kind"), ALL[SILENCE] + ALL[LOCAL])
def test_a_failure_without_an_answer_has_the_class_of_its_row(
    start: Start, certificate: Any, monkeypatch: pytest.MonkeyPatch, code: str, apart: str, kind: str
) -> None:
    outcome = PROVOKED[code, apart](start, monkeypatch, certificate)
    assert (outcome.kind, outcome.code) == (kind, code)
    assert outcome.message
