"""Compare-and-swap on the sample Moodle (SQLite): the same promises without row locks and grants."""

from __future__ import annotations

import sqlite3

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from emailoffload.moodle import claims
from emailoffload.moodle.claims import Swap
from emailoffload.moodle.router import MoodleIsReadOnly
from tests.moodle.test_sqlite import sample

__all__ = ["sample"]
pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "moodle"])
REMINDERS, QUEUE = "reengagement", "iomad_queue"


@pytest.fixture
def swaps(sample: sqlite3.Connection) -> dict[str, list[Swap]]:
    """A thousand rows of each table, each with values of its own, and their claims."""
    numbers = range(1, 1001)
    sample.executemany(
        "INSERT INTO mdl_email (id, sent, modifiedtime, body) VALUES (?, NULL, ?, 'x')",
        [(n, 1000 + n) for n in numbers],
    )
    sample.executemany(
        "INSERT INTO mdl_reengagement_inprogress (id, emailsent, emailtime, completed) VALUES (?, 0, ?, 0)",
        [(n, 1000 + n) for n in numbers],
    )
    sample.commit()
    return {
        QUEUE: [Swap(n, (None, 1000 + n), (9000, 9000)) for n in numbers],
        REMINDERS: [Swap(n, (0, 1000 + n, 0), (1, (5000, 1300 + n)[n % 2], 0)) for n in numbers],
    }


@pytest.mark.parametrize("source", [REMINDERS, QUEUE])
def test_a_thousand_rows_are_claimed_and_handed_back_in_one_statement_each(
    swaps: dict[str, list[Swap]], source: str
) -> None:
    mine = swaps[source]
    for part in (mine, [swap.reversed() for swap in mine]):
        with CaptureQueriesContext(connections["moodle"]) as queries:
            assert len(claims.apply(source, part)) == 1000
        assert sum(q["sql"].startswith("UPDATE") for q in queries) == 1
        assert claims.values(source, [s.row_id for s in part]) == {s.row_id: s.after for s in part}


@pytest.mark.parametrize("source", [REMINDERS, QUEUE])
def test_rows_that_others_changed_are_not_won(
    sample: sqlite3.Connection, swaps: dict[str, list[Swap]], source: str
) -> None:
    sample.execute("UPDATE mdl_email SET sent = 5, modifiedtime = 5 WHERE id = 7")
    sample.execute("UPDATE mdl_email SET modifiedtime = 5 WHERE id = 8")
    sample.execute("UPDATE mdl_reengagement_inprogress SET emailsent = 2 WHERE id = 7")
    sample.execute("UPDATE mdl_reengagement_inprogress SET completed = 1 WHERE id = 8")
    sample.commit()
    before = claims.values(source, [7, 8])
    won = claims.apply(source, swaps[source])
    assert won == set(range(1, 1001)) - {7, 8}
    assert claims.values(source, [7, 8]) == before


def test_nothing_else_is_written(sample: sqlite3.Connection, swaps: dict[str, list[Swap]]) -> None:
    claims.apply(QUEUE, swaps[QUEUE])
    assert sample.execute("SELECT DISTINCT body, sent, modifiedtime FROM mdl_email").fetchall() == [
        ("x", 9000, 9000)
    ]
    with connections["moodle"].cursor() as cursor, pytest.raises(MoodleIsReadOnly):
        cursor.execute("UPDATE mdl_email SET sent = 1")
