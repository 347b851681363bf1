"""The one scan of `reengagement_inprogress` per pass, in windows of ids.

The table has no index but its primary key (facts §1.1), so finding due rows reads all of it. Windows keep each
statement short; within a window rows come in order of id, a bounded number at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from django.conf import settings
from django.db import connections

from emailoffload.moodle.types import EMAILUSER_TIME, InProgress

WINDOW = 250_000
"""Ids per window."""
CHUNK = 5_000
"""Rows per statement."""


def due_rows(horizon: int) -> Iterator[InProgress]:
    """Every row that Moodle would find due before `horizon` (UNIX seconds), in order of id.

    The condition is phase C's (facts §2.6): mode "after delay", fewer mails sent than owed. Whether the user
    is deleted is decided later, so that the row is counted with its reason.
    """
    low, high = _bounds()
    while low <= high:
        end = min(low + WINDOW - 1, high)
        last = low - 1
        while True:
            rows = _chunk(last, end, horizon)
            yield from rows
            if len(rows) < CHUNK:
                break
            last = rows[-1].id
        low = end + 1


def _tables() -> tuple[str, str]:
    quote = connections["moodle"].ops.quote_name
    prefix = settings.MOODLE_DB_PREFIX
    return quote(f"{prefix}reengagement_inprogress"), quote(f"{prefix}reengagement")


def _bounds() -> tuple[int, int]:
    inprogress, _ = _tables()
    with connections["moodle"].cursor() as cursor:
        cursor.execute(f"SELECT MIN(id), MAX(id) FROM {inprogress}")  # noqa: S608
        low, high = cursor.fetchone()
    return (low, high) if low is not None else (1, 0)


def _chunk(after: int, end: int, horizon: int) -> list[InProgress]:
    inprogress, activity = _tables()
    # STRAIGHT_JOIN: the time condition discards nearly every row, and must do so before the join.
    join = "STRAIGHT_JOIN" if connections["moodle"].vendor == "mysql" else "CROSS JOIN"
    with connections["moodle"].cursor() as cursor:
        cursor.execute(
            "SELECT i.id, i.reengagement, i.userid, i.completiontime, i.emailtime, i.emailsent, i.completed"  # noqa: S608
            f" FROM {inprogress} i {join} {activity} r"
            " WHERE i.id > %s AND i.id <= %s AND i.emailtime < %s AND r.id = i.reengagement"
            f" AND r.emailuser = {EMAILUSER_TIME} AND i.emailsent < r.remindercount"
            f" ORDER BY i.id LIMIT {CHUNK}",
            [after, end, horizon],
        )
        return [InProgress(*row) for row in cursor.fetchall()]


def rows_by_id(ids: Sequence[int]) -> dict[int, InProgress]:
    """The rows that still exist, by id; one query per thousand ids."""
    inprogress, _ = _tables()
    found: dict[int, InProgress] = {}
    with connections["moodle"].cursor() as cursor:
        for start in range(0, len(ids), 1000):
            part = ",".join(str(int(id_)) for id_ in ids[start : start + 1000])
            cursor.execute(
                "SELECT id, reengagement, userid, completiontime, emailtime, emailsent, completed"  # noqa: S608
                f" FROM {inprogress} WHERE id IN ({part})"
            )
            found |= {row[0]: InProgress(*row) for row in cursor.fetchall()}
    return found
