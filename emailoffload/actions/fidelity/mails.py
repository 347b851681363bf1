"""Mails as a recipient sees them: those that Moodle sent, from files, and those that we render, in the same terms."""

from __future__ import annotations

import datetime as dt
import email
import email.utils
import mailbox
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage, MIMEPart
from email.policy import default as default_policy
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

from emailoffload.sources.protocol import RenderedMail

MOST_BYTES: Final = 50_000_000
"""Of one mail; a larger file is no mail."""
_BLOCKS: Final = frozenset(
    """
    address article aside blockquote body br center dd div dl dt fieldset figure footer form h1 h2 h3 h4 h5 h6
    header hr html li main nav ol p pre section table tbody td tfoot th thead tr ul
    """.split()  # noqa: SIM905 - a list of words reads better so
)
_SILENT: Final = frozenset({"script", "style", "head", "title", "template", "noscript"})


class NoMails(Exception):
    """The folder cannot be used; the text says why."""


@dataclass(frozen=True)
class Mail:
    """One mail to one recipient; headers and parts decoded, line ends LF. `html` None: a single text part."""

    to_address: str
    to_name: str
    from_address: str
    from_name: str
    reply_to_address: str
    reply_to_name: str
    subject: str
    text: str = field(repr=False)
    html: str | None = field(repr=False)
    file: str = ""
    sent_at: dt.datetime | None = None

    @cached_property
    def seen(self) -> Seen:
        """What a reader of the HTML part sees; nothing where there is none."""
        reader = _Reader()
        reader.feed(self.html or "")
        reader.close()
        return Seen(reader.lines(), tuple(reader.links()), tuple(reader.images))

    @cached_property
    def text_lines(self) -> tuple[str, ...]:
        """The text part, line by line, without blank space at the ends of lines and of the whole."""
        lines = [line.rstrip() for line in self.text.strip("\r\n").splitlines()]
        while lines and not lines[-1]:
            lines.pop()
        while lines and not lines[0]:
            lines.pop(0)
        return tuple(lines)


@dataclass(frozen=True, slots=True)
class Seen:
    """Visible text by lines, blank space collapsed; links as (text, address), images as (alternative text, address)."""

    lines: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    images: tuple[tuple[str, str], ...]


def of_rendered(mail: RenderedMail) -> Mail:
    """A mail of ours in these terms."""
    return Mail(
        to_address=mail.to_address,
        to_name=mail.to_name.strip(),
        from_address=mail.from_address,
        from_name=mail.from_name.strip(),
        reply_to_address=mail.reply_to_address,
        reply_to_name=mail.reply_to_name.strip(),
        subject=mail.subject,
        text=_unix(mail.text),
        html=None if mail.html is None else _unix(mail.html),
    )


def read_folder(folder: Path) -> list[Mail]:
    """Every mail of the folder and the folders in it: files `*.eml`, and mailboxes `*.mbox` or `mbox`.

    What is no mail (no recipient) is left out. Raises NoMails where the folder cannot be read or holds none.
    """
    if not folder.is_dir():
        raise NoMails(f"{folder} is no folder.")
    found: list[Mail] = []
    try:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if not path.is_file() or path.stat().st_size > MOST_BYTES * 20:
                continue
            if path.suffix.lower() == ".eml":
                found += _read(path.read_bytes(), name)
            elif path.suffix.lower() == ".mbox" or path.name == "mbox":
                found += [mail for raw, place in _mbox(path) for mail in _read(raw, f"{name}#{place}")]
    except OSError as error:
        raise NoMails(f"{folder} cannot be read ({error.strerror}).") from error
    if not found:
        raise NoMails(f"{folder} holds no mail: no file *.eml, no mailbox *.mbox.")
    return found


def _mbox(path: Path) -> Iterator[tuple[bytes, int]]:
    box = mailbox.mbox(path, create=False)
    try:
        for place, key in enumerate(box.keys(), 1):
            yield box.get_bytes(key), place
    finally:
        box.close()


def _read(raw: bytes, name: str) -> list[Mail]:
    mail = read(raw, name)
    return [mail] if mail.to_address else []


def read(raw: bytes, name: str = "") -> Mail:
    """A mail as it arrived. The first of several `To:` and `Reply-To:` lines counts: IOMAD repeats some by mistake."""
    message = email.message_from_bytes(raw, policy=default_policy)
    assert isinstance(message, EmailMessage)
    to_name, to_address = _address(message, "To")
    from_name, from_address = _address(message, "From")
    reply_name, reply_address = _address(message, "Reply-To")
    html = message.get_body(("html",))
    plain = message.get_body(("plain",))
    return Mail(
        to_address=to_address,
        to_name=to_name,
        from_address=from_address,
        from_name=from_name,
        reply_to_address=reply_address,
        reply_to_name=reply_name,
        subject=str(message.get("Subject", "")),
        text=_decoded(plain),
        html=None if html is None else _decoded(html),
        file=name,
        sent_at=_date(message),
    )


def _address(message: EmailMessage, header: str) -> tuple[str, str]:
    lines = message.get_all(header, [])
    if not lines:
        return "", ""
    addresses = getattr(lines[0], "addresses", ())
    if addresses and addresses[0].addr_spec not in {"", "<>"}:
        return str(addresses[0].display_name).strip(), str(addresses[0].addr_spec)
    # A header that is not as it should be: what can be read of it.
    name, address = email.utils.parseaddr(str(lines[0]))
    return name.strip(), address


def _date(message: EmailMessage) -> dt.datetime | None:
    try:
        found = email.utils.parsedate_to_datetime(str(message.get("Date", "")))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def _decoded(part: MIMEPart | None) -> str:
    if part is None:
        return ""
    raw = part.get_payload(decode=True)
    charset = part.get_content_charset() or "utf-8"
    data = raw if isinstance(raw, bytes) else b""
    try:
        return _unix(data.decode(charset, errors="replace"))
    except LookupError:
        return _unix(data.decode("utf-8", errors="replace"))


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n")


class _Reader(HTMLParser):
    """Collects what is seen of HTML."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.images: list[tuple[str, str]] = []
        self._links: list[tuple[int, str]] = []
        self._found: list[tuple[str, str]] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in _SILENT:
            self._silent += 1
        elif tag in _BLOCKS:
            self.parts.append("\n")
        if tag == "a" and values.get("href"):
            self._end_link()
            self._links.append((len(self.parts), str(values["href"])))
        elif tag == "img":
            self.images.append((values.get("alt") or "", values.get("src") or ""))

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(0, self._silent - 1)
        elif tag in _BLOCKS:
            self.parts.append("\n")
        elif tag == "a":
            self._end_link()

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append(re.sub(r"\s+", " ", data))

    def _end_link(self) -> None:
        if self._links:
            start, address = self._links.pop()
            self._found.append((_collapsed("".join(self.parts[start:])), address))

    def lines(self) -> tuple[str, ...]:
        """The visible text: a line for each block, blank space collapsed, empty lines left out."""
        lines = (_collapsed(line) for line in "".join(self.parts).split("\n"))
        return tuple(line for line in lines if line)

    def links(self) -> list[tuple[str, str]]:
        """The links in the order in which they end."""
        self._end_link()
        return self._found


def _collapsed(text: str) -> str:
    return " ".join(text.split())
