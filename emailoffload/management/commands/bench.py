"""`manage.py bench`: measure the figures of the README on this machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from emailoffload.management.reporting import ReportingCommand
from emailoffload.sandbox.bench import figures
from emailoffload.sandbox.bench.stage import Stage, stage

NAMES = ("claims", "scan", "throughput", "queue", "feedback", "lateness")
QUEUE_ROWS = 2000
EVENTS = 10_000


class Command(ReportingCommand):
    """Measure claims, an empty pass, throughput beside a peer, IOMAD's queue, SES's events, and lateness."""

    help = "Measure the figures of the README on this machine, with a MariaDB and an SES of its own."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        super().add_arguments(parser)
        parser.add_argument("what", nargs="*", metavar="|".join(NAMES), help="default: all")
        parser.add_argument(
            "--mails", type=int, default=5000, help="mails of the throughput run (at most 5,000)"
        )
        parser.add_argument("--latency-ms", type=int, default=50, help="latency of the sandbox SES")
        parser.add_argument(
            "--emails", type=int, default=1_000_000, help="emails in the database while events arrive"
        )
        parser.add_argument("--queue-ms", type=int, default=10, help="latency of the event queue")
        parser.add_argument("--rounds", type=int, default=3, help="rounds; medians are shown")
        parser.add_argument("--no-peer", action="store_true", help="leave django-post_office out")

    def handle(self, *args: Any, **options: Any) -> None:
        """Measure."""
        wanted = options["what"] or list(NAMES)
        if unknown := set(wanted) - set(NAMES):
            self.stderr.write(f"Unknown: {', '.join(sorted(unknown))}. There are: {', '.join(NAMES)}.")
            raise SystemExit(2)
        mails, rounds = min(options["mails"], 5000), options["rounds"]
        jobs: dict[str, Callable[[Stage], figures.Figures]] = {
            "claims": lambda made: figures.claims(made, rows=100_000, rounds=rounds),
            "scan": lambda made: figures.scan(made, rows=1_000_000, rounds=max(5, rounds)),
            "throughput": lambda made: figures.throughput(
                made,
                mails=mails,
                latency_ms=options["latency_ms"],
                rounds=rounds,
                peer=not options["no_peer"],
            ),
            "queue": lambda made: figures.queue(
                made, mails=QUEUE_ROWS, latency_ms=options["latency_ms"], rounds=rounds
            ),
            "feedback": lambda made: figures.feedback(
                made, mails=options["emails"], count=EVENTS, latency_ms=options["queue_ms"], rounds=rounds
            ),
            "lateness": lambda made: figures.lateness(made, mails=300, latency_ms=options["latency_ms"]),
        }
        machine = _machine()
        found: dict[str, Any] = {"machine": machine}
        say = self.stderr.write if options["json"] else self.stdout.write
        say(machine)
        with stage() as made:
            for name in wanted:
                figure = jobs[name](made)
                found[name] = figure.values
                say(f"{name}:")
                for line in figure.lines:
                    say(f"  {line}")
        if options["json"]:
            self.report(found, "", as_json=True)


def _machine() -> str:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        cpu = names[0] if names else cpu
    return f"{os.cpu_count()} cores ({cpu}), Python {platform.python_version()}, {platform.system()}"
