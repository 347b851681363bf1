"""SES in a soak: it fails on demand, goes away and comes back, and never forgets what it has taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from emailoffload.sandbox.faults import Fault, Faults
from emailoffload.sandbox.mailbox import Mailbox, offload_id_of
from emailoffload.sandbox.ses_server import SandboxSES


class Taken(Mailbox):
    """Counts what was taken by our id of the mail, with the times."""

    def __init__(self) -> None:
        super().__init__(discard=True)
        self.times: dict[str, list[float]] = {}

    def accept(self, message_id: str, request: Mapping[str, Any], now: float) -> None:
        """Take a message in."""
        self.times.setdefault(offload_id_of(request), []).append(now)
        super().accept(message_id, request, now)


class Cloud:
    """A sandbox SES on one port, whose memory outlives its server."""

    def __init__(self, latency_ms: float = 20.0) -> None:
        self.latency_ms = latency_ms
        self.taken = Taken()
        self.faults = Faults()
        self._server: SandboxSES | None = None
        self._port = 0
        self.appear()

    @property
    def url(self) -> str:
        """Where the product finds it."""
        return f"http://127.0.0.1:{self._port}"

    def appear(self) -> None:
        """Listen, on the same port as before."""
        if self._server is not None:
            return
        server = SandboxSES(
            port=self._port, latency_ms=self.latency_ms, max_send_rate=500, max_24h=10_000_000
        )
        server.mailbox = server.api.mailbox = self.taken
        server.faults = server.api.faults = self.faults
        server.__enter__()
        self._server, self._port = server, server.port

    def vanish(self) -> None:
        """Refuse connections from now on, and break those that there are."""
        server, self._server = self._server, None
        if server is not None:
            server.__exit__(None, None, None)

    def fail(self, mode: str, share: float, seconds: float) -> Fault:
        """Show a fault to this share of the mails."""
        fault = Fault(mode, probability=share, seconds=seconds)
        self.faults.add(fault)
        return fault

    def recover(self, fault: Fault | None = None) -> None:
        """End a fault, or all."""
        self.faults.active = [
            other for other in self.faults.active if fault is not None and other is not fault
        ]

    def counts(self) -> Counter[str]:
        """How often each mail was taken, by our id in 32 hex digits."""
        return Counter({ref.replace("-", ""): len(times) for ref, times in self.taken.times.items()})

    def when(self, ref: str) -> list[float]:
        """The UNIX times at which a mail was taken."""
        return next((t for known, t in self.taken.times.items() if known.replace("-", "") == ref), [])
