"""`manage.py migrate` on a site that is at work: cut off, in use, and twice at once."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from emailoffload.management.commands import migrate
from emailoffload.monitoring import standing
from tests.upgrade.old_site import DATABASE, OldSite

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)


class CutOff(BaseException):
    """The process ends here."""


@contextmanager
def cut_off_after(changes: int) -> Iterator[None]:
    """Let the process end after so many changes of tables."""
    done = 0

    def count(execute: Any, sql: str, *rest: Any) -> Any:
        nonlocal done
        result = execute(sql, *rest)
        done += result is not None and bool(migrate.CHANGE.match(sql))
        if done == changes:
            raise CutOff
        return result

    with connection.execute_wrapper(count):
        yield


def test_cut_off_twice_it_says_how_to_go_on_and_comes_to_the_same_tables(old: OldSite) -> None:
    with pytest.raises(CutOff), cut_off_after(20):
        call_command("migrate", verbosity=0)
    with pytest.raises(CommandError, match="migrate --resume"):
        call_command("migrate", verbosity=0)
    with pytest.raises(CutOff), cut_off_after(6):
        call_command("migrate", resume=True, verbosity=0, stdout=io.StringIO())
    assert standing.missing_migrations() > 0
    said = io.StringIO()
    call_command("migrate", resume=True, verbosity=0, stdout=said)
    assert "There already: " in said.getvalue()
    resumed = old.columns_now(), old.unique_now()
    old.server.run(f"DROP DATABASE {DATABASE}; CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4")
    connection.close()
    call_command("migrate", verbosity=0)
    old.root.select_db(DATABASE)
    assert (old.columns_now(), old.unique_now()) == resumed


def test_a_table_in_use_keeps_others_waiting_for_seconds_only_and_is_tried_again(
    old: OldSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "BLOCK_SECONDS", 1)
    reader = old.server.connect(DATABASE)
    reader.autocommit(False)
    reader.query("SELECT COUNT(*) FROM emailoffload_event")
    reader.store_result()
    monkeypatch.setattr(migrate.stopping, "wait", lambda seconds: reader.close())
    said = io.StringIO()
    call_command("migrate", verbosity=0, stderr=said)
    assert "In use, tried again" in said.getvalue()
    assert standing.missing_migrations() == 0


def test_a_table_that_stays_in_use_is_given_up_with_the_cure(
    old: OldSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "BLOCK_SECONDS", 1)
    monkeypatch.setattr(migrate, "WAIT_SECONDS", 0)
    reader = old.server.connect(DATABASE)
    reader.autocommit(False)
    reader.query("SELECT COUNT(*) FROM emailoffload_event")
    reader.store_result()
    with pytest.raises(CommandError, match="PROCESSLIST"):
        call_command("migrate", verbosity=0, stderr=io.StringIO())
    reader.close()
    call_command("migrate", resume=True, verbosity=0, stdout=io.StringIO())
    assert standing.missing_migrations() == 0


def test_a_second_migrate_waits_for_the_first(old: OldSite, monkeypatch: pytest.MonkeyPatch) -> None:
    other = old.server.connect(DATABASE)
    other.query(f"SELECT GET_LOCK('migrate {DATABASE}', 0)")
    other.store_result()
    monkeypatch.setattr(migrate, "WAIT_SECONDS", 0)
    with pytest.raises(CommandError, match="Another `migrate`"):
        call_command("migrate", verbosity=0)
    assert standing.missing_migrations() > 0
    monkeypatch.undo()
    threading.Timer(0.2, other.close).start()
    call_command("migrate", verbosity=0)
    assert standing.missing_migrations() == 0
