"""The template of a mail that was queued without one: IOMAD looks it up when it sends (facts §7.1, §7.4)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from emailoffload.moodle.addresses import valid_address
from emailoffload.moodle.iomad import BUILT_IN, LANGUAGE_UNREADABLE
from emailoffload.moodle.types import QueueRow
from emailoffload.sources import reasons
from emailoffload.sources.iomad_queue.headers import (
    StoredHeaders,
    StoredTemplate,
    Unusable,
    template_of,
)

FALLBACK = "en"


def template(
    row: QueueRow,
    stored: StoredHeaders,
    own: Mapping[str, Mapping[str, Any]],
    lang: str,
    courses: Collection[int],
) -> StoredTemplate:
    """The company's template in the user's language (`lang`), else in English, else the built-in one.

    `own` are the company's templates of that name, by language; `courses` those that exist. Raises Unusable
    where IOMAD's own run would end in an error.
    """
    if row.courseid and row.courseid not in courses:
        raise Unusable(reasons.HEADERS_MISSING, "the course does not exist")
    if LANGUAGE_UNREADABLE in own:
        raise Unusable(reasons.HEADERS_MISSING, "the language of the templates may not be read: moodlegrants")
    found = own.get(lang) or own.get(FALLBACK)
    if found is None and row.templatename not in BUILT_IN:
        raise Unusable(reasons.HEADERS_MISSING, "there is no template of that name")
    result = template_of(found or {})
    if stored.absent and (result.from_user or valid_address(result.from_address)):
        raise Unusable(reasons.HEADERS_MISSING, "the template has a sender of its own")
    return result
