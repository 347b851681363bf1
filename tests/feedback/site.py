"""SNS's host as the product finds it in these tests: on loopback, over TLS, under its own name."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from emailoffload.feedback import certificates
from tests.feedback import pki
from tests.feedback.pki import HOST, Answer, Authority, Pair, Sns, WebServer


@dataclass
class Aws:
    """What AWS has: an authority, a signing certificate, a web server; and who was looked up in the DNS."""

    authority: Authority
    signer: Pair
    other_key: pki.PrivateKey
    web: WebServer
    certificate_url: str
    looked_up: list[str] = field(default_factory=list)

    @property
    def pages(self) -> dict[str, Answer]:
        """What SNS's host says, by path."""
        return self.web.pages

    @property
    def sns(self) -> Sns:
        """Who makes genuine posts."""
        return Sns(self.signer, self.certificate_url)


@cache
def authority() -> Authority:
    """The authority whose certificates are trusted."""
    return Authority()


@cache
def signer() -> Pair:
    """The key that SNS signs with; as in most regions its certificate names no region."""
    return authority().issue("sns.amazonaws.com", key=pki.rsa_key())


@cache
def other_key() -> pki.PrivateKey:
    """A key that no certificate is about."""
    return pki.rsa_key()


@contextlib.contextmanager
def aws_on_loopback(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    *,
    certificate: Pair | None = None,
    tls: bool = True,
) -> Iterator[Aws]:
    """SNS's host answers on loopback, with a TLS certificate for its name unless another is given.

    No other name can be found: whatever is looked for beyond loopback is written down and not there.
    """
    bundle = folder / "authority.pem"
    bundle.write_bytes(authority().pair.pem)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    shown = (certificate or authority().issue(HOST)).write(folder)
    with WebServer(shown, tls=tls) as web:
        aws = Aws(authority(), signer(), other_key(), web, pki.new_certificate_url())
        web.pages[aws.certificate_url.removeprefix(f"https://{HOST}")] = Answer(aws.signer.pem)
        find = socket.getaddrinfo

        def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
            if host in {"127.0.0.1", "localhost"}:
                return find(host, port, *args, **kwargs)
            aws.looked_up.append(f"{host}:{port}")
            if (host, port) != (HOST, 443):
                raise socket.gaierror(socket.EAI_NONAME, "no such name")
            return find("127.0.0.1", web.port, *args, **kwargs)

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        certificates.forget()
        yield aws
    certificates.forget()
