"""The SMTP route: one mail at a time over one connection of Django's e-mail backend, with honest outcomes.

Django's backend opens the connection that EMAIL_URL names: its timeouts, STARTTLS or TLS with verified
certificates, its login. The dialogue of a mail is spoken here step by step (RFC 5321), because the backend
only says that something failed, and a mail that may have left must not be sent again:

| Where it fails | Outcome |
|---|---|
| connection, TLS, greeting | not_transmitted |
| login, or the server takes no mail from our sender | account |
| a refusal for now (4xx) at any step | throttled |
| a refusal of the recipient or of the mail (5xx) | permanent |
| the connection breaks before the server asks for the mail (354) | not_transmitted |
| the connection breaks after that, before its answer | unknown |
"""

from __future__ import annotations

import re
import smtplib
import ssl
from types import TracebackType
from typing import Any, Self

from django.conf import settings
from django.core.mail import get_connection
from django.core.mail.backends.smtp import EmailBackend
from django.utils.translation import gettext_noop as _

from emailoffload.delivery import message, mime
from emailoffload.delivery.errors import Outcome
from emailoffload.outbox.content import Parts

BACKEND = "django.core.mail.backends.smtp.EmailBackend"
UNREACHABLE = "smtp_unreachable"
CERTIFICATE = "smtp_certificate"
LOGIN = "smtp_login"
SENDER = "smtp_sender"
RECIPIENT = "smtp_recipient"
REFUSED = "smtp_refused"
BUSY = "smtp_busy"
NO_ANSWER = "smtp_no_answer"
_ADDRESS = re.compile(r"[^\s<>,;:\"'()\[\]]+@[^\s<>,;:\"'()\[\]]+")
_DOTS = re.compile(rb"(?m)^\.")


def configured() -> bool:
    """Whether EMAIL_URL names a server: without it there is no SMTP route."""
    return bool(settings.SMTP_ROUTE)


def _words(code: int, text: bytes | str) -> str:
    """The server's words without the addresses that they may quote."""
    said = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return f"{code} {_ADDRESS.sub('(address)', said)}"[:400]


class Connection:
    """A connection for a batch of mails, opened when the first one is sent and closed at the end of the block.

    `down` is the outcome that says why no connection can be had; nothing more is tried over this object then.
    """

    def __init__(self) -> None:
        self.down: Outcome | None = None
        backend = get_connection(BACKEND)
        assert isinstance(backend, EmailBackend)
        self._backend = backend
        self._used = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drop(politely=True)

    def send(self, parts: Parts, ref: str) -> Outcome:
        """Transmit one mail, once; `ref` is its reference as 32 hex digits. Never raises for what the network does.

        A connection that the server has closed since the last mail is made anew: nothing of this mail was
        transmitted over it.
        """
        try:
            sender, recipient = message.address(parts.from_address), message.address(parts.to_address)
            data = mime.build(parts, ref)
        except message.Unsendable as error:
            return Outcome("permanent", error.code, str(error))
        again = self._used
        while True:
            problem = self.open()
            if problem:
                return problem
            outcome = self._dialogue(self._server(), sender, recipient, data)
            if outcome is not None:
                if outcome.kind == "accepted":
                    return Outcome(
                        "accepted", message=outcome.message, message_id=mime.message_id(parts, ref)
                    )
                return outcome
            self._drop()
            if not again:
                return Outcome("not_transmitted", UNREACHABLE, _("The SMTP server closed the connection."))
            again = False

    def open(self) -> Outcome | None:
        """Connect and log in, unless that is done; None, or the outcome that says why there is no connection."""
        if self.down is None and self._backend.connection is None:
            try:
                self._backend.open()
                self._server().ehlo_or_helo_if_needed()
                self._used = False
            except Exception as error:
                # Broad on purpose: whatever keeps us from connecting is the outcome of every mail of the batch.
                self._drop()
                self.down = _not_connected(error)
        return self.down

    def _server(self) -> smtplib.SMTP:
        server = self._backend.connection
        assert server is not None
        return server

    def _dialogue(self, server: smtplib.SMTP, sender: str, recipient: str, data: bytes) -> Outcome | None:
        """One mail; None where the connection broke before the server asked for it."""
        try:
            self._used = True
            size = f"size={len(data)}"
            code, text = server.mail(sender, [size] if server.has_extn("size") else [])
            refused = _refusal(code, text, SENDER, "account")
            if refused is None:
                code, text = server.rcpt(recipient)
                refused = _refusal(code, text, RECIPIENT, "permanent")
            if refused is None:
                code, text = server.docmd("DATA")
                if code != 354:
                    refused = _refusal(code, text, REFUSED, "permanent") or Outcome(
                        "throttled", BUSY, _words(code, text)
                    )
            if refused is not None:
                self._reset(server, code)
                return refused
        except (OSError, smtplib.SMTPException):
            return None
        try:
            server.send(_DOTS.sub(b"..", data.rstrip(b"\r\n")) + b"\r\n.\r\n")
            code, text = server.getreply()
        except (OSError, smtplib.SMTPException):
            self._drop()
            return Outcome("unknown", NO_ANSWER, _("The connection broke before the SMTP server answered."))
        refused = _refusal(code, text, REFUSED, "permanent")
        if refused is None:
            return Outcome("accepted", message=_words(code, text))
        self._reset(server, code)
        return refused

    def _reset(self, server: smtplib.SMTP, code: int) -> None:
        """Ready for the next mail: after 421 the server has gone, after any other refusal it starts anew."""
        try:
            if code == 421:
                self._drop()
            else:
                server.rset()
        except (OSError, smtplib.SMTPException):
            self._drop()

    def _drop(self, *, politely: bool = False) -> None:
        """Close the connection; `politely` says goodbye, which a broken one would not hear."""
        for name in ("connection", "_partial_connection"):
            server: Any = getattr(self._backend, name)
            setattr(self._backend, name, None)
            if server is None:
                continue
            try:
                if politely:
                    server.quit()
            except (OSError, smtplib.SMTPException):
                pass
            finally:
                server.close()


def _refusal(code: int, text: bytes | str, reason: str, kind: Any) -> Outcome | None:
    """What a reply means; None where it is a yes. Raises SMTPServerDisconnected for none at all."""
    if code == -1:
        raise smtplib.SMTPServerDisconnected("no reply")
    if 200 <= code < 400:
        return None
    if 500 <= code < 600:
        return Outcome(kind, reason, _words(code, text))
    return Outcome("throttled", BUSY, _words(code, text))


def _not_connected(error: Exception) -> Outcome:
    if isinstance(error, smtplib.SMTPAuthenticationError):
        words = _("The SMTP server refused the login. Check user and password in EMAIL_URL.")
        return Outcome("account", LOGIN, words)
    if isinstance(error, smtplib.SMTPNotSupportedError):
        words = _("The SMTP server does not offer what EMAIL_URL asks for: encryption, or a login.")
        return Outcome("account", LOGIN, words)
    if isinstance(error, ssl.SSLCertVerificationError):
        words = _(
            "The SMTP server's certificate was not accepted. Check the name in EMAIL_URL, and SSL_CERT_FILE."
        )
        return Outcome("not_transmitted", CERTIFICATE, words)
    words = _("No connection to the SMTP server (%(error)s). Check EMAIL_URL and the network.") % {
        "error": type(error).__name__
    }
    return Outcome("not_transmitted", UNREACHABLE, words)
