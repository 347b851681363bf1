"""`manage.py retention`: one pass that lets go of what was kept for long enough, or what the ladder is."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from emailoffload.management.reporting import ReportingCommand, refusal
from emailoffload.outbox import retention as ladder
from emailoffload.worker import stopping
from emailoffload.worker.privacy import retention


class Command(ReportingCommand):
    """Let go of what was kept for long enough."""

    needs_our_database = True
    help = (
        "Let go of what was kept for longer than RETAIN_…_DAYS say, for some seconds. The worker does this every ten "
        "minutes."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        super().add_arguments(parser)
        what = parser.add_mutually_exclusive_group()
        what.add_argument(
            "--until-done",
            action="store_true",
            help="go on until nothing is left that is older than its time",
        )
        what.add_argument("--show", action="store_true", help="change nothing: say what is kept for how long")

    def handle(self, *args: Any, **options: Any) -> None:
        """Pass, or show."""
        if options["show"]:
            self._show(options["json"])
            return
        with stopping.on_signals():
            result = retention.run()
            total = dict(result.counts)
            while options["until_done"] and result.more and not stopping.requested():
                result = retention.run()
                for name, number in result.counts.items():
                    total[name] = total.get(name, 0) + number
        lines = [f"{name.replace('_', ' ')}: {number}" for name, number in total.items() if number]
        text = "\n".join(lines) or "Nothing was older than its time."
        if result.busy:
            text = "Another pass is at work; nothing was done."
        elif result.refused:
            text = refusal(result.refused, result.cure)
        elif result.more:
            text += "\nThere is more; the next pass goes on."
        ok = not result.refused and not (options["until_done"] and (result.busy or result.more))
        self.report({**result.as_dict(), **total}, text, as_json=options["json"], ok=ok)

    def _show(self, as_json: bool) -> None:
        wrong = ladder.contradictions()
        kept = {ladder.setting(step): ladder.days(step) for step in ladder.STEPS}
        lines = [f"{name}: {f'{days} days' if days else 'for good'}" for name, days in kept.items()]
        kept["RETAIN_DELETED_USER_DAYS"] = followed = settings.RETAIN_DELETED_USER_DAYS
        deleted = (
            f"{followed} days after Moodle has deleted them" if followed else "deleted users are not followed"
        )
        lines.append(f"RETAIN_DELETED_USER_DAYS: {deleted}")
        lines += [refusal(what, cure) for what, cure in wrong]
        result = {"days": kept, "contradictions": [{"what": what, "cure": cure} for what, cure in wrong]}
        self.report(result, "\n".join(lines), as_json=as_json, ok=not wrong)
