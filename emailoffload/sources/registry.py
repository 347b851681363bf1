"""The sources this product knows, by name."""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings

from emailoffload.moodle.types import InProgress
from emailoffload.moodle.variants import Variant
from emailoffload.sources.reengagement import scan
from emailoffload.sources.reengagement.source import NAME as REENGAGEMENT
from emailoffload.sources.reengagement.source import ReengagementSource

NAMES = (REENGAGEMENT,)


def _check(name: str) -> None:
    if name not in NAMES:
        raise KeyError(f"there is no source {name!r}; there are: {', '.join(NAMES)}")


def find(name: str, horizon: int) -> Iterator[InProgress]:
    """Rows of a source that are due before `horizon` (UNIX seconds), without reading anything else.

    Raises KeyError for an unknown name, and database errors.
    """
    _check(name)
    return scan.due_rows(horizon)


def get(name: str, variant: Variant | None = None) -> ReengagementSource:
    """A fresh source: it reads the site's configuration now. Raises KeyError for an unknown name.

    `variant` saves finding out a second time which plugin is installed.
    """
    _check(name)
    return ReengagementSource(parity=settings.RENDER_PARITY, variant=variant)
