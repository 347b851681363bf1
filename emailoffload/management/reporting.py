"""How commands report: a sentence for people, JSON for scripts, the exit status for both."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError, OperationalError, connection

from emailoffload.outbox.models import Lease


class ReportingCommand(BaseCommand):
    """A command with `--json`. Exit status 0 = fine, 1 = a finding or failure, 2 = wrong usage."""

    requires_system_checks: list[str] = []
    needs_our_database = False
    """Whether the command is refused, with the cause and the cure, while our own database is not usable."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command, or say why our own database does not let it."""
        problem = our_database() if self.needs_our_database else None
        if problem:
            what, cure = problem
            self.stdout = options.get("stdout") or self.stdout
            self.report(
                {"refused": what, "cure": cure}, refusal(what, cure), as_json=options["json"], ok=False
            )
        return super().execute(*args, **options)

    def add_arguments(self, parser: CommandParser) -> None:
        """Add `--json`."""
        parser.add_argument("--json", action="store_true", help="print the result as one JSON object")

    def report(self, result: dict[str, Any], text: str, *, as_json: bool, ok: bool = True) -> None:
        """Print the result and end with status 1 unless it is fine."""
        self.stdout.write(json.dumps(result, ensure_ascii=False, default=str) if as_json else text)
        if not ok:
            sys.exit(1)


def our_database() -> tuple[str, str] | None:
    """What keeps our own database from being used, and the cure; None when all is well."""
    try:
        connection.ensure_connection()
    except OperationalError as error:
        code = error.args[0] if error.args and isinstance(error.args[0], int) else "no answer"
        return (
            f"Our own database cannot be reached ({code}).",
            "Check DATABASE_URL: host, port, account and password, and whether the server runs.",
        )
    try:
        Lease.objects.exists()
    except DatabaseError:
        return "Our own database does not have our tables.", "Run: manage.py migrate"
    return None


def refusal(what: str, cure: str) -> str:
    """What is wrong and how to cure it, for people."""
    return f"{what}\nCure: {cure}" if cure else what
