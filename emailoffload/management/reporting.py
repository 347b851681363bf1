"""How commands report: a sentence for people, JSON for scripts, the exit status for both."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser


class ReportingCommand(BaseCommand):
    """A command with `--json`. Exit status 0 = fine, 1 = a finding or failure, 2 = wrong usage."""

    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Add `--json`."""
        parser.add_argument("--json", action="store_true", help="print the result as one JSON object")

    def report(self, result: dict[str, Any], text: str, *, as_json: bool, ok: bool = True) -> None:
        """Print the result and end with status 1 unless it is fine."""
        self.stdout.write(json.dumps(result, ensure_ascii=False, default=str) if as_json else text)
        if not ok:
            sys.exit(1)


def refusal(what: str, cure: str) -> str:
    """What is wrong and how to cure it, for people."""
    return f"{what}\nCure: {cure}" if cure else what
