"""May these mails still leave? Moodle is asked just before they are sent (design §2, `recheck`).

Between claim and sending a learner may have completed, left the course or been deleted; Moodle, which decides
at the moment of sending, would then send nothing.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.db import Error, connections

from emailoffload.moodle.errors import MoodleProblem
from emailoffload.outbox.models import Claim
from emailoffload.sources import registry
from emailoffload.sources.protocol import ClaimView
from emailoffload.worker.senders import Job

logger = logging.getLogger(__name__)
MOODLE_UNREACHABLE = "moodle_unreachable"
RECHECK_FAILED = "recheck_failed"


@dataclass
class Checked:
    """Jobs by what is to be done with them; `suppressed` by the reason's code."""

    send: list[Job] = field(default_factory=list)
    suppressed: dict[str, list[Job]] = field(default_factory=lambda: defaultdict(list))
    postponed: dict[str, list[Job]] = field(default_factory=lambda: defaultdict(list))
    """Moodle could not be asked, for this reason; there is still time to ask again."""


def check(jobs: Sequence[Job], now: datetime) -> Checked:
    """Sort jobs, with a few queries per source however many there are.

    While Moodle cannot be asked, mails wait until their deadline; then they are sent, because a mail that is
    not owed any more does less harm than one that never comes.
    """
    checked = Checked()
    by_source: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        by_source[job.source].append(job)
    for source, mine in by_source.items():
        try:
            barred = _barred(source, mine, now)
        except Exception as error:
            # Broad on purpose: recorded on the mails; one source's trouble must not stop the others' mails.
            logger.warning("Moodle could not be asked about %d mails (%s).", len(mine), type(error).__name__)
            # A pass may last: a connection that broke is made anew for the next question.
            connections["moodle"].close_if_unusable_or_obsolete()
            reason = MOODLE_UNREACHABLE if isinstance(error, (MoodleProblem, Error)) else RECHECK_FAILED
            for job in mine:
                (checked.postponed[reason] if job.deadline_at > now else checked.send).append(job)
            continue
        for job in mine:
            why = barred.get((job.claim_id, job.role)) or barred.get((job.claim_id, None))
            if why:
                checked.suppressed[why].append(job)
            else:
                checked.send.append(job)
    return checked


def _barred(source: str, jobs: Sequence[Job], now: datetime) -> dict[tuple[int, str | None], str]:
    """Reasons by claim and role; role None stands for every role."""
    roles: dict[int, list[str]] = defaultdict(list)
    for job in jobs:
        roles[job.claim_id].append(job.role)
    views = [
        ClaimView(pk, row_id, user_id, activity_id, int(due_at.timestamp()), completiontime, before, after,
                  tuple(roles[pk]))  # type: ignore[arg-type]  # a role is one of the protocol's words
        for pk, row_id, user_id, activity_id, due_at, completiontime, before, after in Claim.objects.filter(
            pk__in=roles
        ).values_list(
            "pk", "row_id", "user_id", "activity_id", "due_at", "completiontime", "before", "after"
        )
    ]  # fmt: skip
    found: dict[tuple[int, str | None], str] = {}
    for recheck in registry.get(source).recheck(views, int(now.timestamp())):
        for role in recheck.roles or (None,):
            found[recheck.claim_id, role] = recheck.reason
    return found
