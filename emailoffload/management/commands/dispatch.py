"""`manage.py dispatch`: one pass of the dispatcher."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from emailoffload.management.reporting import ReportingCommand, refusal
from emailoffload.worker import dispatch, stopping


class Command(ReportingCommand):
    """Send what is due: one pass."""

    needs_our_database = True
    help = (
        "Send what is due in the outbox. One pass: it ends when nothing is due or falls due within 90 "
        "seconds, at the latest when its budget is used up."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        super().add_arguments(parser)
        parser.add_argument(
            "--until-empty", action="store_true", help="no budget: go on until nothing falls due any more"
        )
        parser.add_argument(
            "--budget", type=float, metavar="SECONDS", help="end after this many seconds at the latest"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the pass."""
        with stopping.on_signals():
            result = dispatch.run(until_empty=options["until_empty"], budget=options["budget"])
        self.report(result.as_dict(), _text(result), as_json=options["json"], ok=not result.refused)


def _text(result: dispatch.DispatchResult) -> str:
    if result.busy:
        return "All dispatchers are at work already; nothing was done."
    counts = (
        f"{result.sent} sent, {result.suppressed} suppressed, {result.retried} to be tried again, "
        f"{result.uncertain} uncertain, {result.failed} failed; {result.seconds:.2f} s"
    )
    if result.refused:
        return f"{counts}\n{refusal(result.refused, result.cure)}"
    return counts
