"""Linking phrases inside HTML as Moodle's filter_phrases() does it (lib/filterlib.php).

Regions that must stay (links, scripts, `nolink`) and all tags are set aside under marks, phrases are
replaced in what is left, then the marks are put back. The characters of the marks are doubled in the text
meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from emailoffload.moodle.formatting import php
from emailoffload.moodle.formatting.striptags import strip_tags

_FLAGS = re.IGNORECASE | re.DOTALL | re.ASCII
_IGNORED = tuple(
    re.compile(rf"{opening}.*?{closing}", _FLAGS)
    for opening, closing in (
        (r"<head>", r"</head>"),
        (r"<nolink>", r"</nolink>"),
        (r'<span(?:\s[^>]*?)?class="nolink"(?:\s[^>]*?)?>', r"</span>"),
        (r"<script(?:\s[^>]*?)?>", r"</script>"),
        (r"<textarea(?:\s[^>]*?)?>", r"</textarea>"),
        (r"<select(?:\s[^>]*?)?>", r"</select>"),
        (r"<a(?:\s[^>]*?)?>", r"</a>"),
    )
)
_TAG = re.compile(r"<[^#%*].*?>", re.DOTALL)
_MARKS = re.compile(r"([#*%])")
_DOUBLED_MARKS = re.compile(r"([#*%])\1")
_SEPARATOR = "\x1f%\x1f"
_SMALL_NUMBER = re.compile(r"-?[1-9][0-9]*")


@dataclass(frozen=True, slots=True)
class Phrase:
    """A phrase that becomes a link: the pattern that finds it and the opening tag to put before it."""

    pattern: re.Pattern[str]
    opening: str


def compile_phrase(phrase: str, *, flexible: bool = False) -> re.Pattern[str] | None:
    """The pattern of a phrase: any case, whole words where it begins or ends with an ASCII word character.

    None for phrases that Moodle never links: empty ones and whole numbers below 1000. With `flexible` a space
    matches any white space, as the newest versions of Moodle do.
    """
    if phrase in ("", "0") or (_SMALL_NUMBER.fullmatch(phrase) and int(phrase) < 1000):
        return None
    plain = _MARKS.sub(r"\1\1", strip_tags(phrase).lower())
    pattern = re.escape(plain)
    if flexible:
        pattern = re.sub(r"(?:\\ )+", lambda match: rf"[\s\xa0\xc2]{{{len(match[0]) // 2}}}", pattern)
    starts, ends = (re.match(r"\w", plain[at : at + 1 or None], re.ASCII) for at in (0, -1))
    return re.compile(
        (r"\b" if starts else "") + f"({pattern})" + (r"\b" if ends else ""), re.IGNORECASE | re.DOTALL
    )


def link_phrases(text: str, phrases: Sequence[Phrase], *, first_only: bool) -> str:
    """`text` with every phrase linked, `first_only` the first occurrence of each."""
    ignored: dict[str, str] = {}
    tags: dict[str, str] = {}
    text = _set_aside(_MARKS.sub(r"\1\1", text), ignored, tags)
    for phrase in phrases:
        opening = _MARKS.sub(r"\1\1", phrase.opening)
        linked = phrase.pattern.sub(partial(_anchor, opening), text, count=int(first_only))
        if linked != text:
            text = _set_aside(linked, ignored, tags)
    text = php.str_replace(text, tags.items())
    text = php.str_replace(text, reversed(ignored.items()))
    return _DOUBLED_MARKS.sub(r"\1", text)


def _anchor(opening: str, match: re.Match[str]) -> str:
    return f"{opening}{match[1]}</a>"


def _set_aside(text: str, ignored: dict[str, str], tags: dict[str, str]) -> str:
    text = save_ignored(text, _IGNORED, ignored)
    for number, tag in enumerate(dict.fromkeys(_TAG.findall(text))):
        tags[f"<%{len(tags) + 1}{_SEPARATOR}{number}%>"] = tag
    return php.str_replace(text, ((tag, mark) for mark, tag in tags.items()))


def save_ignored(text: str, patterns: Iterable[re.Pattern[str]], saved: dict[str, str]) -> str:
    """`text` with the regions that match replaced by marks; `saved` gets the regions by mark."""
    for pattern in patterns:
        for number, region in enumerate(dict.fromkeys(pattern.findall(text))):
            saved[f"<#{len(saved) + 1}{_SEPARATOR}{number}#>"] = region
        text = php.str_replace(text, ((region, mark) for mark, region in saved.items()))
    return text
