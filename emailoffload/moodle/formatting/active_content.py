"""Removing what acts by itself from a mail's HTML (design §5, difference 4).

Script, frames, embedded objects, forms, event handlers, script addresses and refreshes go. A body without any
stays byte for byte what it is; one whose only active content are complete script elements loses just these;
every other one is parsed and written anew.
"""

from __future__ import annotations

import re

import nh3

from emailoffload.moodle.formatting import php

_ELEMENT = re.compile(
    r"<\s*/?\s*(?:script|i?frame|frameset|noframes|object|embed|applet|form|input|button|select|textarea|option"
    r"|svg|math|portal|meta\b[^>]*http-equiv)",
    re.IGNORECASE,
)
_HANDLER = re.compile(r"[\s/\"'\x00]on[a-z]+\s*=", re.IGNORECASE)
_ADDRESS = re.compile(r"""[\w:-]\s*=\s*(?:"([^"]*)|'([^']*)|([^\s"'>]+))""")
_SCRIPT_ADDRESS = re.compile(
    r"(?:javascript|vbscript|livescript|data:(?!image/(?:png|gif|jpe?g|webp)[;,]))", re.I
)
_IGNORED_IN_ADDRESSES = re.compile(r"[\x00-\x20\x7f-\x9f]+")
_SCRIPT = re.compile(r"<script\b[^>]*>.*?</script\s*>", re.IGNORECASE | re.DOTALL)
_GONE_WITH_CONTENT = frozenset(
    ("script", "iframe", "frame", "frameset", "noframes", "object", "embed", "applet", "svg", "math")
)
_TAG_NAMES = """
    a abbr acronym address area article aside audio b bdi bdo big blockquote br caption center cite code
    col colgroup dd del details dfn dir div dl dt em figcaption figure font footer h1 h2 h3 h4 h5 h6
    header hgroup hr i img ins kbd li main map mark menu nav ol p pre q rp rt ruby s samp section small
    source span strike strong style sub summary sup table tbody td tfoot th thead time tr track tt u ul
    var video wbr
"""
_ATTRIBUTE_NAMES = """
    abbr align alt background bgcolor border bordercolor cellpadding cellspacing cite class clear color
    cols colspan compact controls coords datetime dir face frame headers height href hreflang hspace id
    lang media name noshade nowrap poster rel role rows rowspan rules scope shape size sizes span src
    srcset start style summary tabindex target title type usemap valign value vspace width
"""


def is_active(html: str) -> bool:
    """True where `html` might hold active content; false positives are possible, misses are not meant to
    be.
    """
    lowered = html.lower()
    if "<" in html and _ELEMENT.search(html):
        return True
    if "on" in lowered and _HANDLER.search(html):
        return True
    return any(_is_script_address(match) for match in _ADDRESS.finditer(html))


def _is_script_address(match: re.Match[str]) -> bool:
    value = match[1] or match[2] or match[3] or ""
    if ":" not in value and "&" not in value:
        return False
    return bool(_SCRIPT_ADDRESS.match(_IGNORED_IN_ADDRESSES.sub("", php.entity_decode(value))))


def remove(html: str) -> str:
    """`html` without active content."""
    if not is_active(html):
        return html
    shorter = without_scripts(html)
    if not is_active(shorter):
        return shorter
    return nh3.clean(
        html,
        tags=set(_TAG_NAMES.split()),
        clean_content_tags=set(_GONE_WITH_CONTENT),
        attributes={"*": set(_ATTRIBUTE_NAMES.split())},
        generic_attribute_prefixes={"data-", "aria-"},
        url_schemes={"http", "https", "mailto", "tel", "ftp", "cid", "data"},
        attribute_filter=_keep_attribute,
        strip_comments=True,
        link_rel=None,
    )


def without_scripts(html: str) -> str:
    """`html` without complete script elements; as it is where comments could hide where one begins."""
    if "<!--" in html:
        return html
    while (shorter := _SCRIPT.sub("", html)) != html:
        html = shorter
    return html


def _keep_attribute(tag: str, name: str, value: str) -> str | None:
    return None if _SCRIPT_ADDRESS.match(_IGNORED_IN_ADDRESSES.sub("", value)) else value
