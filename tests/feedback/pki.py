"""Certificates of our own, an SNS that signs with them, and a web server that shows them over real TLS."""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
import secrets
import socket
import ssl
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

REGION = "eu-west-1"
HOST = f"sns.{REGION}.amazonaws.com"
TOPIC = f"arn:aws:sns:{REGION}:123456789012:email-offload-events"
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A key and its certificate."""

    key: PrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        """The certificate as SNS publishes it."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def write(self, folder: Path) -> Path:
        """Certificate and key in one file, as a TLS server takes them."""
        path = folder / f"{secrets.token_hex(8)}.pem"
        key = self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        path.write_bytes(self.pem + key)
        return path


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """A new RSA key."""
    return rsa.generate_private_key(65537, bits)


class Authority:
    """A certificate authority. Keys are reused: making one takes a tenth of a second."""

    def __init__(self, name: str = "Test authority") -> None:
        key = rsa_key()
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.pair = Pair(key, self._certificate(self.name, key, key, authority=True))
        self.spare = rsa_key()

    def issue(
        self,
        host: str,
        *,
        key: PrivateKey | None = None,
        begins: dt.timedelta = -_DAY,
        ends: dt.timedelta = 30 * _DAY,
        alternative: bool = True,
        authority: bool = False,
    ) -> Pair:
        """A certificate for a host, valid from and to these distances from now."""
        key = key or self.spare
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
        certificate = self._certificate(
            subject,
            key,
            self.pair.key,
            host=host if alternative else None,
            begins=begins,
            ends=ends,
            authority=authority,
        )
        return Pair(key, certificate)

    def _certificate(
        self,
        subject: x509.Name,
        key: PrivateKey,
        signer: PrivateKey,
        *,
        host: str | None = None,
        begins: dt.timedelta = -_DAY,
        ends: dt.timedelta = 30 * _DAY,
        authority: bool,
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        made = (
            x509.CertificateBuilder(subject_name=subject, issuer_name=self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if authority:
            usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
            made = made.add_extension(usage, critical=True)
        if signer is not key:
            identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
            made = made.add_extension(identifier, critical=False)
        if host is not None:
            made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        return made.sign(signer, hashes.SHA256())


@dataclass
class Answer:
    """What the web server says at one path; `drip` seconds pass before each byte of the body."""

    body: bytes = b""
    status: str = "200 OK"
    headers: dict[str, str] = field(default_factory=dict)
    drip: float = 0.0


class WebServer:
    """Says over TLS what it was told to say, whatever name it is called by; counts who asked what."""

    def __init__(self, certificate: Path, *, tls: bool = True) -> None:
        self.pages: dict[str, Answer] = {}
        self.asked: list[str] = []
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) if tls else None
        if self._tls:
            self._tls.load_cert_chain(certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> WebServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            try:
                plain.settimeout(5)
                self._talk(self._tls.wrap_socket(plain, server_side=True) if self._tls else plain)
            except OSError:
                # The client did not like our certificate, or had heard enough.
                plain.close()

    def _talk(self, client: socket.socket) -> None:
        with client:
            request = b""
            while b"\r\n\r\n" not in request:
                piece = client.recv(4096)
                if not piece:
                    return
                request += piece
            path = request.split(b" ", 2)[1].decode()
            self.asked.append(path)
            answer = self.pages.get(path, Answer(status="404 Not Found"))
            lines = [
                f"HTTP/1.1 {answer.status}",
                *(f"{name}: {value}" for name, value in answer.headers.items()),
                f"Content-Length: {len(answer.body)}",
                "Connection: close",
            ]
            client.sendall("\r\n".join([*lines, "", ""]).encode())
            if not answer.drip:
                client.sendall(answer.body)
            for number in range(len(answer.body) if answer.drip else 0):
                time.sleep(answer.drip)
                client.sendall(answer.body[number : number + 1])


class Sns:
    """Posts as SNS makes them."""

    def __init__(self, signer: Pair, certificate_url: str, topic: str = TOPIC) -> None:
        self.signer, self.certificate_url, self.topic = signer, certificate_url, topic

    def notification(self, message: str = "{}", **changes: Any) -> dict[str, Any]:
        """A notification; `changes` are made before it is signed, None takes a field away."""
        return self._signed({"Type": "Notification", "Message": message, **changes})

    def confirmation(self, kind: str = "SubscriptionConfirmation", **changes: Any) -> dict[str, Any]:
        """A post about the subscription."""
        about = {
            "Type": kind,
            "Token": "2336412f37fb687f5d51e6e2425e90",
            "Message": "You have chosen to subscribe to the topic.",
            "SubscribeURL": f"https://{HOST}/?Action=ConfirmSubscription&TopicArn={self.topic}",
        }
        return self._signed({**about, **changes})

    def _signed(self, fields: dict[str, Any]) -> dict[str, Any]:
        common = {
            "MessageId": str(uuid.uuid4()),
            "TopicArn": self.topic,
            "Timestamp": timestamp(),
            "SignatureVersion": "2",
            "SigningCertURL": self.certificate_url,
        }
        post = {name: value for name, value in {**common, **fields}.items() if value is not None}
        assert isinstance(self.signer.key, rsa.RSAPrivateKey)
        algorithm = hashes.SHA1() if post["SignatureVersion"] == "1" else hashes.SHA256()
        signature = self.signer.key.sign(signed_text(post), PKCS1v15(), algorithm)
        return {**post, "Signature": base64.b64encode(signature).decode()}


def signed_text(post: dict[str, Any]) -> bytes:
    """What SNS signs, written down once more after its documentation, so that ours is compared with something."""
    names = ["Message", "MessageId"]
    if post["Type"] == "Notification":
        names += ["Subject"] if "Subject" in post else []
    else:
        names += ["SubscribeURL"]
    names += ["Timestamp"] + ([] if post["Type"] == "Notification" else ["Token"]) + ["TopicArn", "Type"]
    return "".join(f"{name}\n{post[name]}\n" for name in names).encode()


def timestamp(distance: dt.timedelta = dt.timedelta(0)) -> str:
    """A time as SNS writes it, so far from now."""
    at = dt.datetime.now(dt.UTC) + distance
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def headers(post: dict[str, Any]) -> dict[str, str]:
    """The headers of SNS's that a post comes with."""
    return {"Content-Type": "text/plain; charset=UTF-8", "x-amz-sns-message-type": str(post.get("Type"))}


def body(post: dict[str, Any]) -> bytes:
    """The body of a post."""
    return json.dumps(post).encode()


def new_certificate_url() -> str:
    """The address of a certificate that nobody has asked for yet."""
    return f"https://{HOST}/SimpleNotificationService-{os.urandom(16).hex()}.pem"
