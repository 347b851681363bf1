"""`manage.py samplemoodle`: create the sample Moodle and users in it, run its simulated cron, show what that
cron mailed."""

from __future__ import annotations

import signal
import sqlite3
import threading
import time
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from emailoffload.sandbox import sample_flow, sample_moodle, sample_users
from emailoffload.sandbox.email_cron import SimulatedEmailCron
from emailoffload.sandbox.moodle_cron import SimulatedCron
from emailoffload.sandbox.moodle_side import enrolled_by_sql
from emailoffload.sandbox.sample_site import EMAIL_DELAY

_RECORD = (
    "INSERT INTO sandbox_moodle_mail (timesent, source, role, row_id, activity_id, user_id, address, due,"
    " ordinal) VALUES (:timesent, :source, :role, :row_id, :activity_id, :user_id, :address, :due, :ordinal)"
)
_WARM_UP = 60
"""Seconds that the first run waits at least: the product starts at the same moment, and has been there for
long on a real site."""
_LAST = (
    "SELECT timesent, source, role, user_id, activity_id, row_id, due FROM sandbox_moodle_mail"
    " ORDER BY id DESC LIMIT ?"
)


class Command(BaseCommand):
    """The sample Moodle's life beside us."""

    help = (
        "Creates the sample Moodle, creates users in it, runs the simulated Moodle cron on it, or lists what"
        " that cron mailed."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The three actions and their options, and creating users, which goes without an action."""
        parser.add_argument(
            "--create-users", type=int, metavar="N", help=f"create N users (1 to {sample_users.MAX_USERS})"
        )
        parser.add_argument("--company", type=int, metavar="ID", help="in this company only")
        actions = parser.add_subparsers(dest="action")
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
        if (options["action"] is None) is (options["create_users"] is None):
            raise CommandError("Say what to do: create, cron, mails, or --create-users N.", returncode=2)
        if options["company"] is not None and options["create_users"] is None:
            raise CommandError("--company belongs to --create-users N.", returncode=2)
        if options["action"] == "create":
            self._create(fresh=options["fresh"])
            return
        try:
            connection = sample_moodle.open_existing(settings.SAMPLE_MOODLE_PATH)
        except sample_moodle.NoSample as error:
            raise CommandError(str(error)) from None
        if options["action"] is None:
            self._create_users(connection, options["create_users"], options["company"])
        elif options["action"] == "mails":
            self._mails(connection, options["limit"])
        else:
            self._cron(connection, options)
        connection.close()

    def _create(self, *, fresh: bool) -> None:
        path = settings.SAMPLE_MOODLE_PATH
        if path.exists() and not fresh:
            self.stdout.write("The sample Moodle is there already; --fresh replaces it.")
            return
        sample_moodle.create(path, prefix=settings.MOODLE_DB_PREFIX, wwwroot=settings.MOODLE_WWWROOT)
        self.stdout.write(f"Sample Moodle created: {path}")

    def _create_users(self, connection: sqlite3.Connection, count: int, company: int | None) -> None:
        try:
            created = sample_users.create_users(connection, count, company, prefix=settings.MOODLE_DB_PREFIX)
        except sample_users.CannotCreate as error:
            raise CommandError(str(error), returncode=2) from None
        self.stdout.write(
            f"Created {created.users} users ({created.first_id} to {created.last_id}) in "
            f"{created.company or 'all companies'}. {created.welcome} welcome mails and {created.enrolled} "
            f"mails about a course wait in IOMAD's queue and are due in {EMAIL_DELAY} seconds. The worker "
            "claims them before; follow them in the dashboard: /emails/?template=user_create"
        )

    def _cron(self, records: sqlite3.Connection, options: dict[str, Any]) -> None:
        def connect() -> sqlite3.Connection:
            return sample_moodle.connect(settings.SAMPLE_MOODLE_PATH)

        prefix, paramstyle = settings.MOODLE_DB_PREFIX, sqlite3.paramstyle

        def record(mail: dict[str, Any]) -> None:
            records.execute(_RECORD, {"source": "reengagement", **mail})

        reminders = SimulatedCron(
            connect,
            prefix=prefix,
            paramstyle=paramstyle,
            lock=None,
            mail=record,
            mail_seconds=options["mail_seconds"],
            enrolled=enrolled_by_sql(connect, prefix=prefix, paramstyle=paramstyle),
            period=options["period"],
        )
        queue = SimulatedEmailCron(
            connect,
            prefix=prefix,
            paramstyle=paramstyle,
            lock=None,
            mail=record,
            mail_seconds=options["mail_seconds"],
            period=options["period"],
        )
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        wait = options["period"] - time.time() % options["period"]
        if wait < _WARM_UP:
            wait += options["period"]
        while options["once"] or not stop.wait(wait):
            run = reminders.run_reengagement()
            self.stdout.write(f"Moodle's cron: {run}")
            self.stdout.write(f"IOMAD's mail queue: {queue.run_queue()}")
            self.stdout.flush()
            sample_flow.keep_falling_due(records, prefix=prefix)
            if options["once"]:
                break
            wait = options["period"] - time.time() % options["period"]

    def _mails(self, connection: sqlite3.Connection, limit: int) -> None:
        for sent, source, role, user, activity, row, due in connection.execute(_LAST, [limit]):
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(sent))
            about = f"activity {activity}" if source == "reengagement" else f"queue row {row}"
            self.stdout.write(f"{when} UTC  {role:<10} user {user}  {about}  {sent - due} s after due")
