"""Fixtures shared by the suite."""

from __future__ import annotations

import functools
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import botocore.session
import pytest
from django.apps import apps
from django.conf import settings
from django.db import connections
from django.db.models import AutoField
from django.test import TransactionTestCase
from django.test.utils import setup_databases, teardown_databases
from xdist.scheduler import LoadScopeScheduling

from emailoffload.sandbox.ses_server import SandboxSES
from tests import mariadb
from tests import settings as test_settings
from tests.branches import Branches, Traced
from tests.processes import ROOT
from tests.undo import Changes

PRISTINE = "moodle_pristine"
WORKERS = 3
"""Processes that run the whole suite: it waits for other processes so often that two keep no two cores busy."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """What `-n auto` of the Makefile means: several for the whole suite, none for tests that were named.

    For a few tests, as many servers and restored sites would take longer than they save.
    """
    return WORKERS if config.args_source is pytest.Config.ArgsSource.TESTPATHS else 0


def pytest_configure(config: pytest.Config) -> None:
    """Start the server of this process, unless it is xdist's controller, which runs no test.

    Each of xdist's workers comes here by itself: it has a server and a data folder of its own, and the processes
    that its tests start inherit both.
    """
    distributed = config.getoption("dist", "no") != "no" and config.getoption("tx", None)
    if tracer := config.pluginmanager.getplugin("_cov"):
        if config.option.cov_source is None:
            config.pluginmanager.register(Traced(tracer))
        if not hasattr(config, "workerinput"):
            config.pluginmanager.register(Branches())
    if not distributed:
        test_settings.SERVER.begin()
        os.environ["OFFLOAD_TEST_DATA"] = test_settings.DATA


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the server and remove the data folder."""
    test_settings.SERVER.stop()
    shutil.rmtree(test_settings.DATA, ignore_errors=True)


class Spread(LoadScopeScheduling):  # type: ignore[misc]
    """How xdist's controller spreads the tests: each for itself, but the files that name a marker of `TOGETHER`."""

    def _split_scope(self, nodeid: str) -> str:
        return together(nodeid.split("::", 1)[0]) or nodeid


TOGETHER = ("pytest.mark.race", "pytest.mark.kill", "pytest.mark.whole", "pytest.mark.browser")
"""They take long, so they start first, and disturb their like, so one worker has all of a kind, one by one."""


@functools.cache
def together(file: str) -> str:
    """The group of a file's tests, empty if they need not stay together."""
    text = (ROOT / file).read_text()
    return next((marker for marker in TOGETHER if marker in text), "")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """xdist's own grouping sees no marker, as the node ids that it would write it into are fixed."""
    return Spread(config, log)


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


def make_own_accounts(server: mariadb.Server) -> None:
    """Give the suite's own accounts exactly what docs/security.md says: one may run the product, one may upgrade it."""
    from emailoffload.actions.setup.databases import grant

    suite, others = r"`test\_offload%`", "`offload%`"
    for (user, password), to_upgrade in (
        (test_settings.APP_ACCOUNT, False),
        (test_settings.UPGRADE_ACCOUNT, True),
    ):
        account = f"'{user}'@'localhost'"
        server.run(f"CREATE OR REPLACE USER {account} IDENTIFIED BY '{password}'")
        server.run(grant(suite, account, to_upgrade=to_upgrade))
        server.run(grant(others, account))


@contextmanager
def upgrading() -> Iterator[None]:
    """Be the account that may upgrade our database for a block."""
    connection = connections["default"]
    kept = dict(connection.settings_dict)
    connection.close()
    connection.settings_dict["USER"], connection.settings_dict["PASSWORD"] = test_settings.UPGRADE_ACCOUNT
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["USER"], connection.settings_dict["PASSWORD"] = (
            kept["USER"],
            kept["PASSWORD"],
        )


def _rows(connection: Any, sql: str) -> list[tuple[Any, ...]]:
    cursor = connection.cursor()
    cursor.execute(sql)
    return list(cursor.fetchall())


@pytest.fixture(scope="session", autouse=True)
def _amazons_descriptions_are_read_once() -> Iterator[None]:
    """Each test has an SES client of its own; parsing the descriptions of all services anew takes most of its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", functools.cache(botocore.session.create_loader))
        yield


@pytest.fixture(scope="session")
def server() -> mariadb.Server:
    """The suite's MariaDB server."""
    return test_settings.SERVER


@pytest.fixture(scope="session")
def undo(server: mariadb.Server) -> Changes:
    """What the server knows of changes."""
    return Changes(server)


@pytest.fixture(scope="session")
def django_db_setup(server: mariadb.Server, undo: Changes, django_db_blocker: Any) -> Iterator[None]:
    """Our database is created by migrations; Moodle's is the restored real site, under its own account."""
    make_own_accounts(server)
    server.restore_site(test_settings.MOODLE_DATABASE)
    server.restore_site(PRISTINE)
    grant_moodle_account(server, test_settings.MOODLE_DATABASE)
    with django_db_blocker.unblock(), upgrading():
        config = setup_databases(verbosity=0, interactive=False, aliases=["default"])
        undo.keep_default()
        _ids_of_an_older_site()
    undo.since_last_look(test_settings.MOODLE_DATABASE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda case: undo.restore_default())
        yield
    with django_db_blocker.unblock():
        connections.close_all()
        with upgrading():
            teardown_databases(config, verbosity=0)


def _ids_of_an_older_site() -> None:
    """Let each table count from a number of its own: a test that relies on small or equal ids fails every time."""
    with connections["default"].cursor() as cursor:
        for number, model in enumerate(apps.get_app_config("emailoffload").get_models(), start=1):
            if isinstance(model._meta.auto_field, AutoField):
                first = 2_000_000 + number * 10_000
                cursor.execute(f"ALTER TABLE `{model._meta.db_table}` AUTO_INCREMENT = {first}")


class Moodle:
    """Moodle's database as Moodle itself and its admins see it: root, every table, changes undone afterwards."""

    def __init__(self, server: mariadb.Server, database: str) -> None:
        self.server = server
        self.database = database
        self.connection = server.connect(database)
        self.truncated: set[str] = set()

    def execute(self, sql: str, args: Any = None) -> int:
        """Run one statement and return the number of rows it affected."""
        if found := re.match(r"\s*TRUNCATE(?:\s+TABLE)?\s+`?(\w+)", sql, re.I):
            self.truncated.add(found[1])
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


@pytest.fixture
def moodle(server: mariadb.Server, undo: Changes, transactional_db: None) -> Iterator[Moodle]:
    """The real site's database, writable as Moodle's own; every change is undone after the test."""
    site = Moodle(server, test_settings.MOODLE_DATABASE)
    yield site
    connections["moodle"].close()
    site.connection.close()
    undo.restore(site.database, PRISTINE, site.truncated)


@pytest.fixture
def ses(monkeypatch: pytest.MonkeyPatch) -> Iterator[SandboxSES]:
    """A local SES on loopback, which the product sends to in this test."""
    from emailoffload.delivery import ses as product

    with SandboxSES(max_send_rate=10_000) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", server.url)
        product.forget_client()
        yield server
    product.forget_client()
