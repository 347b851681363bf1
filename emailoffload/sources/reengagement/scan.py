"""The one scan of `reengagement_inprogress` per pass, in windows of ids.

The table has no index but its primary key (facts §1.1), so finding due rows reads all of it. Windows keep each
statement short; within a window rows come in order of id, a bounded number at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from django.conf import settings
from django.db import connections

from emailoffload.moodle.types import EMAILUSER_TIME, InProgress

WINDOW = 2_000_000
"""Ids per statement. Reading that many rows takes a server about a third of a second."""
CHUNK = 5_000
"""Rows per answer."""


def due_rows(horizon: int, above: int = 0) -> Iterator[InProgress]:
    """Every row with an id beyond `above` that Moodle would find due before `horizon` (UNIX seconds), by id.

    The condition is phase C's (facts §2.6): mode "after delay", fewer mails sent than owed. Whether the user
    is deleted is decided later, so that the row is counted with its reason.
    """
    low, high = _bounds()
    low = max(low, above + 1)
    while low <= high:
        # A table that fits into one window is read without a condition on the id, which costs a quarter more.
        last, end = (low - 1, low + WINDOW - 1) if above or high - low >= WINDOW else (None, None)
        while True:
            rows = _chunk(last, end, horizon)
            yield from rows
            if len(rows) < CHUNK:
                break
            last = rows[-1].id
        if end is None:
            break
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


def _chunk(after: int | None, end: int | None, horizon: int) -> list[InProgress]:
    inprogress, activity = _tables()
    window = [f"i.id > {int(after)}"] if after is not None else []
    window += [f"i.id <= {int(end)}"] if end is not None else []
    # The activity is asked for in a subquery, so that only rows that pass the time condition cost a look-up.
    conditions = [
        *window,
        f"i.emailtime < {int(horizon)}",
        f"i.emailsent < (SELECT r.remindercount FROM {activity} r"  # noqa: S608
        f" WHERE r.id = i.reengagement AND r.emailuser = {EMAILUSER_TIME})",
    ]
    with connections["moodle"].cursor() as cursor:
        cursor.execute(
            "SELECT i.id, i.reengagement, i.userid, i.completiontime, i.emailtime, i.emailsent, i.completed"  # noqa: S608
            f" FROM {inprogress} i WHERE {' AND '.join(conditions)} ORDER BY i.id LIMIT {CHUNK}"
        )
        return [InProgress(*row) for row in cursor.fetchall()]


def rows_of_user(user_id: int, most: int) -> list[InProgress]:
    """A user's rows, those due first before the others, at most so many; reads the whole table (facts §1.1)."""
    inprogress, _ = _tables()
    with connections["moodle"].cursor() as cursor:
        cursor.execute(
            "SELECT id, reengagement, userid, completiontime, emailtime, emailsent, completed"  # noqa: S608
            f" FROM {inprogress} WHERE userid = {int(user_id)} ORDER BY emailtime, id LIMIT {int(most)}"
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
