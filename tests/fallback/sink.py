"""A small SMTP server on loopback that keeps what it takes, and misbehaves on demand."""

from __future__ import annotations

import email
import email.policy
import socket
import ssl
import threading
from contextlib import suppress
from email.message import EmailMessage
from typing import Any

REPLIES = {
    "sender": ("MAIL", b"550 5.7.1 you may not send as <noreply@learn.example.org>\r\n"),
    "recipient": ("RCPT", b"550 5.1.1 <anna@example.org> is unknown here\r\n"),
    "greylist": ("RCPT", b"451 4.7.1 try again later\r\n"),
    "data": ("DATA", b"554 5.5.1 no\r\n"),
    "shutdown": ("MAIL", b"421 4.3.2 closing\r\n"),
    "content": ("END", b"554 5.6.0 refused by a filter\r\n"),
    "full": ("END", b"452 4.3.1 no room\r\n"),
}
"""By fault: the command at which it shows, and the answer."""


class Sink:
    """The server. `fault` is one of REPLIES, "before_data", "after_data" (the connection breaks there), "hang"
    (no answer to a mail), "login", or "" for all is well. A `one_shot` fault shows once."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.fault = ""
        self.one_shot = False
        self.taken: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.connections = 0
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self.listener.getsockname()[1]
        self.open: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def stop(self) -> None:
        """Refuse connections from now on, and break those that there are."""
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def refs(self) -> list[str]:
        """Our ids of the mails that were taken."""
        return [str(mail["X-Email-Offload-Id"]) for mail in self.taken]

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._talk, args=[connection], daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        self.open.append(connection)
        with suppress(OSError, ValueError):
            connection.sendall(b"220 sink ESMTP\r\n")
            stream = connection.makefile("rb")
            while line := stream.readline():
                command = line[:4].upper().decode("ascii", "replace")
                if command == "STAR" and self.tls:
                    connection.sendall(b"220 go ahead\r\n")
                    connection = self.tls.wrap_socket(connection, server_side=True)
                    self.open.append(connection)
                    stream = connection.makefile("rb")
                elif not self._answer(command, line, connection, stream):
                    break
        connection.close()

    def _shows(self, *faults: str) -> bool:
        with self.lock:
            if self.fault not in faults:
                return False
            if self.one_shot:
                self.fault = ""
            return True

    def _answer(self, command: str, line: bytes, connection: socket.socket, stream: Any) -> bool:
        reply = REPLIES.get(self.fault)
        if reply and command == reply[0] and self._shows(self.fault):
            connection.sendall(reply[1])
            return reply[1][:3] != b"421"
        match command:
            case "EHLO":
                offers = b"250-sink\r\n250-SIZE 10000000\r\n" + (b"250-STARTTLS\r\n" if self.tls else b"")
                connection.sendall(offers + b"250 AUTH PLAIN\r\n")
            case "AUTH":
                connection.sendall(b"535 5.7.8 no\r\n" if self.fault == "login" else b"235 welcome\r\n")
            case "RCPT":
                self.recipients.append(line.decode().partition("<")[2].partition(">")[0])
                connection.sendall(b"250 fine\r\n")
            case "DATA":
                if self._shows("before_data"):
                    return False
                connection.sendall(b"354 go on\r\n")
                return self._take(connection, stream)
            case "QUIT":
                connection.sendall(b"221 bye\r\n")
                return False
            case _:
                connection.sendall(b"250 fine\r\n")
        return True

    def _take(self, connection: socket.socket, stream: Any) -> bool:
        lines = []
        while (line := stream.readline()) not in (b".\r\n", b""):
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        refused = REPLIES.get(self.fault)
        if refused and refused[0] == "END" and self._shows(self.fault):
            connection.sendall(refused[1])
            return True
        mail = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
        self.taken.append(mail)
        if self._shows("after_data"):
            return False
        if self._shows("hang"):
            stream.readline()  # until the client goes
            return False
        connection.sendall(b"250 2.0.0 queued as 4XYZ\r\n")
        return True
