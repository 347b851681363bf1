"""The doctor: looks at everything that the product depends on, says how each thing is and what cures it.

It changes nothing: the row that it writes to our database is rolled back, and the cron lock that it takes is
given back at once.
"""

from __future__ import annotations

from collections.abc import Iterator

from emailoffload.actions.diagnosis import (
    amazon,
    background,
    mail_server,
    moodle,
    ours,
    outbox,
    queue,
    rules,
)
from emailoffload.actions.diagnosis.finding import Finding, examine

LOOKS = [
    *ours.LOOKS, *moodle.LOOKS, *queue.LOOKS, *rules.LOOKS, *amazon.LOOKS, *mail_server.LOOKS,
    *background.LOOKS, *outbox.LOOKS,
]  # fmt: skip


def run() -> Iterator[Finding]:
    """Look at everything, in an order in which causes come before effects. Raises nothing.

    Ids are stable: scripts may rely on them.
    """
    return examine(LOOKS)


def is_fine(findings: list[Finding]) -> bool:
    """True where nothing needs a person: no problem, no warning. What could not be seen is no finding."""
    return not any(finding.verdict in {"problem", "warning"} for finding in findings)
