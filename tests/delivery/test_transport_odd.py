"""The transport where the host's certificates or the other end's answers are odd."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from emailoffload.delivery import errors, transport
from emailoffload.delivery import ses as product
from tests.delivery.test_transport import BODY, LENGTH, OK, Start, certificate, send, start

__all__ = ["certificate", "start"]
Certificate = tuple[Path, ssl.SSLContext]
ACCEPTED = OK + LENGTH + b"\r\n" + BODY


# --- certificates ---


def test_an_authority_that_the_sdk_trusts_for_questions_is_trusted_for_sends_too(
    start: Start, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    start(ACCEPTED, tls=certificate[1])
    assert send().kind == "accepted"


@pytest.mark.parametrize("content", [None, b"", b"no certificate"], ids=["missing", "empty", "damaged"])
def test_a_bundle_that_cannot_be_read_stops_sending_and_leaves_no_mail_uncertain(
    start: Start,
    certificate: Certificate,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    content: bytes | None,
) -> None:
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_bytes(content)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    server = start(ACCEPTED, tls=certificate[1])
    account = product.get_account()
    assert isinstance(account, errors.Outcome)
    for outcome in (send(), account):
        assert outcome.kind == "account" and "AWS_CA_BUNDLE" in outcome.message
    assert server.connections == 0


# --- answers ---


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
def test_what_follows_an_answer_is_never_taken_for_the_next_one(
    start: Start, certificate: Certificate, monkeypatch: pytest.MonkeyPatch, encrypted: bool
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate[0]))
    # More than is read at once, so that some of it is left where the connection decrypts.
    more = OK + b"X-Padding: " + b"x" * 9000 + b"\r\n" + LENGTH + b"\r\n" + BODY
    server = start(*[ACCEPTED + more] * 3, tls=certificate[1] if encrypted else None)
    assert [send().kind for _ in range(3)] == ["accepted"] * 3
    assert (server.connections, len(server.requests)) == (3, 3)


def test_an_answer_that_breaks_off_leaves_the_send_unknown(start: Start) -> None:
    server = start(OK + b"Content-Length: 500\r\n\r\n" + BODY + b"(close)")
    assert (send().kind, len(server.requests)) == ("unknown", 1)


@pytest.mark.parametrize(
    "head", [b"Content-Length: 20000\r\n", b"Transfer-Encoding: chunked\r\n"], ids=["announced", "chunked"]
)
def test_an_answer_without_end_is_not_read_to_its_end(
    start: Start, monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    monkeypatch.setattr(transport, "LONGEST_ANSWER", 10_000)
    body = b" " * 20_000 if b"Length" in head else b"4e20\r\n" + b" " * 20_000 + b"\r\n0\r\n\r\n"
    server = start(OK + head + b"\r\n" + body, ACCEPTED)
    assert [send().kind, send().kind] == ["unknown", "accepted"]
    assert (server.connections, len(server.requests)) == (2, 2)
