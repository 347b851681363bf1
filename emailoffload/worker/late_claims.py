"""Claims of which nobody knows whether they were committed in time, because the connection broke or an undo failed.

A claim ahead of time must be committed before its due time (design §3.1). The pass looks at the clock after the
commit and undoes what came too late; but where the server stalls between the statement and its answer, the pass
cannot look, and a statement that is on its way may still be carried out when the server goes on. Such claims are
marked. Where recovery finds the row with our values after the due time, it does what the pass would have done: it
restores the old values, so that whatever a run of Moodle's does, it does alone.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from datetime import datetime

from django.conf import settings
from django.db import Error

from emailoffload import logs
from emailoffload.moodle import claims
from emailoffload.moodle.errors import MoodleProblem
from emailoffload.moodle.targets import REENGAGEMENT
from emailoffload.outbox.models import Claim
from emailoffload.outbox.states import ClaimState

log = logging.getLogger(__name__)
DOUBTFUL = "nobody saw when it was committed"


def mark(claim_ids: Collection[int]) -> None:
    """Note that it is open whether these intents were committed in time. Raises nothing.

    Where our own database fails too they stay unmarked, and count as the claims of a process that was killed.
    """
    try:
        Claim.objects.filter(pk__in=claim_ids, state=ClaimState.INTENDED).update(note=DOUBTFUL)
    except Error as error:
        log.warning(
            "Our database did not note that %d claims may not have reached Moodle (%s). Recovery looks at Moodle's "
            "rows and settles them.",
            len(claim_ids),
            logs.named(error),
        )


def needs_lock(claim: Claim, now: int) -> bool:
    """Whether this claim's row may be restored only under the cron lock, judged at `now` (UNIX seconds).

    The argument is that of `worker.handback`.
    """
    if claim.source != REENGAGEMENT or claim.before.get("completed"):
        return False
    soonest = min(int(claim.after["emailtime"]), claim.completiontime)
    return soonest <= now + settings.CLAIM_MARGIN_SECONDS


def undo(found: Sequence[Claim], now: datetime) -> set[int]:
    """Restore the rows of those marked claims that are due by now; returns the ids of the claims undone.

    All of `found` hold our values. A row that needs the cron lock is left as it is: its mail is sent. Raises
    MoodleProblem where it is open what was restored, and database errors.
    """
    late = [
        claim
        for claim in found
        if claim.note == DOUBTFUL and claim.due_at <= now and not needs_lock(claim, int(now.timestamp()))
    ]
    undone: set[int] = set()
    for source in sorted({claim.source for claim in late}):
        mine = {claim.row_id: claim for claim in late if claim.source == source}
        swaps = [claims.swap_of(source, c.row_id, c.before, c.after).reversed() for c in mine.values()]
        try:
            undone |= {mine[row_id].pk for row_id in claims.apply(source, swaps)}
        except (claims.ClaimUnknown, claims.RowsLocked) as error:
            raise MoodleProblem(str(error), "Check Moodle's database; recovery tries again.") from error
    return undone
