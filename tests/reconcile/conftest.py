"""An account that may also read what Moodle wrote down about its own mails, for as long as a test takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from emailoffload.moodle import evidence as moodles
from emailoffload.moodle import grants
from tests import settings as test_settings

ACCOUNT = f"'{test_settings.MOODLE_ACCOUNT[0]}'@'localhost'"
Granted = Callable[[], AbstractContextManager[None]]


def rights() -> list[str]:
    """What `moodlegrants --evidence` prints beyond `moodlegrants`."""
    columns = grants.expected_columns(iomad=True)
    for table, names in grants.evidence_columns("mdl_").items():
        columns[table] = columns.get(table, set()) | names
    few, more = (
        grants.statements(ACCOUNT, test_settings.MOODLE_DATABASE, "mdl_", columns, with_evidence=yes)
        for yes in (False, True)
    )
    return [statement for statement in more if statement not in few]


@pytest.fixture
def granted(server: Any, moodle: Any) -> Granted:
    """A block in which the account may read the evidence."""

    @contextmanager
    def make() -> Iterator[None]:
        server.run(";".join(rights()))
        yield
        for table, names in moodles.COLUMNS.items():
            server.run(
                f"REVOKE SELECT ({', '.join(names)}) ON `{test_settings.MOODLE_DATABASE}`.mdl_{table} FROM {ACCOUNT}"
            )

    return make


@pytest.fixture
def evidence(granted: Granted) -> Iterator[None]:
    """The account may read the evidence."""
    with granted():
        yield
