"""`manage.py fidelity`: what we would send for the rows that are due, compared with mails that Moodle sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from emailoffload.actions.fidelity import mails, run
from emailoffload.management.reporting import ReportingCommand
from emailoffload.sources import reasons

LIMIT = 10_000
SHOWN = 50
"""Mails of each kind that are printed; --json has all."""


class Command(ReportingCommand):
    """Render, compare, print each difference. Claims nothing, sends nothing, writes nothing."""

    needs_our_database = True
    help = "Render due rows and, with --mails, print each difference from mails that Moodle sent. Changes nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        super().add_arguments(parser)
        parser.add_argument(
            "--limit", type=int, default=LIMIT, help=f"rows of each source at most (default: {LIMIT})"
        )
        parser.add_argument(
            "--mails", metavar="DIR", help="folder of mails that Moodle sent: files *.eml, mailboxes *.mbox"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Exit status 0: all equal; 1: differences, or nothing could be compared; 2: wrong usage."""
        if options["limit"] < 1:
            raise CommandError("--limit must be 1 or more.", returncode=2)
        moodles = None
        if options["mails"]:
            try:
                moodles = mails.read_folder(Path(options["mails"]).expanduser())
            except mails.NoMails as error:
                raise CommandError(f"--mails: {error}", returncode=2) from error
        report = run.run(moodles, options["limit"])
        self.report(report.as_dict(), _text(report), as_json=options["json"], ok=report.fine)


def _text(report: run.Report) -> str:
    lines = [
        f"{problem['source']}: {problem['text']}\n  Cure: {problem['cure']}" for problem in report.refused
    ]
    lines.append(f"{report.rows} due rows, {report.rendered} rendered; nothing was claimed, sent or written.")
    if report.cut:
        lines.append("There are more rows than that: --limit looks at more.")
    lines += [
        f"  {count:6d}  would stay with Moodle: {reasons.meaning(code)} [{code}]"
        for code, count in report.left.most_common()
    ]
    if report.mails:
        lines += _comparison(report)
    else:
        lines.append(
            "Nothing was compared: --mails names a folder of mails that Moodle sent (docs/rendering.md)."
        )
    return "\n".join(lines)


def _comparison(report: run.Report) -> list[str]:
    lines = [""]
    for found in report.different[:SHOWN]:
        lines.append(f"DIFFERENT  {_about(found)}, {found['file']}")
        for part in found["parts"]:
            lines += [f"  {part['part']}", *_marked("Moodle", part["moodle"]), *_marked("ours", part["ours"])]
    for found in report.missing[:SHOWN]:
        lines.append(f"NOT SENT BY MOODLE  {_about(found)}, due {found['due']}")
    for found in report.deliberate[:SHOWN]:
        why = "; ".join(f"({number}) {text}" for number, text in found["reasons"].items())
        lines.append(f"deliberate  {_about(found)}: {why}")
    for mail in report.others[:SHOWN]:
        lines.append(
            f"not compared  {mail['file']} to {mail['recipient']}: no row that is due now belongs to it"
        )
    hidden = [
        f"{len(items) - SHOWN} more {name}"
        for name, items in (
            ("different", report.different), ("not sent by Moodle", report.missing),
            ("deliberate", report.deliberate), ("not compared", report.others),
        )
        if len(items) > SHOWN
    ]  # fmt: skip
    if hidden:
        lines.append(f"… and {', '.join(hidden)}: --json has all.")
    lines.append(
        f"\n{report.mails} mails in the folder: {report.compared} compared, {report.equal} equal, "
        f"{len(report.different)} different; {len(report.missing)} of ours are not there, "
        f"{report.later} were due later, {len(report.others)} belong to no row."
    )
    if report.deliberate:
        lines.append(
            f"{len(report.deliberate)} differ on purpose from what Moodle sends (docs/rendering.md, Deliberate "
            "differences); RENDER_PARITY=strict switches that off."
        )
    if not report.compared:
        lines.append("Nothing could be compared: are these the mails of the rows in MOODLE_DATABASE_URL?")
    return lines


def _about(found: dict[str, Any]) -> str:
    what = f", {found['template']}" if found["template"] else ""
    return f"{found['source']} row {found['row']}{what} to {found['recipient']}"


def _marked(who: str, text: str) -> list[str]:
    return [f"    {who:<7}| {line}" for line in text.split("\n")]
