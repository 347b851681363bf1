"""The scan of IOMAD's `email` table for rows that wait and are due, in windows of ids.

The table has no index on `sent` or `due` (facts §1.3) and keeps what was sent for about six months, so finding
what waits reads all rows above a mark. Only narrow columns are asked for: bodies and headers are loaded later,
and only of rows that may be claimed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.conf import settings
from django.db import connections

from emailoffload.moodle.types import QueueRow

WINDOW = 200_000
"""Ids per statement: rows carry bodies, so a window is far smaller than that of the reminders."""
CHUNK = 2_000
"""Rows per answer, and ids per look-up."""

_COLUMNS = "id, templatename, modifiedtime, due, companyid, courseid, userid, senderid"


@dataclass(frozen=True, slots=True)
class RowState:
    """What tells whether a claimed row is still ours, and whether IOMAD would mail it."""

    sent: int | None
    modifiedtime: int
    companyid: int
    templatename: str | None


def due_rows(horizon: int, above: int = 0) -> Iterator[QueueRow]:
    """Every unsent row with an id beyond `above` that is due before `horizon` (UNIX seconds), in order of id.

    Whether the user may be mailed is decided later, so that the row is counted with its reason. Raises
    database errors.
    """
    low, high = _bounds(above)
    while low <= high:
        last, end = low - 1, low + WINDOW - 1
        while True:
            rows = _chunk(last, end, horizon)
            yield from rows
            if len(rows) < CHUNK:
                break
            last = rows[-1].id
        low = end + 1


def _table() -> str:
    return connections["moodle"].ops.quote_name(f"{settings.MOODLE_DB_PREFIX}email")


def _bounds(above: int) -> tuple[int, int]:
    with connections["moodle"].cursor() as cursor:
        cursor.execute(f"SELECT MIN(id), MAX(id) FROM {_table()} WHERE id > {int(above)}")  # noqa: S608
        low, high = cursor.fetchone()
    return (low, high) if low is not None else (1, 0)


def _chunk(after: int, end: int, horizon: int) -> list[QueueRow]:
    with connections["moodle"].cursor() as cursor:
        cursor.execute(
            f"SELECT {_COLUMNS} FROM {_table()}"  # noqa: S608
            f" WHERE id > {int(after)} AND id <= {int(end)} AND sent IS NULL AND due < {int(horizon)}"
            f" ORDER BY id LIMIT {CHUNK}"
        )
        return [QueueRow(*row) for row in cursor.fetchall()]


def rows_of_user(user_id: int, most: int, window: int = WINDOW) -> list[QueueRow]:
    """A user's mails that wait, among the newest `window` ids of the table, those due first before the others.

    Only newer versions have an index on users (facts §1.3); without one this reads all rows of the window.
    """
    with connections["moodle"].cursor() as cursor:
        cursor.execute(f"SELECT MAX(id) FROM {_table()}")  # noqa: S608
        newest = cursor.fetchone()[0] or 0
        cursor.execute(
            f"SELECT {_COLUMNS} FROM {_table()}"  # noqa: S608
            f" WHERE id > {int(newest) - int(window)} AND sent IS NULL AND userid = {int(user_id)}"
            f" ORDER BY due, id LIMIT {int(most)}"
        )
        return [QueueRow(*row) for row in cursor.fetchall()]


def states(ids: Sequence[int]) -> dict[int, RowState]:
    """The rows that still exist, by id; one query per two thousand ids."""
    found: dict[int, RowState] = {}
    with connections["moodle"].cursor() as cursor:
        for start in range(0, len(ids), CHUNK):
            part = ",".join(str(int(id_)) for id_ in ids[start : start + CHUNK])
            cursor.execute(
                "SELECT id, sent, modifiedtime, companyid, templatename"  # noqa: S608
                f" FROM {_table()} WHERE id IN ({part})"
            )
            found |= {row[0]: RowState(*row[1:]) for row in cursor.fetchall()}
    return found
