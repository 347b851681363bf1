"""One pass over the event queue: what SES reports is received, stored and applied, then deleted from the queue.

1. Threads receive (`_Receivers`): one that waits for messages, more of them while every answer is full.
2. The main thread, which alone uses the database, stores what has arrived, some hundred messages in one
   transaction (`feedback.inbox`).
3. Only then other threads delete these messages. A process that dies before that gets them again, and finds
   them stored.

The pass stays on for its budget, so that an event is seen within a second or so of its arrival. Nothing here
sleeps through a stop; a request that is open then is left alone, and gives back what it still receives.
"""

from __future__ import annotations

import queue as queues
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from emailoffload.feedback import inbox, queue, queuestate
from emailoffload.feedback.inbox import Message, Received
from emailoffload.feedback.queue import QueueProblem, Taken
from emailoffload.outbox import content
from emailoffload.worker import killpoints, lease, runs, stopping

BUDGET_SECONDS = 55.0
"""How long a pass stays on; the schedule starts the next one within the minute."""
AT_ONCE = 500
"""Messages per transaction, at most."""
HELD = 60
"""Answers of SQS that may wait for the main thread: what is received is hidden from others for a while only."""
DELETERS = 8
TICK = 0.5
NOTE_EVERY = 10.0
"""Seconds between two notes of how the queue is."""
LOOK_AGAIN_EVERY = 15.0
LONGEST_PAUSE = 30.0
NOT_SET_UP = gettext_lazy("There is no event queue: SES_EVENTS_QUEUE_URL is not set.")
SET_UP = gettext_lazy("Set it; `manage.py sessetup` makes the queue and prints its address.")


@dataclass
class FeedbackResult:
    """What one pass saw and did. `refused` and `cure` say why the queue could not be read."""

    received: Received = field(default_factory=Received)
    found_again: int = 0
    """Events whose mail was looked for again."""
    undeleted: int = 0
    """Messages that SQS did not delete: they come again, and are found to be stored."""
    waiting: int = 0
    """Messages that were left in the queue."""
    seconds: float = 0.0
    busy: bool = False
    refused: str = ""
    cure: str = ""
    trouble: str = ""
    """What kept SQS from answering, where that goes away by itself."""

    def as_dict(self) -> dict[str, Any]:
        """The counts under stable keys, for `--json`, the run's record and django-q's result."""
        return {
            **self.received.as_dict(),
            "looked_again": self.found_again,
            "undeleted": self.undeleted,
            "waiting": self.waiting,
            "seconds": round(self.seconds, 3),
            "busy": self.busy,
            "refused": self.refused,
            "cure": self.cure,
        }


def configured() -> bool:
    """Whether events come here at all, by the queue or the webhook."""
    return bool(settings.SES_EVENTS_QUEUE_URL or settings.SNS_TOPICS)


def run(*, until_empty: bool = False, budget: float = BUDGET_SECONDS) -> FeedbackResult:
    """One pass; `busy` when another is at work.

    It ends after `budget` seconds, or, with `until_empty`, as soon as the queue is. Where events come by the
    webhook it only looks again for mails that were not found. Raises database errors; what was not stored then
    stays in the queue.
    """
    started = time.monotonic()
    result = FeedbackResult()
    with lease.hold("feedback") as held:
        if held is None:
            result.busy = True
            return result
        with runs.record("feedback", held.holder) as recording:
            try:
                _go(held, result, None if until_empty else started + budget)
            finally:
                result.seconds = time.monotonic() - started
                recording.counts = result.as_dict()
            if result.refused:
                recording.refused(f"{result.refused} {result.cure}".strip())
            elif result.trouble:
                recording.errors(result.trouble)
            elif stopping.requested():
                recording.interrupted("the pass was asked to stop")
    return result


def _go(held: lease.Held, result: FeedbackResult, deadline: float | None) -> None:
    try:
        content.ensure_keys()
    except content.ForeignKeys as error:
        result.refused = str(error)
        return
    _look_again(result)
    if settings.SES_EVENTS_QUEUE_URL:
        _Pass(held, result, deadline).go()
    elif not settings.SNS_TOPICS:
        result.refused, result.cure = str(NOT_SET_UP), str(SET_UP)


def _look_again(result: FeedbackResult) -> None:
    while not stopping.requested():
        done = inbox.look_again()
        result.found_again += done.events
        result.received.changed += done.changed
        result.received.doubles += done.doubles
        if done.events < inbox.LOOKS:
            return


@dataclass(frozen=True, slots=True)
class _Answer:
    """One answer of SQS, or what came instead of one."""

    asked_at: datetime
    messages: list[Taken] = field(default_factory=list)
    problem: QueueProblem | None = None


class _Receivers:
    """The threads that ask SQS. The first waits for messages; the others end when there are none."""

    def __init__(self, deadline: float | None) -> None:
        self.answers: queues.Queue[_Answer] = queues.Queue(HELD)
        self.deadline = deadline
        self.closed = threading.Event()
        self.threads: list[threading.Thread] = []
        self.add()

    def add(self) -> None:
        """One more, unless there are enough."""
        self.threads = [thread for thread in self.threads if thread.is_alive()]
        if len(self.threads) < queue.RECEIVERS:
            # Daemons: a request that SQS holds open must not hold up the end of a process.
            target = self._more if self.threads else self._first
            thread = threading.Thread(target=target, name="feedback-receiver", daemon=True)
            self.threads.append(thread)
            thread.start()

    def alone(self) -> bool:
        """Whether only the first is left, so that nothing is on its way from the others."""
        return sum(thread.is_alive() for thread in self.threads) <= 1

    def close(self) -> None:
        """End them. Threads that wait for room or in a pause end at once, open requests when SQS answers."""
        self.closed.set()

    def _first(self) -> None:
        pause = 0.5
        while not self.closed.is_set():
            answer = self._ask(self._wait())
            if answer is None:
                return
            if answer.problem is None:
                pause = 0.5
                continue
            pause = min(LONGEST_PAUSE, 2 * pause)
            if answer.problem.lasting or self.closed.wait(pause):
                return

    def _more(self) -> None:
        while not self.closed.is_set():
            answer = self._ask(0)
            if answer is None or not answer.messages:
                return

    def _wait(self) -> int:
        if self.deadline is None:
            return 1
        return max(0, min(queue.LONG_POLL, int(self.deadline - time.monotonic())))

    def _ask(self, wait: int) -> _Answer | None:
        """Ask once and hand over the answer; None when the pass is over and nobody takes it."""
        asked_at = timezone.now()
        try:
            answer = _Answer(asked_at, queue.take(wait))
        except QueueProblem as problem:
            answer = _Answer(asked_at, problem=problem)
        except Exception as error:
            # Broad on purpose: a thread that died in silence would look like a queue without messages.
            code = type(error).__name__
            text = _("The queue of SES's events could not be asked (%(code)s).") % {"code": code}
            answer = _Answer(
                asked_at, problem=QueueProblem(code, text, _("The log has more."), lasting=False)
            )
        while not self.closed.is_set():
            try:
                self.answers.put(answer, timeout=TICK)
            except queues.Full:
                continue
            return answer
        give_back(answer.messages)
        return None


def give_back(messages: list[Taken]) -> None:
    """Let others have what was received and not stored; they would have it in two minutes anyway."""
    try:
        queue.give_back(messages)
    except QueueProblem:
        return


class _Pass:
    """The state of one pass over the queue."""

    def __init__(self, held: lease.Held, result: FeedbackResult, deadline: float | None) -> None:
        self.held = held
        self.result = result
        self.deadline = deadline
        self.state = queuestate.load()
        self.noted = 0.0
        self.looked = time.monotonic()
        self.empty_at: datetime | None = None
        self.deleting: list[Future[int]] = []

    def go(self) -> None:
        """Run the pass; what was received by its end is stored before it ends."""
        self.receivers = _Receivers(self.deadline)
        with _deleters() as self.deleters:
            try:
                while self._goes_on():
                    self._round(TICK)
                self.receivers.close()
                while not self.receivers.answers.empty():
                    self._round(0)
            finally:
                self.receivers.close()
        self._deleted()
        self._note(force=True)
        self.result.waiting = self.state.waiting

    def _goes_on(self) -> bool:
        if self.result.refused or stopping.requested() or not self.held.beat():
            return False
        if self.deadline is None:
            return self.empty_at is None and not self.result.trouble
        return time.monotonic() < self.deadline

    def _round(self, wait: float) -> None:
        """Store what has arrived, and have it deleted; waits up to `wait` seconds for the first answer."""
        answers = self._collect(wait)
        taken = [message for answer in answers for message in answer.messages]
        if taken:
            self._store(taken)
        if any(len(answer.messages) == queue.AT_ONCE for answer in answers):
            self.receivers.add()
        for answer in answers:
            self._judge(answer)
        self._deleted(wait=False)
        self._note()
        if time.monotonic() - self.looked > LOOK_AGAIN_EVERY:
            self.looked = time.monotonic()
            _look_again(self.result)

    def _collect(self, wait: float) -> list[_Answer]:
        answers: list[_Answer] = []
        try:
            if wait:
                answers.append(self.receivers.answers.get(timeout=wait))
            while len(answers) * queue.AT_ONCE < AT_ONCE:
                answers.append(self.receivers.answers.get_nowait())
        except queues.Empty:
            pass
        return answers

    def _store(self, taken: list[Taken]) -> None:
        received = inbox.receive([Message(each.body) for each in taken])
        killpoints.reached("feedback_stored")
        self.result.received.add(received)
        if received.events:
            self.state.event_at = timezone.now()
        for start in range(0, len(taken), queue.AT_ONCE):
            self.deleting.append(self.deleters.submit(queue.delete, taken[start : start + queue.AT_ONCE]))

    def _judge(self, answer: _Answer) -> None:
        """What an answer says about the queue."""
        problem = answer.problem
        self.empty_at = None
        if problem is None:
            self.result.trouble = self.state.error = self.state.error_code = self.state.cure = ""
            self.state.error_at = None
            self.state.polled_at = timezone.now()
            if not answer.messages and self.receivers.alone() and self.receivers.answers.empty():
                self.empty_at = answer.asked_at
            return
        self.state.error, self.state.error_code = str(problem), problem.code
        self.state.cure = problem.cure
        self.state.error_at = self.state.error_at or answer.asked_at
        if problem.lasting:
            self.result.refused, self.result.cure = str(problem), problem.cure
        else:
            self.result.trouble = str(problem)

    def _deleted(self, *, wait: bool = True) -> None:
        """Count what SQS did not delete. It comes again, and is found to be stored."""
        for future in [each for each in self.deleting if wait or each.done()]:
            self.deleting.remove(future)
            try:
                self.result.undeleted += future.result()
            except QueueProblem as problem:
                self.result.undeleted += queue.AT_ONCE
                self.result.trouble = str(problem)

    def _note(self, *, force: bool = False) -> None:
        """Write down how the queue is, from time to time."""
        if not force and time.monotonic() - self.noted < NOTE_EVERY:
            return
        self.noted = time.monotonic()
        if not self.state.error:
            try:
                left = queue.backlog()
            except QueueProblem as problem:
                self.result.trouble = self.result.trouble or str(problem)
            else:
                self.state.waiting, self.state.in_flight = left.waiting, left.in_flight
                if self.empty_at and not (left.waiting or left.in_flight or self.deleting):
                    self.state.drained_at = self.empty_at
        queuestate.save(self.state)


@contextmanager
def _deleters() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(DELETERS, thread_name_prefix="feedback-deleter") as pool:
        yield pool
