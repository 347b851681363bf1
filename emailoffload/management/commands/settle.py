"""`manage.py settle`: say what became of uncertain mails."""

from __future__ import annotations

import getpass
from typing import Any

from django.core.management.base import CommandError, CommandParser

from emailoffload.actions.settle import settle
from emailoffload.management.reporting import ReportingCommand


class Command(ReportingCommand):
    """Settle uncertain mails by a person's word."""

    needs_our_database = True
    help = "Say what became of uncertain mails: they arrived, or they are to be sent again."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        super().add_arguments(parser)
        parser.add_argument(
            "email", nargs="+", type=int, help="number of an email, as the dashboard's address shows it"
        )
        parser.add_argument(
            "--as", dest="decision", choices=["accepted", "resend"], required=True,
            help="accepted: it arrived; resend: it did not, send it again",
        )  # fmt: skip
        parser.add_argument("--reason", required=True, help="how you know; kept in the audit log")

    def handle(self, *args: Any, **options: Any) -> None:
        """Settle them."""
        if not options["reason"].strip():
            raise CommandError("Say how you know with --reason.", returncode=2)
        outcomes = settle(
            options["email"],
            decision=options["decision"],
            actor=f"command line ({getpass.getuser()})",
            reason=options["reason"],
        )
        done = {str(o.email_id): o.state for o in outcomes if o.state}
        refused = {str(o.email_id): o.why_not for o in outcomes if not o.state}
        lines = [f"{len(done)} of {len(outcomes)} settled."]
        lines += [f"  email {pk}: {state}" for pk, state in done.items()]
        lines += [f"  email {pk}: {why}" for pk, why in refused.items()]
        self.report(
            {"settled": done, "not_settled": refused},
            "\n".join(lines),
            as_json=options["json"],
            ok=not refused,
        )
