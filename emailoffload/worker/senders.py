"""The threads that transmit. They touch no database: jobs come in, outcomes go out."""

from __future__ import annotations

import queue
import threading
from collections import deque
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone
from django.utils.translation import gettext_noop as _

from emailoffload.delivery import message, ses
from emailoffload.delivery.errors import Outcome
from emailoffload.outbox import content
from emailoffload.worker import killpoints
from emailoffload.worker.refused_senders import RefusedSenders


@dataclass(frozen=True, slots=True)
class Job:
    """One email that a dispatcher has leased, with what sending it needs."""

    email_id: int
    claim_id: int
    source: str
    role: str
    ref: str
    """The reference as 32 hex digits."""
    attempt: int
    """The number that its next attempt will have."""
    due_at: datetime
    deadline_at: datetime
    created_at: datetime
    key_id: str
    body: bytes
    resend: bool = False
    """A person asked for it (`worker.resends`)."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a job; `outcome` None: it was taken back before anything was transmitted."""

    job: Job
    outcome: Outcome | None
    at: datetime


class Senders:
    """A pool of threads for one pass."""

    def __init__(self, threads: int, refused: RefusedSenders) -> None:
        self._refused = refused
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._results: deque[Result] = deque()
        self._enough = threading.Event()
        self._wanted = 1
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, jobs: list[Job]) -> None:
        """Have these transmitted as soon as threads are free."""
        for job in jobs:
            self._jobs.put(job)

    def results(self, enough: int, seconds: float) -> list[Result]:
        """Wait for results: until there are `enough`, at most `seconds`; returns all that there are.

        The caller is woken once, not for each: it would take the interpreter from the threads each time.
        """
        self._wanted = enough
        self._enough.clear()
        if len(self._results) < enough and seconds > 0:
            self._enough.wait(seconds)
        return [self._results.popleft() for _ in range(len(self._results))]

    def take_back(self) -> list[Result]:
        """The jobs that no thread has begun; nothing of them was transmitted."""
        found: list[Result] = []
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return found
            if job is not None:
                found.append(Result(job, None, timezone.now()))

    def close(self) -> None:
        """End the threads; each finishes the mail that it is transmitting."""
        for _thread in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                outcome = transmit(job, self._refused)
            except Exception as error:
                # Broad on purpose: a job without a result would be waited for. What happened is not known.
                outcome = Outcome("unknown", type(error).__name__, _("The send failed in an unexpected way."))
            self._results.append(Result(job, outcome, timezone.now()))
            if len(self._results) >= self._wanted:
                self._enough.set()


def transmit(job: Job, refused: RefusedSenders) -> Outcome:
    """Open the content, build the request, transmit it once, unless SES has refused its sender in this pass."""
    try:
        parts = content.open_body(job.key_id, job.body)
        request = message.build(parts, job.ref, job.source)
    except content.UnknownKey as error:
        # Another host may have the key, and this one may get it: try again until the deadline.
        return Outcome("not_transmitted", error.code, str(error))
    except (content.ContentError, message.Unsendable) as error:
        return Outcome("permanent", error.code, str(error))
    known = refused.answer(parts.from_address)
    if known:
        return known
    killpoints.reached("before_send")
    outcome = ses.send(request, sender=parts.from_address, recipient=parts.to_address)
    killpoints.reached("after_send")
    refused.note(parts.from_address, outcome)
    return outcome
