"""`manage.py feedback`: one pass over the event queue."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from emailoffload.management.reporting import ReportingCommand, refusal
from emailoffload.worker import feedback, stopping


class Command(ReportingCommand):
    """Take in what SES reports about mails: one pass."""

    needs_our_database = True
    help = (
        "Take in what SES reports about mails, from the queue SES_EVENTS_QUEUE_URL. One pass: it stays on for "
        "55 seconds, or until the queue is empty."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        super().add_arguments(parser)
        parser.add_argument("--until-empty", action="store_true", help="end as soon as the queue is empty")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the pass."""
        with stopping.on_signals():
            result = feedback.run(until_empty=options["until_empty"])
        self.report(
            result.as_dict(),
            _text(result),
            as_json=options["json"],
            ok=not (result.refused or result.trouble),
        )


def _text(result: feedback.FeedbackResult) -> str:
    if result.busy:
        return "Another pass is at work on the queue; nothing was done."
    got = result.received
    counts = (
        f"{got.messages} messages: {got.events} new events, {got.repeated} known before, {got.unmatched} without "
        f"a mail yet, {got.silent} about no mail, {got.problems} unreadable; {got.changed} mails changed; "
        f"{result.seconds:.2f} s"
    )
    if result.refused:
        return f"{counts}\n{refusal(result.refused, result.cure)}"
    return f"{counts}\n{result.trouble}" if result.trouble else counts
