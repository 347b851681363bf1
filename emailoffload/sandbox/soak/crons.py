"""Moodle's crons in a soak: `python -m emailoffload.sandbox.soak.crons reminders|queue JSON`.

They know nothing of the product. Each runs again and again with a pause, mails into its journal, and dies with its
database's connection as PHP does.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import MySQLdb

from emailoffload.sandbox.email_cron import SimulatedEmailCron
from emailoffload.sandbox.moodle_cron import SimulatedCron
from emailoffload.sandbox.moodle_side import Row, enrolled_by_sql, mysql_lock
from emailoffload.sandbox.soak.journal import Journal

REMINDERS, QUEUE = "reengagement", "iomad_queue"
COUNTS_ON = "UPDATE {reengagement_inprogress} SET emailtime"


class Reminders(SimulatedCron):
    """The plugin's cron, which notes when it takes a row on and when it is done with it."""

    journal: Journal

    def execute(self, sql: str, *args: object) -> int:
        """Note the row before it is overwritten."""
        if sql.startswith(COUNTS_ON):
            _emailtime, ordinal, row = args
            self.journal.write("takes", source=REMINDERS, row=row, ordinal=ordinal, t=time.time())
        return super().execute(sql, *args)

    def _delete(self, row: Row) -> None:
        self.journal.write(
            "takes", source=REMINDERS, row=row["id"], ordinal=row["emailsent"] + 1, t=time.time(), deletes=1
        )
        super()._delete(row)

    def _email_user(self, row: Row, instance: Row, due: int) -> None:
        super()._email_user(row, instance, due)
        self.journal.write("done", source=REMINDERS, row=row["id"], t=time.time())


class Queue(SimulatedEmailCron):
    """IOMAD's cron of the mail queue, which notes the same."""

    journal: Journal

    def _mail_all(self, rows: list[Row]) -> None:
        # Row by row: what the original does with each, between two notes.
        for row in rows:
            self.journal.write("takes", source=QUEUE, row=row["id"], ordinal=1, t=time.time())
            super()._mail_all([row])
            self.journal.write("done", source=QUEUE, row=row["id"], t=time.time())


def main() -> None:
    """Run until SIGTERM, which ends the process after its run."""
    kind, text = sys.argv[1:]
    options: dict[str, Any] = json.loads(text)
    journal = Journal(Path(options["journal"]))
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    while not over.is_set():
        journal.write("start")
        try:
            run = _cron(kind, options, journal)
            while not over.is_set():
                began = time.time()
                done = run()
                if not done.locked_out:
                    journal.write("run", began=began, ended=time.time(), result=str(done))
                over.wait(options["pause"])
        except (MySQLdb.OperationalError, MySQLdb.InterfaceError):
            over.wait(0.2)  # the next minute's cron is a new process


def _cron(kind: str, options: dict[str, Any], journal: Journal) -> Callable[[], Any]:
    def connect() -> Any:
        connection = MySQLdb.connect(
            unix_socket=options["socket"], user=options["user"], password=options["password"],
            database=options["database"], charset="utf8mb4",
        )  # fmt: skip
        connection.autocommit(True)
        return connection

    def mail(what: Row) -> None:
        journal.write(
            "mails", source=QUEUE if kind == "queue" else REMINDERS, row=what["row_id"],
            ordinal=what["ordinal"], address=what["address"], t=time.time(),
        )  # fmt: skip

    shared: dict[str, Any] = {
        "prefix": "mdl_",
        "paramstyle": "format",
        "lock": mysql_lock(connect, dbname=options["database"], prefix="mdl_"),
        "mail": mail,
        "mail_seconds": options["mail_seconds"],
        "period": 5,
    }
    if kind == "queue":
        queue = Queue(connect, **shared)
        queue.journal = journal
        return queue.run_queue
    enrolled = enrolled_by_sql(connect, prefix="mdl_", paramstyle="format")
    reminders = Reminders(connect, **shared, enrolled=enrolled, start_users=False)
    reminders.journal = journal
    return reminders.run_reengagement


if __name__ == "__main__":
    main()
