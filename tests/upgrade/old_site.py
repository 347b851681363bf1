"""The database of an older version, filled, as an upgrade meets it: restored from tests/data/upgrade.

Its times are brought to the present, here and in the rows of Moodle that its claims are about.
"""

from __future__ import annotations

import gzip
import re
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from tests.conftest import Moodle
from tests.mariadb import Server

CONTENT_KEY = "YSBrZXkgdGhhdCBvbmx5IHRoZSBzdWl0ZSBoYXMuLi4="
"""The key with which the dumps' mails are sealed."""
LAST = "0011_feedback_roles"
"""The last migration of 0.1.0."""
DATABASE = "offload_old"
MOODLES_TIMES = {
    "mdl_reengagement_inprogress": ("emailtime", "completiontime"),
    "mdl_email": ("modifiedtime", "sent", "due"),
}
CLAIMS_TIMES = ("emailtime", "modifiedtime", "sent")
DUMPS = Path(__file__).parent.parent / "data" / "upgrade"
GROWING = {"django_migrations", "auth_permission", "auth_group_permissions", "django_content_type"}
"""Tables to which migrations add rows; in all others they change none."""
STOPPED = 540
"""How many seconds ago its last process ended: all its leases are over, all its mails due, no deadline is over."""
Rows = dict[str, list[tuple[Any, ...]]]
Columns = dict[str, dict[str, tuple[str, str, str | None]]]


class OldSite:
    """The old database on the suite's server. `columns` and `rows` are what it held before anything was done to it."""

    def __init__(self, server: Server, moodle: Moodle | None = None, version: str = "v0.1.0") -> None:
        text = gzip.decompress((DUMPS / f"{version}.sql.gz").read_bytes()).decode()
        ours, _, theirs = text.partition("-- Moodle\n")
        server.run(
            f"DROP DATABASE IF EXISTS {DATABASE};"
            f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci"
        )
        server.run(ours, DATABASE)
        self.server = server
        self.root = server.connect(DATABASE)
        dumped = "SELECT JSON_VALUE(value, '$.at') FROM emailoffload_state WHERE name = 'dumped'"
        self.late = int(time.time()) - STOPPED - int(self.select(dumped)[0][0])
        self._bring_to_the_present()
        if moodle:
            self._fill(moodle, theirs)
        self.columns = self.columns_now()
        self.unique = self.unique_now()
        self.rows = self.rows_now()

    def select(self, sql: str) -> list[tuple[Any, ...]]:
        """The result of a query, as the server's root."""
        with self.root.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def columns_now(self) -> Columns:
        """By table and column: type, YES where it may be NULL, default."""
        found: Columns = {}
        for table, column, *kind in self.select(
            "SELECT table_name, column_name, column_type, is_nullable, column_default FROM information_schema.columns"
            f" WHERE table_schema = '{DATABASE}' ORDER BY table_name, ordinal_position"
        ):
            found.setdefault(table, {})[column] = (str(kind[0]), str(kind[1]), kind[2])
        return found

    def rows_now(self) -> Rows:
        """All rows by table, in the order of their keys: the columns that the old version knew."""
        found: Rows = {}
        for table, columns in self.columns.items():
            names = ", ".join(f"`{name}`" for name in columns)
            found[table] = self.select(f"SELECT {names} FROM `{table}` ORDER BY 1, 2")
        return found

    def unique_now(self) -> set[tuple[str, str]]:
        """The unique indexes of all tables: table, name."""
        return set(
            self.select(
                "SELECT table_name, index_name FROM information_schema.statistics"
                f" WHERE table_schema = '{DATABASE}' AND non_unique = 0"
            )
        )

    def use(self) -> None:
        """Let the product work with it instead of the suite's own database."""
        self._switch(DATABASE)

    def leave(self, database: str) -> None:
        """Give the product the database `database` again, and drop this one."""
        self._switch(database)
        self.drop()

    def drop(self) -> None:
        """Remove it."""
        self.root.close()
        self.server.run(f"DROP DATABASE {DATABASE}")

    def _switch(self, database: str) -> None:
        connections["default"].close()
        for settings in (connections["default"].settings_dict, connections.settings["default"]):
            settings["NAME"] = database

    def _bring_to_the_present(self) -> None:
        for table, columns in self.columns_now().items():
            times = [name for name, (kind, *_) in columns.items() if kind.startswith("datetime")]
            if times and table != "django_migrations":
                changes = ", ".join(f"`{name}` = `{name}` + INTERVAL {self.late} SECOND" for name in times)
                self.root.query(f"UPDATE `{table}` SET {changes}")
        for column in ("before", "after"):
            for key in CLAIMS_TIMES:
                value = f"JSON_VALUE(`{column}`, '$.{key}')"
                self.root.query(
                    f"UPDATE emailoffload_claim SET `{column}` = JSON_SET(`{column}`, '$.{key}', {value} + {self.late})"
                    f" WHERE {value} IS NOT NULL"
                )

    def _fill(self, moodle: Moodle, theirs: str) -> None:
        for table, columns in MOODLES_TIMES.items():
            (inserted,) = re.findall(rf"INSERT INTO `{table}` VALUES\n\((\d+)", theirs)
            everything = table == "mdl_reengagement_inprogress"
            moodle.execute(f"DELETE FROM {table} WHERE id >= %s", [0 if everything else inserted])
            moodle.server.run(
                re.search(rf"INSERT INTO `{table}` VALUES\n.*?;\n", theirs, re.S)[0], moodle.database
            )  # type: ignore[index]
            changes = ", ".join(f"{name} = {name} + {self.late}" for name in columns)
            moodle.execute(f"UPDATE {table} SET {changes} WHERE id >= %s", [inserted])


def plain(value: Any) -> Any:
    """A value of a row as SQLite keeps it, fit for JSON."""
    if isinstance(value, datetime):
        return value.isoformat(" ")
    return {"hex": value.hex()} if isinstance(value, bytes) else value


def applied() -> set[tuple[str, str]]:
    """The migrations that our database has."""
    return set(MigrationRecorder(connections["default"]).applied_migrations())
