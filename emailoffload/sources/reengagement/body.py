"""A reminder's body: filled, formatted, converted to text (facts §4.5-§4.8)."""

from __future__ import annotations

from emailoffload.moodle.formatting import active_content, php, profile
from emailoffload.moodle.formatting.html_to_text import html_to_text
from emailoffload.moodle.formatting.text import format_body, text_to_html
from emailoffload.moodle.types import Course, SiteConfig, TextContext
from emailoffload.sources.reengagement import placeholders, shortcut
from emailoffload.sources.reengagement.placeholders import Segments, Token
from emailoffload.sources.reengagement.shortcut import Shortcut
from emailoffload.sources.reengagement.values import Values

MOST_SHORTCUTS = 64
"""Patterns of present and absent values that one body keeps prepared."""


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
        self._open = _for_course(template, self._segments, order, course, strict=strict)
        self._tokens = tuple(dict.fromkeys(each for each in self._open if isinstance(each, Token)))
        self._reactions = shortcut.Reactions(site, context)
        self._shortcuts: dict[tuple[int, ...], Shortcut | None] = {}

    def render(self, values: Values, *, as_html: bool) -> tuple[str, str | None]:
        """Text after both conversions, and HTML if wanted. Raises Unrenderable."""
        return self.render_shortly(values, as_html=as_html) or self.render_fully(values, as_html=as_html)

    def render_fully(self, values: Values, *, as_html: bool) -> tuple[str, str | None]:
        """What `render` gives, by filling, formatting and converting the whole body."""
        formatted = format_body(self._fill(values), self._site, self._context)
        message = html_to_text(formatted, self._site.branch)
        text = php.trim(html_to_text(php.nl2br(message), self._site.branch))
        if not as_html:
            return text, None
        html = php.trim(formatted or text_to_html(message))
        return text, html if self._strict else active_content.remove(html)

    def render_shortly(self, values: Values, *, as_html: bool) -> tuple[str, str | None] | None:
        """The same where all values are ordinary; None where the long way has to be taken. Raises Unrenderable."""
        if not self._reactions.usable:
            return None
        shapes, texts, htmls = [], [], []
        for token in self._tokens:
            shape, text = self._shape(values, token)
            if shape is None:
                return None
            shapes.append(shape)
            texts.append(text)
            escaped = not self._strict and token in placeholders.USER
            htmls.append(escape(text) if escaped else text)
        found = self._shortcut(tuple(shapes))
        return found.render(self._reactions, texts, htmls, as_html=as_html) if found else None

    def _shape(self, values: Values, token: Token) -> tuple[int | None, str]:
        value = values[token]
        if value == "":
            return shortcut.EMPTY, ""
        if token.startswith(placeholders.PROFILE_PREFIX):
            inner = values.inner_text(token)
            if inner is not None:
                return (shortcut.WRAPPED if shortcut.is_inert(inner) else None), inner
        return (shortcut.WORDS if shortcut.is_inert(value) else None), value

    def _shortcut(self, shapes: tuple[int, ...]) -> Shortcut | None:
        if shapes not in self._shortcuts:
            if len(self._shortcuts) >= MOST_SHORTCUTS:
                self._shortcuts.clear()
            named = dict(zip(self._tokens, shapes, strict=True))
            self._shortcuts[shapes] = shortcut.build(
                self._open, named, self._site, self._context, self._reactions, clean=not self._strict
            )
        return self._shortcuts[shapes]

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


def _for_course(
    template: str, segments: Segments, order: tuple[str, ...], course: Course, *, strict: bool
) -> Segments:
    """The template with the course's values in; what is left open depends on the learner."""
    values = placeholders.course_values(course)
    if strict:
        return placeholders.split(
            placeholders.substitute_strictly(template, placeholders.COURSE, values), order
        )
    joined: list[str | Token] = []
    for segment in segments:
        if isinstance(segment, Token) and segment in values:
            segment = values[segment]
        if joined and not isinstance(segment, Token) and not isinstance(joined[-1], Token):
            joined[-1] += segment
        else:
            joined.append(segment)
    return tuple(joined)


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
