"""A reminder's body: filled, formatted, converted to text (facts §4.5-§4.8)."""

from __future__ import annotations

from emailoffload.moodle.formatting import active_content, php, profile
from emailoffload.moodle.formatting.html_to_text import html_to_text
from emailoffload.moodle.formatting.text import format_body, text_to_html
from emailoffload.moodle.types import Course, SiteConfig, TextContext
from emailoffload.sources.reengagement import placeholders
from emailoffload.sources.reengagement.placeholders import Segments, Token
from emailoffload.sources.reengagement.values import Values


class Body:
    """A body's template in its course's context, ready to be filled."""

    def __init__(
        self,
        template: str,
        order: tuple[str, ...],
        site: SiteConfig,
        context: TextContext,
        course: Course,
        *,
        strict: bool,
    ) -> None:
        self._template = template
        self._order = order
        self._site = site
        self._context = context
        self._strict = strict
        self._segments = placeholders.split(template, order)
        self._in_tag = _positions_in_tags(self._segments)
        format_body(template, site, context)

    def render(self, values: Values, *, as_html: bool) -> tuple[str, str | None]:
        """Text after both conversions, and HTML if wanted. Raises Unrenderable."""
        formatted = format_body(self._fill(values), self._site, self._context)
        message = html_to_text(formatted, self._site.branch)
        text = html_to_text(php.nl2br(message), self._site.branch)
        if not as_html:
            return text, None
        html = php.trim(formatted or text_to_html(message))
        return text, html if self._strict else active_content.remove(html)

    def _fill(self, values: Values) -> str:
        if self._strict:
            return placeholders.substitute_strictly(self._template, self._order, values)
        pieces = []
        for index, segment in enumerate(self._segments):
            if isinstance(segment, Token):
                segment = self._html_value(values, segment, index in self._in_tag)
            pieces.append(segment)
        return "".join(pieces)

    def _html_value(self, values: Values, token: Token, in_tag: bool) -> str:
        if token in placeholders.USER:
            return escape(values[token])
        if in_tag and token.startswith(placeholders.PROFILE_PREFIX):
            return escape(profile.plain_text(values[token]))
        return values[token]


def escape(text: str) -> str:
    """Text for HTML, in the form that both versions of Moodle's converter read back."""
    return php.escape(text, apostrophe="&#39;")


def _positions_in_tags(segments: Segments) -> frozenset[int]:
    """Which segments are tokens inside a tag: after a `<` that no `>` follows yet."""
    inside = False
    positions = set()
    for index, segment in enumerate(segments):
        if isinstance(segment, Token):
            if inside:
                positions.add(index)
        elif "<" in segment or ">" in segment:
            inside = segment.rfind("<") > segment.rfind(">")
    return frozenset(positions)
