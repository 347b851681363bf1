"""The doctor: looks at everything that the product depends on, says how each thing is and what cures it.

It changes nothing: the row that it writes to our database is rolled back, and the cron lock that it takes is
given back at once. Mails leave only where that is asked for, and only to SES's own simulator.
"""

from __future__ import annotations

from collections.abc import Iterator

from emailoffload.actions.diagnosis import (
    amazon,
    background,
    events,
    mail_server,
    moodle,
    ours,
    outbox,
    queue,
    reputation,
    rules,
    simulator,
    suppressions,
)
from emailoffload.actions.diagnosis.finding import Finding, examine

LOOKS = [
    *ours.LOOKS, *moodle.LOOKS, *queue.LOOKS, *rules.LOOKS, *amazon.LOOKS, *events.LOOKS, *suppressions.LOOKS,
    *mail_server.LOOKS, *background.LOOKS, *outbox.LOOKS, *reputation.LOOKS,
]  # fmt: skip


def run(*, send_test: bool = False, wait: float = simulator.WAIT_SECONDS) -> Iterator[Finding]:
    """Look at everything, in an order in which causes come before effects.

    Ids are stable: scripts may rely on them. With `send_test` mails go to SES's simulator at the end, and their
    events are waited for, up to `wait` seconds; without it nothing is sent, and nothing is raised.
    """
    yield from examine(LOOKS)
    if send_test:
        yield from simulator.send_and_watch(wait)


def is_fine(findings: list[Finding]) -> bool:
    """True where nothing needs a person: no problem, no warning. What could not be seen is no finding."""
    return not any(finding.verdict in {"problem", "warning"} for finding in findings)
