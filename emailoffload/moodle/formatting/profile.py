"""Values of custom profile fields as the plugin inserts them (facts §4.3)."""

from __future__ import annotations

import re

from emailoffload.moodle.formatting import php
from emailoffload.moodle.formatting.errors import Unrenderable
from emailoffload.moodle.formatting.striptags import strip_tags
from emailoffload.moodle.formatting.text import format_text
from emailoffload.moodle.formatting.userdate import format_date
from emailoffload.moodle.types import ProfileField, ProfileValue, SiteConfig

_TRUTHLESS = (None, "", "0")
_BLOCK_EDGE = re.compile(r"<(?:br|/p|/div|/li)\b[^>]*>", re.IGNORECASE)


def format_value(field: ProfileField, value: ProfileValue | None, site: SiteConfig) -> str:
    """The HTML that stands for the field's placeholder: '' without a value, dates as plain text.

    Texts are cleaned and filtered in the front page's context. Raises Unrenderable("profile_markup") where
    the value has markup whose cleaned form is not certain, and what `format_text` and `format_date` raise.
    """
    if value is None:
        return ""
    if field.datatype == "datetime":
        return format_date(value.data, site, with_time=field.param3 not in _TRUTHLESS)
    try:
        return format_text(value.data, value.dataformat, site, site.site_context, clean=True)
    except Unrenderable as error:
        if error.reason == "forceclean":
            raise Unrenderable("profile_markup", field.shortname) from error
        if error.reason == "profile_format":
            raise Unrenderable("profile_format", field.shortname) from error
        raise


def plain_text(html: str) -> str:
    """A formatted value as one line of text, for subjects that people read."""
    text = php.entity_decode(strip_tags(_BLOCK_EDGE.sub(" ", html)))
    return " ".join(text.split())
