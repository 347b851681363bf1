"""`manage.py samplemoodle`: create the sample Moodle, run its simulated cron, show what that cron mailed."""

from __future__ import annotations

import signal
import sqlite3
import threading
import time
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from emailoffload.sandbox import sample_flow, sample_moodle
from emailoffload.sandbox.moodle_cron import SimulatedCron
from emailoffload.sandbox.moodle_side import enrolled_by_sql

_RECORD = (
    "INSERT INTO sandbox_moodle_mail (timesent, source, role, row_id, activity_id, user_id, address, due,"
    " ordinal) VALUES (:timesent, :source, :role, :row_id, :activity_id, :user_id, :address, :due, :ordinal)"
)
_WARM_UP = 60
"""Seconds that the first run waits at least: the product starts at the same moment, and has been there for
long on a real site."""
_LAST = "SELECT timesent, role, user_id, activity_id, due FROM sandbox_moodle_mail ORDER BY id DESC LIMIT ?"


class Command(BaseCommand):
    """The sample Moodle's life beside us."""

    help = "Creates the sample Moodle, runs the simulated Moodle cron on it, or lists what that cron mailed."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The three actions and their options."""
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser("create", help="create it where it is missing")
        create.add_argument("--fresh", action="store_true", help="replace the one that is there")
        cron = actions.add_parser("cron", help="run the simulated cron until it is stopped")
        cron.add_argument("--period", type=int, default=300, help="seconds between two runs (default: 300)")
        cron.add_argument("--once", action="store_true", help="one run, now")
        cron.add_argument("--mail-seconds", type=float, default=0.06, help="how long one mail takes")
        mails = actions.add_parser("mails", help="what the simulated cron mailed, newest first")
        mails.add_argument("--limit", type=int, default=20)

    def handle(self, *args: Any, **options: Any) -> None:
        """Refuse to touch anything but the sample; then do the action."""
        if not settings.SAMPLE_SITE:
            raise CommandError(
                "MOODLE_DATABASE_URL is set: this installation belongs to a real Moodle site. "
                "The sample Moodle is there only without it; unset it, or try things in another checkout."
            )
        if options["action"] == "create":
            self._create(fresh=options["fresh"])
            return
        if not settings.SAMPLE_MOODLE_PATH.exists():
            raise CommandError(
                f"There is no sample Moodle at {settings.SAMPLE_MOODLE_PATH}. "
                "Create it: manage.py samplemoodle create."
            )
        if options["action"] == "mails":
            self._mails(options["limit"])
        else:
            self._cron(options)

    def _create(self, *, fresh: bool) -> None:
        path = settings.SAMPLE_MOODLE_PATH
        if path.exists() and not fresh:
            self.stdout.write("The sample Moodle is there already; --fresh replaces it.")
            return
        sample_moodle.create(path, prefix=settings.MOODLE_DB_PREFIX, wwwroot=settings.MOODLE_WWWROOT)
        self.stdout.write(f"Sample Moodle created: {path}")

    def _cron(self, options: dict[str, Any]) -> None:
        def connect() -> sqlite3.Connection:
            return sample_moodle.connect(settings.SAMPLE_MOODLE_PATH)

        prefix = settings.MOODLE_DB_PREFIX
        records = connect()

        def record(mail: dict[str, Any]) -> None:
            records.execute(_RECORD, {"source": "reengagement", **mail})

        cron = SimulatedCron(
            connect,
            prefix=prefix,
            paramstyle=sqlite3.paramstyle,
            lock=None,
            mail=record,
            mail_seconds=options["mail_seconds"],
            enrolled=enrolled_by_sql(connect, prefix=prefix, paramstyle=sqlite3.paramstyle),
            period=options["period"],
        )
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        wait = options["period"] - time.time() % options["period"]
        if wait < _WARM_UP:
            wait += options["period"]
        while options["once"] or not stop.wait(wait):
            run = cron.run_reengagement()
            sample_flow.keep_falling_due(records, prefix=prefix)
            self.stdout.write(f"Moodle's cron: {run}")
            self.stdout.flush()
            if options["once"]:
                break
            wait = options["period"] - time.time() % options["period"]

    def _mails(self, limit: int) -> None:
        connection = sample_moodle.connect(settings.SAMPLE_MOODLE_PATH)
        for sent, role, user, activity, due in connection.execute(_LAST, [limit]):
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(sent))
            self.stdout.write(
                f"{when} UTC  {role:<10} user {user}  activity {activity}  {sent - due} s after due"
            )
