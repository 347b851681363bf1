"""What a claim compares and what it writes, by source: the only columns of Moodle's that are ever changed (P3).

`claims.py` writes them, `guard.py` lets nothing else through, `grants.py` asks for exactly these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from emailoffload.moodle import models

REENGAGEMENT = "reengagement"
IOMAD_QUEUE = "iomad_queue"


@dataclass(frozen=True, slots=True)
class Target:
    """One table that is claimed from."""

    table: str
    """Its full name, with the prefix of this process's setting."""
    compared: tuple[str, ...]
    """The columns that must still hold what was read, in the order of a swap's values."""
    written: tuple[str, ...]
    """The columns that are written: the first ones of `compared`."""


TARGETS: Mapping[str, Target] = {
    REENGAGEMENT: Target(
        models.table("reengagement_inprogress"),
        compared=("emailsent", "emailtime", "completed"),
        written=("emailsent", "emailtime"),
    ),
    IOMAD_QUEUE: Target(
        models.table("email"), compared=("sent", "modifiedtime"), written=("sent", "modifiedtime")
    ),
}
"""By the name of the source (design §3.2)."""


def queue_time(modifiedtime: int, now: int) -> int:
    """What a claim of a queue row with this `modifiedtime` writes as `sent` and `modifiedtime`, at `now`.

    In the past, so that no later run of IOMAD's writes it too, and never the row's own `modifiedtime`, which is
    the time of an earlier claim where the row was queued again: see `claims`.
    """
    return now - 1 if modifiedtime != now - 1 else now - 2
