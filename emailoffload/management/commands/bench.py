"""`manage.py bench`: measure the figures of the README on this machine, and soak the product in trouble."""

from __future__ import annotations

import os
import platform
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from emailoffload.management.reporting import ReportingCommand
from emailoffload.sandbox.bench import figures, pages_report, seeded
from emailoffload.sandbox.bench.stage import Stage, stage
from emailoffload.sandbox.soak import soak
from emailoffload.sandbox.soak.plan import Plan

NAMES = ("claims", "scan", "throughput", "queue", "feedback", "lateness", "soak")
SEEDED = ("seed", "pages")
"""What works with a database of a large site, which is not that of the other benchmarks."""
QUEUE_ROWS = 2000
EVENTS = 10_000
THROUGHPUT_MAILS, SOAK_MAILS = 5000, 10_000


class Command(ReportingCommand):
    """Measure claims, an empty pass, throughput beside a peer, IOMAD's queue, SES's events, lateness; then soak."""

    help = (
        "Measure the figures of the README on this machine, with a MariaDB and an SES of its own. `soak` measures"
        " nothing: it kills and disturbs for minutes, then counts who mailed what. `seed` fills a database with the"
        " records of a large site, and `pages` measures every page of the dashboard upon it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        super().add_arguments(parser)
        parser.add_argument(
            "what", nargs="*", metavar="|".join(NAMES + SEEDED), help=f"default: {' '.join(NAMES)}"
        )
        parser.add_argument(
            "--mails",
            type=int,
            help=f"mails of the throughput run (default and at most {THROUGHPUT_MAILS:,}), or of the soak"
            f" (default {SOAK_MAILS:,}, at most that)",
        )
        parser.add_argument("--latency-ms", type=int, default=50, help="latency of the sandbox SES")
        parser.add_argument(
            "--emails",
            type=int,
            default=1_000_000,
            help="emails in the database while events arrive, or that `seed` makes",
        )
        parser.add_argument("--queue-ms", type=int, default=10, help="latency of the event queue")
        parser.add_argument("--rounds", type=int, default=3, help="rounds; medians are shown")
        parser.add_argument("--no-peer", action="store_true", help="leave django-post_office out")
        parser.add_argument(
            "--workers", type=int, default=4, help="workers of the soak; the first is a qcluster"
        )
        parser.add_argument("--minutes", type=float, default=5.0, help="how long the soak has trouble")
        parser.add_argument(
            "--seed", type=int, help="all chance in the soak (without it, a new one) and in `seed` (then 1)"
        )
        parser.add_argument(
            "--keep", metavar="DIR", help="seed, pages: a private MariaDB whose data stay in this folder"
        )
        parser.add_argument(
            "--database",
            metavar="URL",
            help="seed, pages: a MariaDB database that is empty, or was made by `seed`",
        )
        parser.add_argument(
            "--hold", action="store_true", help="seed: keep the private server running until Ctrl+C"
        )
        parser.add_argument("--runs", type=int, default=20, help="how often `pages` asks for each page")
        parser.add_argument(
            "--only", default="", metavar="TEXT", help="pages: only those with this in their name"
        )
        parser.add_argument(
            "--plans", action="store_true", help="pages: show the slowest queries with their plans"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Measure."""
        wanted = options["what"] or list(NAMES)
        if unknown := set(wanted) - set(NAMES + SEEDED):
            self.stderr.write(
                f"Unknown: {', '.join(sorted(unknown))}. There are: {', '.join(NAMES + SEEDED)}."
            )
            raise SystemExit(2)
        if set(wanted) & set(SEEDED):
            self._seeded(wanted, options)
            return
        mails = min(options["mails"] or THROUGHPUT_MAILS, THROUGHPUT_MAILS)
        rounds = options["rounds"]
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
            "soak": lambda made: _soak(made, options, self.stderr.write),
        }
        machine = _machine()
        found: dict[str, Any] = {"machine": machine}
        fine = True
        say = self.stderr.write if options["json"] else self.stdout.write
        say(machine)
        with stage() as made:
            for name in wanted:
                figure = jobs[name](made)
                found[name] = figure.values
                fine = fine and figure.fine
                say(f"{name}:")
                for line in figure.lines:
                    say(f"  {line}")
        if options["json"]:
            self.report(found, "", as_json=True, ok=fine)
        elif not fine:
            raise SystemExit(1)

    def _seeded(self, wanted: list[str], options: dict[str, Any]) -> None:
        """Fill a database, or measure the pages upon one; `pages` fills its own where none is named."""
        if set(wanted) - set(SEEDED):
            self.stderr.write("seed and pages work with a database of their own: run them by themselves.")
            raise SystemExit(2)
        own = not (options["keep"] or options["database"])
        if own and "pages" not in wanted:
            self.stderr.write("Say where the data shall stay: --keep DIR or --database URL.")
            raise SystemExit(2)
        say = self.stderr.write if options["json"] else self.stdout.write
        found: dict[str, Any] = {"machine": _machine()}
        fine = True
        say(found["machine"])
        try:
            with seeded.place(database=options["database"], keep=options["keep"]) as place:
                if own or "seed" in wanted:
                    found["seed"] = place.seed(options["emails"], options["seed"] or 1)
                    say(pages_report.seeding(found["seed"]))
                if options["hold"] and place.server:
                    say("\n".join(f"{name}={place.env[name]!r}" for name in seeded.SHOWN))
                    say("The server runs until Ctrl+C. Use it with these settings in another terminal.")
                    with suppress(KeyboardInterrupt):
                        place.server.wait()
                if "pages" in wanted:
                    found["pages"] = place.run("pages", max(1, options["runs"]), options["only"])
                    fine = pages_report.fine(found["pages"])
                    for line in pages_report.lines(found["pages"], plans=options["plans"]):
                        say(line)
        except seeded.Refused as why:
            self.report({"refused": str(why)}, str(why), as_json=options["json"], ok=False)
        if options["json"]:
            self.report(found, "", as_json=True, ok=fine)
        elif not fine:
            raise SystemExit(1)


def _soak(made: Stage, options: dict[str, Any], say: Callable[[str], object]) -> figures.Figures:
    plan = Plan(
        seed=secrets.randbelow(10**6) if options["seed"] is None else options["seed"],
        mails=min(options["mails"] or SOAK_MAILS, SOAK_MAILS),
        workers=max(1, options["workers"]),
        seconds=options["minutes"] * 60,
    )
    result = soak.run(made, plan, say)
    return figures.Figures("soak", result.as_dict(), result.lines(), result.fine)


def _machine() -> str:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        cpu = names[0] if names else cpu
    return f"{os.cpu_count()} cores ({cpu}), Python {platform.python_version()}, {platform.system()}"
