"""`manage.py setup`: from nothing to a site in shadow mode: asks, tries, writes the environment file, looks."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from emailoffload.actions.setup import envfile, look
from emailoffload.management.asking import Asker, Cancelled
from emailoffload.management.setup import cloud, finish, moodle, ours
from emailoffload.management.setup.talk import Runner, Talk, in_a_process
from offloadsite import blank

INTRODUCTION = """\
This sets Email Offload up beside a Moodle site. Every question has one sentence and, in brackets, the answer that Enter
gives. Nothing is written before the end; Ctrl-C leaves everything as it is. Nothing is changed in Moodle."""


class Command(BaseCommand):
    """Ask, write, look; starts without any settings (`offloadsite.blank`)."""

    help = "Set Email Offload up beside a Moodle site: ask or detect, write the environment file, run the doctor."
    requires_system_checks: list[str] = []
    asker: Asker | None = None
    """Whom to ask instead of the terminal."""
    runner: Runner = staticmethod(in_a_process)
    """How other commands are run."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options: each answers a question, so that nobody has to be there."""
        parser.add_argument(
            "--non-interactive", action="store_true", help="ask nothing: options and defaults"
        )
        parser.add_argument(
            "--output", metavar="FILE", help="the environment file; default: OFFLOAD_ENV_FILE, or .env"
        )
        parser.add_argument(
            "--force", action="store_true", help="change the file if it exists; its secrets are kept"
        )
        site = parser.add_argument_group("Moodle")
        site.add_argument("--from-config-php", metavar="PATH", help="read what Moodle's config.php knows")
        site.add_argument(
            "--moodle-database", metavar="URL", help="mysql://offload_moodle@db.example.org/moodle"
        )
        site.add_argument("--moodle-password-file", metavar="FILE", help="holds the password of that account")
        site.add_argument("--prefix", help="$CFG->prefix")
        site.add_argument("--wwwroot", metavar="URL", help="$CFG->wwwroot")
        site.add_argument("--lock-factory", help="$CFG->lock_factory, or auto")
        site.add_argument("--noemailever", metavar="on|off", help="$CFG->noemailever")
        site.add_argument("--forced-config", metavar="JSON", help="other $CFG values that config.php sets")
        site.add_argument("--php-timezone", metavar="ZONE", help="date.timezone of PHP on Moodle's host")
        site.add_argument("--dataroot", metavar="PATH", help="$CFG->dataroot as this host sees it")
        site.add_argument("--cron-period", metavar="SECONDS", help="how often Moodle runs the plugin's task")
        own = parser.add_argument_group("our own side")
        own.add_argument(
            "--database", metavar="URL", help="mysql://offload@db.example.org/offload, or sqlite:////…"
        )
        own.add_argument(
            "--database-password-file", metavar="FILE", help="holds the password of that account"
        )
        own.add_argument("--data-dir", metavar="PATH", help="folder for what must survive a restart")
        own.add_argument("--host", metavar="NAME", help="host name of the dashboard")
        own.add_argument("--https", metavar="on|off", help="whether it is reached by https only")
        own.add_argument("--proxies", metavar="N", help="proxies of yours in front of it")
        aws = parser.add_argument_group("Amazon SES")
        aws.add_argument("--region", help="AWS region of SES")
        aws.add_argument(
            "--sender", metavar="ADDRESS", help="address or domain that Moodle's mails come from"
        )
        aws.add_argument("--configuration-set", metavar="NAME", help="default: email-offload")
        aws.add_argument(
            "--aws-access-key-id", metavar="ID", help="of a key with the rights that sessetup prints"
        )
        aws.add_argument("--aws-secret-access-key-file", metavar="FILE", help="holds its secret")
        aws.add_argument("--events", choices=["print", "apply", "skip"], help="the way of SES's events")
        aws.add_argument("--no-aws-check", dest="aws_check", action="store_false", default=None,
                         help="ask AWS nothing")  # fmt: skip
        end = parser.add_argument_group("at the end")
        end.add_argument("--migrate", action="store_true", default=None, help="make our tables")
        end.add_argument("--admin", metavar="NAME", help="make this account, with all rights")
        end.add_argument("--admin-email", metavar="ADDRESS", help="its address")
        end.add_argument("--admin-password-file", metavar="FILE", help="holds its password")
        end.add_argument(
            "--no-doctor", dest="doctor", action="store_false", help="do not have the doctor look"
        )
        parser.add_argument(
            "--look", action="store_true", help="only print, as JSON, what is found of the Moodle site"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the dialogue. Exit status 0 = set up, 1 = something is left to do first, 2 = wrong usage."""
        if options["look"]:
            self.stdout.write(json.dumps(look.look(), ensure_ascii=False, default=str))
            return
        asker = self.asker or Asker(self._say, interactive=not options["non_interactive"])
        try:
            ready = self._run(asker, options)
        except (Cancelled, KeyboardInterrupt):
            raise CommandError(
                "Stopped. Nothing was written but what is named above as written.", returncode=130
            ) from None
        if not ready:
            raise CommandError("Not everything is as it should be yet: see above.")

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()

    def _run(self, asker: Asker, options: dict[str, Any]) -> bool:
        file = Path(options["output"] or blank.env_file()).expanduser().absolute()
        try:
            _text, stored = envfile.read(file)
        except envfile.Unwritable as error:
            raise CommandError(f"{error} {error.cure}", returncode=2) from error
        if not stored or options["force"]:
            _refuse_unwritable(file)
        if asker.interactive:
            asker.say(INTRODUCTION)
        if stored and not options["force"]:
            asker.say(
                f"{file} exists. Without --force it stays as it is, and you see only what would change."
            )
        talk = Talk(asker, options, file, before={**stored, **blank.PUT_ASIDE}, run=self.runner)
        ours.keys(talk)
        moodle.ask(talk)
        ours.ask_database(talk)
        cloud.ask(talk)
        ours.ask_host(talk)
        changed = finish.review(talk)
        if changed and stored and not options["force"]:
            raise CommandError(
                "Nothing was written. With --force the file is changed as shown; its secrets are kept."
            )
        if changed:
            if not asker.yes(f"Write {file}", "", default=True, given=None if asker.interactive else True):
                raise Cancelled
            finish.write(talk)
        return self._prepare(talk)

    def _prepare(self, talk: Talk) -> bool:
        """With the file in place: tables, the first account, shadow mode, the doctor."""
        talk.head("Getting ready")
        ready = finish.migrate(talk)
        if ready:
            finish.first_administrator(talk)
            finish.shadow_first(talk)
        else:
            talk.doubts.append(
                "Make our tables, then see that nothing is claimed yet: manage.py migrate && manage.py routing shadow "
                '--reason "first days"'
            )
        fine = finish.doctor(talk) if talk.options["doctor"] else True
        finish.closing(talk)
        return ready and fine and not talk.stuck


def _refuse_unwritable(file: Path) -> None:
    """Say before all questions that the file could not be written after them."""
    folder = Path(os.path.realpath(file)).parent
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise CommandError(
            f"{file} could not be written: {folder} does not exist, or this user may not write to it. Make it, or name "
            "another file with --output.",
            returncode=2,
        )
