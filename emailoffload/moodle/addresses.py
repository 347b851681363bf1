"""Which addresses Moodle accepts.

Moodle's `validate_email` is PHP's FILTER_VALIDATE_EMAIL, and no `<`, `>` or line break (facts §5.3). The rule
below is written in our own terms; its answers were compared with those of PHP 8.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from string import ascii_letters, digits

_ATOM = frozenset(ascii_letters + digits + "!#$%&'*+-/=?^_`{|}~")
_LABEL = frozenset(ascii_letters + digits)
_HEX = frozenset(digits + "abcdefABCDEF")
_UNQUOTABLE = frozenset('\0\t\n\r "\\')
"""Characters that a quoted part holds only after a backslash."""
LONGEST = 320
"""Longest address (RFC 2821)."""
LONGEST_COUNTED, LONGEST_LOCAL = 254, 64
"""Longest address and longest part before the @, where quotes and escaping backslashes do not count."""
LONGEST_LABEL = 63
PHP_SPACE = " \t\n\r\0\x0b"
"""What PHP's trim() takes away."""


@lru_cache(maxsize=20_000)
def valid_address(text: str) -> bool:
    """Whether Moodle would mail to this address (`validate_email`).

    ASCII only; atoms and quoted parts joined by dots before the @; after it a domain of at least two labels,
    or an IP address in brackets.
    """
    if not text.isascii() or len(text) > LONGEST or any(character in text for character in "<>\r\n"):
        return False
    end = _local_end(text)
    return (
        end is not None
        and not _too_long(text)
        and (_is_literal(text[end + 1 :]) or _is_domain(text[end + 1 :]))
    )


def unusual(text: str) -> bool:
    """Whether a valid address has a quoted part or names an IP address: Moodle mails to it, Amazon SES does not."""
    return '"' in text or "[" in text


def valid_in(text: str | None) -> tuple[str, ...]:
    """The valid addresses of a list: split at commas and trimmed, in order, doubles kept (facts §2.8)."""
    parts = (part.strip(PHP_SPACE) for part in (text or "").split(","))
    return tuple(part for part in parts if valid_address(part))


def is_domain_name(text: str) -> bool:
    """Whether this is a host name with at least one dot, in ASCII."""
    return text.isascii() and _is_domain(text)


def _local_end(text: str) -> int | None:
    """The position of the @ after well-formed parts; None where there is none."""
    at = 0
    while True:
        start = at
        if text[at : at + 1] == '"':
            at += 1
            while at < len(text) and text[at] != '"':
                if text[at] != "\\" and text[at] in _UNQUOTABLE:
                    return None
                at += 2 if text[at] == "\\" else 1
            at += 1
        else:
            while at < len(text) and text[at] in _ATOM:
                at += 1
        if at == start or at >= len(text):
            return None
        if text[at] == "@":
            return at
        if text[at] != ".":
            return None
        at += 1


def _counted(text: str) -> Iterator[tuple[int, int]]:
    """How PHP counts length: (characters so far, position behind the last of them).

    An escaped character is one; a quote is none, but more quotes in a row than can stand around a character
    end the count.
    """
    at, count, quotes = 0, 0, 1
    while True:
        start = at
        while text[at : at + 1] == '"':
            at += 1
        if at >= len(text) or at - start > quotes:
            return
        if text[at] == "\\":
            if text[at + 1 : at + 2] in ("", "\x7f"):
                return
            at += 1
        at, count, quotes = at + 1, count + 1, 2
        yield count, at


def _too_long(text: str) -> bool:
    for count, at in _counted(text):
        if count > LONGEST_COUNTED:
            return True
        if count > LONGEST_LOCAL and text[at : at + 2].removeprefix('"')[:1] == "@":
            return True
    return False


def _is_domain(text: str) -> bool:
    labels = text.split(".")
    return len(labels) > 1 and all(map(_is_label, labels)) and labels[-1][0] not in digits


def _is_label(text: str) -> bool:
    inner = text.replace("-", "")
    return (
        0 < len(text) <= LONGEST_LABEL
        and text[0] != "-"
        and text[-1] != "-"
        and all(character in _LABEL for character in inner)
    )


def _is_literal(text: str) -> bool:
    """`[192.0.2.1]`, `[IPv6:2001:db8::1]`, `[IPv6:::ffff:192.0.2.1]`."""
    if text[:1] != "[" or text[-1:] != "]" or len(text) < 2:
        return False
    inner = text[1:-1]
    if inner[:5].lower() != "ipv6:":
        return _is_ipv4(inner)
    inner = inner[5:]
    groups = 8
    head, colon, tail = inner.rpartition(":")
    if "." in tail:
        if not colon or not _is_ipv4(tail):
            return False
        inner, groups = (head + colon if head.endswith(":") or not head else head), 6
    if "::" not in inner:
        parts = inner.split(":")
        return len(parts) == groups and all(map(_is_group, parts))
    left, _, right = inner.partition("::")
    parts = [part for side in (left, right) if side for part in side.split(":")]
    # PHP lets `::` stand for two groups at least.
    return len(parts) <= groups - 2 and all(map(_is_group, parts))


def _is_group(text: str) -> bool:
    return 1 <= len(text) <= 4 and all(character in _HEX for character in text)


def _is_ipv4(text: str) -> bool:
    parts = text.split(".")
    return len(parts) == 4 and all(
        part.isascii() and part.isdigit() and str(int(part)) == part and int(part) < 256 for part in parts
    )
