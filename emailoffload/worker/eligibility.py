"""May these mails still leave? Moodle is asked just before they are sent (design §2, `recheck`).

Between claim and sending a learner may have completed, left the course or been deleted; Moodle, which decides
at the moment of sending, would then send nothing.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from django.db import Error, connections

from emailoffload import logs
from emailoffload.moodle.errors import MoodleProblem
from emailoffload.outbox.models import Claim
from emailoffload.outbox.states import ADDRESS_SUPPRESSED
from emailoffload.sources import reasons, registry
from emailoffload.sources.protocol import ClaimView, Recheck
from emailoffload.worker import resends, suppressed, trust
from emailoffload.worker.senders import Job

logger = logging.getLogger(__name__)
MOODLE_UNREACHABLE = "moodle_unreachable"
MOODLE_OUTDATED = "moodle_outdated"
"""Moodle's database does not know our last claims: what its rows say about these is no reason to give them up."""
RECHECK_FAILED = "recheck_failed"
_BY_THE_ROW = frozenset({reasons.ROW_RESTORED, reasons.ROW_CHANGED, reasons.ROW_REMOVED})
RESENDS = ""
"""Stands for a source: resends are checked by a rule of their own."""


class Source(Protocol):
    """What is asked of a source here."""

    def recheck(self, views: Sequence[ClaimView], now: int) -> list[Recheck]:
        """Which claims' mails may no longer leave, and why."""


@dataclass
class Checked:
    """Jobs by what is to be done with them; `suppressed` by the reason's code."""

    send: list[Job] = field(default_factory=list)
    suppressed: dict[str, list[Job]] = field(default_factory=lambda: defaultdict(list))
    postponed: dict[str, list[Job]] = field(default_factory=lambda: defaultdict(list))
    """Moodle could not be asked, for this reason; there is still time to ask again."""


SOURCE_SECONDS = 10.0
"""How long a site's configuration is used before it is read again; rows are read each time."""


class Sources:
    """The sources that one pass asks, each read anew every SOURCE_SECONDS."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[float, Source]] = {}

    def get(self, name: str) -> Source:
        """The source of that name. Raises KeyError and database errors."""
        made = self._made.get(name)
        if made is None or time.monotonic() - made[0] > SOURCE_SECONDS:
            made = self._made[name] = (time.monotonic(), registry.get(name))
        return made[1]


def check(jobs: Sequence[Job], now: datetime, sources: Sources) -> Checked:
    """Sort jobs, those for suppressed addresses first, with a few queries per source however many there are.

    While Moodle cannot be asked, mails wait until their deadline; then they are sent, because a mail that is
    not owed any more does less harm than one that never comes. Resends wait for as long as it takes: they are
    checked for nothing but whether their recipient still exists. Mails whose row says that they are not ours any
    more wait too, for as long as Moodle's database is older than our last claims (`trust`).
    """
    checked = Checked()
    barred_addresses = suppressed.among(jobs)
    by_source: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        if job.email_id in barred_addresses:
            checked.suppressed[ADDRESS_SUPPRESSED].append(job)
            continue
        by_source[RESENDS if job.resend else job.source].append(job)
    for source, mine in by_source.items():
        gone: dict[int, str] = {}
        barred: dict[tuple[int, str | None], str] = {}
        doubtful = False
        try:
            if source == RESENDS:
                gone = resends.gone(mine)
            else:
                barred = _barred(sources, source, mine, now)
                doubtful = not _BY_THE_ROW.isdisjoint(barred.values()) and trust.problem() is not None
        except Exception as error:
            # Broad on purpose: recorded on the mails; one source's trouble must not stop the others' mails.
            logger.warning(
                "Moodle could not be asked whether %d due mails (source %s) are still owed: %s. They wait, and are "
                "sent unasked once their deadline is over. `manage.py doctor` says why it does not answer.",
                len(mine),
                source,
                logs.named(error),
                extra={"source": source},
            )
            # A pass may last: a connection that broke is made anew for the next question.
            connections["moodle"].close_if_unusable_or_obsolete()
            reason = MOODLE_UNREACHABLE if isinstance(error, (MoodleProblem, Error)) else RECHECK_FAILED
            for job in mine:
                later = job.deadline_at > now or job.resend
                (checked.postponed[reason] if later else checked.send).append(job)
            continue
        for job in mine:
            why = (
                gone.get(job.email_id)
                or barred.get((job.claim_id, job.role))
                or barred.get((job.claim_id, None))
            )
            if doubtful and why in _BY_THE_ROW:
                checked.postponed[MOODLE_OUTDATED].append(job)
            elif why:
                checked.suppressed[why].append(job)
            else:
                checked.send.append(job)
    return checked


def _barred(
    sources: Sources, source: str, jobs: Sequence[Job], now: datetime
) -> dict[tuple[int, str | None], str]:
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
    for recheck in sources.get(source).recheck(views, int(now.timestamp())):
        for role in recheck.roles or (None,):
            found[recheck.claim_id, role] = recheck.reason
    return found
