"""`manage.py drain`: get ready for planned downtime."""

from __future__ import annotations

import getpass
from typing import Any

from django.core.management.base import CommandParser

from emailoffload.actions import drain
from emailoffload.management.reporting import ReportingCommand, refusal
from emailoffload.moodle.errors import MoodleProblem, check_reachable
from emailoffload.worker import stopping


class Command(ReportingCommand):
    """Stop claiming, hand unsent claims back to Moodle, send what is due, report."""

    needs_our_database = True
    help = (
        "Before planned downtime: stop claiming, hand unsent claims back to Moodle, send what is due, report."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        super().add_arguments(parser)
        parser.add_argument("--resume", action="store_true", help="after the downtime: claim again")

    def handle(self, *args: Any, **options: Any) -> None:
        """Drain, or resume."""
        actor = f"command line ({getpass.getuser()})"
        if options["resume"]:
            drain.resume(actor=actor)
            self.report({"claiming": True}, "Claiming again from the next pass on.", as_json=options["json"])
            return
        try:
            check_reachable()
        except MoodleProblem as problem:
            self.report(
                {"refused": str(problem), "cure": problem.cure},
                refusal(str(problem), problem.cure),
                as_json=options["json"],
                ok=False,
            )
            return
        with stopping.on_signals():
            result = drain.drain(actor=actor)
        lines = [
            f"Claiming is paused. {result.released} claims handed back to Moodle, {result.sent} mails sent, "
            f"{result.by_smtp} sent by SMTP, {result.held} left to a person.",
            *(f"  {count} not handed back: {why}" for why, count in result.not_released.most_common()),
        ]
        waiting = sum(result.waiting.values())
        if waiting:
            states = ", ".join(f"{count} {state}" for state, count in result.waiting.items())
            lines.append(f"{waiting} mails still wait here: {states}. They go on when the worker runs again.")
        else:
            lines.append("Nothing waits here: the worker can be stopped.")
        lines.append("After the downtime: manage.py drain --resume")
        self.report(result.as_dict(), "\n".join(lines), as_json=options["json"], ok=not waiting)
