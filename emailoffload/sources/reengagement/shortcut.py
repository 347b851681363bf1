"""Bodies for ordinary values without converting them anew for each learner.

Most values are *inert*: words of letters and digits that no filter and no rule of the text conversion reacts to. For
these a body is formatted and converted once with marks in place of the values, and each learner's mail is put together
from the pieces; only wrapping is done per mail. The result is the same, character for character, or there is no
shortcut: wherever a template or a value could make a difference, the caller takes the long way. A property test
compares the two.

Why it holds: a mark is a word like the values; what stands beside it (`_LEFT`, `_RIGHT`) keeps anything that spans
template and value from forming, apart from what `_Reactions` looks for in each value with its neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from emailoffload.moodle.formatting import active_content, php
from emailoffload.moodle.formatting.errors import Unrenderable
from emailoffload.moodle.formatting.filters import APPLY, emoticon, unsupported
from emailoffload.moodle.formatting.html_to_text import WIDTH, Conversion, html_to_text
from emailoffload.moodle.formatting.strings import s
from emailoffload.moodle.formatting.text import format_body
from emailoffload.moodle.types import SiteConfig, TextContext
from emailoffload.sources.reengagement.placeholders import Segments, Token

EMPTY, WORDS, WRAPPED = range(3)
"""What a value is: nothing; inert words; inert words in the `div` around a profile text."""
LONGEST = 200
_WRAPPER = '<div class="text_to_html">{}</div>'
_INERT = re.compile(r"[^\W_]+(?:(?:, | & |[ '’-]|(?<=[0-9]):(?=[0-9]))[^\W_]+)*")
_LEFT = re.compile(r"(?:^|[\s>(\[\"“„«=|])\Z")
_RIGHT = re.compile(r"[,.;:!?)\]\"”“»|]*(?:[\s<]|\Z)")
_BEFORE_EQUALS = re.compile(r"[^\s<>=]*\s*=")
_NEAR_LEFT = re.compile(r"[^\s<>]*\Z")
_NEAR_RIGHT = re.compile(r"[^\s<>]*")
_ADDRESS = re.compile(r"http|www\.|://", re.IGNORECASE)
_MARK = re.compile(r"qzq([a-z])qzq|QZQ([A-Z])QZQ")
_NUMBER_IN_ADDRESS = re.compile(r'(?<=[=/_-])qzq([a-z])qzq(?=["&/#])')
_ASSIGNED = re.compile(r"=\s*[\"']?\Z")
_BRACED = re.compile(r"\{[^{}]*qzq[^{}]*\}")
_AFFECTED_NUMBER = re.compile(r"[=/_-][0-9]|[0-9][\"&/#]|^[0-9]+$")
_CONTROL = re.compile(r"[\0\v\f\r]")
_TAG = re.compile(r"""</?[A-Za-z](?:[^<>"']|"[^"<>]*"|'[^'<>]*')*>""")
_UNSAFE = re.compile(r"<pre|<blockquote|</blockquote|<del|_html2text|\|\+\||[\0\v\f\r]", re.IGNORECASE)
_ENTITY_AT_MARK = re.compile(r"&#?\w*qzq", re.IGNORECASE)
_ENTITY = re.compile(r"&#?[A-Za-z0-9]+;")
_LONG_WORD = re.compile(r"[^ ]{500}")
_WORD = re.compile(r"\w+")
_SPACES = re.compile(r" {2,}")
_NEWLINES = re.compile(r"\n{3,}")


def is_inert(value: str) -> bool:
    """True for words that no rule of formatting or conversion reacts to; '' is not inert but nothing."""
    return len(value) <= LONGEST and _INERT.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class _Pieces:
    """A text in pieces: literals, and between them the index of a value, negative-minus-one where in capitals."""

    literals: tuple[str, ...]
    indexes: tuple[int, ...]

    @classmethod
    def of(cls, text: str) -> _Pieces:
        literals, indexes, position = [], [], 0
        for match in _MARK.finditer(text):
            literals.append(text[position : match.start()])
            indexes.append(ord(match[1]) - 97 if match[1] else -(ord(match[2]) - 64))
            position = match.end()
        return cls((*literals, text[position:]), tuple(indexes))

    def fill(self, values: Sequence[str]) -> str:
        pieces = [self.literals[0]]
        for index, literal in zip(self.indexes, self.literals[1:], strict=True):
            pieces.append(values[index] if index >= 0 else values[-index - 1].upper())
            pieces.append(literal)
        return "".join(pieces)


class Reactions:
    """What filters and the cleaner react to in plain words, for one course's context."""

    def __init__(self, site: SiteConfig, context: TextContext) -> None:
        patterns = [r"http|www\.|mlang|url\b|(?<![^\W_])(?:tex|algebra)(?![^\W_])"]
        literals: list[str] = []
        names = {each.name for each in context.filters}
        if "emoticon" in names:
            literals += [each[0] for each in emoticon.emoticons(site.config.get("emoticons"))]
        for name in names - APPLY.keys():
            literals += unsupported.literal_triggers(name, site)
        self.usable = not any(re.search(r"[\s<>]", literal) and literal != "( )" for literal in literals)
        self.numbers_are_safe = not any(map(_AFFECTED_NUMBER.search, literals))
        self._pattern = re.compile("|".join([*patterns, *map(re.escape, literals)]), re.IGNORECASE)
        self._vocabulary: set[str] = set()
        self._fragments: set[str] = set()
        if "activitynames" in names:
            for activity in context.activities:
                self._learn(activity.name)

    def _learn(self, name: str) -> None:
        for form in {php.trim(name), s(php.trim(name))}:
            words = _WORD.findall(form.casefold())
            if not words:
                self.usable = False
                return
            self._vocabulary.update(words)
            edges = ((form[:1], words[0]), (form[-1:], words[-1]))
            self._fragments.update(word for char, word in edges if char.isalnum() and not char.isascii())

    def reacts(self, values: Sequence[str], windows: str) -> bool:
        """True where something might react to one of the values, or to a value with what stands beside it."""
        if self._pattern.search(windows):
            return True
        if not self._vocabulary:
            return False
        lowered = "\n".join(values).casefold()
        return not self._vocabulary.isdisjoint(_WORD.findall(lowered)) or any(
            fragment in lowered for fragment in self._fragments
        )


@dataclass(frozen=True, slots=True)
class Shortcut:
    """A body for one pattern of present and absent values."""

    html: _Pieces | None
    """None where the HTML part has to be cleaned anew for each learner."""
    text: _Pieces
    links: tuple[_Pieces, ...]
    table: str | _Pieces
    """The table of links after its second conversion; in pieces where an address has a value."""
    windows: _Pieces

    def render(
        self, reactions: Reactions, texts: Sequence[str], htmls: Sequence[str], *, as_html: bool
    ) -> tuple[str, str | None] | None:
        """Text after both conversions and HTML, from the values as text and as HTML; None: take the long way."""
        if (as_html and self.html is None) or reactions.reacts(htmls, self.windows.fill(htmls)):
            return None
        if any(index < 0 and "&" in texts[-index - 1] for index in self.text.indexes):
            return None  # in capitals, older converters read the entity of an ampersand differently
        table = self._table(texts)
        if table is None:
            return None
        body = _settle(php.trim(php.wordwrap(self.text.fill(texts), WIDTH)))
        text = f"{body}\n\n{table}" if body and table else body or table
        return text, self.html.fill(htmls) if as_html and self.html else None

    def _table(self, texts: Sequence[str]) -> str | None:
        if isinstance(self.table, str):
            return self.table
        addresses = [link.fill(texts) for link in self.links]
        if len(set(addresses)) < len(addresses):
            return None
        return php.wordwrap(self.table.fill(texts), WIDTH)


def _settle(text: str) -> str:
    """The second conversion of a text without tags and entities, wrapped at WIDTH."""
    if "\t" in text:
        text = text.replace("\t", " ")
    if "  " in text:
        text = _SPACES.sub(" ", text)
    text = text.replace("\n ", "\n").replace(" \n", "\n")
    if "\n\n\n" in text:
        text = _NEWLINES.sub("\n\n", text)
    return php.wordwrap(text, WIDTH)


def build(
    segments: Segments,
    shapes: Mapping[Token, int],
    site: SiteConfig,
    context: TextContext,
    reactions: Reactions,
    *,
    clean: bool,
) -> Shortcut | None:
    """The shortcut for a template whose tokens have these shapes, or None where there is none.

    Tokens are numbered in the order of `shapes`; `clean` as in the mode that removes active content.
    """
    numbers = {name: number for number, name in enumerate(shapes)}
    if len(numbers) > 26 or site.flag("forceclean"):
        return None
    present = _drop_empty(segments, shapes)
    if any("qzq" in segment.lower() for segment in present):
        return None
    marks = [_marked(segment, numbers, shapes) for segment in present]
    marked = "".join(marks)
    in_tags = _positions_in_tags(marks)
    if in_tags is None or not _neighbours_are_safe(present, in_tags) or _BRACED.search(marked):
        return None
    if any(present[index] != "userid" for index in in_tags) or (in_tags and not reactions.numbers_are_safe):
        return None
    try:
        formatted = format_body(marked, site, context)
    except Unrenderable:
        return None
    if not formatted or _UNSAFE.search(formatted) or any(map(_is_long, _TAG.split(formatted))):
        return None
    stripped = _TAG.sub("", formatted)
    if "<" in stripped or _ENTITY_AT_MARK.search(stripped):
        return None
    conversion = Conversion(formatted, site.branch)
    table = conversion.link_table().lstrip("\n")
    unwrapped = conversion.unwrapped
    if "<" in unwrapped or _ENTITY.search(unwrapped) or _CONTROL.search(unwrapped):
        return None
    if "<" in table or _ENTITY_AT_MARK.search(table):
        return None
    return Shortcut(
        html=_html(formatted, clean=clean),
        text=_Pieces.of(unwrapped),
        links=tuple(map(_Pieces.of, conversion.links)),
        table=_converted_table(table, site.branch),
        windows=_windows(present, marks, in_tags),
    )


def _drop_empty(segments: Segments, shapes: Mapping[Token, int]) -> Segments:
    """The template without the tokens that stand for nothing; literals that meet are joined."""
    joined: list[str | Token] = []
    for segment in segments:
        if isinstance(segment, Token):
            if shapes[segment] != EMPTY:
                joined.append(segment)
        elif joined and not isinstance(joined[-1], Token):
            joined[-1] += segment
        else:
            joined.append(segment)
    return tuple(joined)


def _neighbours_are_safe(segments: Segments, in_tags: frozenset[int]) -> bool:
    """No address, no other token and no character that could join a value stands beside a token in the text."""
    for index, segment in enumerate(segments):
        if not isinstance(segment, Token) or index in in_tags:
            continue
        left, right = _beside(segments, index)
        if isinstance(left, Token) or isinstance(right, Token):
            return False
        ending = _RIGHT.match(right)
        if not _LEFT.search(left) or not ending or _BEFORE_EQUALS.match(right):
            return False
        joins_next = ending.end() == len(right) and index + 2 < len(segments) and not right[-1:].isspace()
        assigned = right.startswith(":") and _ASSIGNED.search(left)
        if joins_next or assigned or _ADDRESS.search("".join(_near(left, right))):
            return False
    return True


def _beside(segments: Segments, index: int) -> tuple[str | Token, str | Token]:
    right = segments[index + 1] if index + 1 < len(segments) else ""
    return (segments[index - 1] if index else ""), right


def _near(left: str, right: str) -> tuple[str, str]:
    """What stands beside a token up to the next space or tag."""
    before, after = _NEAR_LEFT.search(left), _NEAR_RIGHT.match(right)
    return (before[0] if before else "", after[0] if after else "")


def _positions_in_tags(marks: Sequence[str]) -> frozenset[int] | None:
    """Which of the segments stand inside tags; None where one does that is not the whole part of an address."""
    spans = [match.span() for match in _TAG.finditer("".join(marks))]
    marked = "".join(marks)
    positions = set()
    offset = 0
    for index, mark in enumerate(marks):
        inside = any(start < offset < end for start, end in spans)
        if inside and _MARK.fullmatch(mark):
            if not _NUMBER_IN_ADDRESS.match(marked, offset):
                return None
            positions.add(index)
        offset += len(mark)
    return frozenset(positions)


def _marked(segment: str | Token, numbers: Mapping[Token, int], shapes: Mapping[Token, int]) -> str:
    if not isinstance(segment, Token):
        return segment
    mark = f"qzq{chr(97 + numbers[segment])}qzq"
    return _WRAPPER.format(mark) if shapes[segment] == WRAPPED else mark


def _is_long(text: str) -> bool:
    return _LONG_WORD.search(text) is not None and _MARK.search(text) is not None


def _html(formatted: str, *, clean: bool) -> _Pieces | None:
    html = php.trim(formatted)
    if clean and active_content.is_active(html):
        html = active_content.without_scripts(html)
        if active_content.is_active(html):
            return None
    return _Pieces.of(html)


def _converted_table(table: str, branch: int) -> str | _Pieces:
    html = php.nl2br(php.trim(table))
    if _MARK.search(table):
        return _Pieces.of(Conversion(html, branch).unwrapped)
    return html_to_text(html, branch)


def _windows(segments: Segments, marks: Sequence[str], in_tags: frozenset[int]) -> _Pieces:
    """Each token of the text with what stands beside it, on a line of its own."""
    windows = []
    for index, segment in enumerate(segments):
        if isinstance(segment, Token) and index not in in_tags:
            before, after = _near(*_beside(segments, index))
            windows.append(f"{before}{marks[index]}{after}")
    return _Pieces.of("\n".join(windows))
