"""`manage.py qcluster`: django-q's worker, with our schedules made right, passes that end with it, and the watch
over IOMAD's queue in its first process."""

from __future__ import annotations

import os
import threading
from typing import Any

from django.db import connections
from django_q.cluster import Cluster
from django_q.management.commands import qcluster

from emailoffload.worker import cronguard, schedules, stopping, tasks

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
        schedules.ensure()
        tasks.start_up()
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
        cluster.wait()
        over.set()
        watch.join(LAST_BATCH_SECONDS)
