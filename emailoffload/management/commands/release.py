"""`manage.py release`: hand claims back to Moodle."""

from __future__ import annotations

import getpass
from typing import Any

from django.core.management.base import CommandParser

from emailoffload.actions.release import release
from emailoffload.management.reporting import ReportingCommand, refusal
from emailoffload.moodle.errors import MoodleProblem, check_reachable


class Command(ReportingCommand):
    """Hand claims back to Moodle, where nothing of them has left."""

    needs_our_database = True
    help = "Hand claims back to Moodle by the exact reverse of the claim, where nothing of them has left."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        super().add_arguments(parser)
        parser.add_argument("claim", nargs="+", type=int, help="number of a claim, as the dashboard shows it")
        parser.add_argument("--reason", default="", help="why; kept in the audit log")

    def handle(self, *args: Any, **options: Any) -> None:
        """Hand back."""
        try:
            check_reachable()
        except MoodleProblem as problem:
            self.report(
                {"released": 0, "refused": str(problem), "cure": problem.cure},
                refusal(str(problem), problem.cure),
                as_json=options["json"],
                ok=False,
            )
            return
        outcomes = release(
            options["claim"], actor=f"command line ({getpass.getuser()})", reason=options["reason"]
        )
        done = sum(outcome.released for outcome in outcomes)
        lines = [f"{done} of {len(outcomes)} handed back to Moodle."]
        lines += [f"  claim {o.claim_id}: {o.why_not}" for o in outcomes if not o.released]
        result = {
            "released": done,
            "not_released": {str(o.claim_id): o.why_not for o in outcomes if not o.released},
        }
        self.report(result, "\n".join(lines), as_json=options["json"], ok=done == len(outcomes))
