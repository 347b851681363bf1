"""Our own database goes away, is full or takes no writes: what has left is on record or uncertain, never sent twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import InterfaceError, InternalError, OperationalError, connection, connections
from django.utils import timezone

from emailoffload.management.commands import qcluster
from emailoffload.outbox import transitions, trouble
from emailoffload.outbox.models import Email
from emailoffload.worker import dispatch, patience, schedules, stopping
from emailoffload.worker.recover_sends import recover_sends
from tests.fake_ses import FakeSes
from tests.outbox.factory import queue_emails
from tests.processes import on_sqlite
from tests.worker.conftest import Source, ses, source

__all__ = ["ses", "source"]
pytestmark = [pytest.mark.mariadb, pytest.mark.django_db(transaction=True)]
AWAY = OperationalError(2006, "MySQL server has gone away")
FULL = OperationalError(1114, "The table 'emailoffload_email' is full")
DISK = InternalError(28, "No space left on device")
READ_ONLY = OperationalError(1290, "The server is running with the --read-only option")
CLOSED = InterfaceError(0, "")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause is longer than a moment."""
    monkeypatch.setattr(patience, "LONGEST_PAUSE", 0.01)


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception, times: int) -> list[int]:
    """What ended cannot be recorded so many times; returns how often it was tried."""
    record = transitions.record
    tries: list[int] = []

    def sometimes(ended: Any, *args: Any, **options: Any) -> None:
        if ended:
            tries.append(len(ended))
            if len(tries) <= times:
                raise error
        record(ended, *args, **options)

    monkeypatch.setattr(transitions, "record", sometimes)
    return tries


@pytest.mark.parametrize("error", [AWAY, FULL, DISK, READ_ONLY, CLOSED], ids=str)
def test_what_ses_took_is_recorded_as_soon_as_our_database_takes_it(
    ses: FakeSes, source: Source, monkeypatch: pytest.MonkeyPatch, quick: None, error: Exception
) -> None:
    emails = queue_emails(5)
    tries = failing(monkeypatch, error, 12)
    assert dispatch.run(budget=5).sent == 5
    assert len(tries) > 12
    assert set(Email.objects.values_list("state", flat=True)) == {"accepted"}
    assert ses.times() == {email.ref.hex: 1 for email in emails}


def test_what_cannot_be_recorded_for_too_long_becomes_uncertain_and_is_not_sent_again(
    ses: FakeSes, source: Source, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    emails = queue_emails(5)
    monkeypatch.setattr(patience, "TOTAL_SECONDS", 0.3)
    monkeypatch.setattr(dispatch, "Patience", lambda: patience.Patience(0.3))
    failing(monkeypatch, FULL, 10_000)
    started = time.monotonic()
    with pytest.raises(OperationalError):
        dispatch.run(budget=5)
    assert time.monotonic() - started < 5
    monkeypatch.undo()
    assert recover_sends(timezone.now() + timedelta(hours=1))["sends_uncertain"] == 5
    assert dispatch.run(budget=0.5).sent == 0
    assert set(Email.objects.values_list("state", flat=True)) == {"uncertain"}
    assert max(ses.times().values()) == 1 and len(ses.times()) == len(emails)


def test_nothing_more_is_sent_while_results_cannot_be_recorded(
    ses: FakeSes, source: Source, monkeypatch: pytest.MonkeyPatch, settings: Any, quick: None
) -> None:
    settings.DISPATCH_THREADS = 2
    queue_emails(100)
    record = transitions.record
    sent_meanwhile: list[int] = []

    def away(ended: Any, *args: Any, **options: Any) -> None:
        if ended and len(sent_meanwhile) < 20:
            sent_meanwhile.append(len(ses.accepted))
            raise AWAY
        record(ended, *args, **options)

    monkeypatch.setattr(transitions, "record", away)
    assert dispatch.run(budget=20).sent == 100
    # No more than what was in flight when the database went away.
    assert max(sent_meanwhile) <= 3 * settings.DISPATCH_THREADS


def test_a_stop_is_not_held_up_by_a_database_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        stopping._here.set()
        raise AWAY

    started = time.monotonic()
    try:
        with pytest.raises(OperationalError):
            patience.Patience().again(fail)
    finally:
        stopping._here.clear()
    assert time.monotonic() - started < 2 * patience.STOPPING_SECONDS


def test_worker_and_pages_do_not_wait_for_ever_for_a_server_that_does_not_answer() -> None:
    options = connection.settings_dict["OPTIONS"]
    assert "read_timeout" not in options, "migrate may take hours"
    try:
        patience.give_up_on_a_stalled_server()
        assert options["read_timeout"] == options["write_timeout"] == patience.STALLED_SECONDS
        options["read_timeout"] = 5
        patience.give_up_on_a_stalled_server()
        assert options["read_timeout"] == 5
        connection.close()
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        del options["read_timeout"], options["write_timeout"]
        connection.close()


@pytest.fixture
def away() -> Iterator[Callable[[], None]]:
    """Our database is out of reach until the returned function is called."""
    options = connections["default"].settings_dict["OPTIONS"]
    socket = options["unix_socket"]

    def back() -> None:
        options["unix_socket"] = socket

    connections["default"].close()
    options["unix_socket"] = "/nowhere/socket"
    yield back
    back()
    connections["default"].close()


def test_a_worker_that_starts_without_a_database_waits_for_it(
    away: Callable[[], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ensure, tries = schedules.ensure, []

    def counted() -> Any:
        tries.append(1)
        if len(tries) == 3:
            away()
        return ensure()

    monkeypatch.setattr(qcluster, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(schedules, "ensure", counted)
    assert qcluster._begin()
    assert len(tries) == 3 and "The worker waits for it" in caplog.text


def test_a_worker_without_its_tables_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM no_such_table")

    monkeypatch.setattr(schedules, "ensure", missing)
    with pytest.raises(Exception, match="no_such_table"):
        qcluster._begin()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (AWAY, trouble.AWAY), (CLOSED, trouble.AWAY), (OperationalError(2002, "Can't connect"), trouble.AWAY),
        (OperationalError(1045, "Access denied"), trouble.AWAY), (FULL, trouble.FULL),
        (OperationalError(1021, "Disk full"), trouble.FULL), (READ_ONLY, trouble.READ_ONLY),
        (OperationalError(1205, "Lock wait timeout"), trouble.LOCKED),
        (OperationalError(1064, "You have an error"), trouble.OTHER),
    ],
)  # fmt: skip
def test_an_error_of_our_database_has_a_cause_and_a_cure(error: Any, kind: str) -> None:
    found = trouble.of(error)
    assert found.kind == kind and str(found.cause) and str(found.cure)


ON_SQLITE = """
import django; django.setup()
from django.core.management import call_command
from django.db import OperationalError, connection, connections
call_command("migrate", verbosity=0)
from emailoffload.actions.diagnosis import ours
from emailoffload.outbox.models import State
kinds = []
def look():
    verdict, text, cure = ours.writable()
    kinds.append(f"{verdict}: {text}")
look()
with connection.cursor() as cursor:
    cursor.execute("PRAGMA page_count")
    cursor.execute(f"PRAGMA max_page_count = {cursor.fetchone()[0]}")
filler = "x" * 4000
try:
    for number in range(400):
        State.objects.create(name=f"n{number}", value={"text": filler})
except OperationalError as error:
    from emailoffload.outbox import transitions, trouble
    kinds.append(trouble.of(error).kind)
connection.close()
with connection.cursor() as cursor:
    cursor.execute("PRAGMA query_only = ON")
look()
connection.close()
other = connections["default"].copy("default")
other.inc_thread_sharing()
connection.settings_dict["OPTIONS"]["timeout"] = 0
with other.cursor() as cursor:
    cursor.execute("BEGIN EXCLUSIVE")
    look()
other.close()
look()
print("|".join(kinds))
"""


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("database or disk is full", trouble.FULL), ("disk I/O error", trouble.FULL),
        ("attempt to write a readonly database", trouble.READ_ONLY), ("database is locked", trouble.LOCKED),
        ("unable to open database file", trouble.AWAY), ("no such table: x", trouble.OTHER),
    ],
)  # fmt: skip
def test_what_sqlite_says_is_told_apart_by_its_words(
    monkeypatch: pytest.MonkeyPatch, words: str, kind: str
) -> None:
    monkeypatch.setattr(connection, "vendor", "sqlite")
    assert trouble.of(OperationalError(words)).kind == kind
    assert trouble.of(OperationalError()).kind == trouble.OTHER


def test_an_sqlite_database_that_is_full_read_only_or_locked_is_named_as_that(tmp_path: Path) -> None:
    done = on_sqlite(ON_SQLITE, tmp_path).stdout.strip().splitlines()[-1].split("|")
    assert done == [
        "ok: Our database takes rows.",
        "full",
        "problem: Our database is read-only.",
        "problem: Our database is locked by somebody for too long.",
        "ok: Our database takes rows.",
    ]
