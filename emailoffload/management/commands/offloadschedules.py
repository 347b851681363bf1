"""`manage.py offloadschedules`: make the schedules right."""

from __future__ import annotations

from typing import Any

from emailoffload.management.reporting import ReportingCommand
from emailoffload.worker import schedules


class Command(ReportingCommand):
    """Create, repair and remove our schedules; the worker does the same when it starts."""

    needs_our_database = True
    help = "Create and repair the schedules that the worker runs. The worker does this itself when it starts."

    def handle(self, *args: Any, **options: Any) -> None:
        """Make them right and say what was changed."""
        counts = schedules.ensure()
        result = {name: counts[name] for name in ("created", "repaired", "removed")}
        lines = [f"{cron:12} {func.rpartition('.')[2]}" for func, cron in schedules.wanted().values()]
        lines.append(", ".join(f"{count} {name}" for name, count in result.items()))
        self.report(result, "\n".join(lines), as_json=options["json"])
