"""What Moodle's HTML cleaning makes of simple markup (clean_text with HTML Purifier).

Only markup whose cleaned form is certain is accepted: text, line breaks, paragraphs, plain emphasis, lists,
links to web addresses and multilang spans, properly nested. Everything else is None: the caller leaves it
to Moodle.
"""

from __future__ import annotations

import html.entities
import re

from emailoffload.moodle.formatting import php

_TOKEN = re.compile(r"<(/?)([a-z]+)([^<>]*)>|<(?=[^a-z!/])|<$|[^<]+", re.IGNORECASE)
_INLINE = frozenset({"b", "i", "em", "strong", "u", "sub", "sup", "small", "big", "tt", "code", "span", "a"})
_ALLOWED_IN = {
    "": frozenset({"p", "br", "div", "ul", "ol"}) | _INLINE,
    "div": frozenset({"p", "br", "div", "ul", "ol"}) | _INLINE,
    "p": frozenset({"br"}) | _INLINE,
    "li": frozenset({"br"}) | _INLINE,
    "ul": frozenset({"li"}),
    "ol": frozenset({"li"}),
}
_LINK = re.compile(r' href="(https?://[a-z0-9][a-z0-9.-]*[a-z0-9](?:/[A-Za-z0-9._/-]*)?)"')
_LANGUAGE = re.compile(r'(?:\s+lang="([a-zA-Z0-9_-]+)"|\s+class="multilang"){2}\s*')
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff\ud800-\udfff]")
_ENTITY = re.compile(r"&(?:#([0-9]{1,7})|#[xX]([0-9A-Fa-f]{1,6})|([A-Za-z][A-Za-z0-9]*));")
_LOOSE_ENTITY = re.compile(r"&[#A-Za-z]")
_WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,17}")


def clean_text(text: str) -> str | None:
    """`text` as Moodle's clean_text() returns it, or None where that is not certain."""
    return purify(text) if _needs_purifying(text) else text


def _needs_purifying(text: str) -> bool:
    if text == "" or _WHOLE_NUMBER.fullmatch(text):
        return False
    if "&" in text or re.search(r"<[^pesb/]", text):
        return True
    altered = php.escape_markup(text)
    for pattern, replacement in (
        (r"$^", ""),
        (r"&lt;p&gt;(.*?)&lt;/p&gt;", r"<p>\1</p>"),
        (r"&lt;em&gt;([^<>]+?)&lt;/em&gt;", r"<em>\1</em>"),
        (r"&lt;strong&gt;([^<>]+?)&lt;/strong&gt;", r"<strong>\1</strong>"),
        (r"&lt;br /&gt;", "<br />"),
    ):
        altered = re.sub(pattern, replacement, altered)
        if altered == text:
            return False
    return True


def purify(text: str) -> str | None:
    """`text` after HTML Purifier, or None where that is not certain."""
    if _CONTROL.search(text):
        return None
    output: list[str] = []
    stack: list[tuple[str, str]] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            return None
        position = match.end()
        closing, name, attributes = match.groups()
        if name is None:
            piece = _clean_characters(match[0], _block(stack))
        elif closing:
            piece = _close(name, attributes, stack, output)
        else:
            piece = _open(name, attributes, stack)
        if piece is None:
            return None
        output.append(piece)
    return None if stack else "".join(output)


def _block(stack: list[tuple[str, str]]) -> str:
    return next((name for name, _ in reversed(stack) if name in _ALLOWED_IN), "")


def _open(name: str, attributes: str, stack: list[tuple[str, str]]) -> str | None:
    """Tag names are lower case, as editors write them; an inline element holds inline elements only."""
    top = stack[-1][0] if stack else ""
    allowed = _ALLOWED_IN.get(top, _INLINE | {"br"})
    if name not in allowed or (name == "a" and any(each == "a" for each, _ in stack)):
        return None
    if name == "br":
        return "<br />" if attributes.strip() in ("", "/") else None
    opening = _clean_attributes(name, attributes)
    if opening is not None:
        stack.append((name, opening))
    return opening


def _clean_attributes(name: str, attributes: str) -> str | None:
    if name == "a":
        return f"<a{attributes}>" if _LINK.fullmatch(attributes) else None
    if name == "span":
        language = _LANGUAGE.fullmatch(attributes)
        if not language or not language[1] or attributes.count("lang=") != 1:
            return None
        return f'<span lang="{language[1]}" class="multilang">'
    if name == "div" and attributes == ' class="text_to_html"':
        return f"<div{attributes}>"
    return None if attributes else f"<{name}>"


def _close(name: str, attributes: str, stack: list[tuple[str, str]], output: list[str]) -> str | None:
    """A list without items vanishes in Moodle; such markup is left to it."""
    if attributes or not stack or stack[-1][0] != name:
        return None
    if name in ("ul", "ol") and "</li>" not in (output[-1], *output[-2:-1]):
        return None
    stack.pop()
    return f"</{name}>"


def _clean_characters(text: str, block: str) -> str | None:
    if block in ("ul", "ol") and text.strip(" \n\t"):
        return None
    decoded = []
    position = 0
    for match in _ENTITY.finditer(text):
        char = _character(match)
        if char is None or _LOOSE_ENTITY.search(text[position : match.start()]):
            return None
        decoded += [text[position : match.start()], char]
        position = match.end()
    if _LOOSE_ENTITY.search(text[position:]):
        return None
    return php.escape_markup("".join([*decoded, text[position:]]))


def _character(match: re.Match[str]) -> str | None:
    decimal, hexadecimal, name = match.groups()
    if name is not None:
        code = html.entities.name2codepoint.get(name, 0)
    else:
        code = int(decimal) if decimal else int(hexadecimal, 16)
    if code in (0x09, 0x0A) or 0x20 <= code <= 0x7E or 0xA0 <= code <= 0xD7FF or 0xE000 <= code <= 0xFDCF:
        return chr(code)
    return chr(code) if 0x10000 <= code <= 0x10FFFF and code & 0xFFFE != 0xFFFE else None
