"""Hosts: the real worker, `manage.py qcluster`, in process groups of their own, each under a host name of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from django.conf import settings as configured
from django.db import connection
from django.db.models.functions import Now
from django_q.brokers import get_broker
from django_q.models import OrmQ
from django_q.tasks import async_task

from emailoffload.outbox.models import Lease, Run
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.worker import tasks
from emailoffload.worker.broker import Unusable
from tests.settings import APP_ACCOUNT, SERVER

LEASE_SECONDS = 5
SLOTS = 5
"""More dispatchers than one host has processes: no host can do all by itself."""
SCRIPT = """
import socket, sys
socket.gethostname = lambda: sys.argv[1]
import django; django.setup()
from django.core.management import call_command
from emailoffload.delivery import health
from emailoffload.worker import broker, outcomes
health.SHORTEST = health.LONGEST = 3.0
outcomes.LONGEST_DELAY = outcomes.ACCOUNT_DELAY = 2.0
broker.REST_SECONDS = 2.0
broker.ANSWER_SECONDS = 2.0
call_command("qcluster")
"""


class Host:
    """One worker; its log is `log`."""

    def __init__(self, name: str, ses: SandboxSES, folder: Path, **env: str) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SCRIPT, name],
                env=os.environ
                | {
                    "DJANGO_SETTINGS_MODULE": "offloadsite.settings",
                    "DATABASE_URL": SERVER.url(str(connection.settings_dict["NAME"]), *APP_ACCOUNT),
                    "AWS_ENDPOINT_URL_SESV2": ses.url,
                    "SES_CONNECT_TIMEOUT_SECONDS": "1",
                    "SES_READ_TIMEOUT_SECONDS": "2",
                    "LEASE_SECONDS": str(LEASE_SECONDS),
                    "CLAIM_MARGIN_SECONDS": "2",
                    "DISPATCH_THREADS": "4",
                    "DISPATCH_SLOTS": str(SLOTS),
                    "WORKER_PROCESSES": "3",
                }
                | env,
                cwd=configured.BASE_DIR,
                start_new_session=True,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """SIGKILL to all of its processes at once."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def passes_after(self, run: int, kind: str = "dispatch") -> bool:
        """Whether it has ended a pass of this kind since that run."""
        found = Run.objects.filter(pk__gt=run, kind=kind, holder__startswith=f"{self.name}:")
        return found.exclude(finished_at=None).exists()


class Hosts(list[Host]):
    """Those that live."""

    def until(self, condition: Callable[[], object], *asked: str, seconds: float = 60) -> None:
        """Wait for something, and ask for passes meanwhile: the schedules come every minute only."""
        deadline, told = time.monotonic() + seconds, 0.0
        while not condition():
            runs = list(Run.objects.order_by("-id").values_list("holder", "kind", "outcome", "message")[:12])
            assert time.monotonic() < deadline, (runs, [host.log.read_text()[-1500:] for host in self])
            assert all(host.process.poll() is None for host in self), [
                host.log.read_text()[-1500:] for host in self
            ]
            if asked and time.monotonic() - told > 0.5 and waiting() < 8:
                told = time.monotonic()
                for name in asked:
                    async_task(f"{tasks.MODULE}.{name}")
            time.sleep(0.05)

    def lose(self, host: Host) -> None:
        """Kill one."""
        self.remove(host)
        host.kill()


def holders(prefix: str) -> set[str]:
    """The hosts that hold leases of a kind now."""
    held = Lease.objects.filter(name__startswith=prefix, expires_at__gt=Now()).exclude(token="")
    return {holder.split(":")[0] for holder in held.values_list("holder", flat=True)}


def waiting() -> int:
    """Triggers that nobody has taken yet."""
    try:
        return int(get_broker().queue_size())
    except Unusable:
        return OrmQ.objects.count()
