"""One transmission per request over a connection of the thread's own, and an honest answer about what was sent."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from emailoffload.delivery import message, transport
from emailoffload.delivery import ses as product
from tests.outbox.factory import parts

BODY = b'{"MessageId":"0102-1"}'
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def send() -> Any:
    return product.send(message.build(parts(), "0" * 32, "reengagement"))


class Server:
    """Gives each request the next answer; an answer that ends in b'' closes the connection after it."""

    def __init__(self, *answers: bytes, tls: ssl.SSLContext | None = None) -> None:
        self.answers = list(answers)
        self.tls = tls
        self.connections = 0
        self.requests: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.listener.getsockname()[1]}"

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                if self.tls:
                    connection = self.tls.wrap_socket(connection, server_side=True)
                while self.answer(connection):
                    pass
            except OSError:
                pass
            finally:
                connection.close()

    def answer(self, connection: socket.socket) -> bool:
        data = b""
        while b"\r\n\r\n" not in data or len(data.partition(b"\r\n\r\n")[2]) < _length(data):
            received = connection.recv(65536)
            if not received:
                return False
            data += received
        self.requests.append(data)
        answer = self.answers.pop(0)
        connection.sendall(answer.removesuffix(b"(close)"))
        return not answer.endswith(b"(close)")

    def stop(self) -> None:
        with suppress(OSError):  # it may have been stopped already
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class MailServer(Server):
    """Speaks first, and no TLS."""

    def answer(self, connection: socket.socket) -> bool:
        connection.sendall(b"220 mail.example ESMTP\r\n")
        return False


def _length(data: bytes) -> int:
    head = data.partition(b"\r\n\r\n")[0].lower()
    return int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])


Start = Callable[..., Server]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[Start]:
    """Start a server that is the endpoint for this test."""
    started: list[Server] = []

    def begin(*answers: bytes, tls: ssl.SSLContext | None = None) -> Server:
        server = Server(*answers, tls=tls)
        started.append(server)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", server.url)
        product.forget_client()
        return server

    for name in (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "http_proxy",
        "https_proxy",
        "AWS_CA_BUNDLE",
        "REQUESTS_CA_BUNDLE",
    ):
        monkeypatch.delenv(name, raising=False)
    settings.SES_READ_TIMEOUT_SECONDS = 2.0
    yield begin
    product.forget_client()
    for server in started:
        server.stop()


def test_a_thread_keeps_its_connection(start: Start) -> None:
    server = start(*[OK + LENGTH + b"\r\n" + BODY] * 3)
    assert [send().kind for _ in range(3)] == ["accepted"] * 3
    assert server.connections == 1


def test_threads_do_not_share_a_connection(start: Start) -> None:
    server = start(*[OK + LENGTH + b"Connection: close\r\n\r\n" + BODY + b"(close)"] * 2)
    assert send().kind == "accepted"
    kinds: list[str] = []
    other = threading.Thread(target=lambda: kinds.append(send().kind))
    other.start()
    other.join(5)
    assert (kinds, server.connections) == (["accepted"], 2)


def test_head_and_body_are_what_the_sdk_signed(start: Start) -> None:
    server = start(OK + LENGTH + b"\r\n" + BODY)
    send()
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /v2/email/outbound-emails HTTP/1.1"
    names = [line.partition(b":")[0].lower() for line in lines[1:]]
    assert len(names) == len(set(names))
    assert {b"host", b"authorization", b"x-amz-date", b"content-type", b"content-length"} <= set(names)
    assert body.startswith(b'{"FromEmailAddress"')


def test_a_connection_that_the_server_closed_meanwhile_is_replaced_before_anything_is_sent(
    start: Start,
) -> None:
    # Closed without a word: the answer did not say "Connection: close".
    server = start(*[OK + LENGTH + b"\r\n" + BODY + b"(close)"] * 2)
    assert send().kind == "accepted"
    server.thread.join(0.2)  # the close is on its way
    assert send().kind == "accepted"
    assert (server.connections, len(server.requests)) == (2, 2)


def test_an_interim_answer_and_a_chunked_one_are_understood(start: Start) -> None:
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    server = start(
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + LENGTH + b"\r\n" + BODY,
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunks,
        OK + LENGTH + b"\r\n" + BODY,
    )
    assert [send().kind for _ in range(3)] == ["accepted"] * 3
    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        OK + LENGTH + b"\r\n" + BODY[:5] + b"(close)",
        b"(close)",
        b"SSH-2.0-OpenSSH\r\n(close)",
        OK + b"Content-Length: many\r\n\r\n(close)",
    ],
    ids=["broken off", "closed", "not HTTP", "no number"],
)
def test_an_answer_that_says_nothing_leaves_the_outcome_unknown_and_nothing_is_sent_again(
    start: Start, answer: bytes
) -> None:
    server = start(answer, OK + LENGTH + b"\r\n" + BODY)
    assert send().kind == "unknown"
    assert len(server.requests) == 1
    assert send().kind == "accepted"
    assert server.connections == 2


def test_an_error_answer_is_read_as_the_sdk_reads_it(start: Start) -> None:
    body = b'{"message":"Maximum sending rate exceeded."}'
    start(
        b"HTTP/1.1 429 Too Many Requests\r\nx-amzn-ErrorType: TooManyRequestsException\r\n"
        b"x-amzn-RequestId: r-1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    outcome = send()
    assert (outcome.kind, outcome.code, outcome.request_id) == (
        "throttled",
        "TooManyRequestsException",
        "r-1",
    )


def test_a_server_that_refuses_connections_or_a_name_that_is_not_known_got_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start()
    server.stop()
    assert (send().kind, send().code) == ("not_transmitted", "EndpointConnectionError")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", "http://nobody.invalid")
    product.forget_client()
    assert (send().kind, send().code) == ("not_transmitted", "EndpointConnectionError")


def test_a_connection_that_does_not_come_in_time_got_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    start()

    def never(*args: Any, **kwargs: Any) -> None:
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", never)
    assert (send().kind, send().code) == ("not_transmitted", "ConnectTimeoutError")


# --- TLS ---


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 that nobody trusts yet, and the server's side of it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "SES of a test")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    trusted, private = folder / "ca.pem", folder / "key.pem"
    trusted.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted, private)
    return trusted, context


def test_a_certificate_that_nobody_trusts_ends_it_before_anything_is_sent(
    start: Start, certificate: tuple[Path, ssl.SSLContext]
) -> None:
    server = start(OK + LENGTH + b"\r\n" + BODY, tls=certificate[1])
    outcome = send()
    assert (outcome.kind, outcome.code) == ("not_transmitted", "SSLError")
    assert "AWS_CA_BUNDLE" in outcome.message
    assert server.requests == []


def test_aws_ca_bundle_says_whom_to_trust(
    start: Start, certificate: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate[0]))
    server = start(*[OK + LENGTH + b"\r\n" + BODY] * 2, tls=certificate[1])
    assert [send().kind, send().kind] == ["accepted", "accepted"]
    assert server.connections == 1


def test_a_certificate_for_another_host_is_not_accepted(
    start: Start, certificate: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate[0]))
    server = start(OK + LENGTH + b"\r\n" + BODY, tls=certificate[1])
    monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", server.url.replace("127.0.0.1", "localhost"))
    product.forget_client()
    assert (send().kind, server.requests) == ("not_transmitted", [])


def test_a_handshake_that_fails_transmits_nothing(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    start()
    plain = MailServer()
    monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", plain.url.replace("http:", "https:"))
    product.forget_client()
    outcome = send()
    assert (outcome.kind, outcome.code) == ("not_transmitted", "HandshakeFailed")
    plain.stop()


# --- proxies ---


@pytest.mark.parametrize(
    ("endpoint", "environment", "direct"),
    [
        ("https://email.eu-west-1.amazonaws.com", {}, True),
        ("https://email.eu-west-1.amazonaws.com", {"https_proxy": "http://proxy:3128"}, False),
        ("https://email.eu-west-1.amazonaws.com", {"http_proxy": "http://proxy:3128"}, True),
        (
            "https://email.eu-west-1.amazonaws.com",
            {"https_proxy": "http://proxy:3128", "no_proxy": ".amazonaws.com"},
            True,
        ),
        ("http://127.0.0.1:8026", {"http_proxy": "http://proxy:3128", "no_proxy": "127.0.0.1"}, True),
    ],
)
def test_where_a_proxy_is_in_the_way_the_sdk_transmits_by_itself(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, environment: dict[str, str], direct: bool
) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert transport.applies(endpoint) is direct


def test_through_a_proxy_a_mail_is_sent_too(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start(OK + LENGTH + b"\r\n" + BODY)
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", "http://ses.example")
    product.forget_client()
    assert send().kind == "accepted"
    assert server.requests[0].startswith(b"POST http://ses.example/v2/email/outbound-emails HTTP/1.1")
