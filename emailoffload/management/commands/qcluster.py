"""`manage.py qcluster`: django-q's worker, with our schedules made right, passes that end with it, and the watch
over IOMAD's queue in its first process.

Of a database of ours that goes away django-q's processes know nothing. The one that takes tasks ends and is started
anew ten seconds later, the one that keeps results when it next has one; the others only log it. What they do not
survive is a server that accepts a question and never answers, and a start without a database: those are dealt with
here.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.db import Error, InterfaceError, OperationalError, connections
from django_q.cluster import Cluster
from django_q.management.commands import qcluster

from emailoffload import logs
from emailoffload.worker import cronguard, patience, schedules, stopping, tasks

log = logging.getLogger(__name__)
LONGEST_PAUSE = 30.0
"""Between two tries to begin, while our database is away."""
LAST_BATCH_SECONDS = 10
"""How long the worker's end waits for the watch over IOMAD's queue, which ends with its batch."""


class StoppingCluster(Cluster):
    """A cluster that tells its workers' passes to end: by itself it would wait for them."""

    def sig_handler(self, signum: int, frame: Any) -> None:
        """SIGTERM or SIGINT came."""
        stopping.announce()
        # Where a supervisor signals all processes at once, the sentinel is gone by now, and waking it would
        # wait for ever.
        sentinel: Any = self.sentinel
        if sentinel is not None:
            sentinel.join(0.3)
            if not sentinel.is_alive() or _is_gone(sentinel.pid):
                return
        super().sig_handler(signum, frame)  # type: ignore[no-untyped-call]  # django-q has no types

    def wait(self) -> None:
        """Return when the sentinel has ended, by a signal or by itself."""
        sentinel: Any = self.sentinel
        while sentinel is not None and sentinel.is_alive() and not _is_gone(sentinel.pid):
            sentinel.join(1)


def _is_gone(pid: int) -> bool:
    """Whether there is no such process any more.

    A signal can come just after the main thread has learnt that the sentinel ended and before it has noted
    it; asked again, `multiprocessing` then takes the sentinel for alive.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


class Command(qcluster.Command):
    """Start a worker; SIGTERM or Ctrl-C ends it within seconds, with nothing left half done."""

    help = "Starts the worker: claims, sends and recovers by schedule until it is stopped."

    def handle(self, *args: Any, **options: Any) -> None:
        """Make the schedules right, queue the first passes, start."""
        if options.get("cluster_name"):
            os.environ["Q_CLUSTER_NAME"] = options["cluster_name"]
        patience.give_up_on_a_stalled_server()
        if not _begin():
            return
        # The worker's processes are forked from this one and must not share its connections.
        connections.close_all()
        cluster = StoppingCluster()
        cluster.start()
        if options.get("run_once"):
            cluster.stop()
            return
        # Only now: nothing is forked from this process any more, and a thread must not be there when it is.
        over = threading.Event()
        watch = cronguard.start(lambda: over.is_set() or stopping.requested())
        log.info("The worker begins, with %d processes for passes.", settings.Q_CLUSTER["workers"])
        cluster.wait()
        over.set()
        watch.join(LAST_BATCH_SECONDS)
        log.info("The worker ends%s.", ", as it was told to" if stopping.requested() else "")
        if not stopping.requested():
            raise CommandError("The worker's processes ended unasked. Start it again; its log says why.")


def _begin() -> bool:
    """Make the schedules right and queue the first passes, as soon as our database allows it.

    Returns False when the worker was told to stop meanwhile. Raises errors that waiting does not cure.
    """
    told = threading.Event()
    signals = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: told.set()) for number in signals}
    pause = 0.5
    try:
        while not told.is_set():
            try:
                schedules.ensure()
                schedules.check_up_soon()
                tasks.start_up()
                return True
            except (OperationalError, InterfaceError) as error:
                if not _may_pass(error):
                    raise
                log.warning(
                    "Our database cannot be used (%s). The worker waits for it. Look whether its server runs and "
                    "DATABASE_URL is right.",
                    logs.named(error),
                )
            for connection in connections.all(initialized_only=True):
                with suppress(Error):
                    connection.close()
            told.wait(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)
        return False
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _code(error: Exception) -> object:
    return error.args[0] if error.args and isinstance(error.args[0], int) else type(error).__name__


def _may_pass(error: Exception) -> bool:
    """Whether this may end by itself: not where a table is missing, which `migrate` cures."""
    return _code(error) not in {1054, 1146} and "no such" not in str(error)
