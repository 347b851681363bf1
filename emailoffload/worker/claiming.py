"""Claiming batch by batch, in a thread of its own: while one batch is claimed the next one is rendered.

The steps for a batch are those of design §3.4: store the intent with the rendered mails, claim in Moodle's
database (for rows already due while the cron lock is ours), mark what was won and what was lost.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.conf import settings
from django.db import Error, connections

from emailoffload import logs
from emailoffload.moodle import claims, cronlock
from emailoffload.moodle.errors import MoodleProblem, translate
from emailoffload.outbox import intents
from emailoffload.sources import reasons
from emailoffload.sources.protocol import Candidate, Decision, Source
from emailoffload.worker import handback, killpoints, late_claims, runs
from emailoffload.worker.intercept_result import InterceptResult
from emailoffload.worker.left import Left

log = logging.getLogger(__name__)


class Claimer:
    """What one pass claims, one batch at a time, in the order in which the batches come."""

    def __init__(self, name: str, recording: runs.Recording, lock: cronlock.CronLock | None) -> None:
        self.name = name
        self.recording = recording
        self.lock = lock
        """The cron lock, where the caller holds it."""
        self.source: Source[Any]
        self.target = ""
        """The task whose lock guards due rows, as Moodle stores its name."""
        self.refusal = ""
        """Why due rows stay with Moodle for the rest of this pass."""
        self.may_claim: Callable[[], str] = lambda: ""
        """Asked before each batch: a reason for which nothing more is claimed, or ''."""
        self.result = InterceptResult()
        self.left = Left(name, self.result.left)
        self._thread = ThreadPoolExecutor(1, "claim", initializer=logs.adopt, initargs=(logs.ids(),))
        self._batch: Future[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a batch is being claimed at this moment."""
        return self._batch is not None and not self._batch.done()

    def claim(self, decisions: Sequence[Decision], candidates: Sequence[Candidate]) -> None:
        """Begin to claim these candidates, once the batch before them is done. Raises what that one raised."""
        sealed = intents.seal(candidates)
        self.wait()
        self._batch = self._thread.submit(self._all, decisions, candidates, sealed)

    def wait(self) -> None:
        """Wait for the batch that is being claimed. Raises what it raised."""
        batch, self._batch = self._batch, None
        if batch is not None:
            batch.result()

    def close(self) -> None:
        """Let the batch that is being claimed come to its end, and end the thread with its connections."""
        self._thread.submit(connections.close_all)
        self._thread.shutdown()

    def _all(
        self, decisions: Sequence[Decision], candidates: Sequence[Candidate], sealed: intents.Sealed
    ) -> None:
        for under_lock in (True, False):
            part = [candidate for candidate in candidates if candidate.under_lock is under_lock]
            for start in range(0, len(part), settings.CLAIM_BATCH_SIZE):
                few = part[start : start + settings.CLAIM_BATCH_SIZE]
                refusal = self.may_claim()
                if refusal:
                    # Somebody paused, or the breaker opened, while these were rendered.
                    self.left.candidates(few, refusal)
                    continue
                won = self._claim(few, sealed, under_lock=under_lock)
                self.result.count_claimed(decisions, won)

    def _claim(
        self, candidates: Sequence[Candidate], sealed: intents.Sealed, *, under_lock: bool
    ) -> set[int]:
        """Intend, claim and settle a batch; returns Moodle's ids of the rows won."""
        if not candidates:
            return set()
        if not under_lock:
            return self._make(candidates, sealed, None)
        if self.refusal:
            # They were not due yet when the batch was begun.
            self.left.candidates(candidates, self.refusal)
            return set()
        with self._locked() as lock:
            ours = lock.acquired and lock.still_held() and lock.binds()
            refusal = self.source.obstacle() if ours else reasons.CRON_RUNNING
            if refusal:
                self.refusal = refusal
                self.left.candidates(candidates, refusal)
                return set()
            return self._make(self._as_of_now(candidates), sealed, lock)

    def _locked(self) -> AbstractContextManager[cronlock.CronLock]:
        """The cron lock for the time of a claim: the caller's, or one that is taken now."""
        return nullcontext(self.lock) if self.lock else cronlock.CronLock(self.target)

    def _as_of_now(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Due candidates that still hold what was read, with the values to write as of this moment.

        Only now that the lock is ours no run can be in progress: a row that holds its old values here was
        handled by none, and a later run writes later times than ours (`claims`, facts §3.2).
        """
        now = int(time.time())
        held = claims.values(self.name, [candidate.row_id for candidate in candidates])
        fresh = [c for c in candidates if held.get(c.row_id) == claims.values_of(self.name, c.before)]
        self.result.lost += len(candidates) - len(fresh)
        return [self.source.as_of(candidate, now) for candidate in fresh]

    def _make(
        self, candidates: Sequence[Candidate], sealed: intents.Sealed, lock: cronlock.CronLock | None
    ) -> set[int]:
        """Steps 1 to 3 for one batch; `lock` is Moodle's cron lock where the rows are already due."""
        begun = time.time()
        intended = intents.intend(candidates, self.recording.row, sealed)
        for candidate in candidates:
            if candidate.row_id in intended.left:
                self.left.candidate(candidate, intended.left[candidate.row_id])
        if not intended.claims:
            return set()
        killpoints.reached("after_intent")
        try:
            won = self._apply(intended)
            won -= self._undo(intended, self._too_late(intended, won, lock, begun))
        except (claims.ClaimUnknown, claims.RowsLocked) as error:
            # The rows will tell: recovery settles these intents when Moodle's database is back.
            late_claims.mark([claim.pk for claim in intended.claims.values()])
            self.result.errors += 1
            raise MoodleProblem(
                str(error), cure="Check Moodle's database; what was being claimed is settled by itself."
            ) from error
        killpoints.reached("after_claim")
        ours = {claim.row_id: claim.pk for claim in intended.claims.values()}
        intents.settle([ours[row] for row in won], [ours[row] for row in ours.keys() - won])
        killpoints.reached("after_marking")
        return won

    def _apply(self, intended: intents.Intended) -> set[int]:
        try:
            won = claims.apply(self.name, _swaps(intended.claims.values()))
        except claims.RowsLocked:
            # One locked row must not end the pass: this batch waits for the next one.
            self.left.candidates((c.candidate for c in intended.claims.values()), reasons.ROWS_LOCKED)
            return set()
        except Error as error:
            # The server refused the statement and nothing was written: these rows can be decided anew at once.
            ids = [claim.pk for claim in intended.claims.values()]
            intents.drop(ids, "Moodle's database refused the claim")
            raise translate(error, connections["moodle"]) from error
        self.result.lost += len(intended.claims) - len(won)
        return won

    def _too_late(
        self, intended: intents.Intended, won: set[int], lock: cronlock.CronLock | None, begun: float
    ) -> set[int]:
        """Rows whose claim may not have been committed before a run of Moodle's could read them as due.

        Also all rows of a process that slept for so long since its intent that recovery may have given the
        intent up and forgotten its mails.
        """
        now = time.time()
        if now - begun > settings.LEASE_SECONDS:
            log.warning(
                "Claiming %d rows took longer than LEASE_SECONDS. They are handed back: Moodle sends these mails. "
                "If it happens again, the host or a database is too slow for CLAIM_BATCH_SIZE.",
                len(won),
            )
            return set(won)
        if lock is None:
            return {row for row in won if intended.claims[row].due_at.timestamp() <= now}
        if lock.still_held():
            return set()
        log.warning(
            "Moodle's cron lock was lost while %d rows were claimed, most often with the connection to its database. "
            "They are handed back: Moodle sends these mails.",
            len(won),
        )
        return set(won)

    def _undo(self, intended: intents.Intended, rows: set[int]) -> set[int]:
        """Reverse claims that may have come too late: whatever Moodle's run does then, it does alone.

        Where this process slept so long that recovery has settled a claim, a mail of it may have left: such claims
        are handed back like any other, if none has.
        """
        if rows:
            self.left.candidates((intended.claims[row].candidate for row in rows), reasons.COMMITTED_LATE)
            mine = {stored.pk: stored for row, stored in intended.claims.items() if row in rows}
            settled = intents.give_up(
                mine,
                lambda ids: claims.apply(
                    self.name, [swap.reversed() for swap in _swaps(mine[pk] for pk in ids)]
                ),
            )
            handback.hand_back(sorted(settled), actor="worker", reason="the claim came too late")
        return rows


def _swaps(rows: Iterable[intents.Stored]) -> list[claims.Swap]:
    return [claims.swap_of(claim.source, claim.row_id, claim.before, claim.after) for claim in rows]
