"""Moodle's own small string helpers (lib/weblib.php)."""

from __future__ import annotations

import re

from emailoffload.moodle.formatting import php

_ESCAPED_NUMERIC = re.compile(r"&amp;#([0-9]+|x[0-9a-f]+);", re.IGNORECASE | re.ASCII)
_BARE_AMPERSAND = re.compile(r"&(?![a-zA-Z0-9#]{1,8};)")


def s(text: str) -> str:
    """Moodle's s(): HTML-escaped, numeric entities kept (facts §4.4)."""
    escaped = php.escape(text)
    return _ESCAPED_NUMERIC.sub(r"&#\1;", escaped) if "&amp;#" in escaped else escaped


def escape_bare_ampersands(text: str) -> str:
    """`&amp;` for each ampersand that does not begin an entity."""
    return _BARE_AMPERSAND.sub("&amp;", text)
