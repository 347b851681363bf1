"""`manage.py quickstart`: the whole product with a sample Moodle and a local SES in one terminal."""

from __future__ import annotations

import os
import signal
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from emailoffload.sandbox import accounts, sample_flow, sample_moodle, tally
from emailoffload.sandbox.events import QUEUE
from emailoffload.sandbox.sqs_api import ACCOUNT
from emailoffload.sandbox.supervisor import Child, Supervisor, manage, port_is_free

CLAIM_MARGIN = "5"
"""The simulated Moodle shares our clock, so reminders may be claimed until shortly before they are due."""
START_SECONDS = 60
LOOK_SECONDS = 30


class Command(BaseCommand):
    """Try everything: no AWS, no MySQL, no internet."""

    help = "Web, worker, sample Moodle with its cron, and a local SES in one terminal. Needs no settings."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The options."""
        parser.add_argument("--port", type=int, default=8000, help="port of the dashboard (default: 8000)")
        parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
        parser.add_argument("--fresh", action="store_true", help="start over: forget what earlier runs left")
        parser.add_argument("--seconds", type=float, default=None, help="stop by itself after that time")

    def handle(self, *args: Any, **options: Any) -> None:
        """Prepare, start everything, stay until Ctrl-C or until something dies (exit status 1)."""
        if not settings.SAMPLE_SITE:
            raise CommandError(
                "MOODLE_DATABASE_URL is set, and quickstart makes demo accounts and sample data, which do"
                " not "
                "belong on a real site. For your own Moodle start the parts: manage.py migrate, manage.py "
                "createsuperuser, manage.py doctor, then the web server and manage.py qcluster. "
                "To try the sample, unset MOODLE_DATABASE_URL."
            )
        port: int = options["port"]
        if not port_is_free(port):
            raise CommandError(
                f"Port {port} on 127.0.0.1 is in use, so the dashboard cannot be served there. "
                f"Stop what uses it, or choose another: manage.py quickstart --port {port + 1}."
            )
        if not port_is_free(settings.SANDBOX_PORT):
            raise CommandError(
                f"Port {settings.SANDBOX_PORT} on 127.0.0.1 is in use, so the sandbox SES cannot listen"
                f" there. "
                f"Stop what uses it, or choose another: SANDBOX_PORT={settings.SANDBOX_PORT + 1} in the"
                f" environment."
            )
        supervisor = Supervisor(_environment(port), sys.stdout)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: supervisor.stopping.set())
        passwords = self._prepare(supervisor, port, fresh=options["fresh"])
        try:
            failure = self._run(supervisor, port, passwords, options)
        finally:
            supervisor.say("Stopping …")
            supervisor.stop()
        if failure:
            raise CommandError(failure)
        supervisor.say("Stopped. What was collected is kept; --fresh starts over.")

    def _run(
        self, supervisor: Supervisor, port: int, passwords: dict[str, str], options: dict[str, Any]
    ) -> str:
        """Start everything and stay; returns why it failed, '' when it was stopped as it should be."""
        self._start(supervisor, port)
        if supervisor.wait_until(lambda: _responds(f"http://127.0.0.1:{port}/healthz"), START_SECONDS):
            supervisor.say(_banner(port, passwords))
            if not options["no_browser"] and _has_screen():
                webbrowser.open(f"http://127.0.0.1:{port}/")
            _stay(supervisor, options["seconds"])
        elif not supervisor.stopping.is_set() and supervisor.dead() is None:
            return f"The dashboard did not answer within {START_SECONDS} s; its lines above may say why."
        dead = supervisor.dead()
        if dead is None or supervisor.stopping.is_set():
            return ""
        lines = "\n".join(f"    {line}" for line in dead.last_lines)
        return f"{dead.name} ended by itself with status {dead.ended}. Its last lines:\n{lines}"

    def _prepare(self, supervisor: Supervisor, port: int, *, fresh: bool) -> dict[str, str]:
        """Databases, static files, accounts, the sample site; returns the accounts' passwords."""
        data_dir: Path = settings.DATA_DIR
        data_dir.mkdir(parents=True, exist_ok=True)
        if fresh:
            _forget(data_dir)
        supervisor.say("Preparing the databases …")
        call_command("migrate", interactive=False, verbosity=0)
        call_command("collectstatic", interactive=False, verbosity=0)
        passwords = accounts.ensure(data_dir / "demo-accounts.json")
        path, prefix = settings.SAMPLE_MOODLE_PATH, settings.MOODLE_DB_PREFIX
        try:
            connection = sample_moodle.open_existing(path)
        except sample_moodle.NoSample:  # not made yet, or by another version
            sample_moodle.create(path, prefix=prefix, wwwroot=f"http://127.0.0.1:{port}/sample-moodle")
        else:
            sample_flow.keep_falling_due(connection, prefix=prefix)
            connection.close()
        connections.close_all()
        return passwords

    def _start(self, supervisor: Supervisor, port: int) -> None:
        """Start the programs: SES first, because the worker asks it before it claims anything."""
        store = settings.DATA_DIR / "sandbox-ses.sqlite3"
        dashboard = f"http://127.0.0.1:{port}"
        ses = manage("sandboxses", "--store", str(store), "--dashboard", dashboard)
        supervisor.start(Child("ses", ses))
        web = [
            sys.executable, "-m", "gunicorn", "offloadsite.wsgi:application", "--workers", "1", "--threads", "4",
            "--chdir", str(settings.BASE_DIR), "--bind", f"127.0.0.1:{port}", "--log-level", "warning",
        ]  # fmt: skip
        supervisor.start(Child("web", web))
        ses_address = f"http://127.0.0.1:{settings.SANDBOX_PORT}/"
        if not supervisor.wait_until(lambda: _responds(ses_address), START_SECONDS):
            return
        supervisor.start(Child("moodle", manage("samplemoodle", "cron")))
        supervisor.start(Child("worker", manage("qcluster")))


def _environment(port: int) -> dict[str, str]:
    """The children's environment: the sandbox SES and nothing else, whatever AWS account is configured
    here."""
    env = {key: value for key, value in os.environ.items() if key not in ("AWS_PROFILE", "AWS_SESSION_TOKEN")}
    env.setdefault("CLAIM_MARGIN_SECONDS", CLAIM_MARGIN)
    # The terminal is for what a visitor wants to see; each request and pass would drown it.
    env.setdefault("LOG_LEVEL", "WARNING")
    env.setdefault("MOODLE_WWWROOT", f"http://127.0.0.1:{port}/sample-moodle")
    sandbox = f"http://127.0.0.1:{settings.SANDBOX_PORT}"
    return env | {
        "AWS_ENDPOINT_URL_SESV2": sandbox,
        "AWS_ENDPOINT_URL_SQS": sandbox,
        "SES_CONFIGURATION_SET": "email-offload",
        "SES_EVENTS_QUEUE_URL": f"{sandbox}/{ACCOUNT}/{QUEUE}",
        "SNS_TOPICS": "",
        "AWS_ACCESS_KEY_ID": "sandbox",
        "AWS_SECRET_ACCESS_KEY": "sandbox",
        "PYTHONUNBUFFERED": "1",
    }


def _forget(data_dir: Path) -> None:
    """Remove what earlier runs left: sample site, SES's messages, accounts, and our records if they are
    SQLite."""
    names = [data_dir / "sandbox-ses.sqlite3", data_dir / "demo-accounts.json", settings.SAMPLE_MOODLE_PATH]
    database = settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        names.append(Path(database["NAME"]))
    for name in names:
        for suffix in ("", "-wal", "-shm"):
            name.with_name(name.name + suffix).unlink(missing_ok=True)


def _responds(url: str) -> bool:
    """Whether a web server answers there, whatever it says."""
    try:
        urllib.request.urlopen(url, timeout=2).close()  # noqa: S310 - our own address
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _stay(supervisor: Supervisor, seconds: float | None) -> None:
    """Until all are to stop, the time is over, or a program died; says now and then how the mails went."""
    deadline = None if seconds is None else time.monotonic() + seconds
    moodle = sample_moodle.connect(settings.SAMPLE_MOODLE_PATH)
    said, next_look = "", 0.0
    while not supervisor.stopping.wait(0.2) and supervisor.dead() is None:
        if deadline is not None and time.monotonic() > deadline:
            break
        if time.monotonic() >= next_look:
            next_look = time.monotonic() + LOOK_SECONDS
            text = str(tally.take(moodle))
            if text != said:
                supervisor.say(f"{time.strftime('%H:%M:%S')}  {text}")
                said = text
    moodle.close()


def _has_screen() -> bool:
    """Whether a browser could show a window: never start a text browser in this terminal."""
    return sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


def _banner(port: int, passwords: dict[str, str]) -> str:
    may = {
        "admin": "sees everything, and the Django admin",
        "support": "finds users and their mails, reads what a mail says",
        "auditor": "reads the records, not what a mail says",
    }
    people = "\n".join(f"    {name:<9} {passwords[name]:<14} {may[name]}" for name in passwords)
    return f"""
  Email Offload is running beside a sample Moodle. Nothing leaves this computer.

    Dashboard    http://127.0.0.1:{port}/
    SES sandbox  http://127.0.0.1:{settings.SANDBOX_PORT}/   what "left", mail by mail
    Create users http://127.0.0.1:{settings.SANDBOX_PORT}/moodle   and watch their welcome mails go by

    Account   Password
{people}

  A reminder falls due every few seconds, a mail of IOMAD's queue every half minute; the first should be
  accepted within a minute. Seconds later the local SES says what became of it: most are delivered, some opened;
  a few learners have full or unknown mailboxes, or complain. Let more happen to a mail on its page in the sandbox.
  Ctrl-C stops everything. What Moodle's own cron mailed: manage.py samplemoodle mails
"""
