"""The watch over IOMAD's mail queue: being there before IOMAD's cron, for as long as the worker runs.

`manage.py qcluster` runs it in a thread; `watch` runs it in the foreground. Of several workers one watches, by a
lease, and another takes over when it dies. Each step asks what may be done now (`guard_timing` decides), looks for
new rows (`newcomers`) and has an ordinary pass of the interceptor claim them. What is safe to claim is judged
there (docs/claiming.md); the watch decides only when to try, and under whose lock.

A watch that dies frees Moodle's lock with its connection, and IOMAD mails on by itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import close_old_connections, connections

from emailoffload import logs
from emailoffload.delivery import health
from emailoffload.moodle import cronlock, models
from emailoffload.moodle.errors import IomadAbsent, MoodleProblem, require_ready, translated
from emailoffload.moodle.targets import IOMAD_QUEUE
from emailoffload.outbox import guardstate, switches
from emailoffload.outbox.models import Claim
from emailoffload.outbox.states import ClaimState
from emailoffload.sources import reasons
from emailoffload.sources.iomad_queue import scan
from emailoffload.sources.iomad_queue.source import COMPONENT
from emailoffload.sources.protocol import Row
from emailoffload.worker import intercept, lease, tasks
from emailoffload.worker.guard_timing import Act, Situation, Task, next_act, pause
from emailoffload.worker.intercept_result import InterceptResult
from emailoffload.worker.newcomers import Newcomers

log = logging.getLogger(__name__)
SOURCE = IOMAD_QUEUE
READY_SECONDS = 60.0
"""How long it is believed that the site is ready to be claimed from, and that it is not."""
NO_IOMAD_SECONDS = 240.0
"""How often a site without IOMAD is asked whether it has one by now."""
WHOLE_SECONDS = 300.0
"""How often the whole queue is looked at while the lock is held for good."""
BUSY_SECONDS = 5.0
"""How long a pass under our lock waits for another pass, which cannot claim due rows meanwhile, to end."""
LONGEST_PAUSE = 60.0
"""After one failure after the other."""
BLINK = 0.2
"""How soon a request to stop is seen, in seconds."""
SAY_EVERY = timedelta(seconds=15)
"""How often it is put on record that all is as before."""
RELEASED_DAYS = 7
"""Rows of claims made longer ago than this are not waited for when they are handed back."""


def watch(stop: Callable[[], bool]) -> None:
    """Watch until `stop()`; a pass that is at work then ends with its batch. Raises nothing.

    Every error is logged by its type alone, because its text may quote a mail, and the watch goes on with
    new connections.
    """
    with logs.bound(kind="guard"):
        _watch(stop)


def _watch(stop: Callable[[], bool]) -> None:
    guard = Guard(stop)
    failures = 0
    while not stop():
        try:
            seconds = guard.step(time.time())
            if failures:
                log.warning("The watch over IOMAD's queue works again.")
            failures = 0
        except Exception as error:
            failures += 1
            seconds = min(LONGEST_PAUSE, 2.0 * failures)
            log.error(
                "The watch over IOMAD's queue met an error (%s; %d in a row) and tries again in %.0f s. "
                "Meanwhile IOMAD's own cron sends. If it goes on, `manage.py doctor` names the cause.",
                logs.named(error),
                failures,
                seconds,
            )
            guard.drop()
        _sleep(seconds, stop)
    guard.close()


def start(stop: Callable[[], bool]) -> threading.Thread:
    """Watch in a thread of its own, with connections of its own, until `stop()`.

    Start it only when no process is forked from this one any more.
    """
    thread = threading.Thread(target=watch, args=(stop,), name="cron-guard", daemon=True)
    thread.start()
    return thread


def task() -> Task | None:
    """IOMAD's scheduled task, None where Moodle has none. Raises the database's errors."""
    columns = ("classname", "lastruntime", "nextruntime", "timestarted", "disabled")
    for name, last, following, started, disabled in models.ScheduledTask.objects.filter(
        component=COMPONENT
    ).values_list(*columns):
        if name.endswith("\\cron_task"):
            return Task(name, last or 0, following or 0, started or None, bool(disabled))
    return None


def _sleep(seconds: float, stop: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not stop() and (left := until - time.monotonic()) > 0:
        time.sleep(min(BLINK, left))


class Guard:
    """One watcher. `step` is called again and again by one thread, with the time in UNIX seconds."""

    def __init__(self, stop: Callable[[], bool] = lambda: False) -> None:
        self._stop = stop
        self._lease: lease.Held | None = None
        self._lock: cronlock.CronLock | None = None
        self._news = Newcomers()
        self._ready_until = 0.0
        self._refusal = ""
        self._lockable = False
        self._whole_at = 0.0
        self._ticked_for: int | None = None
        self._yielded_at = 0.0
        self._yielded_to: Task | None = None
        self._owed = False
        self._offered: set[int] = set()
        """Rows that were left to a run of IOMAD's; those that it leaves too are not owed to it."""
        self._state = guardstate.Guard(mode=settings.MOODLE_CRON_GUARD)
        self._saved = guardstate.Guard(mode="")

    # --- steps ---

    def step(self, now: float) -> float:
        """Do what is to be done now; returns how many seconds may pass until the next step. Raises all errors."""
        begun = time.monotonic()
        close_old_connections()
        if not self._is_ours():
            return max(1.0, settings.LEASE_SECONDS / 4)
        self._yielded_at = self._yielded_at or now
        if now >= self._ready_until and not self._look_at_the_site(now):
            self.close()
            guardstate.forget()
            return NO_IOMAD_SECONDS
        at = self._situation(now)
        self._do(next_act(at), at)
        self._report(now, at)
        after = replace(at, now=now + time.monotonic() - begun, ticked_for=self._ticked_for)
        return pause(after, settings.QUEUE_POLL_SECONDS)

    def drop(self) -> None:
        """Give back the lock and every connection: the next step begins with new ones. Raises nothing."""
        with suppress(Exception):
            self._let_go()
        self._lock = None
        self._ready_until = 0.0
        for connection in connections.all(initialized_only=True):
            with suppress(Exception):
                connection.close()

    def close(self) -> None:
        """Give back the lock and the lease, and end the connections. Raises nothing."""
        held, self._lease = self._lease, None
        with suppress(Exception):
            self._let_go()
        if held is not None:
            with suppress(Exception):
                guardstate.save(self._state)
                held.release()
        self.drop()

    def _is_ours(self) -> bool:
        """Whether we are the one who watches."""
        if self._lease is not None and not self._lease.beat():
            self._let_go()
            self._lease = None
        self._lease = self._lease or lease.take(guardstate.LEASE)
        return self._lease is not None

    def _look_at_the_site(self, now: float) -> bool:
        """Whether the site has IOMAD; finds out whether its queue can be claimed from, and by which lock."""
        self._refusal = ""
        try:
            require_ready(SOURCE)
            with translated():
                self._lockable = cronlock.lock_availability().kind is not None
        except IomadAbsent:
            return False
        except MoodleProblem as problem:
            self._refusal = str(problem)
        self._ready_until = now + READY_SECONDS
        return True

    def _situation(self, now: float) -> Situation:
        why_not = self._why_not()
        if self._lock is not None and not self._lock.still_held():
            log.warning(
                "The lock of IOMAD's mail task was lost, with the connection to Moodle's database. IOMAD's cron may "
                "run now; the watch takes the lock again."
            )
            self._let_go()
        return Situation(
            now=now,
            mode=settings.MOODLE_CRON_GUARD,
            why_not=why_not,
            lockable=self._lockable,
            task=None if self._refusal else task(),
            held=self._lock is not None,
            ticked_for=self._ticked_for,
            yielded_at=self._yielded_at,
            yielded_to=self._yielded_to,
            owed=self._owed,
        )

    def _why_not(self) -> str:
        """A code or a sentence that says why nothing may be claimed, or ''."""
        if switches.pause().claims:
            return reasons.CLAIMS_PAUSED
        if not health.healthy()[0]:
            return reasons.DELIVERY_UNHEALTHY
        return self._refusal

    def _do(self, act: Act, at: Situation) -> None:
        if act is Act.LOOK:
            self._quick(at, None)
        elif act is Act.TICK:
            self._tick(at)
        elif act is Act.TAKE:
            self._take(at)
        elif act is Act.KEEP:
            self._keep(at)
        elif act is Act.YIELD:
            self._yield(at)
        elif act is Act.LET_GO:
            self._let_go()

    def _tick(self, at: Situation) -> None:
        assert at.task is not None
        with cronlock.CronLock(at.task.classname) as lock:
            if lock.acquired:
                self._whole(at, lock)
                self._ticked_for = at.task.nextruntime
                return
        # A run is in progress. Rows that are due only later can be claimed all the same.
        self._quick(at, None)

    def _take(self, at: Situation) -> None:
        assert at.task is not None
        # A hold is quiet between two looks.
        patience = max(cronlock.PATIENCE_SECONDS, 2 * settings.QUEUE_POLL_SECONDS)
        lock = cronlock.CronLock(at.task.classname, patience=patience)
        if not lock.__enter__().acquired:
            self._quick(at, None)
            return
        self._lock, self._yielded_to = lock, None
        self._state.held_since = datetime.now(UTC)
        self._owes_after(at, self._whole(at, lock))

    def _keep(self, at: Situation) -> None:
        if 0 <= at.now - self._whole_at < WHOLE_SECONDS:
            self._quick(at, self._lock)
        else:
            self._owes_after(at, self._whole(at, self._lock))

    def _yield(self, at: Situation) -> None:
        rows = self._whole(at, self._lock)
        self._offered = self._waiting(at, rows)
        self._owed = False
        self._let_go()
        self._yielded_at, self._yielded_to = at.now, at.task
        self._state.last_yield = datetime.now(UTC)

    def _let_go(self) -> None:
        lock, self._lock = self._lock, None
        self._state.held_since = None
        if lock is not None:
            lock.__exit__(None, None, None)

    # --- passes ---

    def _quick(self, at: Situation, lock: cronlock.CronLock | None) -> None:
        """Claim what is new, if anything is and it can be claimed now."""
        rows = self._news.look(at.now)
        if rows and lock is None:
            rows = self._claimable(rows, at)
        if rows:
            self._pass(rows, at, lock)

    def _claimable(self, rows: list[Row], at: Situation) -> list[Row]:
        """All rows where the lock can be had, which due ones need; else those that are due later."""
        limit = at.now + settings.CLAIM_MARGIN_SECONDS
        later = [row for row in rows if row.due >= limit]
        if len(later) == len(rows):
            return rows
        free = at.lockable and at.task is not None and cronlock.is_free(at.task.classname)
        return rows if free else later

    def _whole(self, at: Situation, lock: cronlock.CronLock | None) -> list[Row]:
        """Go over all that waits, under a lock that is ours; returns what waited."""
        rows = self._news.look(at.now, whole=True)
        self._whole_at = at.now
        until = time.monotonic() + BUSY_SECONDS
        while rows and self._pass(rows, at, lock).busy and time.monotonic() < until and not self._stop():
            time.sleep(BLINK)
        return rows

    def _pass(self, rows: list[Row], at: Situation, lock: cronlock.CronLock | None) -> InterceptResult:
        result = intercept.run(source=SOURCE, lock=lock, above=min(row.id for row in rows) - 1, quiet=True)
        if result.claimed:
            tasks.dispatch_soon()
        if result.refused:
            self._refusal = result.refused
            self._ready_until = at.now + READY_SECONDS
        elif not result.busy and not result.left.keys() & {reasons.CRON_RUNNING, reasons.STOPPED}:
            self._news.tried(rows, at.now)
        return result

    # --- what IOMAD must be let do ---

    def _owes_after(self, at: Situation, rows: list[Row]) -> None:
        """After a pass over `rows`: do mails wait that only IOMAD can send?"""
        self._owed = bool(self._waiting(at, rows) - self._offered) or self._handed_back(at)

    def _waiting(self, at: Situation, rows: list[Row]) -> set[int]:
        """The ids of those rows that are due and were not claimed."""
        due = [row.id for row in rows if row.due <= at.now]
        return {row_id for row_id, state in scan.states(due).items() if state.sent is None}

    def _handed_back(self, at: Situation) -> bool:
        """Whether a claim was handed back since IOMAD's task ran last."""
        assert at.task is not None
        moment = datetime.fromtimestamp(at.now, UTC)
        return Claim.objects.filter(
            state=ClaimState.RELEASED,
            source=SOURCE,
            created_at__gt=moment - timedelta(days=RELEASED_DAYS),
            settled_at__gt=datetime.fromtimestamp(at.task.lastruntime, UTC),
        ).exists()

    # --- for people ---

    def _report(self, now: float, at: Situation) -> None:
        """Put on record how it stands, for the overview."""
        state = self._state
        state.mode = at.mode
        state.last_look = datetime.fromtimestamp(now, UTC)
        state.why_not = at.why_not
        if not at.why_not and not at.lockable:
            state.why_not = reasons.LOCK_UNAVAILABLE
        looked = self._saved.last_look
        changed = state != replace(self._saved, last_look=state.last_look)
        if changed or looked is None or not timedelta() <= state.last_look - looked < SAY_EVERY:
            guardstate.save(state)
            self._saved = replace(state)
