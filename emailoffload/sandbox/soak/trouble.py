"""What goes wrong in a soak, carried out as the plan's script says."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

import MySQLdb

from emailoffload.sandbox import mariadb
from emailoffload.sandbox.bench.stage import ACCOUNT, Stage
from emailoffload.sandbox.soak.cloud import Cloud
from emailoffload.sandbox.soak.crew import Member
from emailoffload.sandbox.soak.plan import Trouble
from emailoffload.sandbox.soak.sink import Sink
from emailoffload.sandbox.soak.site import OURSELVES


class Troublemaker:
    """Carries out trouble, one after the other; what lasts ends by itself or by `peace`."""

    def __init__(
        self, made: Stage, workers: Sequence[Member], crons: Sequence[Member], cloud: Cloud, sink: Sink
    ) -> None:
        self.made = made
        self.workers = workers
        self.crons = crons
        self.cloud = cloud
        self.sink = sink
        self.counts: Counter[str] = Counter()
        self.log: list[str] = []
        self._ends: dict[threading.Timer, Callable[[], object]] = {}

    def make(self, trouble: Trouble, at: float) -> None:
        """Let one thing happen."""
        self.counts[str(trouble)] += 1
        self.log.append(f"{at:.2f} {trouble} {trouble.victim:.2f} for {trouble.lasts:.1f} s")
        worker = self.workers[int(trouble.victim * len(self.workers))]
        match trouble.kind:
            case "kill a worker":
                worker.kill()
                worker.start()
            case "kill one process of a worker":
                self._kill_one(worker, trouble.victim * len(self.workers) % 1)
            case "freeze a worker":
                worker.freeze()
                self._later(trouble.lasts, worker.thaw)
            case "kill Moodle's cron":
                cron = self.crons[int(trouble.victim * len(self.crons))]
                cron.kill()
                cron.start()
            case "kill MariaDB":
                restart(self.made.server, signal.SIGKILL)
            case "restart MariaDB":
                restart(self.made.server, signal.SIGTERM)
            case "cut connections":
                self._cut()
            case "SES faults":
                fault = self.cloud.fail(trouble.fault, trouble.share, trouble.lasts / 2)
                self._later(trouble.lasts, lambda: self.cloud.recover(fault))
            case "SES away":
                self.cloud.vanish()
                self._later(trouble.lasts, self.cloud.appear)
            case "SMTP faults":
                self.sink.fault = trouble.fault
                self._later(trouble.lasts, lambda: setattr(self.sink, "fault", ""))

    def peace(self) -> None:
        """End all that lasts."""
        for timer, end in list(self._ends.items()):
            timer.cancel()
            timer.join()
            end()
        self._ends.clear()
        self.cloud.recover()
        self.sink.fault = ""

    def _later(self, seconds: float, end: Callable[[], object]) -> None:
        timer = threading.Timer(seconds, end)
        timer.daemon = True
        self._ends[timer] = end
        timer.start()

    def _kill_one(self, worker: Member, share: float) -> None:
        """One of a cluster's processes, which must notice; of others it is the only one."""
        processes = worker.processes()
        assert worker.process is not None
        victim = processes[int(share * len(processes))] if processes else worker.process.pid
        if victim == worker.process.pid:
            worker.kill()
            worker.start()
            return
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)

    def _cut(self) -> None:
        """Cut all connections of the product, as a server does that was told to or a proxy that restarts."""
        try:
            for (number,) in self.made.rows(
                f"SELECT id FROM information_schema.processlist WHERE user IN ('{OURSELVES}', '{ACCOUNT}')",
                "information_schema",
            ):
                with suppress(MySQLdb.Error):
                    self.made.rows(f"KILL CONNECTION {int(number)}", "information_schema")
        except MySQLdb.Error:
            return


def restart(server: mariadb.Server, how: signal.Signals) -> None:
    """End the server, by SIGKILL as a crash does or politely, and start it on the same data."""
    assert server.process is not None
    server.process.send_signal(how)
    try:
        server.process.wait(20)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()
    time.sleep(0.2)
    server.process = mariadb.start(durable=True, folder=server.folder).process
