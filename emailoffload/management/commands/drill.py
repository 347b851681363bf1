"""`manage.py drill`: rehearse failures on a private stage, and print a report to keep."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from django.core.management.base import CommandError, CommandParser

from emailoffload.management.reporting import ReportingCommand
from emailoffload.sandbox.drill import plan, runner
from emailoffload.sandbox.drill.rehearsals import ALL
from emailoffload.sandbox.drill.report import Report


class Command(ReportingCommand):
    """Rehearse what happens when Amazon SES, Moodle's database or the worker fails. Touches nothing of the site's."""

    help = (
        "Rehearses failures of Amazon SES, of Moodle's database and of the worker beside a sample Moodle, with this "
        "site's choice of fallback, and prints a report. Touches neither your Moodle nor your records nor AWS."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        super().add_arguments(parser)
        parser.add_argument("--list", action="store_true", help="list the rehearsals, and play none")
        parser.add_argument(
            "--only", action="append", metavar="NAME", default=[], help="play only this one (may be repeated)"
        )
        parser.add_argument("--output", type=Path, metavar="FILE", help="write the report to this file, too")

    def handle(self, *args: Any, **options: Any) -> None:
        """Play and report; exit status 1 unless all was as expected."""
        if options["list"]:
            self._list(as_json=options["json"])
            return
        unknown = [name for name in options["only"] if name not in ALL]
        if unknown:
            raise CommandError(
                f"There is no rehearsal {unknown[0]}. There are: {', '.join(ALL)}.", returncode=2
            )
        output: Path | None = options["output"]
        if output and (output.is_dir() or not output.absolute().parent.is_dir()):
            raise CommandError(
                f"{output} cannot be written: name a file in a folder that exists.", returncode=2
            )
        names = [name for name in ALL if not options["only"] or name in options["only"]]
        seconds = 10 + sum(ALL[name].seconds for name in names)
        say = self.stderr.write if options["json"] else self.stdout.write
        say(f"This takes about {seconds} s. Nothing of your site takes part; Ctrl-C ends it.")
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            report = runner.run(plan.of_site(tuple(names)), lambda text: self._progress(say, text))
        except KeyboardInterrupt:
            raise CommandError("Stopped before its end; nothing was left behind.") from None
        if output:
            self._write(output, report, as_json=options["json"])
        text = "\n" + report.text()
        self.report(report.as_dict(), text, as_json=options["json"], ok=report.fine)

    def _list(self, *, as_json: bool) -> None:
        known = {name: str(rehearsal.title) for name, rehearsal in ALL.items()}
        self.report(known, "\n".join(f"{name:<9} {title}" for name, title in known.items()), as_json=as_json)

    def _write(self, output: Path, report: Report, *, as_json: bool) -> None:
        text = json.dumps(report.as_dict(), ensure_ascii=False, indent=2) if as_json else report.text()
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            self.stderr.write(f"The report could not be written to {output}: {error.strerror}.")

    @staticmethod
    def _progress(say: Callable[[str], object], text: str) -> None:
        say(f"{time.strftime('%H:%M:%S')}  {text}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
