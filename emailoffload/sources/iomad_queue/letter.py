"""What a queued mail says, as it leaves: subject, text part, HTML part (facts §7.3)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from emailoffload.moodle.formatting import active_content, php
from emailoffload.moodle.formatting.html_to_text import html_to_text, mailer_wrapped

SUBJECT_BYTES = 900
"""IOMAD cuts subjects here, a diverted one's prefix included."""


@dataclass(frozen=True, slots=True)
class Letter:
    """The decoded parts, the same for all recipients; `html` None: a single text part."""

    text: str = field(repr=False)
    html: str | None = field(repr=False)


def letter(body: str, branch: int, *, strict: bool) -> Letter:
    """Both parts of a body that IOMAD stored with its variables replaced; `branch` is Moodle's.

    The text part is converted once and framed by newlines. An empty body ('0' too) makes a text-only mail.
    Unless `strict`, active content is removed from the HTML (design §5).
    """
    text = mailer_wrapped(f"\n{html_to_text(body, branch)}\n")
    if body in ("", "0"):
        return Letter(text, None)
    return Letter(text, body if strict else active_content.remove(body))


def subject(stored: str, diverted_from: str = "", *, strict: bool) -> str:
    """The subject as it stands in the header, decoded: the first 900 bytes, on one line.

    A character that is cut in two is left out; `strict` shows it as mail programs do.
    """
    prefix = f"[DIVERTED {diverted_from}] " if diverted_from else ""
    cut = (prefix + stored).encode("utf-8", "replace")[:SUBJECT_BYTES]
    return re.sub(r"[\r\n]+", "", php.trim(cut.decode("utf-8", "replace" if strict else "ignore")))
