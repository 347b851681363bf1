"""A fake SES, and a Moodle that bars nobody, for tests of the passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from emailoffload.sources import registry
from emailoffload.sources.protocol import ClaimView, Recheck
from tests.delivery.conftest import ses

__all__ = ["ses"]


class Source:
    """Stands for every source: bars nobody unless `bar` says otherwise."""

    def __init__(self) -> None:
        self.bar: Callable[[Sequence[ClaimView]], list[Recheck]] = lambda views: []
        self.seen: list[ClaimView] = []

    def recheck(self, views: Sequence[ClaimView], now: int) -> list[Recheck]:
        self.seen += views
        return self.bar(views)


@pytest.fixture
def source(monkeypatch: Any) -> Source:
    stands_in, whole = Source(), registry.get
    # Who names the variant wants to decide and render: a pass, or what a page foresees.
    monkeypatch.setattr(
        registry, "get", lambda name, variant=None: whole(name, variant) if variant else stands_in
    )
    return stands_in
