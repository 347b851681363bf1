"""`manage.py resend`: send mails again."""

from __future__ import annotations

import getpass
from typing import Any

from django.core.management.base import CommandError, CommandParser

from emailoffload.actions.resend import resend
from emailoffload.management.reporting import ReportingCommand


class Command(ReportingCommand):
    """Send mails again, to the same addresses."""

    needs_our_database = True
    help = "Send mails again, each to the same address, as a new email of the same claim."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        super().add_arguments(parser)
        parser.add_argument(
            "email", nargs="+", type=int, help="number of an email, as the dashboard's address shows it"
        )
        parser.add_argument("--reason", required=True, help="why; kept in the audit log")

    def handle(self, *args: Any, **options: Any) -> None:
        """Queue the copies; a dispatcher sends them."""
        if not options["reason"].strip():
            raise CommandError("Say why with --reason.", returncode=2)
        outcomes = resend(
            options["email"], actor=f"command line ({getpass.getuser()})", reason=options["reason"]
        )
        made = {outcome.email_id: outcome.new_id for outcome in outcomes if outcome.new_id}
        not_made = {outcome.email_id: outcome.why_not for outcome in outcomes if not outcome.new_id}
        lines = [f"{len(made)} of {len(outcomes)} queued again; they leave within a minute."]
        lines += [f"  email {pk}: queued as email {new_id}" for pk, new_id in made.items()]
        lines += [f"  email {pk}: {why}" for pk, why in not_made.items()]
        result = {
            "resent": {str(pk): new_id for pk, new_id in made.items()},
            "not_resent": {str(pk): why for pk, why in not_made.items()},
        }
        self.report(result, "\n".join(lines), as_json=options["json"], ok=not not_made)
