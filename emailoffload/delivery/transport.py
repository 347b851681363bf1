"""How a SendEmail request travels: over one kept connection per thread, with the standard library's client.

boto3 builds, signs and reads; here its bytes are moved, once. Its own transport is a pool that all threads
share: of the 1.2 ms of processor time that a send costs with 64 threads, 0.4 ms are that pool's, its locks and
its many hand-overs of the interpreter lock. botocore asks its event `before-send` whether somebody else
transmits a request; what is returned or raised there is handled like its own transport's.
"""

from __future__ import annotations

import http.client
import os
import select
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import SplitResult, urlsplit

from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
    SSLError,
)
from botocore.httpsession import get_cert_path

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest

IDLE_SECONDS = 5.0
"""A kept connection that was silent for longer is not used again: its other end may just be closing it, and a
send into a closing connection has an unknown outcome."""
LONGEST_ANSWER = 1024 * 1024
"""Bytes of an answer that are read; SES's are a few hundred."""


class HandshakeFailed(EndpointConnectionError):
    """The encrypted connection could not be made: nothing was transmitted."""


_NOT_OPENED = (
    (TimeoutError, ConnectTimeoutError),
    (ssl.SSLCertVerificationError, SSLError),
    (ssl.SSLError, HandshakeFailed),
)
"""botocore's word for what kept a connection from being made; the first that fits."""


class BundleUnreadable(Exception):
    """The file with the certificates to trust is not there, or holds none: no connection is made."""


def applies(endpoint: str) -> bool:
    """Whether requests to this endpoint can travel this way: not where they must go through a proxy."""
    parts = urlsplit(endpoint)
    proxies = urllib.request.getproxies()
    return not proxies.get(parts.scheme) or bool(urllib.request.proxy_bypass(parts.netloc))


@dataclass(slots=True)
class _Body:
    """A response's body as botocore reads it."""

    data: bytes

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        """All of it at once."""
        yield self.data


class Transport:
    """Transmits requests of one endpoint; a handler of botocore's event `before-send`.

    `ca_bundle` is the file of the certificates to trust (AWS_CA_BUNDLE, or `ca_bundle` in AWS's configuration); None:
    that of REQUESTS_CA_BUNDLE, as everywhere in botocore, else those that it brings. Times are in seconds. Raises
    BundleUnreadable.
    """

    def __init__(self, endpoint: str, connect: float, read: float, ca_bundle: str | None) -> None:
        self.endpoint = urlsplit(endpoint)
        self.connect_seconds = connect
        self.read_seconds = read
        self._context = _tls(ca_bundle) if self.endpoint.scheme == "https" else None
        self._mine = threading.local()

    def send(self, request: AWSPreparedRequest, **event: Any) -> AWSResponse:
        """Transmit the request once. Raises botocore's own transport errors, as `delivery.errors` sorts them."""
        url = str(request.url)
        connection = self._connection(url)
        try:
            answer = _exchange(connection, request, urlsplit(url))
            body = _body(answer)
        except TimeoutError as error:
            connection.close()
            raise ReadTimeoutError(endpoint_url=url, error=error) from error
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise ConnectionClosedError(error=error, request=request, endpoint_url=url) from error
        except BaseException:
            connection.close()
            raise
        self._mine.used = time.monotonic()
        return AWSResponse(url, answer.status, cast(HTTPHeaders, answer.headers), _Body(body))

    def _connection(self, url: str) -> http.client.HTTPConnection:
        """This thread's connection, open and fit for use."""
        connection: http.client.HTTPConnection | None = getattr(self._mine, "connection", None)
        if connection is None:
            connection = self._mine.connection = self._new()
        if connection.sock is not None and (
            time.monotonic() - self._mine.used > IDLE_SECONDS or _ended(connection.sock)
        ):
            connection.close()
        if connection.sock is None:
            self._open(connection, url)
        return connection

    def _new(self) -> http.client.HTTPConnection:
        host, port = self.endpoint.hostname or "", self.endpoint.port
        if self._context is None:
            return http.client.HTTPConnection(host, port, timeout=self.connect_seconds)
        return http.client.HTTPSConnection(host, port, timeout=self.connect_seconds, context=self._context)

    def _open(self, connection: http.client.HTTPConnection, url: str) -> None:
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            # A certificate that is not accepted is a TLS error, and these are errors of the system like the rest.
            for kind, ours in _NOT_OPENED:
                if isinstance(error, kind):
                    raise ours(endpoint_url=url, error=error) from error
            raise EndpointConnectionError(endpoint_url=url, error=error) from error
        connection.sock.settimeout(self.read_seconds)
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def _exchange(
    connection: http.client.HTTPConnection, request: AWSPreparedRequest, url: SplitResult
) -> http.client.HTTPResponse:
    """Write the request and read the head of the answer."""
    target = f"{url.path}?{url.query}" if url.query else url.path
    connection.putrequest(request.method, target, skip_accept_encoding=True)
    for name, value in request.headers.items():
        connection.putheader(name, value)
    # The serializer of SendEmail makes bytes; the stubs cannot know.
    connection.endheaders(cast(bytes, request.body))
    return connection.getresponse()


def _body(answer: http.client.HTTPResponse) -> bytes:
    """The body of an answer, all of it. Raises HTTPException where it breaks off or does not come to an end."""
    body = answer.read(LONGEST_ANSWER + 1)
    if answer.length or len(body) > LONGEST_ANSWER:
        raise http.client.HTTPException("an answer that breaks off or is too long")
    return body


def _ended(sock: socket.socket) -> bool:
    """Whether the other end has closed a connection, or has said something that nobody asked for."""
    if isinstance(sock, ssl.SSLSocket) and sock.pending():
        return True
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _tls(ca_bundle: str | None) -> ssl.SSLContext:
    """Certificates are checked as botocore would check them. Raises BundleUnreadable."""
    bundle = ca_bundle or os.environ.get("REQUESTS_CA_BUNDLE") or get_cert_path(True)
    try:
        return ssl.create_default_context(cafile=bundle)
    except OSError as error:
        raise BundleUnreadable(type(error).__name__) from error
