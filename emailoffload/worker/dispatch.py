"""One pass of the dispatcher: what is due in the outbox is sent through SES and recorded.

Steps, again and again until the budget is used up or nothing falls due soon:
1. lease due mails (one guarded UPDATE) and load what they say;
2. ask Moodle whether they may still leave (`eligibility`);
3. reserve sending time (`rate`), mark a small window `sending` with an attempt each, in one transaction;
4. hand the window to the threads (`senders`), which transmit and touch no database;
5. record what came back, many at a time, in one transaction (`outcomes` says what follows from what).

A process that is killed leaves at most one window in `sending`; recovery makes those `uncertain`.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from emailoffload.delivery import errors, health, pace, rate, ses
from emailoffload.delivery.errors import Outcome
from emailoffload.outbox import content, hourchanges, switches, transitions
from emailoffload.outbox.figures import EMAILS
from emailoffload.outbox.models import Email
from emailoffload.outbox.states import EmailState
from emailoffload.worker import killpoints, lease, outcomes, runs, stopping
from emailoffload.worker.patience import Patience
from emailoffload.worker.recover_sends import recover_sends
from emailoffload.worker.refused_senders import RefusedSenders
from emailoffload.worker.senders import Job, Result, Senders
from emailoffload.worker.supply import Supply

logger = logging.getLogger(__name__)

AHEAD_SECONDS = 0.25
"""How far ahead the shared rate is asked for: what bursts may exceed it by."""
SOON = timedelta(seconds=90)
"""A pass stays on for mails that fall due so soon: the next scheduled one may start half a minute late."""
POLL = 0.5


@dataclass
class DispatchResult:
    """What one pass did with mails. `refused` and `cure` say why nothing, or nothing more, could be sent."""

    sent: int = 0
    suppressed: int = 0
    retried: int = 0
    """Nothing was transmitted, or Moodle could not be asked: tried again later."""
    uncertain: int = 0
    failed: int = 0
    seconds: float = 0.0
    more: bool = False
    """Mails fall due soon that this pass did not wait for."""
    busy: bool = False
    opened: bool = False
    """The breaker was opened: what is due may have to go another way."""
    refused: str = ""
    cure: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The counts under stable keys, for `--json`, the run's record and django-q's result."""
        return {
            "sent": self.sent,
            "suppressed": self.suppressed,
            "retried": self.retried,
            "uncertain": self.uncertain,
            "failed": self.failed,
            "seconds": round(self.seconds, 3),
            "busy": self.busy,
            "refused": self.refused,
            "cure": self.cure,
        }


def run(*, until_empty: bool = False, budget: float | None = None) -> DispatchResult:
    """One pass, in the first free of DISPATCH_SLOTS; `busy` when there is none.

    It ends when nothing is due or falls due within SOON, or after `budget` seconds (DISPATCH_BUDGET_SECONDS;
    with `until_empty` there is no such limit unless one is given).
    """
    started = time.monotonic()
    if budget is None and not until_empty:
        budget = settings.DISPATCH_BUDGET_SECONDS
    deadline = None if budget is None else started + budget
    result = DispatchResult()
    with lease.hold_any("dispatch", settings.DISPATCH_SLOTS) as held:
        if held is None:
            result.busy = True
            return result
        with runs.record("dispatch", held.holder) as recording:
            recover_sends()
            if not _refuse(result):
                _Pass(held, result, deadline).go()
            result.more = next_due(timezone.now() + SOON) is not None
            result.seconds = time.monotonic() - started
            recording.counts = result.as_dict()
            if result.refused:
                recording.refused(f"{result.refused} {result.cure}".strip())
            elif stopping.requested():
                recording.interrupted("the pass was asked to stop")
    return result


def next_due(until: datetime) -> datetime | None:
    """When the next free mail falls due, if that is before `until`."""
    waiting = Email.objects.filter(state=EmailState.QUEUED, next_try_at__lte=until, lease="")
    return waiting.order_by("next_try_at").values_list("next_try_at", flat=True).first()


def _refuse(result: DispatchResult) -> bool:
    """Fill in why nothing can be sent now, if so."""
    stopped = health.breaker()
    if _paused(result):
        return True
    if stopped and stopped.open:
        seconds = max(1, int(stopped.open_until - time.time()))
        result.refused = _(
            "SES refused or did not answer (%(code)s); it is tried again in %(seconds)s s."
        ) % {"code": stopped.code, "seconds": seconds}
        result.cure = stopped.why
    else:
        try:
            content.ensure_keys()
        except content.ForeignKeys as error:
            result.refused = str(error)
            return True
        refused = health.refusal(rate.known())
        if refused:
            _stopped_by(refused, result)
    return bool(result.refused)


def _paused(result: DispatchResult) -> bool:
    pause = switches.pause()
    if pause.sends:
        _say_paused(result, pause.by)
    return pause.sends


def _say_paused(result: DispatchResult, by: str) -> None:
    result.refused = _("Sending is paused by %(who)s.") % {"who": by or _("somebody")}
    result.cure = _("Resume it with manage.py drain --resume.")


def _stopped_by(outcome: Outcome, result: DispatchResult) -> None:
    """SES takes nothing from us now: say so, and let nobody claim until it does."""
    health.trip(outcome)
    result.opened = True
    result.refused, result.cure = (
        _("No mail can be sent now (%(code)s).") % {"code": outcome.code},
        outcome.message,
    )


class _Pass:
    """The state of one pass. Only the main thread uses the database."""

    def __init__(self, held: lease.Held, result: DispatchResult, deadline: float | None) -> None:
        self.held = held
        self.result = result
        self.deadline = deadline
        self.token = uuid.uuid4().hex
        self.patience = Patience()
        self.threads: int = settings.DISPATCH_THREADS
        self.ours: set[int] = set()
        """Ids of all mails that this pass has leased and that have not ended."""
        self.ready: deque[Job] = deque()
        self.in_flight: set[int] = set()
        self.ended: list[Result] = []
        self.rate = 0.0
        self.allowed = 0
        """Mails that the shared rate allows us and that have not been sent yet."""
        self.slow_until = 0.0
        """When the rate allows something again (monotonic)."""
        self.not_before = 0.0
        """When the outbox may be asked again (monotonic)."""
        self.extended = time.monotonic()
        self.probing = health.breaker() is not None
        """The breaker was open: one mail at a time, until SES takes one."""
        self.no_answer = 0
        self.halt = False

    def go(self) -> None:
        """Run the pass; whatever happens, nothing stays leased that could be given back."""
        self.refused = RefusedSenders()
        self.senders = Senders(self.threads, self.refused)
        self.supply = Supply(self.token, self._until)
        try:
            while self._goes_on():
                self._exchange(self._feed())
                self._collect()
        finally:
            self._finish()

    def _goes_on(self) -> bool:
        if self.halt or stopping.requested():
            return False
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return False
        if not self._keep():
            return False
        if self.ready or self.in_flight or self.ended or self.supply.busy:
            return True
        due = next_due(timezone.now() + SOON)
        if due is None:
            return False
        wait = (due - timezone.now()).total_seconds()
        if self.deadline is not None:
            wait = min(wait, self.deadline - time.monotonic())
        if wait > 0:
            stopping.wait(min(POLL, wait))
        return True

    def _keep(self) -> bool:
        """Keep what is ours; False when the pass was taken over."""
        if time.monotonic() - self.extended > settings.LEASE_SECONDS / 4:
            transitions.extend(self.ours, self.token, self._until())
            self.extended = time.monotonic()
        return self.held.beat()

    def _until(self) -> datetime:
        """How long a mail is ours without a further sign: never less than a send can take."""
        longest = settings.SES_CONNECT_TIMEOUT_SECONDS + settings.SES_READ_TIMEOUT_SECONDS + 10
        return timezone.now() + timedelta(seconds=max(settings.LEASE_SECONDS, longest))

    def _feed(self) -> list[Job]:
        """What the threads get next: they are kept busy, with as little as possible marked `sending` ahead."""
        now = time.monotonic()
        self._refill()
        if self.halt or now < self.slow_until:
            return []
        window = self._window()
        room = window - len(self.in_flight) + len(self.ended)
        # Small refills cost a transaction each: wait until a good part of the window is free.
        if not self.ready or room <= 0 or room < min(self._half(), len(self.ready)):
            return []
        wanted = min(room, len(self.ready))
        if self.allowed < wanted:
            # A little ahead, as asking costs a transaction; never for more than is ready to leave.
            ahead = min(len(self.ready), max(wanted, int(self.rate * AHEAD_SECONDS)))
            granted, wait = rate.reserve(ahead - self.allowed, self.rate)
            self.allowed += granted
            if wait and self.allowed < wanted:
                self.slow_until = time.monotonic() + wait
        count = min(wanted, self.allowed)
        self.allowed -= count
        return [self.ready.popleft() for _ in range(count)]

    def _window(self) -> int:
        """How many mails may be marked `sending` at once."""
        return 1 if self.probing else 3 * self.threads

    def _half(self) -> int:
        """How many ended mails are worth a transaction while there are more to send."""
        return max(1, self._window() // 2)

    def _exchange(self, jobs: list[Job]) -> None:
        """Record what has ended and mark what is sent next, in one transaction; then send it.

        A few results wait for company while there is more to send: a transaction costs more than they do.
        """
        few = len(self.ended) < self._half()
        if not jobs and (not self.ended or (few and self.ready and len(self.ended) < len(self.in_flight))):
            return
        if self.ended:
            killpoints.reached("before_record")
        now = timezone.now()
        ended = [outcomes.follow(result, now) for result in self.ended]
        # One note for all: to look the hours up, or to note twice, costs a dispatcher some percent of its time.
        rendered = {result.job.created_at for result in self.ended} | {job.created_at for job in jobs}
        won: set[int] = set()

        def write() -> None:
            with transaction.atomic():
                transitions.record(ended, self.token, self.held.holder, now=now, noted=True)
                if jobs:
                    items = [(job.email_id, job.attempt) for job in jobs]
                    won.clear()
                    won.update(
                        transitions.mark_sending(
                            items,
                            self.token,
                            self.held.holder,
                            now=now,
                            until=self._until(),
                            noted=True,
                        )
                    )
                hourchanges.began(EMAILS, rendered)

        self.patience.again(write)
        self._settled(ended)
        if self.halt:
            # What has just ended stops this pass: nothing of the next mails was transmitted.
            self.in_flight |= won
            self.ended += [Result(job, None, now) for job in jobs if job.email_id in won]
        elif won:
            self._send(jobs, won)

    def _send(self, jobs: list[Job], won: set[int]) -> None:
        killpoints.reached("after_marking")
        if not self.in_flight:
            ses.wake()
        self.in_flight |= won
        self.senders.submit([job for job in jobs if job.email_id in won])

    def _refill(self) -> None:
        """Have the next batch fetched in time, and take what was fetched."""
        waiting = len(self.ready) + len(self.in_flight) - len(self.ended)
        if len(self.ready) <= self.supply.size and time.monotonic() >= self.not_before:
            self.supply.ask(len(self.ready))
        batch = self.supply.take(0 if waiting else POLL)
        if batch is None:
            return
        if batch.paused is not None:
            _say_paused(self.result, batch.paused)
            self.halt = True
            return
        self.rate = batch.rate
        self.result.suppressed += batch.suppressed
        self.result.failed += batch.failed
        self.result.retried += batch.postponed
        self.ready.extend(batch.jobs)
        self.ours |= batch.leased
        if batch.used_up and not self.in_flight and not self.ready:
            self._stop(Outcome("quota", errors.DAILY_QUOTA, errors.QUOTA[errors.DAILY_QUOTA]))
        if not batch.jobs:
            if not self.in_flight and not self.ready:
                self._stop_if_all_refused()
            # Nothing is due just now, or nothing may leave: look again soon.
            self.not_before = time.monotonic() + (POLL / 5 if self.in_flight else 0)

    def _collect(self) -> None:
        """Take results from the threads and record them when they are worth a transaction."""
        if not self.in_flight:
            if self.ready:
                stopping.wait(max(0.0, min(POLL, self.slow_until - time.monotonic())))
            return
        waiting = len(self.in_flight) - len(self.ended)
        self.ended += self.senders.results(min(waiting, self._half()), 0.1)

    def _settled(self, ended: list[transitions.Ended]) -> None:
        outcomes.count(ended, self.result)
        gone = {item.email_id for item in ended}
        self.in_flight -= gone
        self.ours -= gone
        results, self.ended = self.ended, []
        if any(result.outcome and result.outcome.kind == "throttled" for result in results):
            pace.slow_down()
            self.rate = rate.known().rate
        silent: Outcome | None = None
        for result in results:
            if result.outcome:
                self._judge(result.outcome)
                if health.no_answer(result.outcome.kind, result.outcome.code):
                    silent = result.outcome
        if silent and not self.halt and health.unanswered():
            # Few of them were this pass's own: a small site has few mails, and several dispatchers share them.
            self._stop(silent)

    def _judge(self, outcome: Outcome) -> None:
        """What one outcome says about SES as a whole."""
        self.refused.count(outcome)
        if outcome.kind in errors.WHOLE_ACCOUNT:
            self._stop(outcome)
        elif health.no_answer(outcome.kind, outcome.code):
            # Each further one would only be uncertain too.
            self.no_answer += 1
            if self.no_answer >= health.NO_ANSWER or self.probing:
                self._stop(outcome)
        elif outcome.kind == "identity":
            self.no_answer = 0
            if not outcome.http_status:
                # Nothing was transmitted: what the rate allowed for it is for another mail.
                self.allowed += 1
        elif outcome.http_status:
            self.no_answer = 0
            if self.probing:
                self.probing = False
                health.close()

    def _stop_if_all_refused(self) -> None:
        outcome = self.refused.all_refused()
        if outcome:
            self._stop(outcome)

    def _stop(self, outcome: Outcome) -> None:
        if not self.halt:
            _stopped_by(outcome, self.result)
        self.halt = True

    def _finish(self) -> None:
        """Wait for what is being transmitted, record it, give back the rest."""
        self.ours |= self.supply.close()
        try:
            self.ended += self.senders.take_back()
            self.senders.close()
            self.ended += self.senders.results(len(self.in_flight) - len(self.ended), 0)
            self._exchange([])
            if not stopping.requested():
                self._stop_if_all_refused()
        finally:
            self.patience.again(lambda: transitions.unlease(self.ours, self.token))
