"""`manage.py alarms`: one pass over alarms."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from emailoffload.feedback.models import Alarm
from emailoffload.management.reporting import ReportingCommand
from emailoffload.worker import alarm_conditions, alarm_telling, alarms


class Command(ReportingCommand):
    """Look at every condition, raise and end alarms, tell people; or send a test message."""

    needs_our_database = True
    help = (
        "Look at what alarms are about, raise and end them, and tell people: what the worker does each minute. Run "
        "it from a timer too, because a worker that is silent cannot say so. Exit status 1 while an alarm is open."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        super().add_arguments(parser)
        parser.add_argument("--test", action="store_true", help="send a test message over each channel")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the pass, or the test."""
        if options["test"]:
            self._test(as_json=options["json"])
            return
        result = alarms.run()
        rows = list(Alarm.objects.filter(ended_at=None).order_by("pk"))
        lines = [
            f"{result.raised} raised, {result.ended} ended, {result.told} told, {result.untold} not told"
        ]
        if result.busy:
            lines = ["Another pass is at work; nothing was done."]
        for row in rows:
            title = alarm_conditions.title(row.code)
            lines.append(f"{row.level}: {title}, since {row.raised_at:%Y-%m-%d %H:%M} UTC\n  {row.text}")
        found = [
            {"code": row.code, "subject": row.subject, "level": row.level, "text": row.text, "cure": row.cure,
             "raised_at": row.raised_at}
            for row in rows
        ]  # fmt: skip
        self.report(
            {**result.as_dict(), "alarms": found}, "\n".join(lines), as_json=options["json"], ok=not rows
        )

    def _test(self, *, as_json: bool) -> None:
        found = alarm_telling.test()
        lines = [f"{name}: {why or 'sent'}" for name, why in found.items()]
        if not found:
            lines = ["Nobody is told of alarms: set ALARM_EMAILS or ALARM_WEBHOOK_URL."]
        self.report(
            {"channels": found}, "\n".join(lines), as_json=as_json, ok=bool(found) and not any(found.values())
        )
