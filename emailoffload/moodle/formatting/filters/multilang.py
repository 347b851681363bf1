"""The filter *multilang*: of adjacent spans in several languages, one stays (facts §4.6)."""

from __future__ import annotations

import re

from emailoffload.moodle.formatting.errors import Unrenderable
from emailoffload.moodle.formatting.filters.scope import Scope

_FLAGS = re.IGNORECASE | re.DOTALL | re.ASCII
_NEW = r'<span(?:\s+lang="[a-zA-Z0-9_-]+"|\s+class="multilang"){2}\s*>.*?</span>'
_OLD = r'<(?:lang|span) lang="[a-zA-Z0-9_-]*".*?>.*?</(?:lang|span)>'
_NEW_BLOCK = re.compile(rf"{_NEW}(?:\s*{_NEW})+", _FLAGS)
_OLD_BLOCK = re.compile(rf"{_OLD}(?:\s*{_OLD})+", _FLAGS)
_ONE = re.compile(r'<(?:lang|span)[^>]+lang="([a-zA-Z0-9_-]+)"[^>]*>(.*?)</(?:lang|span)>', _FLAGS)


def apply(text: str, scope: Scope) -> str:
    """Each block of two or more spans becomes the site language's, else a parent's, else the first one."""
    if "lang=" not in text.lower():
        return text
    site = scope.site
    old = site.flag("filter_multilang_force_old") or not site.flag("filter_multilang_converted")
    return (_OLD_BLOCK if old else _NEW_BLOCK).sub(lambda block: _choose(block[0], site.lang), text)


def _choose(block: str, lang: str) -> str:
    texts: dict[str, str] = {}
    for match in _ONE.finditer(block):
        texts[match[1].lower().replace("-", "_")] = match[2]
    if not texts:
        return block
    if lang in texts:
        return texts[lang]
    if "_" in lang:
        raise Unrenderable("language_pack_unknown", lang)
    return texts["en"] if "en" in texts else next(iter(texts.values()))
