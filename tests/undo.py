"""What a test changed in the databases is undone, and only that: the server counts the rows changed in each table."""

from __future__ import annotations

from django.core.management import call_command
from django.core.management.color import no_style
from django.db import connections

from tests.mariadb import Server

KEPT = {"django_content_type", "auth_permission"}
"""Django fills these anew whenever it empties a database, which takes longer than most tests."""


class Changes:
    """Which tables were changed since the last look, by whatever process: also by one that was killed."""

    def __init__(self, server: Server) -> None:
        self.connection = server.connect()
        self.connection.query("SET GLOBAL userstat = 1")
        self.seen: dict[str, dict[str, int]] = {}

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

    def empty_default(self) -> None:
        """Leave our own database as `manage.py flush` does."""
        connection = connections["default"]
        database = str(connection.settings_dict["NAME"])
        changed = self.since_last_look(database) - {"django_migrations"}
        if changed & KEPT:
            call_command("flush", verbosity=0, interactive=False, database="default", reset_sequences=False)
        elif changed:
            connection.ops.execute_sql_flush(connection.ops.sql_flush(no_style(), sorted(changed)))
        self.since_last_look(database)

    def restore(self, database: str, pristine: str, truncated: set[str]) -> None:
        """Put back each table of `database` that was changed, or is named, from the database `pristine`."""
        # Without these checks the server fills an empty table in one go.
        self.connection.query("SET unique_checks = 0, foreign_key_checks = 0")
        for table in self.since_last_look(database) | truncated:
            self.connection.query(f"TRUNCATE TABLE `{database}`.`{table}`")
            self.connection.query(f"INSERT INTO `{database}`.`{table}` SELECT * FROM `{pristine}`.`{table}`")
        self.since_last_look(database)
