"""`manage.py migrate`, fit for a site that is at work on MariaDB or MySQL (docs/upgrading.md).

There a change of a table waits until nobody uses the table, and everybody who comes after it waits behind it: a backup
that reads a table for an hour would stop the site for that hour. And nothing undoes the statements that were done when
a migration is cut off. So it waits for a few seconds at a time, one process does it, and `--resume` goes on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import migrate
from django.db import DatabaseError, connections

from emailoffload.worker import stopping

BLOCK_SECONDS: Final = 5
"""How long others may be kept waiting behind a change that waits for a table itself."""
PAUSE_SECONDS: Final = 5
WAIT_SECONDS: Final = 600
"""How long one statement is tried, and another `migrate` is waited for."""
CHANGE: Final = re.compile(r"\s*(CREATE|ALTER|DROP|RENAME)\s", re.IGNORECASE)
LOCKED: Final = 1205
THERE: Final = frozenset({1050, 1060, 1061, 1091, 1826})
"""The server's words for: this table, column, index, foreign key is there already; what is to be dropped is not."""


class Command(migrate.Command):
    """Django's own command, which waits politely and can go on where it was cut off."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Django's options, and --resume."""
        super().add_arguments(parser)
        parser.add_argument(
            "--resume",
            action="store_true",
            help="Go on after a migrate that was cut off: skip what it has made already. MariaDB and MySQL.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate. Raises CommandError where a table stays in use, and where an earlier run was cut off."""
        connection = connections[options["database"]]
        if connection.vendor != "mysql":  # SQLite undoes what was cut off, and locks by itself
            super().handle(*args, **options)
            return
        with self._alone(connection), connection.execute_wrapper(self._changing(bool(options["resume"]))):
            super().handle(*args, **options)

    @contextmanager
    def _alone(self, connection: Any) -> Iterator[None]:
        """One process at a time; the next one finds nothing left to do."""
        name = f"migrate {connection.settings_dict['NAME']}"[:64]
        with connection.cursor() as cursor:
            cursor.execute("SELECT GET_LOCK(%s, %s)", [name, WAIT_SECONDS])
            if cursor.fetchone()[0] != 1:
                raise CommandError(
                    f"Another `migrate` of this database has been at work for {WAIT_SECONDS // 60} minutes. Wait until "
                    "it ends, then run this again."
                )
            cursor.execute("SET SESSION lock_wait_timeout = %s", [BLOCK_SECONDS])
        try:
            yield
        finally:
            if connection.is_usable():
                with connection.cursor() as cursor:
                    cursor.execute("SET SESSION lock_wait_timeout = DEFAULT")
                    cursor.execute("SELECT RELEASE_LOCK(%s)", [name])

    def _changing(self, resume: bool) -> Callable[..., Any]:
        def run(
            execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
        ) -> Any:
            if not CHANGE.match(sql):
                return execute(sql, params, many, context)
            until = time.monotonic() + WAIT_SECONDS
            while True:
                try:
                    return execute(sql, params, many, context)
                except DatabaseError as error:
                    code = error.args[0] if error.args else None
                    if code in THERE:
                        if resume:
                            self.stdout.write(f"There already: {sql[:90]}")
                            return None
                        raise CommandError(_CUT_OFF % {"error": error.args[-1]}) from None
                    if code != LOCKED:
                        raise
                    if time.monotonic() > until:
                        raise CommandError(_IN_USE % {"sql": sql[:90]}) from None
                    self.stderr.write(f"In use, tried again in {PAUSE_SECONDS} s: {sql[:90]}")
                    stopping.wait(PAUSE_SECONDS)

        return run


_CUT_OFF = (
    "%(error)s. An earlier `migrate` was cut off in the middle of this migration. Nothing is lost: run "
    "`manage.py migrate --resume`, which skips what is there already and does the rest."
)
_IN_USE = (
    "A table stayed in use for ten minutes: %(sql)s. Something reads or writes it in a long transaction: a backup, a "
    "report, a worker that still runs. SHOW FULL PROCESSLIST names it. Stop it, then run `manage.py migrate --resume`."
)
