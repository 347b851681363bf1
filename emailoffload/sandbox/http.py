"""A small HTTP/1.1 server on asyncio protocols: keep-alive, one request at a time per connection, little CPU.

The sandbox is also what throughput is measured against, so its own cost per request must stay far below the
client's. It listens on loopback only and refuses foreign `Host` headers, so that no web page in a browser on
the same machine can reach it under a name of its own.
"""

from __future__ import annotations

import asyncio
import email.utils
import socket
import struct
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal, Protocol
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

MAX_HEAD = 64 * 1024
MAX_BODY = 64 * 1024 * 1024
"""SES takes messages of up to 40 MB; base64 and JSON make them larger."""
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})


@dataclass(slots=True)
class Request:
    """One request; header names are lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def url(self) -> SplitResult:
        """The target, split."""
        return urlsplit(self.target)

    @property
    def path(self) -> str:
        """The path, percent-decoded."""
        return unquote(self.target.partition("?")[0])

    def query(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        return parse_qs(self.url.query).get(name, [default])[0]


@dataclass(slots=True)
class Reply:
    """What to answer, and how: at once, after `delay` seconds, never (`hang`), or by a reset connection."""

    body: bytes = b""
    status: int = 200
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    ending: Literal["answer", "hang", "reset"] = "answer"
    later: asyncio.Future[Reply] | None = None
    """What to answer is not known yet: it is this one's result. It is cancelled when the client goes away."""


class App(Protocol):
    """Whatever answers requests; called in the event loop, must not block."""

    def handle(self, request: Request) -> Reply:
        """The reply to one request."""
        ...


_REASONS = {int(status): status.phrase for status in HTTPStatus}
_date = (0, "")


def _http_date() -> str:
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, email.utils.formatdate(now, usegmt=True))
    return _date[1]


def _encode(reply: Reply, *, close: bool, head_only: bool) -> bytes:
    extra = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
    head = (
        f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, '')}\r\nDate: {_http_date()}\r\n"
        f"Content-Type: {reply.content_type}\r\nContent-Length: {len(reply.body)}\r\n"
        f"{extra}{'Connection: close' if close else 'Connection: keep-alive'}\r\n\r\n"
    ).encode("latin-1")
    return head if head_only else head + reply.body


def _text(status: int, text: str) -> Reply:
    return Reply(text.encode(), status, "text/plain; charset=utf-8")


class Connection(asyncio.Protocol):
    """One client connection."""

    def __init__(self, app: App, open_connections: set[Connection]) -> None:
        self.app = app
        self.open_connections = open_connections
        self.buffer = bytearray()
        self.request: Request | None = None
        self.body_length = 0
        self.busy = False
        self.later: asyncio.Future[Reply] | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport, so that the server can close it when it stops."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.open_connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.open_connections.discard(self)
        if self.later is not None:
            self.later.cancel()

    def data_received(self, data: bytes) -> None:
        """Collect bytes and answer every request that is complete, in order."""
        self.buffer += data
        while not self.busy and not self.transport.is_closing() and self._next_request():
            pass

    def _next_request(self) -> bool:
        if self.request is None and not self._read_head():
            return False
        request = self.request
        if request is None or len(self.buffer) < self.body_length:
            return False
        request.body = bytes(self.buffer[: self.body_length])
        del self.buffer[: self.body_length]
        self.request = None
        self._answer(request, self.app.handle(request))
        return True

    def _read_head(self) -> bool:
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self.buffer) > MAX_HEAD:
                self._refuse(431, "The request's headers are too long.")
            return False
        lines = self.buffer[:end].decode("latin-1").split("\r\n")
        del self.buffer[: end + 4]
        parts = lines[0].split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            self._refuse(400, "This is not an HTTP/1.1 request.")
            return False
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("host", "").rpartition(":")[0] not in LOOPBACK_NAMES and (
            headers.get("host", "") not in LOOPBACK_NAMES
        ):
            self._refuse(421, "The sandbox answers to 127.0.0.1 and localhost only.")
            return False
        length = headers.get("content-length", "0")
        if "transfer-encoding" in headers or not length.isdecimal():
            self._refuse(411, "Send the body with a Content-Length.")
            return False
        if int(length) > MAX_BODY:
            self._refuse(413, "The body is too large.")
            return False
        if headers.get("expect", "").lower() == "100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.body_length = int(length)
        self.request = Request(parts[0], parts[1], headers)
        return True

    def _refuse(self, status: int, text: str) -> None:
        self.transport.write(_encode(_text(status, text), close=True, head_only=False))
        self.transport.close()

    def _answer(self, request: Request, reply: Reply) -> None:
        if reply.ending == "hang":
            self.busy = True
        elif reply.ending == "reset":
            self._reset()
        elif reply.later is not None:
            self.busy = True
            self.later = reply.later
            reply.later.add_done_callback(lambda done: self._known_now(request, reply, done))
        elif reply.delay > 0:
            self.busy = True
            asyncio.get_running_loop().call_later(reply.delay, self._send_late, request, reply)
        else:
            self._send(request, reply)

    def _known_now(self, request: Request, promised: Reply, done: asyncio.Future[Reply]) -> None:
        self.later = None
        if done.cancelled():
            return
        reply = done.result()
        reply.content_type = promised.content_type
        reply.headers |= promised.headers
        self._send_late(request, reply)

    def _send_late(self, request: Request, reply: Reply) -> None:
        self.busy = False
        self._send(request, reply)
        self.data_received(b"")

    def _send(self, request: Request, reply: Reply) -> None:
        if self.transport.is_closing():
            return
        close = request.headers.get("connection", "").lower() == "close"
        self.transport.write(_encode(reply, close=close, head_only=request.method == "HEAD"))
        if close:
            self.transport.close()

    def _reset(self) -> None:
        """End with a TCP reset instead of an orderly close."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class Server:
    """Listens on 127.0.0.1 and gives every request to the application."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self, port: int) -> int:
        """Listen on `port` (0 = any free one); return the port. Raises OSError when it is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self.app, self.connections), "127.0.0.1", port, backlog=1024
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and drop every open connection."""
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.transport.abort()
        if self._server is not None:
            await self._server.wait_closed()
