"""`manage.py coverage`: what of the site's mail is ours, what is not, and why."""

from __future__ import annotations

from typing import Any

from emailoffload.dashboard.coverage_lines import Line, lines, summaries
from emailoffload.management.reporting import ReportingCommand, refusal
from emailoffload.policy.routing import RoutingRules
from emailoffload.worker import coverage, stopping


class Command(ReportingCommand):
    """Count now, and say what the page *Coverage* says."""

    needs_our_database = True
    help = (
        "Count what of the site's mail can be claimed, by activity and kind of IOMAD mail, with the reason and the "
        "cure. Needs no worker and changes nothing but the count that the page Coverage shows."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Count and report; exit status 1 only where nothing could be counted."""
        with stopping.on_signals():
            result = coverage.run()
        known = coverage.known()
        every = lines(known.counted, RoutingRules.load())
        found = summaries(known.counted, every)
        report = {
            **result.as_dict(),
            "counted_at": known.at,
            "problems": {name: problem for name, problem in known.counted.sources.items() if problem},
            "summary": [
                {
                    "source": each.source, "total": each.total, "offloaded": each.ours, "partly": each.partly,
                    "week": each.week, "week_ours": each.week_ours,
                }
                for each in found
            ],
            "items": [_as_dict(line) for line in every],
        }  # fmt: skip
        parts = []
        if result.refused:
            parts.append(refusal(f"Nothing was counted. {result.refused}", result.cure))
        elif result.busy:
            parts.append("Another count is at work.")
        if known.at:
            parts.append(f"Counted at {known.at:%Y-%m-%d %H:%M} UTC.")
            parts += [f"{each.sentence} {each.volume}" for each in found]
            parts += [_text(line) for line in every if line.reason]
        self.report(report, "\n".join(parts), as_json=options["json"], ok=not result.refused)


def _as_dict(line: Line) -> dict[str, Any]:
    item = line.item
    return {
        "source": item.source, "activity": item.activity_id, "template": item.template, "name": item.name,
        "course": item.course_id, "course_name": item.course_name, "verdict": line.verdict,
        "reason": line.problem.get("code") or item.reason, "why": line.reason, "steps": line.steps,
        "waiting": item.waiting, "day": item.day, "week": item.week, "week_ours": line.ours, "sent": item.sent,
        "left": dict(item.left), "rule": line.general.name if line.general else "",
        "mode": line.general.mode if line.general else "on",
        "percentage": line.general.percentage if line.general else 100,
    }  # fmt: skip


def _text(line: Line) -> str:
    item = line.item
    what = f"template {item.template}" if line.queue else f"activity {item.activity_id}, {item.name}"
    said = [f"{line.badge[0]}: {what} ({item.week} in 7 days). {line.reason}"]
    said += [f"    {number}. {step}" for number, step in enumerate(line.steps, 1)]
    return "\n".join(said)
