"""`manage.py pause`: stop claiming, sending or both, and go on again."""

from __future__ import annotations

import getpass
from typing import Any

from django.core.management.base import CommandError, CommandParser

from emailoffload.actions import pause
from emailoffload.management.reporting import ReportingCommand


class Command(ReportingCommand):
    """Pause or resume, for all processes."""

    needs_our_database = True
    help = "Pause claiming, sending or (without --claims and --sends) both; --resume goes on."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        super().add_arguments(parser)
        parser.add_argument("--claims", action="store_true", help="claiming only: Moodle sends")
        parser.add_argument("--sends", action="store_true", help="sending only: what is claimed waits")
        parser.add_argument("--resume", action="store_true", help="go on with it")
        parser.add_argument("--reason", required=True, help="why; shown on Overview, kept in the audit log")

    def handle(self, *args: Any, **options: Any) -> None:
        """Switch, and say what is paused now."""
        if not options["reason"].strip():
            raise CommandError("Say why with --reason.", returncode=2)
        both = options["claims"] == options["sends"]
        parts: pause.Parts = "both" if both else ("claims" if options["claims"] else "sends")
        act = pause.resume if options["resume"] else pause.pause
        now = act(parts, actor=f"command line ({getpass.getuser()})", reason=options["reason"])
        result = {"claims_paused": now.claims, "sends_paused": now.sends}
        words = {True: "paused", False: "going on"}
        text = f"Claiming: {words[now.claims]}. Sending: {words[now.sends]}. Passes that run obey at their next batch."
        self.report(result, text, as_json=options["json"])
