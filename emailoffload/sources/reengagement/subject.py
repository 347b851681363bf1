"""A reminder's subject (facts §4.4; design §5, difference 1)."""

from __future__ import annotations

import re

from emailoffload.moodle.formatting import php, profile
from emailoffload.moodle.formatting.text import format_plain
from emailoffload.sources.reengagement import placeholders
from emailoffload.sources.reengagement.placeholders import Token
from emailoffload.sources.reengagement.values import Values

_NUMERIC_ENTITY = re.compile(r"&#(?:[0-9]+|[xX][0-9A-Fa-f]+);")
_NOLINK = re.compile(r"</?nolink>", re.IGNORECASE)
_NEWLINES = re.compile(r"[\r\n]+")


class Subject:
    """A subject's template, ready to be filled."""

    def __init__(self, template: str, order: tuple[str, ...], *, strict: bool) -> None:
        self._template = template
        self._order = order
        self._strict = strict
        self._segments = tuple(
            segment if isinstance(segment, Token) else _readable(segment)
            for segment in placeholders.split(template, order)
        )

    def render(self, values: Values) -> str:
        """The subject for one learner, without the site's prefix, on one line."""
        if self._strict:
            filled = format_plain(placeholders.substitute_strictly(self._template, self._order, values))
            subject = filled.replace("\r", "").replace("\n", "")
        else:
            filled = placeholders.fill(self._segments, lambda token: _text_value(values, token))
            subject = _NEWLINES.sub(" ", filled)
        return subject.rstrip(php.WHITESPACE)


def _readable(literal: str) -> str:
    """A piece of the template as Moodle meant it: numeric entities are characters, `nolink` tags are
    nothing.
    """
    return _NOLINK.sub("", _NUMERIC_ENTITY.sub(lambda match: php.entity_decode(match[0]), literal))


def _text_value(values: Values, token: Token) -> str:
    if token.startswith(placeholders.PROFILE_PREFIX):
        return profile.plain_text(values[token])
    return values[token]
