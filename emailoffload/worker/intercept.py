"""One pass of the interceptor: find due and soon due rows, decide, render, claim (design §3).

Steps for each batch; the numbers are those of design §3.4:
0. decide and render, as far as the routing rules let us: what cannot be rendered is never claimed.
1. store the intent with the rendered mails (our database).
2. claim in Moodle's database, for rows already due while we hold Moodle's own cron lock.
3. mark what was won and what was lost (our database).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from django.conf import settings

from emailoffload.delivery import health, message
from emailoffload.feedback import claimstop
from emailoffload.moodle import cronlock, variants
from emailoffload.moodle.errors import MoodleProblem, TaskMissing, check_reachable, require_ready, translated
from emailoffload.outbox import content, switches
from emailoffload.policy.routing import RoutingRules
from emailoffload.sources import reasons, registry
from emailoffload.sources.protocol import Candidate, Clock, Decision, Row, Source
from emailoffload.worker import claiming, lease, left, row_errors, runs, stopping, suppressed
from emailoffload.worker import shadow as shadows
from emailoffload.worker.intercept_result import InterceptResult
from emailoffload.worker.recover_intents import recover_intents
from emailoffload.worker.routing import Router

log = logging.getLogger(__name__)
FIRST_BATCH = 128
"""Rows of a pass's first batch."""
ROW_ERRORS = frozenset(
    {
        reasons.BROKEN_ROW, reasons.NO_COURSE_MODULE, reasons.NO_COURSE, reasons.USER_MISSING,
        reasons.COMPANY_UNKNOWN, reasons.HEADERS_MISSING, reasons.HEADERS_UNREADABLE,
    }
)  # fmt: skip
"""Reasons that mean damaged data: recorded row by row, for a person to look at."""


def run(
    *,
    source: str = registry.NAMES[0],
    shadow: bool = False,
    lane: str = "",
    lock: cronlock.CronLock | None = None,
    above: int = 0,
    quiet: bool = False,
) -> InterceptResult:
    """One pass over one source.

    `shadow` decides and renders but claims nothing. Passes in different `lane`s may run at once; the product
    uses one, and claims are safe in any number of them. `lock` is the cron lock of the source's task where the
    caller holds it already: the pass uses it and does not give it back. Only rows with an id beyond `above` are
    looked at; ids are given before rows can be seen, so somebody must look at all from time to time. A `quiet`
    pass leaves no record unless it sees something.

    What makes a pass impossible (a database that cannot be reached, an unsupported variant, a source that the
    site does not have, missing grants) is returned in `refused` and `cure`: nothing was claimed then. Raises
    ValueError for the lock of another task.
    """
    started = time.monotonic()
    result = InterceptResult(shadow=shadow)
    if quiet and not _anything(source, above, result):
        result.seconds = time.monotonic() - started
        return result
    with lease.hold(f"intercept-{source}{lane}") as held:
        if held is None:
            result.busy = True
            return result
        with runs.record("intercept", held.holder) as recording:
            try:
                with translated():
                    _Pass(source, result, held, recording, shadow=shadow, lock=lock).go(above)
            except MoodleProblem as problem:
                result.refused, result.cure = str(problem), problem.cure
            except content.ForeignKeys as problem:
                result.refused = str(problem)
            if result.refused:
                recording.refused(f"{result.refused} {result.cure}".strip())
            result.seconds = time.monotonic() - started
            recording.counts = {"source": source, **result.as_dict()}
            if result.errors and not result.refused:
                recording.errors(f"{result.errors} rows could not be handled")
            if result.unrecorded and not result.refused:
                recording.errors(f"{recording.message} {result.unrecorded}".strip())
    return result


def sources_here() -> tuple[str, ...]:
    """The sources that this site has; where that cannot be known, the first one, whose pass then says why."""
    try:
        check_reachable()
        with translated():
            found = registry.installed(variants.detect())
    except MoodleProblem:
        found = ()
    return found or registry.NAMES[:1]


def _horizon(now: int) -> int:
    return now + settings.CLAIM_LEAD_SECONDS


def _anything(source: str, above: int, result: InterceptResult) -> bool:
    """Whether there is a row to look at; what keeps us from knowing is put into the result."""
    try:
        with translated():
            return next(registry.find(source, _horizon(int(time.time())), above), None) is not None
    except MoodleProblem as problem:
        result.refused, result.cure = str(problem), problem.cure
        return False


class _Piles:
    """Rows on their way into batches: rows already due and rows of the future go apart.

    A pass begins with few rows at a time, so that sending begins at once, and doubles them.
    """

    def __init__(self, batch: Callable[[Sequence[Row]], None], limit: int) -> None:
        self._batch = batch
        self._limit = limit
        """Rows due before this time count as due."""
        self._size = min(FIRST_BATCH, settings.CLAIM_BATCH_SIZE)
        self._due: list[Row] = []
        self._soon: list[Row] = []

    def add(self, row: Row) -> None:
        """Put a row on its pile; a full one becomes a batch."""
        pile = self._due if row.due < self._limit else self._soon
        pile.append(row)
        if len(pile) >= self._size:
            self._batch(pile)
            pile.clear()
            self._size = min(2 * self._size, settings.CLAIM_BATCH_SIZE)

    def flush(self) -> None:
        """Make batches of what is left."""
        for pile in (self._due, self._soon):
            self._batch(pile)
            pile.clear()


class _Pass:
    """The state of one pass."""

    def __init__(
        self,
        source: str,
        result: InterceptResult,
        held: lease.Held,
        recording: runs.Recording,
        *,
        shadow: bool,
        lock: cronlock.CronLock | None,
    ) -> None:
        self.result = result
        self.held = held
        self.recording = recording
        self.shadow = shadow
        self.lock = lock
        """The cron lock, where the caller holds it."""
        self.variant = require_ready(source)
        self.name = source
        self.room = health.Room(0, 0)
        self.stops = claimstop.Stops()
        self.breaker: health.Breaker | None = None
        """As it was when the pass looked whether delivery is healthy."""
        self.left = left.Left(source, result.left, recorded=not shadow)
        self.claimer = claiming.Claimer(source, recording, lock)
        self.claimer.may_claim = self._stopped

    def go(self, above: int) -> None:
        """Run the pass over the rows with an id beyond `above`."""
        content.ensure_keys()
        recover_intents()
        try:
            self._look(above)
            self.claimer.wait()
        finally:
            self.claimer.close()
            self.result.add(self.claimer.result)
            self._record_left()

    def _record_left(self) -> None:
        self.left.add(self.claimer.left)
        # Moodle's "run now" waits ten seconds for the lock that a caller of this pass holds.
        self.result.unrecorded = self.left.store(
            left.UNDER_LOCK_SECONDS if self.lock else left.BUDGET_SECONDS
        )

    def _look(self, above: int) -> None:
        now = int(time.time())
        refusal: str | None = None
        piles = _Piles(self._batch, now + settings.CLAIM_MARGIN_SECONDS)
        others: list[Row] = []
        for row in registry.find(self.name, _horizon(now), above):
            self.result.seen += 1
            self.result.highest_id = max(self.result.highest_id, row.id)
            if refusal is None:
                refusal = self._open()
            if refusal:
                self.left.row(row, refusal)
            elif not self._can_wait(row):
                piles.add(row)
            elif len(others) < self.room.ordinary:
                others.append(row)
            else:
                self.left.row(row, reasons.REPUTATION if self.stops.account else reasons.NO_CAPACITY)
        piles.flush()
        if others:
            # What is kept for credentials is not theirs, and all that have some have been looked at.
            self.room.sensitive = self.room.ordinary
            for row in others:
                piles.add(row)
            piles.flush()

    def _can_wait(self, row: Row) -> bool:
        """Whether others come first: the quota may not suffice for all, and this row has no credentials."""
        may = self.room.short and self.name in registry.WITH_CREDENTIALS
        return may and not self.source.carries_credentials(row)

    def _open(self) -> str:
        """Get ready to claim, now that there is something; returns why nothing may be claimed, or ''."""
        self.router = Router(self.name, RoutingRules.load())
        refusal = self._why_not()
        if not refusal:
            self.source: Source[Any] = registry.get(self.name, self.variant)
            self.claimer.source = self.source
            if cronlock.lock_availability().kind is None:
                self.claimer.refusal = reasons.LOCK_UNAVAILABLE
            else:
                self.claimer.target = self._target()
        return refusal

    def _target(self) -> str:
        try:
            target = self.source.lock_target()
        except TaskMissing as problem:
            # Rows of the future are claimed all the same; the doctor reports the missing task.
            self.recording.message = str(problem)
            self.claimer.refusal = reasons.LOCK_UNAVAILABLE
            return ""
        if self.lock is not None and self.lock.classname != target:
            raise ValueError(f"the lock of {self.lock.classname} guards no rows of {self.name}")
        return target

    def _why_not(self) -> str:
        """A reason for which nothing at all is claimed in this pass, or ''."""
        if self.router.off:
            return reasons.ROUTING_OFF
        if self.only_watches:
            self.room = health.Room(2**31, 2**31)
            return ""
        if switches.pause().claims:
            return reasons.CLAIMS_PAUSED
        self.breaker = health.breaker()
        healthy, why = health.healthy()
        if not healthy:
            self.recording.message = why
            return reasons.DELIVERY_UNHEALTHY
        self.room = health.room()
        self.stops = claimstop.stops()
        if self.stops.account:
            if self.name not in registry.WITH_CREDENTIALS:
                return reasons.REPUTATION
            self.room.ordinary, self.room.short = 0, True
        if self.name not in registry.WITH_CREDENTIALS:
            self.room.sensitive = self.room.ordinary
        return ""

    @property
    def only_watches(self) -> bool:
        """Nothing is claimed in this pass, so that neither health nor pause nor lock stand in its way."""
        return self.shadow or self.router.only_watches

    def _stopped(self) -> str:
        """Why nothing more is claimed since the pass began, or ''; asked before each batch, of each process."""
        if self.only_watches:
            return ""
        if switches.pause().claims:
            return reasons.CLAIMS_PAUSED
        now = health.breaker()
        if now and (now.open or now != self.breaker):
            # Another process found that SES takes nothing; while it is tried again, only few may be claimed.
            self.recording.message = f"{now.code}: {now.why}"
            return reasons.DELIVERY_UNHEALTHY
        return ""

    def _no_more(self) -> str:
        """Why nothing more is claimed in this pass, or ''; asked before the work of a batch is done for nothing."""
        stopped = self._stopped()
        if stopped:
            return stopped
        return reasons.NO_CAPACITY if self.room.used_up else ""

    def _clock(self) -> Clock:
        return Clock(int(time.time()), settings.CLAIM_MARGIN_SECONDS, settings.MOODLE_CRON_PERIOD_SECONDS)

    def _batch(self, rows: Sequence[Row]) -> None:
        """Decide, render, store, claim and settle one batch of rows."""
        if not rows:
            return
        if stopping.requested() or not self.held.beat():
            self.recording.interrupted("the pass was asked to stop")
            self.left.rows(rows, reasons.STOPPED)
            return
        refusal = self._no_more()
        if refusal:
            self.left.rows(rows, refusal)
            return
        rows = self.router.worth_rendering(rows, self.left)
        rows = list(self._without_lock(rows))
        by_id = {row.id: row for row in rows}
        decisions = suppressed.heed(self._routed(rows))
        candidates = self._admitted(decisions, by_id)
        damaged = [decision for decision in decisions if decision.reason in ROW_ERRORS]
        self.result.errors += len(damaged)
        if not self.shadow:
            row_errors.record(self.name, damaged, by_id)
        if self.shadow:
            self.result.count_claimed(decisions, {candidate.row_id for candidate in candidates})
            return
        if candidates:
            self.claimer.claim(decisions, candidates)

    def _routed(self, rows: Sequence[Row]) -> list[Decision]:
        """Decide and render; what the rules only want watched is recorded and left to Moodle."""
        if self.router.only_watches and not self.shadow:
            known = shadows.recorded(self.name, rows)
            self.left.rows((row for row in rows if row.id in known), reasons.ROUTING_SHADOW)
            rows = [row for row in rows if row.id not in known]
        routed = self.router.route(self.source.decide(rows, self._clock()))
        if not self.shadow:
            shadows.record(routed.watched)
        return routed.decisions

    def _admitted(self, decisions: Sequence[Decision], rows: Mapping[int, Row]) -> list[Candidate]:
        """The candidates that SES would take and that there is room for; those with credentials come first."""
        candidates = []
        for decision in decisions:
            if decision.candidate is None:
                self.left.decided(rows[decision.row_id], decision)
            elif not all(message.sendable(mail) for mail in decision.candidate.mails):
                self.left.candidate(decision.candidate, reasons.UNSENDABLE)
            elif self.stops.bar(decision.candidate):
                self.left.candidate(decision.candidate, reasons.REPUTATION)
            else:
                candidates.append(decision.candidate)
        candidates.sort(key=lambda candidate: not candidate.sensitive)
        admitted = []
        for candidate in candidates:
            if self.room.take(len(candidate.mails), sensitive=candidate.sensitive):
                admitted.append(candidate)
            else:
                self.left.candidate(candidate, reasons.NO_CAPACITY)
        return admitted

    def _without_lock(self, rows: Sequence[Row]) -> Iterator[Row]:
        """The rows that are worth rendering: due ones are not while Moodle's cron holds its lock."""
        limit = int(time.time()) + settings.CLAIM_MARGIN_SECONDS
        due = sum(row.due < limit for row in rows)
        # While a batch is being claimed the lock is our own, or the claimer finds that it is not.
        if due and not self.claimer.refusal and not self.claimer.busy and not self.only_watches:
            self.claimer.refusal = self._lock_state()
        refusal = self.claimer.refusal
        for row in rows:
            if refusal and row.due < limit:
                self.left.row(row, refusal)
            else:
                yield row

    def _lock_state(self) -> str:
        """'' if the cron lock is ours or free now and nothing else stands in the way; else the reason."""
        free = self.lock.still_held() if self.lock else cronlock.is_free(self.claimer.target)
        return self.source.obstacle() if free else reasons.CRON_RUNNING
