"""An SMTP server on loopback that takes every mail and remembers who got one, and when. It keeps no mail."""

from __future__ import annotations

import socketserver
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self


class _Dialogue(socketserver.StreamRequestHandler):
    timeout = 60

    def handle(self) -> None:
        """Speak with one client until it leaves."""
        with suppress(OSError):
            self._say(b"220 drill ESMTP")
            recipients: list[str] = []
            while line := self.rfile.readline(1000):
                match line[:4].upper():
                    case b"RCPT":
                        recipients.append(line.decode("utf-8", "replace").partition("<")[2].partition(">")[0])
                        self._say(b"250 fine")
                    case b"DATA":
                        self._say(b"354 go on")
                        while self.rfile.readline(10_000) not in (b".\r\n", b""):
                            pass
                        assert isinstance(self.server, _Server)
                        self.server.taken += [(address, time.time()) for address in recipients]
                        recipients = []
                        self._say(b"250 taken")
                    case b"QUIT":
                        self._say(b"221 bye")
                        return
                    case _:
                        self._say(b"250 fine")

    def _say(self, words: bytes) -> None:
        self.wfile.write(words + b"\r\n")


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    taken: list[tuple[str, float]]


class Sink:
    """The server, for a block."""

    def __init__(self, port: int) -> None:
        self._server = _Server(("127.0.0.1", port), _Dialogue)
        self._server.taken = []

    @property
    def taken(self) -> list[tuple[str, float]]:
        """Recipient and time (UNIX seconds) of each mail that was taken."""
        return self._server.taken

    def __enter__(self) -> Self:
        """Begin to listen."""
        threading.Thread(target=self._server.serve_forever, args=[0.1], daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
