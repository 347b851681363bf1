"""The only module that writes to Moodle's database: claim and release, set-based compare-and-swap.

What it can do is one kind of statement (promise P3): an UPDATE of the columns `emailsent` and `emailtime` of
rows of `reengagement_inprogress`, named by id, each only where it still holds exactly the values that were
read. A release is the same statement with the values exchanged.

The written values (design §3.2) are such that no run of Moodle's can write them, so a row itself tells whether
a claim was ours, even after a crash:

* A reminder with more to come gets `emailtime = max(E, now - 1) + emaildelay`. Moodle writes
  `timenow + emaildelay`, where timenow is the start of a run that found the row due: timenow > E (facts §2.6
  compares strictly). A row claimed when due was seen with its old values while the cron lock was ours, and
  `now` was read after that: no run had handled it, and every later run has timenow >= now. Both are later
  than what we write.
* The last mail owed gets `emailsent = remindercount, emailtime = E`. Moodle, for such a row, deletes it, or
  writes an emailtime other than E.

`emailsent` only grows and ids are never used again, so equal values mean that nothing happened in between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.conf import settings
from django.db import DatabaseError, OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from emailoffload.moodle import guard

COMPARED = ("emailsent", "emailtime", "completed")
WRITTEN = ("emailsent", "emailtime")
_DEADLOCK, _LOCK_WAIT = 1213, 1205
_TRIES = 3


class ClaimUnknown(Exception):
    """The connection broke while a claim or release was being committed: the rows will tell (recovery)."""


class RowsLocked(Exception):
    """Somebody holds a lock on one of the rows for longer than we wait: nothing was written."""


@dataclass(frozen=True, slots=True)
class Swap:
    """One row's compare-and-swap: `before` must still hold, then `after` is written.

    Values are `(emailsent, emailtime, completed)`; a swap never changes `completed`.
    """

    row_id: int
    before: tuple[int, int, int]
    after: tuple[int, int, int]

    def __post_init__(self) -> None:
        if self.before[2] != self.after[2]:
            raise ValueError("completed is compared and never written")

    def reversed(self) -> Swap:
        """The exact reverse."""
        return Swap(self.row_id, self.after, self.before)


def swap_of(row_id: int, before: Mapping[str, int], after: Mapping[str, int]) -> Swap:
    """The swap between two mappings of column values, as the outbox stores them."""
    completed = int(before["completed"])
    return Swap(
        row_id,
        (int(before["emailsent"]), int(before["emailtime"]), completed),
        (int(after["emailsent"]), int(after["emailtime"]), completed),
    )


def apply(swaps: Sequence[Swap]) -> set[int]:
    """Carry out compare-and-swaps, all in one transaction, and return the ids of the rows that are ours.

    The number of matched rows proves a whole batch. Where it falls short nothing is kept: the rows are locked
    and read, and only those that still hold their old values are written. A row that already holds exactly
    the new values counts as ours: only a process of ours can have written them, and the caller holds the only
    intent for them (`outbox.intents`). Deadlocks and lock waits are tried again, as nothing was committed.

    Raises ClaimUnknown when the connection breaks so that the outcome is open, RowsLocked when somebody does not
    let go of a row, and DatabaseError when the server refuses (nothing was written then).
    """
    if len({swap.row_id for swap in swaps}) != len(swaps):
        raise ValueError("a row may occur once in a batch")
    if not swaps:
        return set()
    connection = connections["moodle"]
    for attempt in range(1, _TRIES + 1):
        try:
            with guard.writing():
                return _apply_all(connection, swaps) or _apply_some(connection, swaps)
        except OperationalError as error:
            code = error.args[0] if error.args else None
            if code in (_DEADLOCK, _LOCK_WAIT):
                if attempt < _TRIES:
                    continue
                raise RowsLocked("somebody is changing one of the rows in Moodle's database") from error
            if _connection_lost(code):
                connection.close()
                raise ClaimUnknown("the connection to Moodle's database broke during a claim") from error
            raise
    raise AssertionError("unreachable")  # pragma: no cover


def _connection_lost(code: object) -> bool:
    """True for the client's "server has gone away / lost connection" errors (2000-2999)."""
    return isinstance(code, int) and 2000 <= code < 3000


class _Short(Exception):
    """Fewer rows matched than the batch has: roll back."""


def _apply_all(connection: BaseDatabaseWrapper, swaps: Sequence[Swap]) -> set[int] | None:
    """Write the whole batch, or nothing: None where any row no longer holds its old values."""
    try:
        with transaction.atomic(using="moodle"), connection.cursor() as cursor:
            matched = 0
            for statement in _statements(connection.vendor, swaps):
                cursor.execute(statement)
                matched += cursor.rowcount
            if matched != len(swaps):
                raise _Short
    except _Short:
        return None
    return {swap.row_id for swap in swaps}


def _apply_some(connection: BaseDatabaseWrapper, swaps: Sequence[Swap]) -> set[int]:
    """Lock and read the rows, then write those that still hold their old values; see `apply`."""
    with transaction.atomic(using="moodle"), connection.cursor() as cursor:
        found = _read(cursor, connection.vendor, [swap.row_id for swap in swaps], lock=True)
        winners = [swap for swap in swaps if found.get(swap.row_id) == swap.before]
        matched = 0
        for statement in _statements(connection.vendor, winners):
            cursor.execute(statement)
            matched += cursor.rowcount
        if matched != len(winners):
            raise DatabaseError(f"{len(winners)} locked rows should have been claimed, {matched} were")
    already = {swap.row_id for swap in swaps if found.get(swap.row_id) == swap.after}
    return {swap.row_id for swap in winners} | already


def values(row_ids: Collection[int]) -> dict[int, tuple[int, int, int]]:
    """What the rows hold now: `(emailsent, emailtime, completed)` by id; a missing id is a row that is gone."""
    connection = connections["moodle"]
    found: dict[int, tuple[int, int, int]] = {}
    ids = sorted(row_ids)
    with connection.cursor() as cursor:
        for start in range(0, len(ids), 1000):
            found |= _read(cursor, connection.vendor, ids[start : start + 1000], lock=False)
    return found


def _table(vendor: str) -> str:
    quote = "`" if vendor == "mysql" else '"'
    return f"{quote}{settings.MOODLE_DB_PREFIX}reengagement_inprogress{quote}"


def _read(
    cursor: object, vendor: str, row_ids: Iterable[int], *, lock: bool
) -> dict[int, tuple[int, int, int]]:
    ids = ",".join(str(int(row_id)) for row_id in row_ids)
    # SQLite (the sample Moodle) has no row locks: the transaction itself excludes other writers.
    suffix = " FOR UPDATE" if lock and vendor != "sqlite" else ""
    cursor.execute(  # type: ignore[attr-defined]
        f"SELECT id, emailsent, emailtime, completed FROM {_table(vendor)} WHERE id IN ({ids}){suffix}"  # noqa: S608
    )
    return {row[0]: (row[1], row[2], row[3]) for row in cursor.fetchall()}  # type: ignore[attr-defined]


def _statements(vendor: str, swaps: Sequence[Swap]) -> Iterable[str]:
    """One UPDATE per group of rows that are changed alike; all values are integers made here.

    Rows claimed ahead share the step of their emailtime (their activity's delay), rows claimed when due
    share its new value: each row goes with the larger crowd, so a batch needs few statements.
    """
    steps = Counter((s.after[0] - s.before[0], s.after[1] - s.before[1]) for s in swaps)
    targets = Counter((s.after[0] - s.before[0], s.after[1]) for s in swaps)
    groups: dict[tuple[int, str], list[Swap]] = {}
    for swap in swaps:
        counted = swap.after[0] - swap.before[0]
        step, target = swap.after[1] - swap.before[1], swap.after[1]
        if steps[counted, step] >= targets[counted, target]:
            expression = f"emailtime + ({int(step)})" if step else "emailtime"
        else:
            expression = str(int(target))
        groups.setdefault((counted, expression), []).append(swap)
    in_values = "" if vendor == "mysql" else "VALUES "
    for (counted, expression), members in groups.items():
        ids = ",".join(str(int(swap.row_id)) for swap in members)
        old = ",".join(
            f"({int(s.row_id)},{int(s.before[0])},{int(s.before[1])},{int(s.before[2])})" for s in members
        )
        # The primary key stands in the condition by itself, so that no other row is locked.
        yield (
            f"UPDATE {_table(vendor)} SET emailsent = emailsent + ({int(counted)}), emailtime = {expression}"  # noqa: S608
            f" WHERE id IN ({ids}) AND (id, emailsent, emailtime, completed) IN ({in_values}{old})"
        )
