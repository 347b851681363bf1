"""A small SES on loopback for tests: just enough of the SESv2 wire protocol, and it misbehaves on demand.

It runs on an asyncio loop of its own thread, or alone: `python -m tests.fake_ses DELAY` prints its port.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Request:
    """What a client sent: the path, the headers in lower case, the decoded JSON body."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def ref(self) -> str:
        """The id in our header."""
        headers = self.body["Content"]["Simple"]["Headers"]
        return str(next(header["Value"] for header in headers if header["Name"] == "X-Email-Offload-Id"))


@dataclass(frozen=True)
class Reply:
    """How the server answers: after `delay` seconds with a status, never (`hang`), or with a reset."""

    status: int = 200
    code: str = ""
    message: str = ""
    delay: float = 0.0
    hang: bool = False
    reset: bool = False
    raw: bytes | None = None


@dataclass
class FakeSes:
    """The server. `behave` decides each answer to SendEmail; `account` is what GetAccount says."""

    delay: float = 0.0
    behave: Callable[[Request], Reply | None] = lambda request: None
    account: dict[str, Any] = field(
        default_factory=lambda: {
            "SendingEnabled": True,
            "ProductionAccessEnabled": True,
            "EnforcementStatus": "HEALTHY",
            "SendQuota": {"Max24HourSend": 1e6, "MaxSendRate": 1e4, "SentLast24Hours": 0.0},
        }
    )
    account_reply: Reply | None = None
    keep: bool = True
    sent: list[Request] = field(default_factory=list)
    """Every SendEmail request whose body arrived, answered or not."""
    accepted: list[Request] = field(default_factory=list)
    account_reads: int = 0
    connections: int = 0
    port: int = 0

    def start(self) -> FakeSes:
        """Listen on a free port of loopback."""
        ready = threading.Event()
        self.loop = asyncio.new_event_loop()

        async def listen() -> None:
            server = await self.loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=512)
            self.port = server.sockets[0].getsockname()[1]
            ready.set()

        def run() -> None:
            asyncio.set_event_loop(self.loop)
            self.loop.create_task(listen())
            self.loop.run_forever()

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        assert ready.wait(10)
        return self

    def stop(self) -> None:
        """Close everything."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)

    @property
    def url(self) -> str:
        """Its address, for AWS_ENDPOINT_URL_SESV2."""
        return f"http://127.0.0.1:{self.port}"

    def times(self) -> Counter[str]:
        """How often each of our ids was accepted."""
        return Counter(request.ref for request in self.accepted)

    def answer(self, request: Request) -> Reply:
        """The answer to one request."""
        if request.path == "/v2/email/account":
            self.account_reads += 1
            return self.account_reply or Reply(raw=json.dumps(self.account).encode())
        if self.keep:
            self.sent.append(request)
        reply = self.behave(request) or Reply(delay=self.delay)
        if reply.status == 200 and reply.raw is None and not reply.hang and not reply.reset and self.keep:
            self.accepted.append(request)
        return reply


class _Connection(asyncio.Protocol):
    def __init__(self, server: FakeSes) -> None:
        self.server = server
        self.buffer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.server.connections += 1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        self.buffer = rest[length:]
        method, path, _ = lines[0].split(" ")
        body = json.loads(rest[:length]) if length and self.server.keep else {}
        reply = self.server.answer(Request(method, path, headers, body))
        if reply.hang:
            return
        if reply.reset:
            self.transport.abort()
            return
        if reply.delay:
            self.server.loop.call_later(reply.delay, self.respond, reply)
        else:
            self.respond(reply)

    def respond(self, reply: Reply) -> None:
        if self.transport.is_closing():
            return
        content = reply.raw
        if content is None:
            content = json.dumps(
                {"MessageId": f"0102{uuid.uuid4()}-000000"}
                if reply.status == 200
                else {"message": reply.message}
            ).encode()
        error = f"x-amzn-ErrorType: {reply.code}\r\n" if reply.code else ""
        self.transport.write(
            f"HTTP/1.1 {reply.status} Answer\r\nx-amzn-RequestId: {uuid.uuid4()}\r\n{error}"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode()
            + content
        )


def main() -> None:
    """Serve until stdin closes: the server of a benchmark, in a process of its own."""
    server = FakeSes(delay=float(sys.argv[1]), keep=False).start()
    print(server.port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
