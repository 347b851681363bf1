"""Names from elsewhere do not turn the words around them.

A learner may be called by anything that Unicode has. Marks such as U+202E make what follows them read backwards: a
page that shows the name would show other words than it holds. Two things stop that: pages leave those marks out
(`WithoutTurns`), and a name in a right-to-left script is set apart from what stands beside it (the filter `apart`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Final

from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString

_TURNS: Final = re.compile(rb"\xd8\x9c|\xe2\x80[\x8e\x8f\xaa-\xae]|\xe2\x81[\xa6-\xa9]")
"""U+061C, U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069 in UTF-8: marks, embeddings, overrides, isolates.

Letters of right-to-left scripts need none of them.
"""
_RIGHT_TO_LEFT: Final = {"R", "AL", "AN"}


def apart(value: object) -> str | SafeString:
    """A name as text, in `<bdi>` where it has letters of a right-to-left script; for the text of a page only."""
    text = str(value)
    if text.isascii() or not any(unicodedata.bidirectional(char) in _RIGHT_TO_LEFT for char in text):
        return text
    return format_html("<bdi>{}</bdi>", text)


class WithoutTurns:
    """Leaves the marks out of every page. What a mail says, in a frame of its own, stays as its reader sees it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """The answer; files and streams are not touched."""
        response = self.get_response(request)
        framed = "sandbox" in response.headers.get("Content-Security-Policy", "")
        if (
            response.streaming
            or framed
            or not response.headers.get("Content-Type", "").startswith("text/html")
        ):
            return response
        content = _TURNS.sub(b"", response.content)
        if len(content) != len(response.content):
            response.content = content
            if "Content-Length" in response.headers:
                response.headers["Content-Length"] = str(len(content))
        return response
