"""One pass of recovery: what dead processes left behind is settled by what the databases say."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from django.db import DatabaseError

from emailoffload.moodle.errors import MoodleProblem, check_reachable, translated
from emailoffload.worker import fallback, lease, left, runs, shadow, uncertain
from emailoffload.worker.erase import erase_due
from emailoffload.worker.recover_intents import recover_intents
from emailoffload.worker.recover_sends import recover_sends


@dataclass
class RecoverResult:
    """What one pass settled."""

    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    busy: bool = False
    refused: str = ""
    cure: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The counts under stable keys."""
        return {
            **self.counts,
            "seconds": round(self.seconds, 3),
            "busy": self.busy,
            "refused": self.refused,
            "cure": self.cure,
        }


def run() -> RecoverResult:
    """One pass, and one of the fallback after it.

    Sends are settled even while Moodle's database cannot be reached; claims then wait.
    """
    started = time.monotonic()
    result = RecoverResult()
    with lease.hold("recover") as held:
        if held is None:
            result.busy = True
            return result
        with runs.record("recover", held.holder) as recording:
            result.counts = {**recover_sends(), "passes_interrupted": runs.settle_interrupted()}
            try:
                result.counts |= erase_due()
            except DatabaseError as error:
                # Claims are settled all the same; the next pass goes on where this one could not.
                recording.errors(f"Credentials could not be erased now ({type(error).__name__}).")
            try:
                result.counts["left_forgotten"] = left.forget()
            except DatabaseError as error:
                recording.errors(f"Old records could not be deleted now ({type(error).__name__}).")
            try:
                check_reachable()
                with translated():
                    result.counts |= recover_intents()
                    result.counts |= shadow.compare()
                result.counts |= uncertain.run()
            except MoodleProblem as problem:
                result.refused, result.cure = str(problem), problem.cure
                recording.refused(f"{problem} {problem.cure}")
            result.seconds = time.monotonic() - started
            recording.counts = result.as_dict()
    # Under a lease and a record of its own: sending by SMTP may last, and must not keep others from recovering.
    done = fallback.run()
    result.counts |= {name: done.counts[name] for name in ("handed_back", "smtp", "held")}
    return result
