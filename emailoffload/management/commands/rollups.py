"""`manage.py rollups`: keep the dashboard's hourly counts; build them anew, or check them against a recount."""

from __future__ import annotations

import itertools
from typing import Any

from django.core.management.base import CommandParser

from emailoffload.management.reporting import ReportingCommand
from emailoffload.outbox import rollups as figures
from emailoffload.worker import rollups, stopping

SHOWN = 100
"""Differing hours that a check lists at most."""


class Command(ReportingCommand):
    """One pass over the counts, all of them anew, or a comparison that changes nothing."""

    needs_our_database = True
    help = (
        "Count anew the hours in which something has changed since the last pass, for the dashboard's figures. The "
        "worker does this every minute."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        super().add_arguments(parser)
        what = parser.add_mutually_exclusive_group()
        what.add_argument(
            "--rebuild",
            action="store_true",
            help="compare every hour with its rows and make its counts right",
        )
        what.add_argument(
            "--check",
            action="store_true",
            help="change nothing: compare every hour with its rows; exit status 1 where one differs",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Count, or compare."""
        with stopping.on_signals():
            if options["check"]:
                self._check(options["json"])
            else:
                self._count(options["rebuild"], options["json"])

    def _count(self, rebuild: bool, as_json: bool) -> None:
        result = rollups.run(rebuild=rebuild)
        while rebuild and result.more and not (result.busy or stopping.requested()):
            following = rollups.run()
            result = following.after(result)
        until = figures.counted_until()
        if result.busy:
            text = "Another pass is counting; nothing was done."
        else:
            text = (
                f"{result.counted} hours counted anew, {result.walked} compared with their rows, {result.repaired} of "
                f"these put right, {result.frozen} too old to be counted again; {result.seconds:.2f} s"
            )
            if result.left:
                text += f"\n{result.left} hours wait for the next pass."
            if result.building:
                text += "\nOlder hours are still being counted; the next pass goes on."
        # A pass that only came second has done no harm; somebody who asked for everything anew did not get it.
        self.report(
            {**result.as_dict(), "counted_until": until},
            text,
            as_json=as_json,
            ok=not (rebuild and (result.busy or result.more)),
        )

    def _check(self, as_json: bool) -> None:
        found = [
            {"kind": hour.kind, "hour": hour.begins, "counted": counted.total(), "rows": rows.total()}
            for hour, counted, rows in itertools.islice(rollups.differences(), SHOWN)
        ]
        lines = [
            f"{each['hour']:%Y-%m-%d %H:%M} UTC, {each['kind']}: {each['counted']} counted, {each['rows']} in the rows"
            for each in found
        ]
        if len(found) == SHOWN:
            lines.append(f"The first {SHOWN} are shown; there may be more.")
        if found:
            lines.append(
                "Where the numbers are equal, states, companies or sums differ. Cure: manage.py rollups --rebuild"
            )
        text = "\n".join(lines) or "Every count is that of its rows."
        self.report({"differences": found}, text, as_json=as_json, ok=not found)
