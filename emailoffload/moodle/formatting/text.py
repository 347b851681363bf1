"""Moodle's format_text() and format_string() for the formats that mails use (facts §4.3-§4.5)."""

from __future__ import annotations

import re

from emailoffload.moodle.formatting import php
from emailoffload.moodle.formatting.errors import Unrenderable
from emailoffload.moodle.formatting.filters import filter_string, filter_text
from emailoffload.moodle.formatting.purify import clean_text
from emailoffload.moodle.formatting.strings import escape_bare_ampersands, s
from emailoffload.moodle.formatting.striptags import strip_tags
from emailoffload.moodle.types import SiteConfig, TextContext

FORMAT_MOODLE, FORMAT_HTML, FORMAT_PLAIN, FORMAT_MARKDOWN = 0, 1, 2, 4
FORMATS_ARE_CHECKED_FROM = 404
"""Moodle 4.4 and later throw at an unknown text format; earlier ones took it for FORMAT_MOODLE."""

_BETWEEN_TAGS = re.compile(r">\s+<", re.ASCII)
_BEFORE_TAG = re.compile(r"[\n\r]<")
_AFTER_TAG = re.compile(r">[\n\r]")
_NOLINK = re.compile(r"&lt;(/?)nolink&gt;", re.IGNORECASE)
_LINK = re.compile(r"<a\s[^>]+?>(.+?)</a>", re.IGNORECASE | re.DOTALL | re.ASCII)


def text_to_html(text: str) -> str:
    """Moodle's text_to_html(): line breaks become `<br />`, the whole becomes a `div` (facts §4.5).

    White space between two tags goes entirely; a newline beside a tag becomes a space.
    """
    text = _BETWEEN_TAGS.sub("><", text)
    text = _AFTER_TAG.sub("> ", _BEFORE_TAG.sub(" <", text))
    return f'<div class="text_to_html">{php.nl2br(text)}</div>'


def format_plain(text: str) -> str:
    """format_text() of FORMAT_PLAIN, which subjects go through: escaped, no filters (facts §4.4)."""
    text = _NOLINK.sub(r"<\1nolink>", s(text))
    return php.nl2br(text.replace("  ", "&nbsp; "))


def format_body(text: str, site: SiteConfig, context: TextContext) -> str:
    """format_text() of a trusted FORMAT_MOODLE text in its course's context (facts §4.5).

    '' stays ''. Raises Unrenderable where a filter that we do not have could touch the text, and where the
    site cleans all texts (`forceclean`) and the result is not certain.
    """
    return format_text(text, FORMAT_MOODLE, site, context, clean=site.flag("forceclean"))


def format_text(text: str, text_format: int, site: SiteConfig, context: TextContext, *, clean: bool) -> str:
    """format_text() with `clean` as Moodle decides it; see `format_body` for what it raises.

    Also raises Unrenderable("profile_format") for Markdown and for formats that Moodle refuses.
    """
    if text == "":
        return ""
    if text_format == FORMAT_PLAIN:
        return format_plain(text)
    unknown = text_format not in (FORMAT_MOODLE, FORMAT_HTML)
    if text_format in (3, FORMAT_MARKDOWN) or (unknown and site.branch >= FORMATS_ARE_CHECKED_FROM):
        raise Unrenderable("profile_format", str(text_format))
    if text_format != FORMAT_HTML:
        text = text_to_html(text)
    if clean:
        cleaned = clean_text(text)
        if cleaned is None:
            raise Unrenderable("forceclean")
        text = cleaned
    text = filter_text(text, site, context, text_format)
    return text.replace(f'"{site.wwwroot}/draftfile.php', f'"{site.wwwroot}/brokenfile.php#')


def format_string(text: str, site: SiteConfig, context: TextContext) -> str:
    """format_string(): a name for HTML, e.g. the site's short name in From (facts §5.5).

    Raises Unrenderable where a filter or the cleaning of a name with markup is beyond us.
    """
    if text == "":
        return ""
    text = escape_bare_ampersands(text)
    if site.flag("filterall"):
        text = filter_string(text, site, context)
    if site.get("formatstringstriptags", "1") not in ("", "0"):
        return strip_tags(text).replace("<", "&lt;").replace(">", "&gt;")
    cleaned = clean_text(_LINK.sub(r"\1", text))
    if cleaned is None:
        raise Unrenderable("forceclean")
    return cleaned
