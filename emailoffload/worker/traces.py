"""What Moodle's row says about a claim or a hand-back that was cut off: whose it was, as far as a row can tell.

The row holds our values, or its old ones, or it has moved on. Where it moved on from is clear in most cases:

* A row of IOMAD's queue with other values was mailed by IOMAD: nothing else follows our values but a person's
  "send again", which empties `sent`, and then a run of IOMAD's.
* A reminder's row whose `emailsent` is not beyond what we write was counted by Moodle from its old values.
* A row that was `completed` when it was read is deleted by Moodle with its mail, and never once it has our values.
* A row with reminders sent before that is gone was deleted at the learner's completion: nothing was owed any more.
* A row without any that is gone although its completion time lies ahead was removed with its learner or course.
* The same row, gone after its completion time and *before* its due time, had our values: with the old ones Moodle
  keeps it until the mail is due (facts §2.5), and deletes it at completion only once `emailsent` is not 0.

Two cases stay open: that last row once its due time is over (with its old values Moodle has mailed it, with ours
nobody has), and a row that is a whole reminder further than our claim. Nobody guesses there: a person decides.
"""

from __future__ import annotations

import datetime as dt
from enum import Enum

from django.conf import settings

from emailoffload.moodle import claims
from emailoffload.moodle.targets import REENGAGEMENT
from emailoffload.outbox.models import Claim


class Trace(Enum):
    """What a row says about a claim."""

    OURS = "it has our values, or had them when Moodle deleted it"
    UNTOUCHED = "it has its old values"
    MOODLES = "Moodle has handled it, or it is gone and nothing is owed"
    OPEN = "it cannot tell"


def read(claim: Claim, values: claims.Values | None, now: dt.datetime) -> Trace:
    """Judge a claim by its row's values (None: the row is gone), which were read no later than `now`."""
    if claims.holds(claim.source, values, claim.after):
        return Trace.OURS
    if claims.holds(claim.source, values, claim.before):
        return Trace.UNTOUCHED
    if claim.source != REENGAGEMENT:
        return Trace.MOODLES
    if values is not None:
        return Trace.MOODLES if (values[0] or 0) <= (claim.after["emailsent"] or 0) else Trace.OPEN
    return _gone(claim, now)


def _gone(claim: Claim, now: dt.datetime) -> Trace:
    if claim.before["emailsent"] or claim.before["completed"] or claim.completiontime >= now.timestamp():
        return Trace.MOODLES
    ahead = claim.due_at > now + dt.timedelta(seconds=settings.CLAIM_MARGIN_SECONDS)
    return Trace.OURS if ahead else Trace.OPEN
