"""`manage.py intercept`: one pass that claims due and soon due mail."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from emailoffload.management.reporting import ReportingCommand, refusal
from emailoffload.sources import reasons, registry
from emailoffload.worker import intercept, stopping


class Command(ReportingCommand):
    """Claim due and soon due mail: one pass."""

    needs_our_database = True
    help = (
        "Find reminders that are due or soon due, render and claim them. One pass; prints counts by reason."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        super().add_arguments(parser)
        parser.add_argument("--source", choices=registry.NAMES, default=registry.NAMES[0])
        parser.add_argument("--shadow", action="store_true", help="decide and render, claim nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the pass."""
        with stopping.on_signals():
            result = intercept.run(source=options["source"], shadow=options["shadow"])
        self.report(result.as_dict(), _text(result), as_json=options["json"], ok=not result.refused)


def _text(result: intercept.InterceptResult) -> str:
    if result.busy:
        return "Another interceptor is at work; nothing was done."
    if result.refused:
        return refusal(f"Nothing was claimed. {result.refused}", result.cure)
    verb = "would be claimed" if result.shadow else "claimed"
    lines = [
        f"{result.seen} rows seen, {result.claimed} {verb} ({result.mails} mails), {result.lost} lost to others."
    ]
    lines += [f"  {count:6d}  {reasons.meaning(code)}" for code, count in result.reasons.most_common()]
    if result.left:
        lines.append(f"{sum(result.left.values())} left to Moodle:")
        lines += [
            f"  {count:6d}  {reasons.meaning(code)} [{code}]" for code, count in result.left.most_common()
        ]
    if result.errors:
        lines.append(f"{result.errors} rows could not be handled; they are listed under Row errors.")
    lines.append(f"{result.seconds:.2f} s")
    return "\n".join(lines)
