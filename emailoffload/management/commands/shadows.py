"""`manage.py shadows`: what Moodle did to the rows of which we only recorded what we would have sent."""

from __future__ import annotations

from typing import Any

from django.db.models import Count

from emailoffload.management.reporting import ReportingCommand
from emailoffload.outbox.models import Shadow
from emailoffload.worker import shadow

WORDS = {
    shadow.SENT: "sent by Moodle, as foreseen",
    shadow.WAITING: "not due yet, or not compared yet",
    shadow.UNTOUCHED: "untouched: we would have sent, Moodle did not",
    shadow.GONE: "row gone",
    shadow.CHANGED: "row changed by something else",
}


class Command(ReportingCommand):
    """Print how many shadows there are by verdict and by what was seen; exit 1 while Moodle left one untouched."""

    needs_our_database = True
    help = "How shadow mode compares: rows that we would have mailed, by what Moodle did to them."

    def handle(self, *args: Any, **options: Any) -> None:
        """Count and report: one query over all that is kept, two weeks of it."""
        counts = Shadow.objects.order_by().values_list("verdict", "detail").annotate(number=Count("pk"))
        found = {(verdict, detail): number for verdict, detail, number in counts}
        rows: dict[str, dict[str, int]] = {}
        for (verdict, detail), number in sorted(found.items(), key=lambda item: -item[1]):
            rows.setdefault(verdict, {})[detail] = number
        untouched = sum(rows.get(shadow.UNTOUCHED, {}).values())
        result = {verdict: {"count": sum(of.values()), "seen": of} for verdict, of in rows.items()}
        self.report(result, _text(rows), as_json=options["json"], ok=not untouched)


def _text(rows: dict[str, dict[str, int]]) -> str:
    if not rows:
        return (
            "No shadows yet. They are recorded by the worker where a routing rule says shadow, some minutes before "
            "mails are due."
        )
    lines = []
    for verdict, word in WORDS.items():
        if verdict in rows:
            lines.append(f"{sum(rows[verdict].values()):8d}  {word}")
            lines += [
                f"          {number:8d}  {shadow.MEANINGS[detail]}"
                for detail, number in rows[verdict].items()
                if detail in shadow.MEANINGS
            ]
    return "\n".join(lines)
