"""`manage.py doctor`: looks at everything that the product depends on."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.core.management.base import CommandParser

from emailoffload.actions import doctor
from emailoffload.actions.diagnosis import simulator
from emailoffload.actions.diagnosis.finding import NOT_TAKEN, Finding
from emailoffload.management.reporting import ReportingCommand

_MARKS = {"ok": "ok      ", "warning": "WARNING ", "problem": "PROBLEM ", "unknown": "unknown "}


class Command(ReportingCommand):
    """Print a verdict and a cure for each thing; exit 1 when one needs a person."""

    help = "Look at databases, privileges, plugin, cron lock, clocks, SES and worker; say what cures what."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        super().add_arguments(parser)
        parser.add_argument(
            "--send-test",
            action="store_true",
            help="send mails to SES's mailbox simulator and wait for their events",
        )
        parser.add_argument(
            "--wait",
            type=int,
            default=simulator.WAIT_SECONDS,
            help="how many seconds to wait for the events of the test mails",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Examine and report. A person sees each finding as soon as it is made."""
        findings: list[Finding] = []
        for finding in doctor.run(send_test=options["send_test"], wait=options["wait"]):
            findings.append(finding)
            if not options["json"] and finding.text != str(NOT_TAKEN):
                self.stdout.write(_lines(finding))
                self.stdout.flush()
        counts: Counter[str] = Counter(finding.verdict for finding in findings)
        fine = doctor.is_fine(findings)
        result = {
            "fine": fine,
            "counts": {verdict: counts[verdict] for verdict in ("ok", "warning", "problem", "unknown")},
            "findings": [finding.as_dict() for finding in findings],
        }
        self.report(result, _summary(counts, findings, fine), as_json=options["json"], ok=fine)


def _lines(finding: Finding) -> str:
    text = f"{_MARKS[finding.verdict]} {finding.title}: {finding.text}"
    return f"{text}\n         Cure: {finding.cure}" if finding.cure else text


def _summary(counts: Counter[str], findings: list[Finding], fine: bool) -> str:
    if fine:
        return "\nEverything is fine."
    skipped = [finding.title for finding in findings if finding.text == str(NOT_TAKEN)]
    text = f"\nProblems: {counts['problem']}, warnings: {counts['warning']}."
    return text + (f" Not looked at because of them: {', '.join(skipped)}." if skipped else "")
