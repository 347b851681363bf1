"""What a test changed in the databases is undone, and only that: the server counts the rows changed in each table."""

from __future__ import annotations

from django.contrib.contenttypes.models import ContentType
from django.core.management.color import no_style
from django.db import connections

from tests.mariadb import Server

MADE = "offload_made"
"""The database with the copy of what migrations made in ours."""


class Changes:
    """Which tables were changed since the last look, by whatever process: also by one that was killed."""

    def __init__(self, server: Server) -> None:
        self.connection = server.connect()
        self.connection.query("SET GLOBAL userstat = 1")
        self.seen: dict[str, dict[str, int]] = {}
        self.made: set[str] = set()

    def since_last_look(self, database: str) -> set[str]:
        """The tables of `database` of which rows were inserted, changed or deleted. TRUNCATE does not count."""
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT table_name, rows_changed FROM information_schema.table_statistics WHERE table_schema = %s",
                [database],
            )
            now = dict(cursor.fetchall())
        before = self.seen.get(database, {})
        self.seen[database] = now
        return {table for table, rows in now.items() if rows != before.get(table, 0)}

    def keep_default(self) -> None:
        """Keep a copy of what migrations made in our own database: roles, permissions, content types."""
        self.default = str(connections["default"].settings_dict["NAME"])
        self.connection.query(f"CREATE OR REPLACE DATABASE `{MADE}`")
        with self.connection.cursor() as cursor:
            for table in self.since_last_look(self.default):
                cursor.execute(f"CREATE TABLE `{MADE}`.`{table}` SELECT * FROM `{self.default}`.`{table}`")
                self.made.add(table)

    def restore_default(self) -> None:
        """Leave our own database as migrations made it.

        Django's way empties all tables and makes permissions anew, which takes longer than most tests, but no roles.
        """
        changed = sorted(self.since_last_look(self.default))
        if not changed:
            return
        # The test's own connection: another one would wait for a transaction that the test left open.
        connection = connections["default"]
        empty = connection.ops.sql_flush(no_style(), changed)
        refill = [f"INSERT INTO `{t}` SELECT * FROM `{MADE}`.`{t}`" for t in changed if t in self.made]
        connection.ops.execute_sql_flush([*empty[:-1], *refill, *empty[-1:]])
        if "django_content_type" in changed:
            ContentType.objects.clear_cache()
        self.since_last_look(self.default)

    def restore(self, database: str, pristine: str, truncated: set[str]) -> None:
        """Put back each table of `database` that was changed, or is named, from the database `pristine`."""
        # Without these checks the server fills an empty table in one go.
        self.connection.query("SET unique_checks = 0, foreign_key_checks = 0")
        for table in self.since_last_look(database) | truncated:
            self.connection.query(f"TRUNCATE TABLE `{database}`.`{table}`")
            self.connection.query(f"INSERT INTO `{database}`.`{table}` SELECT * FROM `{pristine}`.`{table}`")
        self.since_last_look(database)
