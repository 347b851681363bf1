"""Before planned downtime: stop claiming, hand back what Moodle can still send, send the rest, report."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from emailoffload.actions.release import release
from emailoffload.outbox import switches
from emailoffload.outbox.models import Claim, Email
from emailoffload.outbox.states import OPEN, ClaimState, EmailState
from emailoffload.sources import registry
from emailoffload.worker import dispatch, fallback, lease, stopping


@dataclass
class DrainResult:
    """What a drain did and what is left."""

    released: int = 0
    sent: int = 0
    by_smtp: int = 0
    held: int = 0
    """Mails whose time is over and that no route took: a person decides."""
    waiting: dict[str, int] = field(default_factory=dict)
    """Mails that still wait, by state."""
    not_released: Counter[str] = field(default_factory=Counter)
    """Why claims were not handed back: words → count."""
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """The counts under stable keys."""
        return {
            "released": self.released,
            "sent": self.sent,
            "by_smtp": self.by_smtp,
            "held": self.held,
            "waiting": self.waiting,
            "not_released": dict(self.not_released),
            "seconds": round(self.seconds, 3),
        }


def drain(*, actor: str) -> DrainResult:
    """Pause claiming, hand back every claim of which nothing has left, send what is due, by SMTP what SES leaves.

    Claiming stays paused until `resume`. Mails that are neither handed back nor due wait in the outbox, and
    the result says how many.
    """
    started = time.monotonic()
    result = DrainResult()
    switches.change(claims=True, sends=None, by=actor, reason="drain")
    _wait_for_interceptors()
    for outcome in release(_unsent(), actor=actor, reason="drain"):
        if outcome.released:
            result.released += 1
        else:
            result.not_released[outcome.why_not] += 1
    result.sent = dispatch.run(until_empty=True).sent
    # What is due and could go neither way: by its policy, without waiting for its deadline.
    others = fallback.run(at_once=True).counts
    result.released += others["handed_back"]
    result.by_smtp, result.held = others["smtp"], others["held"]
    states = Email.objects.filter(state__in=OPEN).values_list("state", flat=True)
    result.waiting = dict(Counter(states.iterator()))
    result.seconds = time.monotonic() - started
    return result


def resume(*, actor: str) -> None:
    """Claim again."""
    switches.set_pause(switches.Pause(by=actor))


def _wait_for_interceptors() -> None:
    """Let a pass that is at work see the pause, which it does before its next batch; a dead one's lease ends."""
    names = [f"intercept-{source}" for source in registry.NAMES]
    deadline = time.monotonic() + settings.LEASE_SECONDS
    while lease.running(names) and time.monotonic() < deadline and not stopping.requested():
        stopping.wait(0.2)


def _unsent() -> list[int]:
    """Claims whose mails all wait, the soonest due last so that the rest is safe first."""
    return list(
        Claim.objects.filter(state=ClaimState.CLAIMED, emails__state=EmailState.QUEUED)
        .order_by("-due_at")
        .values_list("pk", flat=True)
        .distinct()
    )
