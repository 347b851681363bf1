"""`manage.py intercept`: one pass that claims due and soon due mail."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from emailoffload.management.reporting import ReportingCommand, refusal
from emailoffload.sources import reasons, registry
from emailoffload.worker import intercept, intercept_result, stopping


class Command(ReportingCommand):
    """Claim due and soon due mail: one pass."""

    needs_our_database = True
    help = "Find mail that is due or soon due, render and claim it. One pass; prints counts by reason."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        super().add_arguments(parser)
        parser.add_argument(
            "--source", choices=registry.NAMES, help="only this source; without it every source of the site"
        )
        parser.add_argument("--shadow", action="store_true", help="decide and render, claim nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the pass, or one for each source."""
        shadow = options["shadow"]
        with stopping.on_signals():
            if options["source"]:
                result = intercept.run(source=options["source"], shadow=shadow)
                refused = bool(result.refused)
                report, text = result.as_dict(), _text(result)
            else:
                results = {
                    name: intercept.run(source=name, shadow=shadow) for name in intercept.sources_here()
                }
                refused = any(result.refused for result in results.values())
                report = intercept_result.merged(results)
                text = "\n".join(f"{name}: {_text(result)}" for name, result in results.items())
        self.report(report, text, as_json=options["json"], ok=not refused)


def _text(result: intercept_result.InterceptResult) -> str:
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
