"""How Moodle writes a person's name (facts §4.10)."""

from __future__ import annotations

import re
import unicodedata
from string import punctuation

from emailoffload.moodle.types import SiteConfig, User

_FIELDS = ("firstnamephonetic", "lastnamephonetic", "middlename", "alternatename", "firstname", "lastname")
_EMPTY = "EMPTY"
"""Moodle's own mark for a name without a value; it goes away together with the punctuation around it."""
_SPACES = re.compile(r"[\t-\r \x85\xa0\u1680\u180e\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]{2,}")
_PHP_SPACE = " \t\n\r\0\x0b"


def fullname(user: User, site: SiteConfig, *, override: bool = False) -> str:
    """Moodle's fullname(): by `fullnamedisplay`, or by `alternativefullnameformat` with `override`.

    Without a format of the site's own the result is `firstname lastname` as in Moodle's English, not trimmed:
    somebody without a last name keeps the space. In a format, names are put in one after the other, so that a
    name's value that reads like a later field is replaced as well.
    """
    names = {name: getattr(user, name) or "" for name in _FIELDS}
    for name in ("firstname", "lastname"):
        if site.flag(f"force{name}"):
            names[name] = site.get(f"force{name}")
    template = site.get("alternativefullnameformat" if override else "fullnamedisplay")
    if template in ("", "0", "language"):
        return f"{names['firstname']} {names['lastname']}"
    shown = template
    for name in _FIELDS:
        if name in template:
            shown = shown.replace(name, names[name] or _EMPTY)
    return _SPACES.sub(" ", _without_empty(shown)).strip(_PHP_SPACE) or names["firstname"]


def _without_empty(text: str) -> str:
    """Each mark of an empty name, with the punctuation on both sides, becomes a space."""
    parts = text.split(_EMPTY)
    kept = []
    for index, part in enumerate(parts):
        start, end = 0, len(part)
        while index > 0 and start < end and _is_punctuation(part[start]):
            start += 1
        while index < len(parts) - 1 and end > start and _is_punctuation(part[end - 1]):
            end -= 1
        kept.append(part[start:end])
    return " ".join(kept)


def _is_punctuation(character: str) -> bool:
    return character in punctuation or unicodedata.category(character).startswith("P")
