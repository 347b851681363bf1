"""Fixtures shared by the suite."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import connections
from django.test.utils import setup_databases, teardown_databases

from emailoffload.sandbox.ses_server import SandboxSES
from tests import mariadb
from tests import settings as test_settings

PRISTINE = "moodle_pristine"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remove the suite's data folder."""
    shutil.rmtree(settings.DATA_DIR, ignore_errors=True)


def grant_moodle_account(server: mariadb.Server, database: str) -> None:
    """Give the suite's Moodle account exactly what `moodlegrants` prints."""
    from emailoffload.moodle import grants

    user, password = test_settings.MOODLE_ACCOUNT
    server.run(f"CREATE OR REPLACE USER '{user}'@'localhost' IDENTIFIED BY '{password}'")
    connection = server.connect(database)
    tables = {row[0] for row in _rows(connection, "SHOW TABLES")}
    columns: dict[str, set[str]] = {}
    for table, column in _rows(
        connection,
        f"SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = '{database}'",
    ):
        columns.setdefault(table, set()).add(column)
    assert tables
    for statement in grants.statements(f"'{user}'@'localhost'", database, settings.MOODLE_DB_PREFIX, columns):
        connection.query(statement)
    connection.close()


def _rows(connection: Any, sql: str) -> list[tuple[Any, ...]]:
    cursor = connection.cursor()
    cursor.execute(sql)
    return list(cursor.fetchall())


@pytest.fixture(scope="session")
def server() -> mariadb.Server:
    """The suite's MariaDB server."""
    return test_settings.SERVER


@pytest.fixture(scope="session")
def django_db_setup(server: mariadb.Server, django_db_blocker: Any) -> Iterator[None]:
    """Our database is created by migrations; Moodle's is the restored real site, under its own account."""
    user, password = test_settings.APP_ACCOUNT
    server.run(
        f"CREATE OR REPLACE USER '{user}'@'localhost' IDENTIFIED BY '{password}';"
        f"GRANT ALL ON `test\\_offload%`.* TO '{user}'@'localhost';"
        f"GRANT ALL ON `offload%`.* TO '{user}'@'localhost'"
    )
    server.restore_site(test_settings.MOODLE_DATABASE)
    server.restore_site(PRISTINE)
    grant_moodle_account(server, test_settings.MOODLE_DATABASE)
    with django_db_blocker.unblock():
        config = setup_databases(verbosity=0, interactive=False, aliases=["default"])
    yield
    with django_db_blocker.unblock():
        connections.close_all()
        teardown_databases(config, verbosity=0)


class Moodle:
    """Moodle's database as Moodle itself and its admins see it: root, every table, changes undone afterwards."""

    def __init__(self, server: mariadb.Server, database: str) -> None:
        self.server = server
        self.database = database
        self.connection = server.connect(database)
        self.touched = {"mdl_reengagement_inprogress", "mdl_email"}

    def execute(self, sql: str, args: Any = None) -> int:
        """Run one statement and return the number of rows it affected."""
        found = re.match(
            r"\s*(?:UPDATE|INSERT\s+INTO|REPLACE\s+INTO|DELETE\s+FROM|TRUNCATE(?:\s+TABLE)?)\s+`?(\w+)",
            sql,
            re.I,
        )
        if found:
            self.touched.add(found[1])
        with self.connection.cursor() as cursor:
            return int(cursor.execute(sql, args))

    def rows(self, sql: str, args: Any = None) -> list[tuple[Any, ...]]:
        """The result of a query."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql, args)
            return list(cursor.fetchall())

    def value(self, sql: str, args: Any = None) -> Any:
        """The first column of the first row."""
        return self.rows(sql, args)[0][0]

    def insert(self, table: str, **values: Any) -> int:
        """Insert a row and return its id."""
        names = ", ".join(f"`{name}`" for name in values)
        marks = ", ".join(["%s"] * len(values))
        self.touched.add(table)
        with self.connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO `{table}` ({names}) VALUES ({marks})", list(values.values()))
            return int(cursor.lastrowid)

    def set_config(self, name: str, value: str, plugin: str | None = None) -> None:
        """Set a `config` or `config_plugins` row."""
        if plugin is None:
            self.execute("REPLACE INTO mdl_config (name, value) VALUES (%s, %s)", (name, value))
        else:
            self.execute(
                "REPLACE INTO mdl_config_plugins (plugin, name, value) VALUES (%s, %s, %s)",
                (plugin, name, value),
            )

    def restore(self) -> None:
        """Put back every table that was changed."""
        for table in self.touched:
            self.connection.query(f"TRUNCATE TABLE `{table}`")
            self.connection.query(f"INSERT INTO `{table}` SELECT * FROM `{PRISTINE}`.`{table}`")
        self.connection.close()


@pytest.fixture
def moodle(server: mariadb.Server, transactional_db: None) -> Iterator[Moodle]:
    """The real site's database, writable as Moodle's own; every change is undone after the test."""
    site = Moodle(server, test_settings.MOODLE_DATABASE)
    yield site
    connections["moodle"].close()
    site.restore()


@pytest.fixture
def ses(monkeypatch: pytest.MonkeyPatch) -> Iterator[SandboxSES]:
    """A local SES on loopback, which the product sends to in this test."""
    from emailoffload.delivery import ses as product

    with SandboxSES(max_send_rate=10_000) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", server.url)
        product.forget_client()
        yield server
    product.forget_client()
