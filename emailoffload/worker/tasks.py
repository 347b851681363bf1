"""What django-q runs. A task only says "run a pass"; our database's rows say what is to be done (design §2).

A task that is lost or comes twice changes nothing. Results are stored by django-q, so they are counts only.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django_q.tasks import async_task

from emailoffload.accounts import sessions, throttle
from emailoffload.worker import alarms as alarming
from emailoffload.worker import coverage as coverage_count
from emailoffload.worker import dispatch as dispatcher
from emailoffload.worker import fallback as falling_back
from emailoffload.worker import feedback as listening
from emailoffload.worker import intercept as interceptor
from emailoffload.worker import lease, stopping
from emailoffload.worker import reconcile as reconciler
from emailoffload.worker import recover as recovery
from emailoffload.worker import rollups as counting
from emailoffload.worker import suppressions as list_keeper
from emailoffload.worker.privacy import retention as letting_go

MODULE = __name__
CHECKUP = "emailoffload.actions.checkup.take"
"""By its name only: what people can do stands above the worker, and the doctor is one of these."""


class PassFailed(Exception):
    """A pass ended with an error: which and where, without its text, which may quote an address or a mail."""


@contextmanager
def _in_worker() -> Iterator[None]:
    """A task's pass: it ends cleanly with its process, and its errors are fit to be stored by django-q.

    Raises PassFailed for every error.
    """
    with stopping.in_worker():
        try:
            yield
        except Exception as error:
            ours = [f for f in traceback.extract_tb(error.__traceback__) if "emailoffload" in f.filename]
            place = f"{ours[-1].name}, line {ours[-1].lineno}" if ours else "django-q"
            raise PassFailed(f"{type(error).__module__}.{type(error).__qualname__} in {place}") from None


def _enqueue(name: str) -> None:
    async_task(f"{MODULE}.{name}")


def intercept() -> dict[str, Any]:
    """One pass of the interceptor over every source of the site; sending starts at once if something was claimed."""
    results = {}
    with _in_worker():
        for source in interceptor.sources_here():
            result = interceptor.run(source=source)
            results[source] = result.as_dict()
            if result.claimed:
                dispatch_soon()
    return results


def dispatch() -> dict[str, Any]:
    """One pass of the dispatcher; it calls its successor where mails fall due before the next one."""
    with _in_worker():
        result = dispatcher.run()
        if result.more and not (result.busy or result.refused or stopping.requested()):
            _enqueue("dispatch")
        if result.opened:
            _enqueue("fallback")
    return result.as_dict()


def recover() -> dict[str, Any]:
    """One pass of recovery."""
    with _in_worker():
        return recovery.run().as_dict()


def logins() -> dict[str, int]:
    """Erase what is kept of guessed passwords for longer than 30 days, and sessions that have ended."""
    with _in_worker():
        return {"guesses": throttle.forget_old(), "sessions": sessions.forget_ended()}


def fallback() -> dict[str, Any]:
    """One pass of the fallback, without waiting for the next recovery: the breaker has opened."""
    with _in_worker():
        return falling_back.run().as_dict()


def reconcile() -> dict[str, Any]:
    """One pass of the reconciler."""
    with _in_worker():
        return reconciler.run().as_dict()


def coverage() -> dict[str, Any]:
    """Count what of the site's mail is ours."""
    with _in_worker():
        return coverage_count.run().as_dict()


def feedback() -> dict[str, Any]:
    """One pass over the event queue; it calls its successor where more waits than it could take."""
    with _in_worker():
        result = listening.run()
        if result.waiting and not (result.busy or result.refused or result.trouble or stopping.requested()):
            _enqueue("feedback")
    return result.as_dict()


def alarms() -> dict[str, Any]:
    """One pass over alarms."""
    with _in_worker():
        return alarming.run().as_dict()


def rollups() -> dict[str, Any]:
    """One pass over the dashboard's counts; it calls its successor where it could not count everything."""
    with _in_worker():
        result = counting.run()
        if result.more and not (result.busy or stopping.requested()):
            _enqueue("rollups")
    return result.as_dict()


def retention() -> dict[str, Any]:
    """One pass that lets go of what was kept for long enough."""
    with _in_worker():
        return letting_go.run().as_dict()


def suppressions(at_once: bool = False) -> dict[str, Any]:
    """One pass that makes our list of suppressed addresses and SES's the same; it calls its successor."""
    with _in_worker():
        result = list_keeper.run(at_once=at_once)
        if result.soon and not stopping.requested():
            _enqueue("suppressions")
    return result.as_dict()


def suppressions_soon() -> None:
    """Have the lists compared now: a person has just changed ours."""
    if settings.SES_SUPPRESSION_SYNC:
        async_task(f"{MODULE}.suppressions", at_once=True)


def dispatch_soon() -> int:
    """Have every dispatcher that is not at work started now; returns how many were called."""
    slots = lease.slot_names("dispatch", settings.DISPATCH_SLOTS)
    idle = len(slots) - len(lease.running(slots))
    for _ in range(idle):
        _enqueue("dispatch")
    return idle


def start_up() -> None:
    """What a worker does first, without waiting for the schedules: settle what died, then work."""
    _enqueue("recover")
    _enqueue("intercept")
    dispatch_soon()
    if listening.configured():
        _enqueue("feedback")
    if coverage_count.is_due():
        _enqueue("coverage")
