"""Passes inside of a test's own transaction, which must not be broken off."""

from __future__ import annotations

import pytest
from django.db import connections

from emailoffload.moodle.errors import check_reachable
from emailoffload.worker.privacy import retention


@pytest.fixture(autouse=True)
def _the_connection_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """`check_reachable` begins with a fresh connection to Moodle; a test in a transaction has to keep its own."""

    def check() -> object:
        return None if connections["moodle"].in_atomic_block else check_reachable()

    monkeypatch.setattr(retention, "check_reachable", check)
