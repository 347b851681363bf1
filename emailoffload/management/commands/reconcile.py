"""`manage.py reconcile`: compare our claims of the last days with Moodle's rows."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from emailoffload.management.reporting import ReportingCommand, refusal
from emailoffload.worker import reconcile, reconcile_findings, stopping
from emailoffload.worker import reconcile_words as words

MOST_DAYS = 366


class Command(ReportingCommand):
    """One whole comparison, and what is open after it."""

    needs_our_database = True
    help = "Compare our claims of the last days with Moodle's rows: agreement, possible doubles and losses."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        super().add_arguments(parser)
        parser.add_argument("--days", type=int, help="how many days back; without it RECONCILE_DAYS")

    def handle(self, *args: Any, **options: Any) -> None:
        """Compare, and report; exit status 1 where a finding asks for a person."""
        days = options["days"]
        if days is not None and not 1 <= days <= MOST_DAYS:
            raise CommandError(f"--days must be from 1 to {MOST_DAYS}.", returncode=2)
        with stopping.on_signals():
            result = reconcile.run(days, whole=True)
        still_open = reconcile_findings.open_counts()
        people = sum(number for verdict, number in still_open.items() if verdict in words.NEEDS_PERSON)
        self.report(
            {**result.as_dict(), "open": still_open, "needs_person": people},
            _text(result, people),
            as_json=options["json"],
            ok=not (people or result.refused or not (result.complete or result.busy)),
        )


def _text(result: reconcile.ReconcileResult, people: int) -> str:
    if result.refused:
        return refusal(f"Nothing was compared. {result.refused}", result.cure)
    if result.busy:
        head = ["Another reconciliation is at work; nothing was compared."]
    else:
        head = [f"{result.claims} claims of the last {result.days} days compared with Moodle's rows."]
        head += [
            f"  {result.counts[verdict]:6d}  {name}"
            for verdict, (name, _tone) in words.VERDICTS.items()
            if result.counts[verdict]
        ]
        head.append(_evidence(result.evidence))
        if not result.complete:
            head.append("It was stopped before its end.")
    head.append(
        f"Open findings that ask for a person: {people}. The page Reconciliation lists them."
        if people
        else "No open finding asks for a person."
    )
    return "\n".join(head)


def _evidence(readable: dict[str, bool]) -> str:
    names = {"notifications": "Moodle's notifications", "task_log": "the log of its tasks"}
    had = [name for key, name in names.items() if readable.get(key)]
    lacked = [name for key, name in names.items() if not readable.get(key)]
    parts = ["Evidence: Moodle's rows" + "".join(f", {name}" for name in had) + "."]
    if lacked:
        parts.append(
            f"Not readable: {' and '.join(lacked)}; `manage.py moodlegrants --evidence` prints what is missing."
        )
    return " ".join(parts)
