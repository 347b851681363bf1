"""The suite's own ground: what one test leaves behind, no other test finds."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection

from emailoffload.outbox.models import State
from tests import mariadb
from tests import settings as test_settings
from tests.claims.queue import queued
from tests.conftest import PRISTINE, Moodle
from tests.processes import ROOT
from tests.undo import Changes

pytestmark = [pytest.mark.mariadb, pytest.mark.django_db(databases=["default", "moodle"], transaction=True)]


def sums(server: mariadb.Server, database: str, tables: list[str]) -> list[Any]:
    """The checksum of each table."""
    with server.connect(database).cursor() as cursor:
        cursor.execute("CHECKSUM TABLE " + ", ".join(f"`{table}`" for table in tables))
        return [row[1] for row in cursor.fetchall()]


def test_moodles_database_is_as_it_was_whoever_changed_it_and_however(moodle: Moodle, undo: Changes) -> None:
    tables = ["mdl_config", "mdl_email", "mdl_reengagement_inprogress", "mdl_task_scheduled", "mdl_user"]
    moodle.execute("/* no test's own words */ UPDATE mdl_config SET value = 'other' WHERE name = 'version'")
    queued(moodle, 1)
    with moodle.server.connect(moodle.database, *test_settings.MOODLE_ACCOUNT).cursor() as product:
        product.execute("UPDATE mdl_reengagement_inprogress SET emailsent = 1, emailtime = 2")
    moodle.execute("DELETE FROM mdl_task_scheduled LIMIT 3")
    moodle.execute("TRUNCATE TABLE mdl_user")
    before = sums(moodle.server, PRISTINE, tables)
    assert not set(before) & set(sums(moodle.server, moodle.database, tables))
    undo.restore(moodle.database, PRISTINE, moodle.truncated)
    assert sums(moodle.server, moodle.database, tables) == before


def contents() -> dict[str, list[Any]]:
    """Every row of our own database."""
    found = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names():
            cursor.execute(f"SELECT * FROM `{table}` ORDER BY 1")
            found[table] = list(cursor.fetchall())
    return found


def test_our_own_database_is_as_migrations_made_it(undo: Changes) -> None:
    made = contents()
    filled = {"auth_group", "auth_group_permissions", "auth_permission", "django_content_type"}
    assert {table for table, rows in made.items() if rows} == filled | {"django_migrations"}
    State.objects.create(name="ses_account", value={})
    Group.objects.create(name="x").permissions.set(Permission.objects.all())
    Group.objects.get(name="Auditors").delete()
    ContentType.objects.all().delete()
    assert not Permission.objects.exists()
    undo.restore_default()
    assert contents() == made


def test_the_processes_of_a_test_are_on_its_own_server_with_its_own_data() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from tests import settings; print(settings.SERVER.socket, settings.DATA_DIR)"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == [test_settings.SERVER.socket, str(settings.DATA_DIR)]
