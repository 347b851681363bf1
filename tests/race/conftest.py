"""Races whose outcome is chance have three heats."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connections

from tests.conftest import PRISTINE, Moodle
from tests.race.ledger import Ledger
from tests.undo import Changes

Doubles = Callable[[Callable[[], Ledger]], bool]


@pytest.fixture
def doubles(moodle: Moodle, undo: Changes) -> Doubles:
    """A function: race → whether it sends doubles in one of three heats.

    Without a protection doubles can happen, but need not: on a busy machine the racers may not meet.
    """

    def found(race: Callable[[], Ledger]) -> bool:
        for _ in range(3):
            if race().doubles:
                return True
            connections["moodle"].close()
            undo.restore(moodle.database, PRISTINE, set())
            undo.restore_default()
        return False

    return found
