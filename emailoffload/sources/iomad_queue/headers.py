"""What IOMAD stored in `email.headers` when it queued a mail: the template, reply-to, an attachment (facts §7.4).

The recipients follow from the stored template, not from the header lines `To:` and `Cc:`: IOMAD adds those
lines to each copy by mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from emailoffload.moodle.formatting.phpserialize import PhpObject, PhpSerializeError, Value, loads
from emailoffload.sources import reasons

LINES = frozenset({"to", "cc", "reply-to"})
"""The header lines that IOMAD stores."""


class Unusable(Exception):
    """A row must stay with IOMAD: `reason` is a code of `sources.reasons`, `detail` never quotes the row."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class StoredTemplate:
    """The template as it was when the mail was queued; the parts that decide about recipients and sender."""

    to_users: tuple[int, ...] = ()
    to_addresses: tuple[str, ...] = ()
    """As they were entered, valid or not."""
    cc_users: tuple[int, ...] = ()
    cc_addresses: tuple[str, ...] = ()
    from_user: int = 0
    from_address: str = ""
    from_name: str = ""
    managers_off: bool = False
    supervisors_off: bool = False


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An attachment: where Moodle keeps it, on Moodle's own disk, and what it is called."""

    path: str
    name: str


@dataclass(frozen=True, slots=True)
class StoredHeaders:
    """The whole. `template` None: none was stored, so IOMAD looks it up when it sends."""

    template: StoredTemplate | None
    reply_to: str = ""
    """The first `reply-to:` line's address; '' where there is none."""
    attachment: StoredFile | None = None
    absent: bool = False
    """True where the column is empty: IOMAD then has nowhere to put a sender of the template's own."""


def parse(headers: str | None) -> StoredHeaders:
    """What a row's `headers` say. Raises Unusable where they are not as IOMAD writes them."""
    if not headers or headers == "0":
        return StoredHeaders(None, absent=True)
    try:
        stored = loads(headers)
    except PhpSerializeError as error:
        raise Unusable(reasons.HEADERS_UNREADABLE, str(error)) from None
    if not isinstance(stored, dict):
        raise _unreadable("they are no array")
    if unknown := [key for key in stored if isinstance(key, str) and key not in ("template", "attachment")]:
        raise _unreadable(f"{len(unknown)} unknown keys")
    template = stored.get("template")
    if not _empty(template) and not isinstance(template, PhpObject):
        raise _unreadable("the template is no object")
    return StoredHeaders(
        template=template_of(template.properties) if isinstance(template, PhpObject) else None,
        reply_to=_reply_to([line for key, line in stored.items() if isinstance(key, int)]),
        attachment=_attachment(stored.get("attachment")),
    )


def _unreadable(detail: str) -> Unusable:
    return Unusable(reasons.HEADERS_UNREADABLE, detail)


def _empty(value: Value) -> bool:
    """PHP's empty(): what is not there, '', '0', 0, false and an array without values."""
    return not isinstance(value, PhpObject) and (not value or value == "0")


def template_of(stored: Mapping[str, Value]) -> StoredTemplate:
    """A template from its columns or properties by name; what is missing is empty. Raises Unusable."""
    return StoredTemplate(
        to_users=_users(stored, "emailto"),
        to_addresses=_addresses(stored, "emailtoother"),
        cc_users=_users(stored, "emailcc"),
        cc_addresses=_addresses(stored, "emailccother"),
        from_user=next(iter(_users(stored, "emailfrom")), 0),
        from_address=_text(stored, "emailfromother"),
        from_name=_text(stored, "emailfromothername"),
        managers_off=not _empty(stored.get("disabledmanager")),
        supervisors_off=not _empty(stored.get("disabledsupervisor")),
    )


def _text(stored: Mapping[str, Value], name: str) -> str:
    value = stored.get(name)
    if _empty(value):
        return ""
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise _unreadable(f"{name} is no text")
    return str(value)


def _addresses(stored: Mapping[str, Value], name: str) -> tuple[str, ...]:
    """A list separated by commas, as it is: IOMAD trims nothing, so an address after a blank is none."""
    text = _text(stored, name)
    return tuple(text.split(",")) if text else ()


def _users(stored: Mapping[str, Value], name: str) -> tuple[int, ...]:
    """User ids separated by commas; an empty part names nobody."""
    found = []
    for part in (each.strip() for each in _addresses(stored, name)):
        if part and not (part.isascii() and part.isdecimal() and len(part) <= 18):
            raise _unreadable(f"{name} has something else than user ids")
        if part:
            found.append(int(part))
    return tuple(found)


def _reply_to(lines: list[Value]) -> str:
    """The address of the first `reply-to:` line, which is the one that mail programs take."""
    found = ""
    for line in lines:
        if not isinstance(line, str):
            raise _unreadable("a header line is no text")
        name, colon, value = line.partition(":")
        if not colon or name.strip().lower() not in LINES:
            raise _unreadable("a header line of an unknown kind")
        if name.strip().lower() == "reply-to":
            found = found or value.strip()
    return found


def _attachment(stored: Value) -> StoredFile | None:
    if _empty(stored):
        return None
    if not isinstance(stored, PhpObject):
        raise _unreadable("the attachment is no object")
    path, name = (_text(stored.properties, each) for each in ("filepath", "filename"))
    if not path or not name:
        raise _unreadable("the attachment has no path or no name")
    return StoredFile(path, name)
