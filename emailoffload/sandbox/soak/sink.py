"""The SMTP server of a soak: counts what it takes by our id of the mail, and fails on demand."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any

HEADER = b"x-email-offload-id:"
Stream = Any
"""The two directions of a connection, as `socket.makefile` gives them."""


class Sink:
    """Listens on a loopback port. `fault` is one of plan.SMTP_FAULTS, or "" for all is well."""

    def __init__(self) -> None:
        self.fault = ""
        self.times: dict[str, list[float]] = {}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, name="soak-smtp", daemon=True).start()

    @property
    def url(self) -> str:
        """The setting EMAIL_URL."""
        return f"smtp://127.0.0.1:{self.port}"

    def counts(self) -> Counter[str]:
        """How often each mail was taken, by our id in 32 hex digits."""
        return Counter({ref: len(times) for ref, times in self.times.items()})

    def stop(self) -> None:
        """Listen no more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=[connection], daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, suppress(OSError), connection.makefile("rwb") as stream:
            if self.fault == "away":
                return
            _say(stream, b"220 soak ESMTP")
            while line := stream.readline():
                match line[:4].upper():
                    case b"EHLO":
                        _say(stream, b"250-soak\r\n250 SIZE 10000000")
                    case b"MAIL" if self.fault == "later":
                        _say(stream, b"451 4.3.0 try again later")
                    case b"RCPT" if self.fault == "refuse":
                        _say(stream, b"550 5.1.1 unknown here")
                    case b"DATA":
                        _say(stream, b"354 go on")
                        if not self._take(stream):
                            return
                    case b"QUIT":
                        _say(stream, b"221 bye")
                        return
                    case _:
                        _say(stream, b"250 fine")

    def _take(self, stream: Stream) -> bool:
        """Read one mail and count it; False where the connection is to break."""
        ref = ""
        while (line := stream.readline()) != b".\r\n":
            if not line:
                return False
            if line.lower().startswith(HEADER) and not ref:
                ref = line.partition(b":")[2].strip().decode("ascii").replace("-", "")
        if self.fault == "break_before":
            return False
        self.times.setdefault(ref, []).append(time.time())
        if self.fault == "break_after":
            return False
        _say(stream, b"250 2.0.0 taken")
        return True


def _say(stream: Stream, line: bytes) -> None:
    stream.write(line + b"\r\n")
    stream.flush()
