"""The only module that writes to Moodle's database: claim and release, set-based compare-and-swap.

What it can do is one kind of statement (promise P3): an UPDATE of the two columns that `targets.py` names, of
rows of `reengagement_inprogress` or of IOMAD's `email`, named by id, each only where it still holds exactly
the values that were read. A release is the same statement with the values exchanged.

The written values (design §3.2) are such that no run of Moodle's can write them, so a row itself tells whether
a claim was ours, even after a crash:

* A reminder with more to come gets `emailtime = max(E, now - 1) + emaildelay`. Moodle writes
  `timenow + emaildelay`, where timenow is the start of a run that found the row due: timenow > E (facts §2.6
  compares strictly). A row claimed when due was seen with its old values while the cron lock was ours, and
  `now` was read after that: no run had handled it, and every later run has timenow >= now. Both are later
  than what we write.
* The last mail owed gets `emailsent = remindercount, emailtime = E`. Moodle, for such a row, deletes it, or
  writes an emailtime other than E.
* A row of IOMAD's queue gets `sent = modifiedtime = t` with t < now (`queue_time`). IOMAD writes its time()
  just after it mailed the row (facts §7.2). A row claimed when due was seen unsent while the cron lock was
  ours, and `now` was read after that: a run that mails it starts later, and writes now or more. A row claimed
  ahead is mailed by nobody before its due time, which lies beyond now.

Reminders: `emailsent` only grows and ids are never used again, so equal values mean that nothing happened in
between. The queue: a person may have a mail sent again, by which `sent` becomes NULL and `modifiedtime` stays
(facts §7.6). That is a new mail owed, and a new claim of the same row: it reads `modifiedtime` as the time at
which the row was sent last, and t is never that time, so what a row holds never names two of its claims.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError, Error, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from emailoffload.moodle import guard
from emailoffload.moodle.targets import IOMAD_QUEUE, TARGETS, Target

Values = tuple[int | None, ...]
"""What a row holds in the columns that a claim compares, in the order of `Target.compared`."""

_DEADLOCK, _LOCK_WAIT = 1213, 1205
_BROKEN_OFF = frozenset({1053, 1180, 1317, 1927, 4031})
"""The server goes down, or ended the connection or the statement: as good as a lost connection."""
_TRIES = 3
_AT_ONCE = 1000
"""Rows that one statement reads."""


class ClaimUnknown(Exception):
    """The connection broke while a claim or release was being committed: the rows will tell (recovery)."""


class RowsLocked(Exception):
    """Somebody holds a lock on one of the rows for longer than we wait: nothing was written."""


@dataclass(frozen=True, slots=True)
class Swap:
    """One row's compare-and-swap: `before` must still hold, then `after` is written.

    Values are those of the source's `Target.compared`; `None` is NULL. What is compared and not written
    (`completed`) is the same in both.
    """

    row_id: int
    before: Values
    after: Values

    def reversed(self) -> Swap:
        """The exact reverse."""
        return Swap(self.row_id, self.after, self.before)


def swap_of(
    source: str, row_id: int, before: Mapping[str, int | None], after: Mapping[str, int | None]
) -> Swap:
    """The swap between two mappings of column values, as the outbox stores them. Raises KeyError."""
    target = TARGETS[source]
    unchanged = {name: before[name] for name in target.compared if name not in target.written}
    return Swap(row_id, values_of(source, before), values_of(source, {**after, **unchanged}))


def values_of(source: str, columns: Mapping[str, int | None]) -> Values:
    """A mapping of column values in the order of a swap. Raises KeyError."""
    return tuple(columns[name] for name in TARGETS[source].compared)


def holds(source: str, found: Values | None, columns: Mapping[str, int | None]) -> bool:
    """Whether a row (`None`: it is gone) holds these values where a claim writes.

    What is only compared is Moodle's own and says nothing about whose claim it is.
    """
    written = TARGETS[source].written
    return found is not None and found[: len(written)] == tuple(columns[name] for name in written)


def apply(source: str, swaps: Sequence[Swap]) -> set[int]:
    """Carry out compare-and-swaps, all in one transaction, and return the ids of the rows that are ours.

    The number of matched rows proves a whole batch. Where it falls short nothing is kept: the rows are locked
    and read, and only those that still hold their old values are written. A row that already holds exactly
    the new values counts as ours: only a process of ours can have written them, and the caller holds the only
    intent for them (`outbox.intents`). Deadlocks and lock waits are tried again, as nothing was committed.

    Raises ClaimUnknown when the connection breaks so that the outcome is open, RowsLocked when somebody does not
    let go of a row, DatabaseError when the server refuses (nothing was written then), KeyError for an unknown
    source and ValueError for swaps that no claim makes.
    """
    target = TARGETS[source]
    _check(source, target, swaps)
    if not swaps:
        return set()
    connection = connections["moodle"]
    for tries_left in reversed(range(_TRIES)):
        try:
            with guard.writing():
                return _apply_all(connection, target, swaps) or _apply_some(connection, target, swaps)
        except Error as error:
            code = error.args[0] if error.args else None
            if code in (_DEADLOCK, _LOCK_WAIT):
                if tries_left:
                    continue
                raise RowsLocked("somebody is changing one of the rows in Moodle's database") from error
            if _connection_lost(error, code):
                connection.close()
                raise ClaimUnknown("the connection to Moodle's database broke during a claim") from error
            raise
    raise AssertionError("unreachable")  # pragma: no cover


def _check(source: str, target: Target, swaps: Sequence[Swap]) -> None:
    """Refuse what would change a column that is not ours to change, or make two claims look alike."""
    if len({swap.row_id for swap in swaps}) != len(swaps):
        raise ValueError("a row may occur once in a batch")
    written = len(target.written)
    for swap in swaps:
        if not len(swap.before) == len(swap.after) == len(target.compared):
            raise ValueError(f"a swap of {source} has the values of {', '.join(target.compared)}")
        if swap.before[written:] != swap.after[written:]:
            raise ValueError(f"{', '.join(target.compared[written:])} is compared and never written")
        if source == IOMAD_QUEUE and swap.before[1] == swap.after[1]:
            raise ValueError("a claim of a queue row must change its modifiedtime")


def _connection_lost(error: Error, code: object) -> bool:
    """True for the client's "server has gone away / lost connection" errors (2000-2999), and what comes to that."""
    if not isinstance(error, DatabaseError):
        return True  # an InterfaceError: the driver has no connection any more
    return isinstance(code, int) and (2000 <= code < 3000 or code in _BROKEN_OFF)


class _Short(Exception):
    """Fewer rows matched than the batch has: roll back."""


def _apply_all(connection: BaseDatabaseWrapper, target: Target, swaps: Sequence[Swap]) -> set[int] | None:
    """Write the whole batch, or nothing: None where any row no longer holds its old values."""
    try:
        with transaction.atomic(using="moodle"), connection.cursor() as cursor:
            matched = 0
            for statement in _statements(connection, target, swaps):
                cursor.execute(statement)
                matched += cursor.rowcount
            if matched != len(swaps):
                raise _Short
    except _Short:
        return None
    return {swap.row_id for swap in swaps}


def _apply_some(connection: BaseDatabaseWrapper, target: Target, swaps: Sequence[Swap]) -> set[int]:
    """Lock and read the rows, then write those that still hold their old values; see `apply`."""
    with transaction.atomic(using="moodle"), connection.cursor() as cursor:
        found = _read(cursor, connection, target, [swap.row_id for swap in swaps], lock=True)
        winners = [swap for swap in swaps if found.get(swap.row_id) == swap.before]
        matched = 0
        for statement in _statements(connection, target, winners):
            cursor.execute(statement)
            matched += cursor.rowcount
        if matched != len(winners):
            raise DatabaseError(f"{len(winners)} locked rows should have been claimed, {matched} were")
    already = {swap.row_id for swap in swaps if found.get(swap.row_id) == swap.after}
    return {swap.row_id for swap in winners} | already


def values(source: str, row_ids: Collection[int]) -> dict[int, Values]:
    """What the rows hold now in the compared columns, by id; a missing id is a row that is gone.

    Raises the database's errors, and KeyError for an unknown source.
    """
    connection = connections["moodle"]
    found: dict[int, Values] = {}
    ids = sorted(row_ids)
    with connection.cursor() as cursor:
        for start in range(0, len(ids), _AT_ONCE):
            found |= _read(cursor, connection, TARGETS[source], ids[start : start + _AT_ONCE], lock=False)
    return found


def _read(
    cursor: Any, connection: BaseDatabaseWrapper, target: Target, row_ids: Iterable[int], *, lock: bool
) -> dict[int, Values]:
    ids = ",".join(str(int(row_id)) for row_id in row_ids)
    table = connection.ops.quote_name(target.table)
    # SQLite (the sample Moodle) has no row locks: the transaction itself excludes other writers.
    suffix = " FOR UPDATE" if lock and connection.vendor != "sqlite" else ""
    cursor.execute(f"SELECT id, {', '.join(target.compared)} FROM {table} WHERE id IN ({ids}){suffix}")  # noqa: S608
    return {row[0]: tuple(row[1:]) for row in cursor.fetchall()}


def _statements(connection: BaseDatabaseWrapper, target: Target, swaps: Sequence[Swap]) -> Iterable[str]:
    """One UPDATE per group of rows with the same columns NULL, which a claim's batch has one of.

    All values are integers or NULL, made here. NULL equals nothing, so a column that was NULL stands in the
    condition by itself.
    """
    groups: dict[tuple[bool, ...], list[Swap]] = {}
    for swap in swaps:
        groups.setdefault(tuple(value is None for value in swap.before), []).append(swap)
    in_values = "" if connection.vendor == "mysql" else "VALUES "
    for nulls, members in groups.items():
        known = [place for place, null in enumerate(nulls) if not null]
        names = ", ".join(("id", *(target.compared[place] for place in known)))
        old = ",".join(_tuple((s.row_id, *(s.before[place] for place in known))) for s in members)
        # The primary key stands in the condition by itself, so that no other row is locked.
        conditions = [
            f"id IN ({','.join(_sql(swap.row_id) for swap in members)})",
            *(f"{name} IS NULL" for name, null in zip(target.compared, nulls, strict=True) if null),
            f"({names}) IN ({in_values}{old})",
        ]
        news = [f"{name} = {_new(name, place, members)}" for place, name in enumerate(target.written)]
        yield (
            f"UPDATE {connection.ops.quote_name(target.table)} SET {', '.join(news)}"  # noqa: S608
            f" WHERE {' AND '.join(conditions)}"
        )


def _new(name: str, place: int, swaps: Sequence[Swap]) -> str:
    """The new value of a column: the same for all, or as much more for all, else each row's own."""
    values = {swap.after[place] for swap in swaps}
    if len(values) == 1:
        return _sql(values.pop())
    steps = {_step(swap, place) for swap in swaps}
    if len(steps) == 1 and None not in steps:
        step = steps.pop()
        return f"{name} + ({_sql(step)})" if step else name
    cases = " ".join(f"WHEN {_sql(swap.row_id)} THEN {_sql(swap.after[place])}" for swap in swaps)
    return f"CASE id {cases} END"


def _step(swap: Swap, place: int) -> int | None:
    old, new = swap.before[place], swap.after[place]
    return None if old is None or new is None else new - old


def _sql(value: int | None) -> str:
    return "NULL" if value is None else str(int(value))


def _tuple(values: Iterable[int | None]) -> str:
    return f"({','.join(_sql(value) for value in values)})"
