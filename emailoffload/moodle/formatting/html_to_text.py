"""HTML to the text part of a mail, as Moodle's html_to_text() does it (facts §4.7, §4.8).

Moodle's converter is a fixed sequence of pattern replacements, oddities included: a paragraph that contains a
table loses its line breaks, `<th>` shouts, a link is numbered where it stands and listed at the end. The
order of the steps is part of the behaviour. `text_part` adds the second conversion that every mail goes
through.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from emailoffload.moodle.formatting import php
from emailoffload.moodle.formatting.striptags import strip_tags

WIDTH = 75
MAILER_WIDTH = 79
NEW_CONVERTER_FROM = 405
"""Moodle 4.5 and later decode entities before they write in capitals (facts §4.7), and entities of the
apostrophe at all; before, `&#039;` and `&apos;` vanish and only `&#39;` is an apostrophe."""

_I, _A, _S = re.IGNORECASE, re.ASCII, re.DOTALL
_Replacement = str | Callable[[re.Match[str]], str]


def _rule(needle: str, pattern: str, replacement: str) -> tuple[str, re.Pattern[str], str]:
    return needle, re.compile(pattern, _I | _A), replacement


_TAG_RULES = (
    _rule("<head", r"<head\b[^>]*>.*?</head>", ""),
    _rule("<script", r"<script\b[^>]*>.*?</script>", ""),
    _rule("<style", r"<style\b[^>]*>.*?</style>", ""),
    _rule("<i", r"<i\b[^>]*>(.*?)</i>", r"_\1_"),
    _rule("<em", r"<em\b[^>]*>(.*?)</em>", r"_\1_"),
    _rule("<ins", r"<ins\b[^>]*>(.*?)</ins>", r"_\1_"),
    _rule("ul", r"<ul\b[^>]*>|</ul>", "\n\n"),
    _rule("ol", r"<ol\b[^>]*>|</ol>", "\n\n"),
    _rule("dl", r"<dl\b[^>]*>|</dl>", "\n\n"),
    _rule("<li", r"<li\b[^>]*>(.*?)</li>", "\t* \\1\n"),
    _rule("<dd", r"<dd\b[^>]*>(.*?)</dd>", " \\1\n"),
    _rule("<dt", r"<dt\b[^>]*>(.*?)</dt>", "\t* \\1"),
    _rule("<li", r"<li\b[^>]*>", "\n\t* "),
    _rule("<hr", r"<hr\b[^>]*>", "\n" + "-" * 25 + "\n"),
    _rule("<div", r"<div\b[^>]*>", "<div>\n"),
    _rule("table", r"<table\b[^>]*>|</table>", "\n\n"),
    _rule("tr", r"<tr\b[^>]*>|</tr>", "\n"),
    _rule("<td", r"<td\b[^>]*>(.*?)</td>", "\t\t\\1\n"),
    _rule("_html2text_ignore", r'<span class="_html2text_ignore">.+?</span>', ""),
    _rule("<img", r'<img\b[^>]*alt="([^>"]+)"[^>]*>', r"[\1]"),
)
_HEADING = re.compile(r"<h[123456](?: [^>]*)?>(.*?)</h[123456]>", _I | _A)
_PARAGRAPH = re.compile(r"[ ]*<p(?: [^>]*)?>(.*?)</p>[ ]*", _I | _A | _S)
_BREAK = re.compile(r"<br[^>]*>[ ]*", _I | _A)
_BOLD = re.compile(r"<b(?: [^>]*)?>(.*?)</b>", _I | _A)
_STRONG = re.compile(r"<strong(?: [^>]*)?>(.*?)</strong>", _I | _A)
_DELETED = re.compile(r"<del(?: [^>]*)?>(.*?)</del>", _I | _A)
_HEADER_CELL = re.compile(r"<th(?: [^>]*)?>(.*?)</th>", _I | _A)
_LINK = re.compile(r"""<a [^>]*href=("|')([^"']+)\1([^>]*)>(.*?)</a>""", _I | _A)
_LINK_METHOD = re.compile(r"_html2text_link_(\w+)", _A)
_UNLISTED = re.compile(r"(?:javascript:|mailto:|#)", _I | _A)
_SCHEME = re.compile(r"[a-z][a-z0-9.+-]+:", _I | _A)
_PRE = re.compile(r"<pre[^>]*?>(.*?)</pre>", _I | _A | _S)
_BLOCKQUOTE = re.compile(r"</*blockquote[^>]*>", _I | _A)
_TAG = re.compile(r"(<[^>]*>)")
_BLANKS = re.compile(r"[\n\t]+")
_SPACES = re.compile(r" {2,}")
_BEFORE_BREAK = re.compile(r" +([\n\t])")
_UNKNOWN_ENTITY = re.compile(r"&(?:[a-zA-Z0-9]{2,6}|#[0-9]{2,4});")
_BLANK_LINES = re.compile(r"\n\s+\n", _A)
_NEWLINES = re.compile(r"\n{3,}")
_AMPERSAND = re.compile(r"&(?:amp|#38);", _I)
_AMPERSAND_MARK = "|+|amp|+|"
_QUOTE_LINE = re.compile(r"((?:^|\n)>*)")
_STRIKE = "\u0336"


class Conversion:
    """One conversion: the text before it is wrapped, and the links met on the way.

    `branch` is Moodle's branch number (404, 405, …).
    """

    def __init__(self, html: str, branch: int) -> None:
        self.links: list[str] = []
        self._new = branch >= NEW_CONVERTER_FROM
        self._width = WIDTH
        self.unwrapped = self._convert(php.trim(html))

    def text(self) -> str:
        """The wrapped text, followed by the table of links if there are any."""
        return php.wordwrap(self.unwrapped, WIDTH) + self.link_table()

    def link_table(self) -> str:
        """The list of links with its heading; '' without links."""
        if not self.links:
            return ""
        rows = "".join(f"[{number}] {url}\n" for number, url in enumerate(self.links, 1))
        return f"\n\nLinks:\n------\n{rows}"

    def _convert(self, text: str) -> str:
        """Everything but the last wrap."""
        lowered = text.lower()
        if "blockquote" in lowered:
            text = self._blockquotes(text)
        if "<pre" in text.lower():
            text = self._preformatted(text)
        text = _BLANKS.sub(" ", text.replace("\r", ""))
        text = _apply_tag_rules(text)
        text = strip_tags(self._apply_callbacks(text))
        return _settle_text(text, apostrophes=self._new)

    def _apply_callbacks(self, text: str) -> str:
        steps: tuple[tuple[str, re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
            ("<h", _HEADING, lambda match: self._upper(f"\n\n{match[1]}\n\n")),
            ("<p", _PARAGRAPH, lambda match: f"\n{php.trim(match[1].replace(chr(10), ' '))}\n"),
            ("<br", _BREAK, lambda match: "\n"),
            ("<b", _BOLD, lambda match: self._upper(match[1])),
            ("<strong", _STRONG, lambda match: self._upper(match[1])),
            ("<del", _DELETED, lambda match: "".join(char + _STRIKE for char in match[1])),
            ("<th", _HEADER_CELL, lambda match: self._upper(f"\t\t{match[1]}\n")),
            ("<a", _LINK, self._link),
        )
        for needle, pattern, step in steps:
            if needle in text.lower():
                text = pattern.sub(step, text)
        return text

    def _link(self, match: re.Match[str]) -> str:
        method = _LINK_METHOD.search(match[3])
        return self._listed(match[2].replace(" ", ""), match[4], method[1] if method else "table")

    def _listed(self, link: str, display: str, method: str) -> str:
        if method == "none" or _UNLISTED.match(php.entity_decode(link)):
            return display
        url = link if _SCHEME.match(link) or link.startswith("/") else f"/{link}"
        if method == "table":
            if url not in self.links:
                self.links.append(url)
            return f"{display} [{self.links.index(url) + 1}]"
        if method == "bbcode":
            return f"[url={url}]{display}[/url]"
        if url == display:
            return display
        return f"{display}\n[{url}]" if method == "nextline" else f"{display} [{url}]"

    def _upper(self, text: str) -> str:
        chunks = _TAG.split(text)
        return "".join(chunk if chunk.startswith("<") else self._upper_chunk(chunk) for chunk in chunks)

    def _upper_chunk(self, chunk: str) -> str:
        if not self._new:
            return chunk.upper()
        return self._escape(php.entity_decode(chunk).upper())

    def _escape(self, text: str) -> str:
        return php.escape(text, apostrophe="&apos;" if self._new else "'")

    def _preformatted(self, text: str) -> str:
        while match := _PRE.search(text):
            content = re.sub(r"<br\b[^>]*>", "\n", match[1], flags=_I | _A)
            content = self._apply_callbacks(content)
            content = content.replace("\n", "<br>").replace("\t", "&nbsp;" * 4).replace(" ", "&nbsp;")
            content = re.sub(r"<pre[^>]*>", "", content).replace("</pre>", "")
            text = f"{text[: match.start()]}<div><br>{content}<br></div>{text[match.end() :]}"
        return text

    def _blockquotes(self, text: str) -> str:
        """Each outermost quotation becomes preformatted text of its own, two columns narrower."""
        pieces = []
        copied = level = opened = content = 0
        for match in _BLOCKQUOTE.finditer(text):
            if not match[0].startswith("</"):
                if level == 0:
                    opened, content = match.span()
                level += 1
            elif level == 1:
                level = 0
                pieces += [text[copied:opened], self._quoted(text[content : match.start()])]
                copied = match.end()
            else:
                level = max(level - 1, 0)
        return "".join(pieces) + text[copied:]

    def _quoted(self, body: str) -> str:
        self._width -= 2
        body = php.trim(php.wordwrap(self._convert(php.trim(body)), self._width))
        self._width += 2
        quoted = _QUOTE_LINE.sub(r"\1> ", body)
        return f"<pre>{self._escape(quoted)}</pre>"


def _apply_tag_rules(text: str) -> str:
    lowered = text.lower()
    for needle, pattern, replacement in _TAG_RULES:
        if needle in lowered:
            text = pattern.sub(replacement, text)
            lowered = text.lower()
    return text


def _settle_text(text: str, *, apostrophes: bool) -> str:
    """Entities and blank space of a text without tags."""
    if "&" in text:
        text = text.replace("&#153;", "™").replace("&#151;", "—")
        text = _AMPERSAND.sub(_AMPERSAND_MARK, text)
    text = _SPACES.sub(" ", text)
    if "&" in text:
        text = text.replace("&#39;", "'")
    text = _BEFORE_BREAK.sub(r"\1", text)
    if "&" in text:
        text = _UNKNOWN_ENTITY.sub("", php.entity_decode(text, apostrophes=apostrophes))
    text = text.replace(_AMPERSAND_MARK, "&")
    return _NEWLINES.sub("\n\n", _BLANK_LINES.sub("\n\n", text)).lstrip("\n")


def html_to_text(html: str, branch: int) -> str:
    """Moodle's html_to_text($html): wrapped at 75 bytes, with a table of links (facts §4.7)."""
    return Conversion(html, branch).text()


def text_part(text: str, branch: int) -> str:
    """What email_to_user makes of a mail's text: converted once more, framed by newlines (facts §4.8,
    §5.7).
    """
    return frame(html_to_text(php.nl2br(text), branch))


def frame(text: str) -> str:
    """The text part as the mailer sends it: trimmed by its template, between newlines, wrapped at 79 bytes
    (facts §5.7).
    """
    return f"\n{mailer_wrapped(php.trim(text))}\n"


def mailer_wrapped(text: str) -> str:
    """A text as the mailer wraps it at 79 bytes.

    The converter has wrapped at 75 already; only rows of a late table of links can be longer and have a
    space.
    """
    lines = text.split("\n")
    # No line with more bytes than this many characters of four bytes: the quick way to say "nothing to do".
    if max(map(len, lines)) <= MAILER_WIDTH // 4 or not any(
        len(line.encode()) > MAILER_WIDTH and " " in line for line in lines if len(line) > MAILER_WIDTH // 4
    ):
        return text
    return "\n".join(map(_mailer_wrap, lines))


def _mailer_wrap(line: str) -> str:
    if len(line.encode()) <= MAILER_WIDTH:
        return line
    wrapped = []
    current = ""
    for position, word in enumerate(line.split(" ")):
        longer = word if position == 0 else f"{current} {word}"
        if current and len(longer.encode()) > MAILER_WIDTH:
            wrapped.append(current)
            longer = word
        current = longer
    return "\n".join([*wrapped, current])
