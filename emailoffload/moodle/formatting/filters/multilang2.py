"""The filter *multilang2* (third party): `{mlang xx,yy}…{mlang}` (facts §4.6)."""

from __future__ import annotations

import re

from emailoffload.moodle.formatting.errors import Unrenderable
from emailoffload.moodle.formatting.filters.scope import Scope

_BLOCK = re.compile(
    r"{\s*mlang\s+([a-z0-9_-]+(?:\s*,\s*[a-z0-9_-]+\s*)*)\s*}(.*?){\s*mlang\s*}",
    re.IGNORECASE | re.DOTALL | re.ASCII,
)


def apply(text: str, scope: Scope) -> str:
    """Blocks of the site's language stay; where the whole text has none, blocks of `other`; the rest goes."""
    if "mlang" not in text.lower() or not _BLOCK.search(text):
        return text
    lang = scope.site.lang
    if "_" in lang:
        raise Unrenderable("language_pack_unknown", lang)
    wanted = lang if any(lang in _languages(block[1]) for block in _BLOCK.finditer(text)) else "other"
    return _BLOCK.sub(lambda block: block[2] if wanted in _languages(block[1]) else "", text)


def _languages(listed: str) -> list[str]:
    return listed.lower().replace("-", "_").replace(" ", "").split(",")
