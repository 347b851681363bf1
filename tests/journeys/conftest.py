"""The browser, the people who come to work in it, and a site of which something is known."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from tests.dashboard.browsing import axe, browser, screenshots, visit
from tests.dashboard.conftest import make_user
from tests.fallback.conftest import sink

__all__ = ["axe", "browser", "screenshots", "sink", "visit"]


@pytest.fixture
def sam(transactional_db: None) -> User:
    """Somebody of the support staff."""
    return make_user("Support staff", "sam")


@pytest.fixture
def ann(transactional_db: None) -> User:
    """An administrator."""
    return make_user("Offload administrators", "ann")
