"""The filter *urltolink*: bare web addresses become links, addresses of images become images (facts §4.6)."""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import cache

from emailoffload.moodle.formatting import php
from emailoffload.moodle.formatting.filters.phrases import save_ignored
from emailoffload.moodle.formatting.filters.scope import Scope

PLUGIN = "filter_urltolink"
LONGEST_WORD = 4096
_IGNORED = tuple(
    re.compile(pattern, re.IGNORECASE | re.DOTALL | re.ASCII)
    for pattern in (r"<a\s[^>]+?>.*?</a>", r'<span[^>]+?class="nolink"[^>]*?>.*?</span>')
)
_TAG = re.compile(r"(<[^<|>]*>)")
_ATTRIBUTE = re.compile(r'background="|action="|style="background|href="|src="|url [(]')
_EMBED = re.compile(
    r'<a href="([^"]+\.(?:jpg|png|gif))" class="_blanktarget">([^>]*)</a>', re.IGNORECASE | re.DOTALL
)


def apply(text: str, scope: Scope) -> str:
    """`text` with its bare addresses linked; texts in formats that the site excludes stay as they are."""
    lowered = text.lower()
    if not scope.handles_format(PLUGIN):
        return text
    if "http" in lowered or "www." in lowered:
        text = _link(text)
    if "_blanktarget" in text and scope.setting(PLUGIN, "embedimages", "1") not in ("", "0"):
        text = _EMBED.sub(_embed, text)
    return text


def _link(text: str) -> str:
    saved: dict[str, str] = {}
    text = save_ignored(text, _IGNORED, saved)
    chunks = [_link_chunk(chunk) for chunk in _TAG.split(text)]
    return php.str_replace("".join(chunks), reversed(saved.items()))


def _link_chunk(chunk: str) -> str:
    if php.trim(chunk).startswith("<") or _ATTRIBUTE.search(chunk):
        return chunk
    return " ".join(map(_link_word, chunk.split(" ")))


def _link_word(word: str) -> str:
    lowered = word.lower()
    if ("http" not in lowered and "www." not in lowered) or len(word.encode()) >= LONGEST_WORD:
        return word
    return _address(word.isascii()).sub(_anchor, word)


def _anchor(match: re.Match[str]) -> str:
    secure, www, host, rest = (group or "" for group in match.groups())
    return f'<a href="http{secure}://{www}{host}{rest}" class="_blanktarget">{match[0]}</a>'


def _embed(match: re.Match[str]) -> str:
    if match[1] != match[2]:
        return match[0]
    return f'<img class="filter_urltolink_image" alt="" src="{match[1]}" />'


@cache
def _address(ascii_only: bool) -> re.Pattern[str]:
    """An address: scheme or `www.`, host or IPv4 address, port, path, query, fragment; no closing
    punctuation.
    """
    letter = "a-z" if ascii_only else _letters()
    domain = rf"(?:[{letter}0-9][{letter}0-9-]*[{letter}0-9]|[{letter}0-9])"
    common = rf"{letter}0-9.!$&'()*+,;=_~:@"
    path = rf"(?:/(?:[{common}-]|%[a-f0-9]{{2}})*)*"
    tail = rf"(?:[{common}/?-]|%[a-f0-9]{{2}})*"
    return re.compile(
        r"(?:http(s)?://|(?<!://)(www\.))"
        rf"((?:{domain}\.)+{domain}|(?:[0-9]{{1,3}}\.){{3}}[0-9]{{1,3}})"
        rf"((?::[0-9]*)?{path}(?:\?{tail})?(?:\#{tail})?)(?<![\]),.;])",
        re.IGNORECASE,
    )


@cache
def _letters() -> str:
    """All letters of Unicode as ranges of a character class."""
    ranges = []
    start = None
    for code in range(sys.maxunicode + 2):
        is_letter = code <= sys.maxunicode and unicodedata.category(chr(code))[0] == "L"
        if is_letter and start is None:
            start = code
        elif not is_letter and start is not None:
            ranges.append(f"{chr(start)}-{chr(code - 1)}")
            start = None
    return "".join(ranges)
