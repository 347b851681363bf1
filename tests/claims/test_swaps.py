"""The one statement that writes to Moodle: compare-and-swap on real MariaDB, as the least-privileged account."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import DatabaseError, DataError, Error, InterfaceError, OperationalError, connections
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from emailoffload.moodle import claims, guard
from emailoffload.moodle.claims import Swap
from emailoffload.moodle.models import InProgress
from emailoffload.moodle.router import MoodleIsReadOnly
from emailoffload.moodle.targets import TARGETS, queue_time
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.sources import reasons
from emailoffload.worker import intercept
from tests.claims.queue import queued
from tests.conftest import Moodle
from tests.reengagement.test_decisions import soon

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)


@dataclass(frozen=True)
class Table:
    """One of the two tables that are claimed from, with rows of the real site."""

    source: str
    name: str
    first: int
    """The id from which on rows are used."""
    others: tuple[str, ...]
    """What Moodle may do to a row between our look and our claim."""

    @property
    def columns(self) -> str:
        return ", ".join(TARGETS[self.source].compared)

    def rows(self, moodle: Moodle, limit: int) -> list[tuple[int, claims.Values]]:
        """(id, values) of the first rows."""
        found = moodle.rows(
            f"SELECT id, {self.columns} FROM {self.name} WHERE id >= {self.first} ORDER BY id LIMIT {limit}"
        )
        return [(row[0], row[1:]) for row in found]

    def swaps(self, found: list[tuple[int, claims.Values]], delay: int = 86400) -> list[Swap]:
        """The claims of these rows."""
        if self.source == "iomad_queue":
            at = int(time.time()) - 1 + delay - 86400
            return [Swap(i, before, (at, at)) for i, before in found]
        return [Swap(i, (s, e, c), (s + 1, e + delay, c)) for i, (s, e, c) in found]  # type: ignore[operator]


@pytest.fixture(params=["reengagement", "iomad_queue"])
def table(request: pytest.FixtureRequest, moodle: Moodle) -> Table:
    if request.param == "reengagement":
        first = moodle.value("SELECT MIN(id) FROM mdl_reengagement_inprogress WHERE reengagement > 11")
        others = ("emailsent = emailsent + 1", "emailtime = emailtime + 77", "completed = 1")
        return Table("reengagement", "mdl_reengagement_inprogress", first, others)
    first = queued(moodle, 1000)[0]
    return Table(
        "iomad_queue",
        "mdl_email",
        first,
        ("sent = 1800000000, modifiedtime = 1800000000", "modifiedtime = modifiedtime + 1", "sent = 0"),
    )


def values(swaps: list[Swap], which: str = "after") -> dict[int, claims.Values]:
    return {swap.row_id: getattr(swap, which) for swap in swaps}


def test_a_batch_is_one_statement_however_many_rows(moodle: Moodle, table: Table) -> None:
    for size in (10, 500):
        swaps = table.swaps(table.rows(moodle, 1000)[-size:])
        for part in (swaps, [swap.reversed() for swap in swaps]):
            with CaptureQueriesContext(connections["moodle"]) as queries:
                assert claims.apply(table.source, part) == {swap.row_id for swap in swaps}
            assert sum(q["sql"].startswith("UPDATE") for q in queries) == 1
            assert len(queries) <= 3


def test_a_claim_writes_exactly_its_values_and_a_release_exactly_the_old_ones(
    moodle: Moodle, table: Table
) -> None:
    found = table.rows(moodle, 300)
    everything = moodle.rows(f"SELECT * FROM {table.name} ORDER BY id")
    swaps = table.swaps(found)
    claims.apply(table.source, swaps)
    ids = [swap.row_id for swap in swaps]
    assert claims.values(table.source, ids) == values(swaps)
    assert claims.apply(table.source, [swap.reversed() for swap in swaps]) == set(ids)
    assert moodle.rows(f"SELECT * FROM {table.name} ORDER BY id") == everything


def test_a_row_that_changed_since_it_was_read_is_not_won_and_keeps_what_others_wrote(
    moodle: Moodle, table: Table
) -> None:
    swaps = table.swaps(table.rows(moodle, 100))
    changes = {swaps[n].row_id: change for n, change in zip((3, 40, 70), table.others, strict=True)}
    for row_id, change in changes.items():
        moodle.execute(f"UPDATE {table.name} SET {change} WHERE id = {row_id}")
    moodle.execute(f"DELETE FROM {table.name} WHERE id = {swaps[99].row_id}")
    untouched = claims.values(table.source, list(changes))
    won = claims.apply(table.source, swaps)
    assert won == {swap.row_id for swap in swaps} - changes.keys() - {swaps[99].row_id}
    assert claims.values(table.source, list(changes)) == untouched


def test_a_release_of_a_row_that_somebody_changed_writes_nothing(moodle: Moodle, table: Table) -> None:
    swaps = table.swaps(table.rows(moodle, 20))
    claims.apply(table.source, swaps)
    for swap, change in zip(swaps, table.others, strict=False):
        moodle.execute(f"UPDATE {table.name} SET {change} WHERE id = {swap.row_id}")
    changed = {swap.row_id for swap in swaps[: len(table.others)]}
    before = claims.values(table.source, changed)
    won = claims.apply(table.source, [swap.reversed() for swap in swaps])
    assert won == {swap.row_id for swap in swaps} - changed
    assert claims.values(table.source, changed) == before


def test_mixed_steps_and_targets_are_written_row_by_row_as_asked(moodle: Moodle, table: Table) -> None:
    found = table.rows(moodle, 60)
    if table.source == "iomad_queue":
        swaps = [Swap(i, before, (1_900_000_000 + n % 3,) * 2) for n, (i, before) in enumerate(found)]
    else:
        swaps = [
            Swap(
                i,
                (s, e, c),
                [(s + 1, e + 300, c), (s + 1, 1_900_000_000, c), (s + 3, e, c), (s + 1, 5 + i, c)][n % 4],  # type: ignore[operator]
            )
            for n, (i, (s, e, c)) in enumerate(found)
        ]
    for part in (swaps, [swap.reversed() for swap in swaps]):
        assert len(claims.apply(table.source, part)) == 60
        assert claims.values(table.source, [swap.row_id for swap in swaps]) == values(part)


@pytest.mark.parametrize("delay", [604_800, -600, 0])
def test_rows_of_other_times_that_move_on_by_the_same_delay_each_get_their_own(
    moodle: Moodle, delay: int
) -> None:
    first = moodle.value("SELECT MIN(id) FROM mdl_reengagement_inprogress WHERE reengagement > 11")
    table = Table("reengagement", "mdl_reengagement_inprogress", first, ())
    moodle.execute(f"UPDATE {table.name} SET emailtime = 1900000000 + 7 * id WHERE id >= {first}")
    swaps = table.swaps(table.rows(moodle, 20), delay)
    assert len({swap.after[1] for swap in swaps}) == 20
    assert claims.apply("reengagement", swaps) == {swap.row_id for swap in swaps}
    assert claims.values("reengagement", [swap.row_id for swap in swaps]) == values(swaps)


def test_rows_with_and_without_null_are_claimed_and_handed_back_together(moodle: Moodle) -> None:
    ids = queued(moodle, 30)
    moodle.execute(f"UPDATE mdl_email SET sent = 5, modifiedtime = 6 WHERE id IN ({ids[0]}, {ids[9]})")
    at = int(time.time()) - 1
    swaps = [Swap(i, before, (at, at)) for i, before in claims.values("iomad_queue", ids).items()]
    for part in (swaps, [swap.reversed() for swap in swaps]):
        assert len(claims.apply("iomad_queue", part)) == 30
        assert claims.values("iomad_queue", ids) == values(part)


@pytest.mark.parametrize(
    ("after", "short"),
    [
        (lambda n: 1_950_000_000, True),  # the same for all
        (lambda n: 1_900_000_000 + 7 * n + 600, True),  # as much later for all
        (lambda n: 1_900_000_000 + 7 * n, True),  # as it was
        (lambda n: 1_990_000_000 - 7 * n, False),  # each its own, though all sums are equal
        (lambda n: 1_900_000_000 + 8 * n, False),
    ],
    ids=["equal", "later", "same", "mirrored", "own"],
)
def test_a_statement_names_each_rows_value_only_where_it_must(
    moodle: Moodle, after: Any, short: bool
) -> None:
    first = moodle.value("SELECT MIN(id) FROM mdl_reengagement_inprogress WHERE reengagement > 11")
    table = Table("reengagement", "mdl_reengagement_inprogress", first, ())
    moodle.execute(f"UPDATE {table.name} SET emailtime = 1900000000 + 7 * (id - {first}) WHERE id >= {first}")
    found = table.rows(moodle, 20)
    swaps = [Swap(i, (s, e, c), (s + 1, after(i - first), c)) for i, (s, e, c) in found]  # type: ignore[operator]
    with CaptureQueriesContext(connections["moodle"]) as queries:
        assert claims.apply("reengagement", swaps) == {swap.row_id for swap in swaps}
    assert claims.values("reengagement", [swap.row_id for swap in swaps]) == values(swaps)
    assert [" CASE " in q["sql"] for q in queries if q["sql"].startswith("UPDATE")] == [not short]


def test_of_no_rows_none_is_won_and_nobody_is_asked(moodle: Moodle, table: Table) -> None:
    with CaptureQueriesContext(connections["moodle"]) as queries:
        assert claims.apply(table.source, []) == set()
        assert claims.values(table.source, []) == {}
    assert len(queries) == 0


def test_thousands_of_rows_are_read_in_statements_of_a_bounded_size_and_none_is_missed(
    moodle: Moodle, table: Table
) -> None:
    first = table.rows(moodle, 1)[0][0]
    ids = range(first - 999, first + 2000)
    with CaptureQueriesContext(connections["moodle"]) as queries:
        found = claims.values(table.source, ids)
    assert found == {row_id: row for row_id, row in every(moodle, table) if row_id in ids}
    assert found.keys() >= {first, first + 1}  # the last of the first statement, the first of the second
    asked = [len(query["sql"].split(" IN (")[1].split(",")) for query in queries]
    assert asked == [1000, 1000, 999]


def test_looking_at_rows_waits_for_nobody_and_keeps_nobody_waiting(moodle: Moodle, table: Table) -> None:
    ((row_id, before),) = table.rows(moodle, 1)
    moodle.execute("START TRANSACTION")
    moodle.execute(f"UPDATE {table.name} SET {table.others[0]} WHERE id = {row_id}")
    started = time.monotonic()
    with CaptureQueriesContext(connections["moodle"]) as queries:
        assert claims.values(table.source, [row_id]) == {row_id: before}
    assert time.monotonic() - started < 2
    assert len(queries) == 1  # no transaction around it
    moodle.execute("ROLLBACK")


def every(moodle: Moodle, table: Table) -> list[tuple[int, claims.Values]]:
    """(id, values) of every row."""
    return [(row[0], row[1:]) for row in moodle.rows(f"SELECT id, {table.columns} FROM {table.name}")]


def test_a_row_that_already_holds_our_values_is_ours(moodle: Moodle, table: Table) -> None:
    swaps = table.swaps(table.rows(moodle, 5))
    claims.apply(table.source, swaps[:2])
    assert claims.apply(table.source, swaps) == {swap.row_id for swap in swaps}
    assert claims.values(table.source, [swaps[0].row_id])[swaps[0].row_id] == swaps[0].after


def test_of_many_processes_each_row_is_won_by_exactly_one(moodle: Moodle, table: Table) -> None:
    found = table.rows(moodle, 400)
    start = threading.Barrier(6)
    # Each competitor writes values of its own and works through the rows in an order of its own.
    wanted = [table.swaps(found, delay=1000 + number) for number in range(6)]

    def compete(number: int) -> set[int]:
        swaps = wanted[number][:: -1 if number % 2 else 1]
        start.wait()
        try:
            won: set[int] = set()
            for begin in range(0, 400, 50 + 10 * number):
                won |= claims.apply(table.source, swaps[begin : begin + 50 + 10 * number])
            return won
        finally:
            connections["moodle"].close()

    with ThreadPoolExecutor(6) as pool:
        wins = list(pool.map(compete, range(6)))
    assert sum(map(len, wins)) == 400
    assert set().union(*wins) == {row_id for row_id, _ in found}
    held = claims.values(table.source, [row_id for row_id, _ in found])
    for won, swaps in zip(wins, wanted, strict=True):
        assert all(held[row_id] == values(swaps)[row_id] for row_id in won)


def test_only_the_named_rows_are_locked_while_a_claim_is_open(moodle: Moodle, table: Table) -> None:
    swaps = table.swaps(table.rows(moodle, 50))
    other = moodle.value(f"SELECT MAX(id) FROM {table.name}")
    column = TARGETS[table.source].written[0]
    moodle.execute("SET innodb_lock_wait_timeout = 1")
    connection = connections["moodle"]
    connection.ensure_connection()
    with guard.writing():
        connection.set_autocommit(False)
        try:
            with connection.cursor() as cursor:
                for statement in claims._statements(connection, TARGETS[table.source], swaps):
                    cursor.execute(statement)
            moodle.execute(f"UPDATE {table.name} SET {column} = 7 WHERE id = %s", [other])
        finally:
            connection.rollback()
            connection.set_autocommit(True)
    assert moodle.value(f"SELECT {column} FROM {table.name} WHERE id = %s", [other]) == 7


def test_a_row_that_moodle_keeps_locked_holds_a_claim_up_for_seconds_and_does_not_end_the_pass(
    moodle: Moodle, ses: SandboxSES, settings: Any
) -> None:
    settings.CLAIM_BATCH_SIZE = 2
    (row, _), *_ = soon(moodle, 5)
    before = moodle.rows("SELECT * FROM mdl_reengagement_inprogress WHERE id <= %s + 1", [row])
    moodle.execute("START TRANSACTION")
    moodle.execute("UPDATE mdl_reengagement_inprogress SET completed = 1 WHERE id = %s", [row])
    started = time.monotonic()
    try:
        result = intercept.run()
    finally:
        moodle.execute("ROLLBACK")
    assert time.monotonic() - started < 10
    assert (result.claimed, result.lost, result.left) == (3, 0, {reasons.ROWS_LOCKED: 2})
    assert moodle.rows("SELECT * FROM mdl_reengagement_inprogress WHERE id <= %s + 1", [row]) == before
    assert intercept.run().claimed == 2


def test_a_server_of_moodles_that_falls_silent_holds_nobody_up_for_longer_than_a_lease(settings: Any) -> None:
    options = connections["moodle"].get_connection_params()
    assert 0 < options["read_timeout"] < settings.LEASE_SECONDS
    assert 0 < options["write_timeout"] < settings.LEASE_SECONDS


def test_a_lost_connection_during_a_claim_is_reported_as_unknown(moodle: Moodle, table: Table) -> None:
    swaps = table.swaps(table.rows(moodle, 5))
    connection = connections["moodle"]
    connection.ensure_connection()

    def cut(execute, sql, params, many, context):  # type: ignore[no-untyped-def]
        if sql.startswith("UPDATE"):
            moodle.execute(f"KILL {connection.connection.thread_id()}")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(cut), pytest.raises(claims.ClaimUnknown):
        claims.apply(table.source, swaps)
    assert claims.values(table.source, [swap.row_id for swap in swaps]) == values(swaps, "before")


@pytest.mark.parametrize(
    "error",
    [
        InterfaceError("the driver has no connection"),
        OperationalError(2000, "unknown error of the client"),
        OperationalError(2999, "the last number of the client's"),
        OperationalError(1053, "server shutdown in progress"),
        OperationalError(1927, "connection was killed"),
    ],
    ids=str,
)
def test_whatever_breaks_the_connection_leaves_the_outcome_open_and_a_new_connection(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch, error: Error
) -> None:
    connections["moodle"].ensure_connection()
    monkeypatch.setattr(claims, "_apply_all", raising(error))
    with pytest.raises(claims.ClaimUnknown) as unknown:
        claims.apply("reengagement", [Swap(1, (0, 1, 0), (1, 2, 0))])
    assert unknown.value.__cause__ is error
    assert connections["moodle"].connection is None


@pytest.mark.parametrize(
    "error",
    [OperationalError(1999, "not the client's"), OperationalError(3000, "not the client's"), DataError()],
    ids=str,
)
def test_what_the_server_refuses_is_no_open_outcome(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch, error: Error
) -> None:
    monkeypatch.setattr(claims, "_apply_all", raising(error))
    with pytest.raises(type(error)) as refused:
        claims.apply("reengagement", [Swap(1, (0, 1, 0), (1, 2, 0))])
    assert refused.value is error


@pytest.mark.parametrize("code", [1213, 1205])
@pytest.mark.parametrize("times", [2, 3])
def test_a_deadlock_or_a_wait_for_a_lock_is_tried_three_times(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch, code: int, times: int
) -> None:
    tries: list[int] = []

    def often(*args: object) -> set[int]:
        tries.append(1)
        if len(tries) <= times:
            raise OperationalError(code, "try restarting transaction")
        return {1}

    monkeypatch.setattr(claims, "_apply_all", often)
    swaps = [Swap(1, (0, 1, 0), (1, 2, 0))]
    if times < 3:
        assert claims.apply("reengagement", swaps) == {1}
    else:
        with pytest.raises(claims.RowsLocked):
            claims.apply("reengagement", swaps)
    assert len(tries) == 3


def test_where_a_lock_on_rows_does_not_hold_nothing_is_written_and_it_is_said(
    moodle: Moodle, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    swaps = table.swaps(table.rows(moodle, 5))
    moodle.execute(f"DELETE FROM {table.name} WHERE id = {swaps[0].row_id}")
    read = claims._read

    def unlocked(*args: Any, lock: bool) -> dict[int, claims.Values]:
        found = read(*args, lock=False)
        if lock:
            moodle.execute(f"UPDATE {table.name} SET {table.others[0]} WHERE id = {swaps[4].row_id}")
        return found

    monkeypatch.setattr(claims, "_read", unlocked)
    connections["moodle"].close()
    with pytest.raises(DatabaseError, match="4 locked rows should have been claimed, 3 were"):
        claims.apply(table.source, swaps)
    held = claims.values(table.source, [swap.row_id for swap in swaps[1:4]])
    assert held == values(swaps[1:4], "before")


def raising(error: Error) -> Any:
    """A function that raises this."""

    def fail(*args: object) -> None:
        raise error

    return fail


def test_nothing_but_a_claim_can_write_through_our_connection(moodle: Moodle) -> None:
    for statement in (
        "UPDATE mdl_reengagement_inprogress SET emailsent = 1 WHERE id = 1",
        "UPDATE mdl_email SET sent = 1 WHERE id = 1",
        "DELETE FROM mdl_reengagement_inprogress",
        "DELETE FROM mdl_email",
        "INSERT INTO mdl_reengagement_inprogress (id) VALUES (1)",
        "DROP TABLE mdl_user",
    ):
        with pytest.raises(MoodleIsReadOnly), connections["moodle"].cursor() as cursor:
            cursor.execute(statement)
    with pytest.raises(MoodleIsReadOnly):
        InProgress.objects.filter(id=1).update(emailsent=3)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM mdl_email WHERE id = 1",
        "INSERT INTO mdl_email (id) VALUES (1)",
        "UPDATE mdl_user SET suspended = 1 WHERE id = 1",
        "UPDATE mdl_email_template SET disabled = 1",
        "UPDATE mdl_email JOIN mdl_user ON mdl_user.id = userid SET sent = 1",
        "UPDATE mdl_email, mdl_user SET sent = 1",
    ],
)
def test_even_while_claiming_no_other_table_and_no_other_kind_of_statement_passes(
    moodle: Moodle, statement: str
) -> None:
    with guard.writing(), connections["moodle"].cursor() as cursor, pytest.raises(MoodleIsReadOnly):
        cursor.execute(statement)


@pytest.mark.parametrize(
    ("source", "swaps", "words"),
    [
        ("reengagement", [Swap(1, (0, 5, 0), (1, 6, 1))], "completed is compared and never written"),
        ("reengagement", [Swap(1, (0, 5, 0), (1, 6, 0))] * 2, "once"),
        ("reengagement", [Swap(1, (0, 5), (1, 6))], "emailsent, emailtime, completed"),
        ("iomad_queue", [Swap(1, (None, 5), (5, 5))], "must change its modifiedtime"),
        ("iomad_queue", [Swap(1, (None, 5), (6, 5))], "must change its modifiedtime"),
        ("iomad_queue", [Swap(1, (None, 5, 0), (6, 6, 0))], "sent, modifiedtime"),
    ],
)
def test_a_swap_that_no_claim_makes_is_refused(source: str, swaps: list[Swap], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        claims.apply(source, swaps)


def test_a_source_that_nobody_knows_is_refused(moodle: Moodle) -> None:
    with pytest.raises(KeyError):
        claims.apply("user", [Swap(1, (0,), (1,))])


@given(modifiedtime=st.integers(0, 2**40), now=st.integers(1, 2**40))
def test_a_queue_row_gets_a_time_just_past_that_is_not_its_own(modifiedtime: int, now: int) -> None:
    written = queue_time(modifiedtime, now)
    assert now - 2 <= written < now
    assert written != modifiedtime
