"""Moodle's database restarts, stalls, or takes no writes: passes end, say why, and go on with nothing lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connections
from django.utils import timezone

from emailoffload.moodle import claims, cronlock, guard
from emailoffload.outbox import intents
from emailoffload.outbox.models import Claim, Email, Run
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.sources import registry
from emailoffload.sources.protocol import Row
from emailoffload.worker import intercept, recover
from emailoffload.worker.recover_intents import recover_intents
from tests.conftest import Moodle
from tests.outage.second import Second
from tests.reengagement.test_decisions import soon

pytestmark = [
    pytest.mark.mariadb,
    pytest.mark.django_db(databases=["default", "moodle"], transaction=True),
]
ROWS = "SELECT id, emailsent, emailtime FROM moodle.mdl_reengagement_inprogress ORDER BY id"


@pytest.fixture
def owed(moodle: Moodle, request: pytest.FixtureRequest) -> Second:
    """Three reminders due in five minutes, on the second server."""
    soon(moodle, 3)
    second: Second = request.getfixturevalue("moved")
    return second


def later(seconds: float) -> Any:
    """A moment at which intents are old enough to be settled."""
    return timezone.now() + timedelta(seconds=settings.LEASE_SECONDS + seconds)


def claim_states() -> list[str]:
    return sorted(Claim.objects.values_list("state", flat=True))


def once_while_claiming(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Let something happen between the beginning of the claim's transaction and its first statement."""
    whole = claims._statements
    done: list[bool] = []

    def statements(*args: Any) -> Iterator[str]:
        if not done:
            done.append(True)
            happens()
        yield from whole(*args)

    monkeypatch.setattr(claims, "_statements", statements)


def test_after_a_restart_between_two_passes_the_next_one_works_at_once(owed: Second, ses: SandboxSES) -> None:
    assert intercept.run(shadow=True).claimed == 3
    owed.restart()
    result = intercept.run()
    assert (result.claimed, result.refused) == (3, "")
    assert Run.objects.exclude(outcome="ok").count() == 0


def test_a_restart_in_the_middle_of_a_claim_leaves_moodles_rows_and_the_next_passes_claim_them(
    owed: Second, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = owed.rows(ROWS)
    once_while_claiming(monkeypatch, owed.restart)
    result = intercept.run()
    assert result.claimed == 0 and "broke during a claim" in result.refused and result.cure
    assert Run.objects.get(kind="intercept").outcome == "refused"
    assert owed.rows(ROWS) == before
    assert recover_intents(later(1))["dropped"] == 3
    assert intercept.run().claimed == 3
    assert Email.objects.filter(state="queued").count() == 3


def committed_and_gone(owed: Second, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server dies after the commit and before its answer."""
    backend: Any = connections["moodle"].__class__
    whole = backend._commit
    done: list[bool] = []

    def commit(connection: Any) -> None:
        whole(connection)
        if connection.alias == "moodle" and not done and guard._writing.get():
            done.append(True)
            owed.kill()
            connection.cursor().execute("SELECT 1")

    monkeypatch.setattr(backend, "_commit", commit)
    result = intercept.run()
    assert done and result.claimed == 0 and "broke during a claim" in result.refused
    owed.start()


def test_where_nobody_saw_the_answer_to_the_commit_moodles_row_tells_that_the_claim_was_made(
    owed: Second, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = owed.rows(ROWS)
    committed_and_gone(owed, monkeypatch)
    assert [row[1] for row in owed.rows(ROWS)] == [row[1] + 1 for row in before]
    assert claim_states() == ["intended"] * 3
    assert recover_intents(later(1))["claimed"] == 3
    assert Email.objects.filter(state="queued").count() == 3


def test_such_a_claim_is_undone_where_it_may_have_been_committed_after_its_due_time(
    owed: Second, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = owed.rows(ROWS)
    committed_and_gone(owed, monkeypatch)
    counts = recover_intents(later(600))
    assert (counts["undone"], counts["claimed"]) == (3, 0)
    assert owed.rows(ROWS) == before
    assert claim_states() == ["lost"] * 3 and not Email.objects.exists()


def test_a_killed_process_leaves_no_such_doubt_and_its_claim_is_kept(owed: Second, ses: SandboxSES) -> None:
    assert intercept.run().claimed == 3
    Claim.objects.update(state="intended")
    Email.objects.update(state="prepared")
    assert recover_intents(later(600))["claimed"] == 3


def test_a_read_only_server_is_refused_with_a_cure_before_anything_is_intended(
    owed: Second, ses: SandboxSES
) -> None:
    owed.server.run("SET GLOBAL read_only = 1")
    before = owed.rows(ROWS)
    result = intercept.run()
    assert result.claimed == 0 and "read-only" in result.refused and "MOODLE_DATABASE_URL" in result.cure
    run = Run.objects.get(kind="intercept")
    assert run.outcome == "refused" and "read-only" in run.message
    assert not Claim.objects.exists() and owed.rows(ROWS) == before
    assert "read-only" in recover.run().refused
    owed.server.run("SET GLOBAL read_only = 0")
    assert intercept.run().claimed == 3


def test_a_server_that_becomes_read_only_during_a_pass_leaves_no_open_intent(
    owed: Second, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = owed.rows(ROWS)
    once_while_claiming(monkeypatch, lambda: owed.server.run("SET GLOBAL read_only = 1"))
    result = intercept.run()
    assert result.claimed == 0 and "read-only" in result.refused
    assert claim_states() == ["dropped"] * 3 and owed.rows(ROWS) == before
    owed.server.run("SET GLOBAL read_only = 0")
    assert intercept.run().claimed == 3


@pytest.mark.parametrize("when", ["before the pass", "during the claim"])
def test_a_server_that_does_not_answer_ends_the_pass_within_its_patience(
    owed: Second, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    intercept.run(shadow=True)
    if when == "before the pass":
        owed.freeze()
    else:
        once_while_claiming(monkeypatch, owed.freeze)
    started = time.monotonic()
    result = intercept.run()
    assert result.claimed == 0 and result.refused and result.cure
    assert time.monotonic() - started < 12
    owed.thaw()
    recover_intents(later(1))
    # The server may have carried out, once it was awake, what nobody waited for any more: then these claims are made.
    intercept.run()
    assert claim_states().count("claimed") == 3


def test_a_pass_that_cannot_read_rows_is_refused_and_not_failed(
    owed: Second, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = registry.find

    def find(*args: Any) -> Iterator[Row]:
        owed.kill()
        return whole(*args)

    monkeypatch.setattr(registry, "find", find)
    result = intercept.run()
    assert "cannot be used" in result.refused and result.cure
    assert Run.objects.get(kind="intercept").outcome == "refused"


def test_an_error_of_our_own_database_is_not_taken_for_moodles(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon(moodle, 1)

    def broken(*args: Any, **options: Any) -> Any:
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT no_such_column FROM emailoffload_state")

    monkeypatch.setattr(intents, "intend", broken)
    with pytest.raises(Exception, match="no_such_column"):
        intercept.run()
    assert Run.objects.get(kind="intercept").outcome == "failed"


def test_the_server_ends_a_statement_that_nobody_waits_for(moodle: Moodle) -> None:
    with connections["moodle"].cursor() as cursor:
        cursor.execute("SELECT @@max_statement_time, @@innodb_lock_wait_timeout")
        assert cursor.fetchone() == (25.0, 2)


def test_a_holder_of_the_cron_lock_that_falls_silent_loses_it(moodle: Moodle) -> None:
    task = cronlock.reengagement_lock_target()
    with cronlock.CronLock(task, patience=1) as lock:
        assert lock.acquired and not cronlock.is_free(task)
        until = time.monotonic() + 10
        while not cronlock.is_free(task) and time.monotonic() < until:
            time.sleep(0.05)
        assert cronlock.is_free(task)
        assert not lock.still_held()


def test_a_lock_on_another_server_than_the_claims_binds_nobody(moodle: Moodle, second: Second) -> None:
    task = cronlock.reengagement_lock_target()
    options = connections["moodle"].settings_dict["OPTIONS"]
    here = options["unix_socket"]
    with cronlock.CronLock(task) as lock:
        assert lock.still_held() and lock.binds()
        connections["moodle"].close()
        options["unix_socket"] = second.server.socket
        try:
            assert lock.still_held() and not lock.binds()
        finally:
            connections["moodle"].close()
            options["unix_socket"] = here


def test_due_rows_stay_with_moodle_where_the_lock_binds_nobody(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon(moodle, 2, due=-60)
    monkeypatch.setattr(cronlock.CronLock, "binds", lambda lock: False)
    result = intercept.run()
    assert (result.claimed, dict(result.left)) == (0, {"cron_running": 2})
