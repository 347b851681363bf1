"""The sources this product knows, by name."""

from __future__ import annotations

from django.conf import settings

from emailoffload.sources.reengagement.source import NAME as REENGAGEMENT
from emailoffload.sources.reengagement.source import ReengagementSource

NAMES = (REENGAGEMENT,)


def get(name: str) -> ReengagementSource:
    """A fresh source: it reads the site's configuration now. Raises KeyError for an unknown name."""
    if name != REENGAGEMENT:
        raise KeyError(f"there is no source {name!r}; there are: {', '.join(NAMES)}")
    return ReengagementSource(parity=settings.RENDER_PARITY)
