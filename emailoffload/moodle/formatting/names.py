"""Names of people as Moodle writes them: fullname() (facts §4.10)."""

from __future__ import annotations

import re
import string
import unicodedata

from emailoffload.moodle.formatting.php import trim
from emailoffload.moodle.types import SiteConfig, User

_FIELDS = ("firstnamephonetic", "lastnamephonetic", "middlename", "alternatename", "firstname", "lastname")
_ABSENT = "EMPTY"
_SPACES = re.compile(r"\s{2,}")


def fullname(user: User, site: SiteConfig, *, override: bool = False) -> str:
    """The full name of `user`; with `override` by `alternativefullnameformat`, for those who see all names.

    In the language's own order (English: first name, space, last name) nothing is trimmed: without a last
    name the result ends in a space.
    """
    names = {name: getattr(user, name) or "" for name in _FIELDS}
    if not override:
        for name in ("firstname", "lastname"):
            names[name] = site.get(f"force{name}") or names[name]
    template = site.get("alternativefullnameformat" if override else "fullnamedisplay")
    if template in ("", "0", "language"):
        return f"{names['firstname']} {names['lastname']}"
    for name in [name for name in _FIELDS if name in template]:
        template = template.replace(name, names[name] or _ABSENT)
    display = trim(_SPACES.sub(" ", _without_absent(template)))
    return names["firstname"] if display in ("", "0") else display


def _without_absent(text: str) -> str:
    """`text` with each missing name and the punctuation around it replaced by a space."""
    pieces = text.split(_ABSENT)
    for index, piece in enumerate(pieces):
        if index > 0:
            piece = piece[_run(piece) :]
        if index < len(pieces) - 1:
            piece = piece[: len(piece) - _run(piece[::-1])]
        pieces[index] = piece
    return " ".join(pieces)


def _run(text: str) -> int:
    """How many characters of punctuation `text` begins with."""
    return next((index for index, char in enumerate(text) if not _is_punctuation(char)), len(text))


def _is_punctuation(char: str) -> bool:
    return char in string.punctuation or unicodedata.category(char)[0] == "P"
