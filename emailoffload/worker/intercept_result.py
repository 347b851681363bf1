"""What passes of the interceptor report: one source's counts, and those of several together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from emailoffload.sources.protocol import Decision


@dataclass
class InterceptResult:
    """What one pass saw and did."""

    seen: int = 0
    claimed: int = 0
    lost: int = 0
    mails: int = 0
    errors: int = 0
    seconds: float = 0.0
    left: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    """Why rows were claimed: code → count."""
    highest_id: int = 0
    """The largest id of a row that was seen: a quick pass need not look at these again."""
    shadow: bool = False
    busy: bool = False
    unrecorded: str = ""
    """Why what was left could not be put on record; the claims are made all the same."""
    refused: str = ""
    cure: str = ""

    def count_claimed(self, decisions: Iterable[Decision], won: Collection[int]) -> None:
        """Count those of the decisions whose rows were won."""
        for decision in decisions:
            if decision.row_id in won and decision.candidate is not None:
                self.claimed += 1
                self.mails += len(decision.candidate.mails)
                self.reasons[decision.reason] += 1

    def add(self, other: InterceptResult) -> None:
        """Add another's counts."""
        for name in ("seen", "claimed", "lost", "mails", "errors", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.left.update(other.left)
        self.reasons.update(other.reasons)

    def as_dict(self) -> dict[str, Any]:
        """The counts under stable keys, for `--json`, the run's record and django-q's result."""
        return {
            "seen": self.seen,
            "claimed": self.claimed,
            "lost": self.lost,
            "left": dict(self.left),
            "errors": self.errors,
            "seconds": round(self.seconds, 3),
            "mails": self.mails,
            "claimed_by_reason": dict(self.reasons),
            "shadow": self.shadow,
            "busy": self.busy,
            "refused": self.refused,
            "cure": self.cure,
        }


def merged(results: Mapping[str, InterceptResult]) -> dict[str, Any]:
    """Passes over several sources, by name, as one report: the same keys, and each source's own under "sources".

    `busy` says that nothing at all was done; `refused` names the sources that could not be worked on.
    """
    total = InterceptResult()
    for result in results.values():
        total.add(result)
    total.shadow = any(result.shadow for result in results.values())
    total.busy = all(result.busy for result in results.values())
    refused = {name: result for name, result in results.items() if result.refused}
    several = len(results) > 1
    total.refused = " ".join(f"{name}: {r.refused}" if several else r.refused for name, r in refused.items())
    total.cure = " ".join(dict.fromkeys(result.cure for result in refused.values() if result.cure))
    return {**total.as_dict(), "sources": {name: result.as_dict() for name, result in results.items()}}
