"""PHP's string functions as Moodle's formatting relies on them.

PHP works on bytes; here everything is `str` and only what measures or cuts (wordwrap) goes through UTF-8.
Each function gives, for valid UTF-8, exactly what PHP 8 gives.
"""

from __future__ import annotations

import html.entities
import re
from collections.abc import Iterable

WHITESPACE = " \n\r\t\v\0"
"""What PHP's trim() removes."""

_NAMED = {name[:-1]: text for name, text in html.entities.html5.items() if name.endswith(";")}
_ENTITY = re.compile(r"&(?:#([0-9]+)|#[xX]([0-9A-Fa-f]+)|([A-Za-z][A-Za-z0-9]*));")
_REPLACEMENT = re.compile(r"\\([0-9]{1,2})|\\([\\$])|\$([0-9]{1,2})|\$\{([0-9]{1,2})\}", re.ASCII)
_NEWLINE = re.compile(r"\r\n|\n\r|\n|\r")
_AMP, _LT, _GT = ("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")


def trim(text: str) -> str:
    """PHP's trim()."""
    return text.strip(WHITESPACE)


def escape(text: str, *, apostrophe: str = "&#039;") -> str:
    """htmlspecialchars; `apostrophe` is `&apos;` for the HTML5 flavour and the bare character for
    ENT_COMPAT.
    """
    for char, entity in (_AMP, _LT, _GT, ('"', "&quot;"), ("'", apostrophe)):
        if char in text:
            text = text.replace(char, entity)
    return text


def escape_markup(text: str) -> str:
    """htmlspecialchars without quotes (ENT_NOQUOTES)."""
    for char, entity in (_AMP, _LT, _GT):
        text = text.replace(char, entity)
    return text


def entity_decode(text: str, *, apostrophes: bool = True) -> str:
    """html_entity_decode of HTML5's complete entities; unknown ones stay.

    With `apostrophes` as ENT_QUOTES, else as ENT_COMPAT: entities of the apostrophe stay too.
    """
    if "&" not in text:
        return text
    return _ENTITY.sub(_decoded if apostrophes else _decoded_but_apostrophes, text)


def _decoded_but_apostrophes(match: re.Match[str]) -> str:
    decoded = _decoded(match)
    return match[0] if decoded == "'" else decoded


def _decoded(match: re.Match[str]) -> str:
    decimal, hexadecimal, name = match.groups()
    if name is not None:
        return _NAMED.get(name, match[0])
    digits = (decimal or hexadecimal).lstrip("0") or "0"
    if len(digits) > 8:
        return match[0]
    code = int(digits, 10 if decimal else 16)
    return chr(code) if _is_html5_char(code) else match[0]


def _is_html5_char(code: int) -> bool:
    if code < 0xA0:
        return 0x20 <= code <= 0x7E or code in (0x09, 0x0A, 0x0C)
    if 0xD800 <= code <= 0xDFFF or code > 0x10FFFF:
        return False
    return (code & 0xFFFE) != 0xFFFE and not 0xFDD0 <= code <= 0xFDEF


def nl2br(text: str) -> str:
    """nl2br: `<br />` before each newline; a pair of CR and LF counts as one."""
    if "\r" not in text:
        return text.replace("\n", "<br />\n")
    return _NEWLINE.sub(lambda match: "<br />" + match[0], text)


def preg_replacement(value: str, matched: str) -> str:
    """`value` as the replacement string of a pattern without groups that matched `matched` (facts §4.2).

    A reference to group 0 is the match, any other reference nothing; a backslash quotes a backslash or a `$`.
    """
    if "$" not in value and "\\" not in value:
        return value

    def resolve(match: re.Match[str]) -> str:
        if match[2]:
            return match[2]
        return matched if int(match[1] or match[3] or match[4]) == 0 else ""

    return _REPLACEMENT.sub(resolve, value)


def str_replace(text: str, pairs: Iterable[tuple[str, str]]) -> str:
    """str_replace with arrays: one pair after the other over the growing text; an empty search is nothing."""
    for search, replacement in pairs:
        if search:
            text = text.replace(search, replacement)
    return text


def wordwrap(text: str, width: int) -> str:
    """wordwrap(text, width, newline, do not cut): counts bytes of UTF-8, breaks at spaces only."""
    data = text.encode("utf-8", "surrogatepass")
    if len(data) <= width:
        return text
    lines = data.split(b"\n")
    if max(map(len, lines)) <= width:
        return text
    wrapped = b"\n".join([_wrap_line(line, width) if len(line) > width else line for line in lines])
    return wrapped.decode("utf-8", "surrogatepass")


def _wrap_line(line: bytes, width: int) -> bytes:
    """A space at the very start of a line is no place to break, as in PHP."""
    pieces = []
    start, length = 0, len(line)
    while length - start > width:
        cut = line.rfind(b" ", start + 1, start + width + 1)
        if cut < 0:
            cut = line.find(b" ", start + width + 1)
            if cut < 0:
                break
        pieces.append(line[start:cut])
        start = cut + 1
    pieces.append(line[start:])
    return b"\n".join(pieces)
