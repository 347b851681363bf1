"""The sources this product knows, by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings

from emailoffload.moodle.variants import Variant
from emailoffload.policy.copies import CopyRules
from emailoffload.sources.iomad_queue import scan as queue_scan
from emailoffload.sources.iomad_queue.source import NAME as IOMAD_QUEUE
from emailoffload.sources.iomad_queue.source import QueueSource
from emailoffload.sources.protocol import Row, Source
from emailoffload.sources.reengagement import scan
from emailoffload.sources.reengagement.source import NAME as REENGAGEMENT
from emailoffload.sources.reengagement.source import ReengagementSource

NAMES = (REENGAGEMENT, IOMAD_QUEUE)
WITH_CREDENTIALS = frozenset({IOMAD_QUEUE})
"""Sources whose mails may carry credentials."""


def _check(name: str) -> None:
    if name not in NAMES:
        raise KeyError(f"there is no source {name!r}; there are: {', '.join(NAMES)}")


def installed(variant: Variant) -> tuple[str, ...]:
    """The sources that a site has, supported or not, in the order of `NAMES`."""
    has = {REENGAGEMENT: variant.kind != "absent", IOMAD_QUEUE: variant.iomad}
    return tuple(name for name in NAMES if has[name])


def find(name: str, horizon: int, above: int = 0) -> Iterator[Row]:
    """Rows of a source with an id beyond `above` that are due before `horizon` (UNIX seconds).

    Nothing else is read. Raises KeyError for an unknown name, and database errors.
    """
    _check(name)
    return queue_scan.due_rows(horizon, above) if name == IOMAD_QUEUE else scan.due_rows(horizon, above)


def of_user(name: str, user_id: int, most: int) -> list[Row]:
    """Rows of a source that belong to a user, due or not, at most so many; those due first before the others.

    Of the reminders all that Moodle has, also those whose activity mails in another way or no more. Raises KeyError
    for an unknown name, and database errors.
    """
    _check(name)
    look = queue_scan.rows_of_user if name == IOMAD_QUEUE else scan.rows_of_user
    return list(look(user_id, most))


def get(
    name: str, variant: Variant | None = None, *, parity: str = "", copy_rules: CopyRules | None = None
) -> Source[Any]:
    """A fresh source: it reads the site's configuration now. Raises KeyError for an unknown name.

    `variant` saves finding out a second time what is installed. `parity` and `copy_rules` stand for the setting
    RENDER_PARITY and for the rules on record.
    """
    _check(name)
    parity = parity or settings.RENDER_PARITY
    if name == IOMAD_QUEUE:
        return QueueSource(parity=parity, variant=variant, copy_rules=copy_rules)
    return ReengagementSource(parity=parity, variant=variant, copy_rules=copy_rules)
