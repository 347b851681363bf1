"""People who log in."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from tests.dashboard.conftest import PASSWORD, make_user


@pytest.fixture
def sam() -> User:
    """Somebody with a password."""
    return make_user("Support staff", "sam")


def typed(name: str = "sam", password: str = PASSWORD) -> dict[str, str]:
    """The form of the login page."""
    return {"username": name, "password": password}
