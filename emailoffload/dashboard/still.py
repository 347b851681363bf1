"""A mail for the preview without what its reader's program would fetch: pictures, backgrounds, style sheets, fonts.

The frame's policy forbids fetching anyway. But the browser reports each thing that a policy forbids, as it would an
attack, and draws a broken picture; a picture without an address shows its alternative text.
"""

from __future__ import annotations

import re
from html import escape
from html.parser import HTMLParser
from itertools import accumulate

_FETCHED = frozenset(
    {"src", "srcset", "imagesrcset", "background", "poster", "lowsrc", "dynsrc", "data", "xlink:href"}
)
_FETCHED_BY_HREF = frozenset({"link", "image", "feimage", "use"})
_URL = re.compile(r"url\(\s*(?:\"(?!data:)[^\"]*\"|'(?!data:)[^']*'|(?!data:|[\"'])[^)]*)\s*\)", re.I)
_IMPORT = re.compile(r"@import\b[^;]*;?", re.I)


def still(html: str) -> str:
    """The same HTML without addresses that would be fetched to show it; all else stays letter for letter."""
    parser = _Parser(html)
    parser.feed(html)
    parser.close()
    done, at = [], 0
    for begin, end, text in parser.changes:
        done += [html[at:begin], text]
        at = end
    return "".join([*done, html[at:]])


def _quiet(style: str) -> str:
    return _URL.sub("none", _IMPORT.sub("", style))


class _Parser(HTMLParser):
    """Collects the changes: from where to where in the text, and what stands there instead."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=False)
        self.changes: list[tuple[int, int, str]] = []
        self._lines = [0, *accumulate(len(line) + 1 for line in html.split("\n"))]
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Write a tag anew if it names something to fetch."""
        self._in_style = tag == "style"
        kept = [(name, self._still(tag, name, value)) for name, value in attrs]
        left = [(name, value) for name, value in kept if value is not _GONE]
        if left == attrs:
            return
        words = [tag, *(name if value is None else f'{name}="{escape(str(value))}"' for name, value in left)]
        old = self.get_starttag_text() or ""
        self._change(old, f"<{' '.join(words)}{' /' if old.endswith('/>') else ''}>")

    def handle_data(self, data: str) -> None:
        """Change a style sheet inside the mail."""
        if self._in_style and (quiet := _quiet(data)) != data:
            self._change(data, quiet)

    def handle_endtag(self, tag: str) -> None:
        """Know where a style sheet ends."""
        self._in_style = False

    def _change(self, old: str, new: str) -> None:
        line, column = self.getpos()
        begin = self._lines[line - 1] + column
        self.changes.append((begin, begin + len(old), new))

    @staticmethod
    def _still(tag: str, name: str, value: str | None) -> str | object | None:
        if value is None:
            return None
        if name == "style":
            return _quiet(value)
        fetched = name in _FETCHED or (name == "href" and tag in _FETCHED_BY_HREF)
        return _GONE if fetched and not value.strip().lower().startswith(("data:", "#")) else value


_GONE = object()
