"""`manage.py cancel`: stop mails that have not left."""

from __future__ import annotations

import getpass
from typing import Any

from django.core.management.base import CommandError, CommandParser

from emailoffload.actions.cancel import cancel
from emailoffload.management.reporting import ReportingCommand


class Command(ReportingCommand):
    """Stop mails that have not left, for good."""

    needs_our_database = True
    help = "Stop mails that have not left. Nobody sends them any more, Moodle neither."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        super().add_arguments(parser)
        parser.add_argument(
            "email", nargs="+", type=int, help="number of an email, as the dashboard's address shows it"
        )
        parser.add_argument("--reason", required=True, help="why; kept in the audit log")

    def handle(self, *args: Any, **options: Any) -> None:
        """Stop them."""
        if not options["reason"].strip():
            raise CommandError("Say why with --reason.", returncode=2)
        outcomes = cancel(
            options["email"], actor=f"command line ({getpass.getuser()})", reason=options["reason"]
        )
        done = [outcome.email_id for outcome in outcomes if outcome.cancelled]
        refused = {outcome.email_id: outcome.why_not for outcome in outcomes if not outcome.cancelled}
        lines = [f"{len(set(done))} of {len(set(options['email']))} stopped: nobody sends them any more."]
        lines += [f"  email {pk}: {why}" for pk, why in refused.items()]
        result = {
            "cancelled": list(dict.fromkeys(done)),
            "not_cancelled": {str(pk): why for pk, why in refused.items()},
        }
        self.report(result, "\n".join(lines), as_json=options["json"], ok=not refused)
