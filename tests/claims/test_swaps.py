"""The one statement that writes to Moodle: compare-and-swap on real MariaDB, as the least-privileged account."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from emailoffload.moodle import claims, guard
from emailoffload.moodle.claims import Swap
from emailoffload.moodle.models import InProgress
from emailoffload.moodle.router import MoodleIsReadOnly
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.sources import reasons
from emailoffload.worker import intercept
from tests.conftest import Moodle
from tests.reengagement.test_decisions import soon

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)


def rows(moodle: Moodle, limit: int) -> list[tuple[int, int, int, int]]:
    return moodle.rows(
        "SELECT id, emailsent, emailtime, completed FROM mdl_reengagement_inprogress"
        f" WHERE reengagement > 11 ORDER BY id LIMIT {limit}"
    )


def ahead(found: list[tuple[int, int, int, int]], delay: int = 86400) -> list[Swap]:
    return [Swap(i, (s, e, c), (s + 1, e + delay, c)) for i, s, e, c in found]


def test_a_batch_is_one_statement_however_many_rows(moodle: Moodle) -> None:
    for size in (10, 500):
        swaps = ahead(rows(moodle, 1000)[-size:])
        with CaptureQueriesContext(connections["moodle"]) as queries:
            assert claims.apply(swaps) == {swap.row_id for swap in swaps}
        assert sum(q["sql"].startswith("UPDATE") for q in queries) == 1
        assert len(queries) <= 3


def test_a_claim_writes_exactly_its_values_and_a_release_exactly_the_old_ones(moodle: Moodle) -> None:
    found = rows(moodle, 300)
    swaps = ahead(found)
    claims.apply(swaps)
    ids = [swap.row_id for swap in swaps]
    assert claims.values(ids) == {swap.row_id: swap.after for swap in swaps}
    assert claims.apply([swap.reversed() for swap in swaps]) == set(ids)
    assert rows(moodle, 300) == found


def test_a_row_that_changed_since_it_was_read_is_not_won_and_keeps_what_others_wrote(moodle: Moodle) -> None:
    swaps = ahead(rows(moodle, 100))
    changes = {
        swaps[3].row_id: "emailsent = emailsent + 1",
        swaps[40].row_id: "emailtime = emailtime + 77",
        swaps[70].row_id: "completed = 1",
    }
    for row_id, change in changes.items():
        moodle.execute(f"UPDATE mdl_reengagement_inprogress SET {change} WHERE id = {row_id}")
    moodle.execute(f"DELETE FROM mdl_reengagement_inprogress WHERE id = {swaps[99].row_id}")
    untouched = claims.values(list(changes))
    won = claims.apply(swaps)
    assert won == {swap.row_id for swap in swaps} - changes.keys() - {swaps[99].row_id}
    assert claims.values(list(changes)) == untouched


def test_mixed_steps_and_targets_are_written_row_by_row_as_asked(moodle: Moodle) -> None:
    found = rows(moodle, 60)
    swaps = [
        Swap(
            i,
            (s, e, c),
            [(s + 1, e + 300, c), (s + 1, 1_900_000_000, c), (s + 3, e, c), (s + 1, 5 + i, c)][n % 4],
        )
        for n, (i, s, e, c) in enumerate(found)
    ]
    assert len(claims.apply(swaps)) == 60
    assert claims.values([swap.row_id for swap in swaps]) == {swap.row_id: swap.after for swap in swaps}


def test_a_row_that_already_holds_our_values_is_ours(moodle: Moodle) -> None:
    swaps = ahead(rows(moodle, 5))
    claims.apply(swaps[:2])
    assert claims.apply(swaps) == {swap.row_id for swap in swaps}
    assert claims.values([swaps[0].row_id])[swaps[0].row_id] == swaps[0].after


def test_of_many_processes_each_row_is_won_by_exactly_one(moodle: Moodle) -> None:
    found = rows(moodle, 400)
    start = threading.Barrier(6)

    def compete(number: int) -> set[int]:
        # Each competitor writes values of its own and works through the rows in an order of its own.
        swaps = [Swap(i, (s, e, c), (s + 1, e + 1000 + number, c)) for i, s, e, c in found]
        if number % 2:
            swaps.reverse()
        start.wait()
        try:
            won: set[int] = set()
            for begin in range(0, 400, 50 + 10 * number):
                won |= claims.apply(swaps[begin : begin + 50 + 10 * number])
            return won
        finally:
            connections["moodle"].close()

    with ThreadPoolExecutor(6) as pool:
        wins = list(pool.map(compete, range(6)))
    assert sum(map(len, wins)) == 400
    assert set().union(*wins) == {row[0] for row in found}
    values = claims.values([row[0] for row in found])
    for number, won in enumerate(wins):
        for i, s, e, c in found:
            if i in won:
                assert values[i] == (s + 1, e + 1000 + number, c)


def test_only_the_named_rows_are_locked_while_a_claim_is_open(moodle: Moodle) -> None:
    swaps = ahead(rows(moodle, 50))
    other = moodle.value("SELECT MAX(id) FROM mdl_reengagement_inprogress")
    moodle.execute("SET innodb_lock_wait_timeout = 1")
    connection = connections["moodle"]
    connection.ensure_connection()
    with guard.writing():
        connection.set_autocommit(False)
        try:
            with connection.cursor() as cursor:
                for statement in claims._statements("mysql", swaps):
                    cursor.execute(statement)
            moodle.execute("UPDATE mdl_reengagement_inprogress SET emailsent = 7 WHERE id = %s", [other])
        finally:
            connection.rollback()
            connection.set_autocommit(True)
    assert moodle.value("SELECT emailsent FROM mdl_reengagement_inprogress WHERE id = %s", [other]) == 7


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


def test_a_lost_connection_during_a_claim_is_reported_as_unknown(moodle: Moodle) -> None:
    swaps = ahead(rows(moodle, 5))
    connection = connections["moodle"]
    connection.ensure_connection()

    def cut(execute, sql, params, many, context):  # type: ignore[no-untyped-def]
        if sql.startswith("UPDATE"):
            moodle.execute(f"KILL {connection.connection.thread_id()}")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(cut), pytest.raises(claims.ClaimUnknown):
        claims.apply(swaps)
    assert claims.values([swap.row_id for swap in swaps]) == {swap.row_id: swap.before for swap in swaps}


def test_nothing_but_a_claim_can_write_through_our_connection(moodle: Moodle) -> None:
    for statement in (
        "UPDATE mdl_reengagement_inprogress SET emailsent = 1 WHERE id = 1",
        "DELETE FROM mdl_reengagement_inprogress",
        "INSERT INTO mdl_reengagement_inprogress (id) VALUES (1)",
        "DROP TABLE mdl_user",
    ):
        with pytest.raises(MoodleIsReadOnly), connections["moodle"].cursor() as cursor:
            cursor.execute(statement)
    with pytest.raises(MoodleIsReadOnly):
        InProgress.objects.filter(id=1).update(emailsent=3)


def test_a_swap_never_changes_completed_and_a_row_occurs_once() -> None:
    with pytest.raises(ValueError, match="completed"):
        Swap(1, (0, 5, 0), (1, 6, 1))
    with pytest.raises(ValueError, match="once"):
        claims.apply([Swap(1, (0, 5, 0), (1, 6, 0)), Swap(1, (0, 5, 0), (1, 6, 0))])
