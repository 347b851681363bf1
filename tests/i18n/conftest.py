"""The people of the dashboard, a browser, and a language that ends with its test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.utils import translation

from tests.dashboard.browsing import axe, browser, screenshots, visit
from tests.dashboard.conftest import sign_in, support

__all__ = ["axe", "browser", "screenshots", "sign_in", "support", "visit"]


@pytest.fixture(autouse=True)
def _no_language_stays() -> Iterator[None]:
    """A request leaves its language behind in the thread; the next one of a server sets its own, a test may not."""
    yield
    translation.deactivate()
