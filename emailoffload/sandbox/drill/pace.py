"""How long things take during a rehearsal; known before Django is set up."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

ENVIRONMENT = "OFFLOAD_DRILL"
"""The environment variable with the pace; its presence marks a process of a rehearsal."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What takes how long during a rehearsal, in seconds."""

    ahead: float = 7.0
    """So long before they are due mails come to be owed: time enough to be claimed."""
    patience: float = 20.0
    """How much later than foreseen something may happen."""
    deadline: int = 6
    lead: int = 40
    margin: int = 2
    cron: int = 30
    lease: int = 5
    answer: float = 1.0
    """How long SES's answer is waited for."""
    breaker: float = 9.0
    """How long the breaker stays open."""
    start: float = 60.0
    """How long the worker may take until its first pass has ended."""
    passes: float = 1.0
    """Between two passes of recovery, and of the interceptor."""

    slowness: float = 1.0
    """How many times slower than usual all this is, because the machine is."""

    def slower(self, factor: float) -> Pace:
        """The same on a machine that needs `factor` times longer than usual: one to four times slower."""
        factor = round(min(4.0, max(1.0, factor)), 1)
        return replace(
            self,
            deadline=round(self.deadline * factor),
            lead=round(self.lead * factor),
            breaker=self.breaker * factor,
            answer=self.answer * factor,
            slowness=factor,
        )

    @classmethod
    def from_json(cls, text: str) -> Pace:
        """Read what `json` of another process wrote."""
        return cls(**json.loads(text))

    def json(self) -> str:
        """For the environment of another process."""
        return json.dumps(asdict(self))
