"""One mail by SMTP: what arrives is what Moodle would have sent, and each failure says whether it can have left."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from emailoffload.delivery import smtp
from emailoffload.sources.protocol import Attachment
from tests.delivery.test_transport import certificate
from tests.fallback.sink import Sink
from tests.outbox.factory import parts

__all__ = ["certificate"]
REF = "0123456789abcdef0123456789abcdef"


def send(**changes: Any) -> Any:
    with smtp.Connection() as server:
        return server.send(parts(**changes), REF)


def test_what_arrives_has_the_texts_names_and_ids_of_the_mail(sink: Sink) -> None:
    outcome = send(
        to_name="Ånna “A” Ahlberg",
        subject="Don’t forget: Q&A " + "ä" * 80,
        text=".leading dot\nDear Ånna\n",
        html="<p>Dear Ånna " + "x" * 2000 + "</p>",
    )
    assert (outcome.kind, outcome.message) == ("accepted", "250 2.0.0 queued as 4XYZ")
    (mail,) = sink.taken
    assert mail.get_content_type() == "multipart/alternative"
    text, html = mail.iter_parts()
    assert (text.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert text.get_content().splitlines()[:2] == [".leading dot", "Dear Ånna"]
    assert html.get_content().strip() == "<p>Dear Ånna " + "x" * 2000 + "</p>"
    assert mail["Subject"] == "Don’t forget: Q&A " + "ä" * 80
    assert mail["To"].addresses[0].display_name == "Ånna “A” Ahlberg"
    assert mail["From"].addresses[0].display_name == "Admin User (via learn)"
    assert mail["Reply-To"].addresses[0].display_name == "Do not reply to this email"
    assert mail["X-Email-Offload-Id"] == REF
    assert mail["Message-ID"] == f"<{REF}@learn.example.org>"
    assert mail["Date"]
    assert sink.recipients == ["anna@example.org"]


def test_a_mail_without_html_is_one_text_part_and_files_travel_whole(sink: Sink) -> None:
    send(html=None)
    send(attachments=(Attachment("lögo.png", "image/png", bytes(range(256)) * 20),))
    plain, mixed = sink.taken
    assert plain.get_content_type() == "text/plain"
    alternative, file = mixed.iter_parts()
    assert alternative.get_content_type() == "multipart/alternative"
    assert (file.get_filename(), file.get_content()) == ("lögo.png", bytes(range(256)) * 20)


@pytest.mark.parametrize("field", ["subject", "to_name", "from_name", "reply_to_name"])
def test_nothing_in_a_name_or_subject_becomes_a_header(sink: Sink, field: str) -> None:
    send(**{field: "x\r\nBcc: eve@example.org\r\n\r\nhello"})
    (mail,) = sink.taken
    assert mail["Bcc"] is None
    assert sink.recipients == ["anna@example.org"]


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        ("sender", "account", smtp.SENDER),
        ("recipient", "permanent", smtp.RECIPIENT),
        ("greylist", "throttled", smtp.BUSY),
        ("data", "permanent", smtp.REFUSED),
        ("content", "permanent", smtp.REFUSED),
        ("full", "throttled", smtp.BUSY),
        ("shutdown", "throttled", smtp.BUSY),
        ("before_data", "not_transmitted", smtp.UNREACHABLE),
        ("after_data", "unknown", smtp.NO_ANSWER),
        ("hang", "unknown", smtp.NO_ANSWER),
    ],
)
def test_each_failure_says_whether_the_mail_can_have_left(
    sink: Sink, fault: str, kind: str, code: str
) -> None:
    sink.fault = fault
    outcome = send()
    assert (outcome.kind, outcome.code) == (kind, code)
    assert len(sink.taken) == (1 if kind == "unknown" else 0)
    assert "@" not in outcome.message


def test_after_a_refusal_the_same_connection_takes_the_next_mail(sink: Sink) -> None:
    sink.fault, sink.one_shot = "recipient", True
    with smtp.Connection() as server:
        kinds = [server.send(parts(), REF).kind for _ in range(3)]
    assert (kinds, sink.connections) == (["permanent", "accepted", "accepted"], 1)


def test_a_connection_that_broke_between_two_mails_is_made_anew(sink: Sink) -> None:
    with smtp.Connection() as server:
        assert server.send(parts(), REF).kind == "accepted"
        sink.fault, sink.one_shot = "before_data", True
        assert server.send(parts(), REF).kind == "accepted"
    assert (len(sink.taken), sink.connections) == (2, 2)


def test_a_server_that_is_not_there_is_tried_once_for_a_batch(sink: Sink) -> None:
    sink.stop()
    with smtp.Connection() as server:
        first = server.send(parts(), REF)
        assert (first.kind, first.code) == ("not_transmitted", smtp.UNREACHABLE)
        assert server.send(parts(), REF) is server.down


def test_a_refused_login_is_the_accounts(sink: Sink, settings: Any) -> None:
    settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD = "offload", "secret"
    assert send().kind == "accepted"
    sink.fault = "login"
    outcome = send()
    assert (outcome.kind, outcome.code) == ("account", smtp.LOGIN)
    assert "secret" not in outcome.message


def test_certificates_are_verified(
    settings: Any, certificate: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Sink(tls=certificate[1])
    settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_USE_TLS = "127.0.0.1", server.port, True
    settings.EMAIL_TIMEOUT = 2
    try:
        outcome = send()
        assert (outcome.kind, outcome.code) == ("not_transmitted", smtp.CERTIFICATE)
        assert server.taken == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        assert send().kind == "accepted"
    finally:
        server.stop()


def test_a_server_without_encryption_gets_nothing_where_encryption_is_asked_for(
    sink: Sink, settings: Any
) -> None:
    settings.EMAIL_USE_TLS = True
    outcome = send()
    assert (outcome.kind, outcome.code) == ("account", smtp.LOGIN)
    assert sink.taken == []


def test_an_address_that_is_none_is_refused_before_anything_is_sent(sink: Sink) -> None:
    outcome = send(to_address="a@b.example\r\nRCPT TO:<eve@example.org>")
    assert outcome.kind == "permanent"
    assert sink.connections == 0
