"""A filled database of 0.1.0 is migrated, forth and back: what it held stays as it is."""

from __future__ import annotations

import io
import re
import runpy
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from emailoffload.monitoring import standing
from tests.processes import ROOT
from tests.upgrade.old_site import GROWING, LAST, OldSite, applied

LARGE = runpy.run_path(str(ROOT / "tools" / "check_migrations.py"))["LARGE"]
pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)


def check_rows(old: OldSite) -> None:
    """No row is gone or changed; nothing is added but what migrations add."""
    now = old.rows_now()
    for table, rows in old.rows.items():
        assert rows, f"{table} must hold something to be proved"
        if table in GROWING:
            assert set(rows) <= set(now[table]), table
        else:
            assert rows == now[table], table


def test_every_row_of_the_old_version_stays_and_migrating_once_more_changes_nothing(
    upgraded: OldSite,
) -> None:
    assert standing.missing_migrations() == 0
    check_rows(upgraded)
    before = applied(), upgraded.columns_now(), upgraded.rows_now()
    said = io.StringIO()
    call_command("migrate", stdout=said)
    assert "No migrations to apply" in said.getvalue()
    assert (applied(), upgraded.columns_now(), upgraded.rows_now()) == before


def test_the_old_codes_statements_still_work_on_the_new_tables(upgraded: OldSite) -> None:
    """What it selects is there; what it inserts and updates without knowing the new columns is accepted."""
    now = upgraded.columns_now()
    for table, columns in upgraded.columns.items():
        for column, (kind, nullable, _) in columns.items():
            assert now[table][column][:2] == (kind, nullable), f"{table}.{column} is another column now"
        for column in now[table].keys() - columns.keys():
            _, nullable, default = now[table][column]
            assert nullable == "YES" or default is not None, (
                f"{table}.{column}: the old code gives it no value"
            )
    new = {(table, name) for table, name in upgraded.unique_now() if table in upgraded.columns}
    assert new <= upgraded.unique, "what the old code inserts may be refused by these indexes"


def test_every_migration_since_goes_back_and_leaves_the_old_rows(upgraded: OldSite) -> None:
    call_command("migrate", "emailoffload", LAST, verbosity=0)
    check_rows(upgraded)
    now = upgraded.columns_now()
    assert {table: now[table] for table in upgraded.columns} == upgraded.columns
    assert not {t for t in now if t.startswith("emailoffload_")} - upgraded.columns.keys()
    call_command("migrate", verbosity=0)
    assert standing.missing_migrations() == 0
    check_rows(upgraded)


def test_no_change_of_a_large_table_copies_it_or_keeps_it_from_being_written(old: OldSite) -> None:
    """The server itself refuses a statement that it could not do that way."""
    asked = []

    def without_copying(execute: Any, sql: str, *rest: Any) -> Any:
        found = re.match(r"(CREATE INDEX .* ON|DROP INDEX .* ON|ALTER TABLE) `emailoffload_(\w+)`", sql)
        if found and found[2] in LARGE & {table.removeprefix("emailoffload_") for table in old.columns}:
            asked.append(found[2])
            between = ", " if sql.startswith("ALTER") else " "
            sql = between.join((sql.rstrip("; "), "ALGORITHM=NOCOPY", "LOCK=NONE"))
        return execute(sql, *rest)

    with connection.execute_wrapper(without_copying):
        call_command("migrate", verbosity=0)
    assert {"event", "claim", "email"} <= set(asked)
