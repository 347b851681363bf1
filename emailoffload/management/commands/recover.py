"""`manage.py recover`: settle what dead processes left behind."""

from __future__ import annotations

import getpass
from typing import Any

from django.core.management.base import CommandParser

from emailoffload.management.reporting import ReportingCommand, refusal
from emailoffload.worker import recover, trust


class Command(ReportingCommand):
    """Settle intents, releases, leases and sends whose process has died: one pass."""

    needs_our_database = True
    help = "Settle intents, releases, leases and sends that a dead process left behind. One pass."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add `--accept-moodle`."""
        super().add_arguments(parser)
        parser.add_argument(
            "--accept-moodle",
            action="store_true",
            help="Moodle's database was restored or failed over and lacks our last claims: it is right as it is",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the pass."""
        if options["accept_moodle"]:
            trust.accept(
                actor=f"command line ({getpass.getuser()})", reason="Moodle's database is right as it is"
            )
        result = recover.run()
        if result.busy:
            text = "Another recovery is at work; nothing was done."
        elif result.refused:
            text = refusal(f"Claims could not be settled. {result.refused}", result.cure)
        else:
            settled = [f"{count} {name.replace('_', ' ')}" for name, count in result.counts.items() if count]
            text = "Settled: " + ", ".join(settled) if settled else "Nothing to settle."
        self.report(result.as_dict(), text, as_json=options["json"], ok=not result.refused)
