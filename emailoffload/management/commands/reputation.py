"""`manage.py reputation`: bounce and complaint rates, and their recount."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser

from emailoffload.feedback import claimstop, rates, reputation
from emailoffload.management.reporting import ReportingCommand
from emailoffload.worker.alarm_conditions import percent, whose


class Command(ReportingCommand):
    """Show the rates; count them anew."""

    needs_our_database = True
    help = "Show bounce and complaint rates against SES's thresholds. Exit status 1 where one is too high."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        super().add_arguments(parser)
        parser.add_argument("--rebuild", action="store_true", help="count all events of 90 days anew first")

    def handle(self, *args: Any, **options: Any) -> None:
        """Count anew if asked, then report."""
        lines = []
        if options["rebuild"]:
            lines.append(f"{reputation.rebuild()} hours counted anew.")
        found = rates.rates()
        stops = claimstop.known()
        for each in found:
            window = "24 hours" if each.window == "day" else f"since {each.since:%Y-%m-%d %H:%M} UTC"
            lines.append(
                f"{whose(each)}, {window}: {each.mails} mails, {percent(each.bounces)} bounced for good "
                f"({each.permanent_bounces}), {percent(each.complained)} complaints ({each.complaints}): {each.level}"
            )
        if stops.any:
            lines.append("Claims are stopped, but for mails with credentials.")
        result = {
            "stopped": {
                "account": stops.account,
                "identities": sorted(stops.identities),
                "companies": sorted(stops.companies),
            },
            "rates": [
                {**asdict(each), "mails": each.mails, "bounce_rate": each.bounces,
                 "complaint_rate": each.complained, "level": each.level}
                for each in found
            ],
        }  # fmt: skip
        fine = not stops.any and rates.worst(found) in {"good", "few"}
        self.report(result, "\n".join(lines), as_json=options["json"], ok=fine)
