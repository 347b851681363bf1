"""What a soak is to be: how much, how long, and which trouble when. All chance in it comes from one seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

KINDS = {
    "kill a worker": 22,
    "kill one process of a worker": 6,
    "freeze a worker": 6,
    "kill Moodle's cron": 5,
    "kill MariaDB": 12,
    "restart MariaDB": 3,
    "cut connections": 7,
    "SES faults": 30,
    "SES away": 4,
    "SMTP faults": 5,
}
"""Kinds of trouble, and how often each comes beside the others."""
LONGEST = {"freeze a worker": 1.6, "SMTP faults": 1.6}
"""What may last longer than a lease, as a multiple of it."""
SES_FAULTS = (
    "throttle", "throttle", "hang_before", "hang_after", "reset_before", "reset_after", "error500",
    "error500_after", "unavailable", "slow", "slow", "garbage", "reject", "bad_request", "pause", "unverified",
)  # fmt: skip
SMTP_FAULTS = ("refuse", "later", "break_before", "break_after", "away")


@dataclass(frozen=True, slots=True)
class Plan:
    """One soak. Times are seconds."""

    seed: int
    mails: int = 10_000
    """Mails owed, about."""
    workers: int = 4
    clusters: int = 1
    """So many of the workers are real `qcluster`s; the others run the same tasks, one after the other."""
    seconds: float = 300.0
    """How long there is trouble."""
    patience: float = 240.0
    """How long everything may take to settle afterwards."""
    every: float = 1.1
    """Something happens every so many seconds, on average."""
    deadline: int = 12
    """SEND_DEADLINE_SECONDS; in life fifteen minutes."""
    lead: int = 25
    """CLAIM_LEAD_SECONDS; in life fifteen minutes."""
    lease: int = 5
    """LEASE_SECONDS; in life a minute."""
    troubled: bool = True
    sabotage: str = ""
    """Dotted name of a function that each worker calls first: for the tests of the ledger."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that happens: when (seconds after the start), what, to whom, for how long."""

    at: float
    kind: str
    victim: float
    """Which of those that it may happen to, as a share of their number."""
    lasts: float
    fault: str = ""
    share: float = 1.0
    """The share of calls that a fault applies to."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.fault}" if self.fault else self.kind


def script(plan: Plan) -> Iterator[Trouble]:
    """All that will happen, in order; the same for the same plan. Each kind comes once before chance decides."""
    if not plan.troubled:
        return
    chance = random.Random(plan.seed)  # noqa: S311 - repeatable, no secret
    each = chance.sample(list(KINDS), len(KINDS))
    at = min(2.0, plan.seconds / 6)
    while at < plan.seconds:
        kind = each.pop() if each else chance.choices(list(KINDS), list(KINDS.values()))[0]
        faults = {"SES faults": SES_FAULTS, "SMTP faults": SMTP_FAULTS}.get(kind)
        longest = plan.lease * LONGEST[kind] if kind in LONGEST else 3.0
        yield Trouble(
            at,
            kind,
            chance.random(),
            chance.uniform(0.3, min(longest, plan.seconds / 4)),
            chance.choice(faults) if faults else "",
            chance.choice((1.0, 0.5, 0.2)),
        )
        at += plan.every * chance.uniform(0.5, 1.0) if each else chance.expovariate(1 / plan.every)
