"""The filter *emoticon*: smileys become small images (facts §4.6)."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any
from urllib.parse import quote_plus

from emailoffload.moodle.formatting.errors import Unrenderable
from emailoffload.moodle.formatting.filters.scope import Scope
from emailoffload.moodle.formatting.strings import s
from emailoffload.moodle.types import SiteConfig

_DEFAULTS = (
    (":-)", "smiley"),
    (":)", "smiley"),
    (":-D", "biggrin"),
    (";-)", "wink"),
    (":-/", "mixed"),
    ("V-.", "thoughtful"),
    (":-P", "tongueout"),
    (":-p", "tongueout"),
    ("B-)", "cool"),
    ("^-)", "approve"),
    ("8-)", "wideeyes"),
    (":o)", "clown"),
    (":-(", "sad"),
    (":(", "sad"),
    ("8-.", "shy"),
    (":-I", "blush"),
    (":-X", "kiss"),
    ("8-o", "surprise"),
    ("P-|", "blackeye"),
    ("8-[", "angry"),
    ("(grr)", "angry"),
    ("xx-P", "dead"),
    ("|-.", "sleepy"),
    ("}-]", "evil"),
    ("(h)", "heart"),
    ("(heart)", "heart"),
    ("(y)", "yes"),
    ("(n)", "no"),
    ("(martin)", "martin"),
    ("( )", "egg"),
)
"""The list of a fresh install: text and image."""
_ENGLISH = {name: name for _, name in _DEFAULTS} | {
    "biggrin": "big grin",
    "blackeye": "black eye",
    "smiley": "smile",
    "wideeyes": "wide eyes",
}
"""English alternative texts (component core_pix)."""
_ENGLISH_CORE = {"yes": "Yes", "no": "No"}
_ZONE = re.compile(r"(</?(?:span|script|pre)[^>]*>)", re.IGNORECASE | re.DOTALL)
_EXCLUDING = re.compile(r'<script|<span[^>]+class="nolink[^"]*"|<pre', re.IGNORECASE | re.DOTALL)


def apply(text: str, scope: Scope) -> str:
    """`text` with its smileys replaced, except inside scripts, `pre` and `nolink`.

    Raises Unrenderable where an alternative text is in a language that we do not know.
    """
    if not scope.handles_format("filter_emoticon"):
        return text
    present = [each for each in emoticons(scope.site.config.get("emoticons")) if each[0] in text]
    if not present:
        return text
    images = [(each[0], _image(each, scope.site)) for each in present]
    pieces = []
    excluded = 0
    for fragment in _ZONE.split(text):
        if excluded == 0 and _EXCLUDING.match(fragment):
            excluded = 1
        if excluded:
            excluded = _depth(fragment, excluded)
        elif "<span" not in fragment or "</span" not in fragment:
            for search, image in images:
                fragment = fragment.replace(search, image)
        pieces.append(fragment)
    return "".join(pieces)


def _depth(fragment: str, depth: int) -> int:
    """How deep the excluded zone is after `fragment`; its first tag counts twice, as in Moodle."""
    if any(closing in fragment for closing in ("</span", "</script", "</pre")):
        return depth - 1 if depth - 1 != 1 else 0
    if any(opening in fragment for opening in ("<span", "<script", "<pre")):
        return depth + 1
    return depth


@lru_cache(maxsize=8)
def emoticons(stored: str | None) -> tuple[tuple[str, str, str, str, str], ...]:
    """The site's emoticons: text, image, image component, string, string component.

    `stored` is the row `emoticons` of `config`; without a row the list of a fresh install, an empty or
    broken one means none.
    """
    if stored is None:
        return tuple(
            (text, f"s/{name}", "core", name, "core" if name in _ENGLISH_CORE else "core_pix")
            for text, name in _DEFAULTS
        )
    try:
        decoded: Any = json.loads(stored) if stored else []
    except ValueError:
        return ()
    if not isinstance(decoded, list):
        return ()
    names = ("text", "imagename", "imagecomponent", "altidentifier", "altcomponent")
    rows = (tuple(str(each.get(name) or "") for name in names) for each in decoded if isinstance(each, dict))
    return tuple((row[0], row[1], row[2], row[3], row[4]) for row in rows if row[0])


def _image(emoticon: tuple[str, str, str, str, str], site: SiteConfig) -> str:
    text, name, component, identifier, string_component = emoticon
    alt = s(text)
    if identifier:
        strings = _ENGLISH if string_component == "core_pix" else _ENGLISH_CORE
        if site.lang not in ("en", "en_us") or identifier not in strings:
            raise Unrenderable("language_pack_unknown", site.lang)
        alt = strings[identifier]
    source = _image_url(name, component, site)
    return f'<img class="icon emoticon" alt="{s(alt)}" title="{s(alt)}" src="{source}" />'


def _image_url(name: str, component: str, site: SiteConfig) -> str:
    component = "core" if component in ("", "moodle", "core") else component
    theme = site.get("theme", "boost")
    revision = "-1" if site.flag("themedesignermode") else site.get("themerev") or "-1"
    if site.get("slasharguments", "1") not in ("", "0") and revision.isdigit() and int(revision) > 0:
        return f"{site.wwwroot}/theme/image.php/{theme}/{component}/{revision}/{name}"
    parameters = [("theme", theme), ("component", component)]
    if revision != "-1":
        parameters.append(("rev", revision))
    query = "&amp;".join(f"{key}={quote_plus(value)}" for key, value in [*parameters, ("image", name)])
    return f"{site.wwwroot}/theme/image.php?{query}"
