"""Mails for a dispatcher: leased, loaded and rechecked ahead of their sending, in a thread of its own.

The next batch is fetched while the one before it is being sent. Asked one after the other, twenty queries to
two databases would leave the sending threads without work for a third of a second each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings
from django.db import connections
from django.utils import timezone

from emailoffload import logs
from emailoffload.delivery import rate
from emailoffload.outbox import deadlocks, switches, transitions
from emailoffload.outbox.models import Content
from emailoffload.outbox.states import EmailState
from emailoffload.worker import eligibility, outcomes
from emailoffload.worker.senders import Job

BATCH = 512
"""Mails leased and rechecked at a time, at most."""
LEAST = 128
"""Mails leased at a time, at least, where so many are due."""
RECHECK_SECONDS = 10.0
"""At a slow rate no more is leased than leaves in this time, in two batches: a recheck must not be older."""
SHORT_SECONDS = 10.0
"""How long the answer to "is more due than the quota allows?" is used."""


@dataclass
class Batch:
    """What one fetch brought."""

    rate: float = 0.0
    """Mails per second that the account allows."""
    jobs: list[Job] = field(default_factory=list)
    suppressed: int = 0
    failed: int = 0
    postponed: int = 0
    paused: str | None = None
    """Who paused sending, if it is paused: nothing was fetched then."""
    used_up: bool = False
    """The 24-hour quota allows nothing more than what is already here."""

    @property
    def leased(self) -> set[int]:
        """The ids that are ours by it."""
        return {job.email_id for job in self.jobs}


class Supply:
    """The fetches of one pass, at most one at a time."""

    def __init__(self, token: str, until: Callable[[], datetime]) -> None:
        self.token = token
        self.until = until
        self.size = BATCH
        """How many mails a batch has at most, by the account's rate."""
        self.leased: set[int] = set()
        """What the fetch under way has leased: to be given back if it fails."""
        self._sources = eligibility.Sources()
        self._short = False
        self._short_until = 0.0
        self._thread = ThreadPoolExecutor(1, "supply", initializer=logs.adopt, initargs=(logs.ids(),))
        self._fetch: Future[Batch] | None = None

    @property
    def busy(self) -> bool:
        """Whether a batch is being fetched, or is here and was not taken."""
        return self._fetch is not None

    def ask(self, here: int) -> None:
        """Begin to fetch a batch, unless one is being fetched; `here` mails are leased and not yet sent."""
        if self._fetch is None:
            self._fetch = self._thread.submit(self._next, here)

    def take(self, seconds: float) -> Batch | None:
        """The batch that was asked for, if it comes within `seconds`. Raises what the fetch raised."""
        if self._fetch is None:
            return None
        try:
            batch = self._fetch.result(seconds)
        except NotYet:
            if not self._fetch.done():
                return None
            raise
        self._fetch = None
        return batch

    def close(self) -> set[int]:
        """End the thread and its connections; returns the ids that it has leased and nobody took."""
        self._thread.submit(connections.close_all)
        self._thread.shutdown()
        return self.leased if self._fetch is not None else set()

    def _next(self, here: int) -> Batch:
        self.leased = set()
        pause = switches.pause()
        if pause.sends:
            return Batch(paused=pause.by or "")
        known = rate.known()
        self.size = max(1, min(BATCH, int(known.rate * RECHECK_SECONDS / 2)))
        batch = Batch(known.rate)
        quota = rate.available_24h(known)
        if quota is not None and quota <= here:
            batch.used_up = True
            return batch
        now = timezone.now()
        wanted, short = self._share(now), False
        if quota is not None:
            wanted = min(wanted, quota - here)
            short = self._is_short(quota, now)
        until = self.until()
        ids = deadlocks.survive(
            lambda: transitions.lease_due(wanted, self.token, now=now, until=until, sensitive_first=short)
        )
        if ids:
            self.leased = set(ids)
            self._look_at(ids, batch, now)
        return batch

    def _share(self, now: datetime) -> int:
        """How many to lease: towards the end ever fewer, so that no dispatcher sits on what others could send."""
        slots = settings.DISPATCH_SLOTS
        due = transitions.due(slots * self.size, now=now)
        return min(self.size, max(LEAST, due // slots))

    def _is_short(self, quota: int, now: datetime) -> bool:
        """Whether more is due than the 24-hour quota allows: credentials go first then."""
        if time.monotonic() >= self._short_until:
            self._short = transitions.due(quota + 1, now=now) > quota
            self._short_until = time.monotonic() + SHORT_SECONDS
        return self._short

    def _look_at(self, ids: list[int], batch: Batch, now: datetime) -> None:
        """Load these and sort out what may not leave."""
        jobs = load(ids)
        if len(jobs) != len(ids):
            gone = set(ids) - {job.email_id for job in jobs}
            batch.failed = transitions.move(
                gone, EmailState.FAILED, now=now, lease=self.token, reason="content_missing"
            )
        checked = eligibility.check(jobs, now, self._sources)
        for reason, barred in checked.suppressed.items():
            batch.suppressed += transitions.move(
                [job.email_id for job in barred],
                EmailState.SUPPRESSED,
                now=now,
                lease=self.token,
                reason=reason,
            )
        for reason, later in checked.postponed.items():
            batch.postponed += outcomes.postpone(later, reason, self.token, now)
        batch.jobs = checked.send


def load(ids: Sequence[int]) -> list[Job]:
    """What the threads need of these emails, in the order in which they fell due."""
    rows = Content.objects.filter(email_id__in=ids).values_list(
        "email_id", "email__claim_id", "email__source", "email__role", "email__ref", "email__attempts",
        "email__due_at", "email__deadline_at", "email__created_at", "key_id", "body", "email__resend_of_id",
    )  # fmt: skip
    jobs = {
        pk: Job(pk, claim_id, source, role, ref.hex, attempts + 1, due_at, deadline_at, created_at, key_id,
                bytes(body), resend is not None)
        for pk, claim_id, source, role, ref, attempts, due_at, deadline_at, created_at, key_id, body, resend in rows
    }  # fmt: skip
    return [jobs[pk] for pk in ids if pk in jobs]
