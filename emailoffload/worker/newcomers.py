"""Which rows of IOMAD's queue are new since the last look, at the price of a few hundred rows read.

The table has no index on `sent` or `due` and keeps half a year of bodies (facts §1.3), so only the rows above a
mark are looked at. Ids are given when a row is written and seen when its transaction ends; a long upload shows
its rows late. So the mark stays behind: it is the highest id of some minutes ago. What becomes visible still
later, what a person queues again under an old id, and what is due only long after it was queued is found by
looks at the whole table: the regular pass makes one, and so does each tick.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from django.conf import settings
from django.db.models import Max

from emailoffload.moodle import models
from emailoffload.moodle.targets import IOMAD_QUEUE
from emailoffload.sources import registry
from emailoffload.sources.protocol import Row

LATE_SECONDS = 300.0
"""How long the transaction that writes a row may take until a quick look misses it."""
LATE_IDS = 5000
"""So far below the highest id the first looks begin, while nobody knows which ids are some minutes old."""
RETRY_SECONDS = 60.0
"""A row that a pass has left where it is, is tried again after this time."""


class Newcomers:
    """What one watch knows of the queue. Times are UNIX seconds, given by the caller."""

    def __init__(self) -> None:
        self._mark: int | None = None
        self._marks: deque[tuple[float, int]] = deque()
        self._tried: dict[int, float] = {}

    def look(self, now: float, *, whole: bool = False) -> list[Row]:
        """Rows above the mark that no pass has tried lately; of the `whole` table all that wait.

        Two queries (one per 200,000 ids for the whole table). Raises database errors.
        """
        newest = models.QueuedEmail.objects.aggregate(newest=Max("id"))["newest"] or 0
        if self._mark is None:
            self._mark = max(0, newest - LATE_IDS)
        horizon = int(now) + settings.CLAIM_LEAD_SECONDS
        rows = list(registry.find(IOMAD_QUEUE, horizon, 0 if whole else self._mark))
        # The mark moves after the look: what it leaves behind was seen from the mark before.
        self._marks.append((now, newest))
        while now - self._marks[0][0] >= LATE_SECONDS:
            self._mark = self._marks.popleft()[1]
        self._tried = {row: then for row, then in self._tried.items() if 0 <= now - then < RETRY_SECONDS}
        return rows if whole else [row for row in rows if row.id not in self._tried]

    def tried(self, rows: Iterable[Row], now: float) -> None:
        """A pass has decided about these: those that it left need not be tried again at once."""
        self._tried.update((row.id, now) for row in rows)
