"""The real worker: it starts our schedules and sends; told to stop, it ends within seconds with nothing half done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from django.conf import settings as configured
from django.db import connection
from django_q.models import OrmQ, Schedule

from emailoffload.outbox.models import Attempt, Email, Lease, Run
from emailoffload.outbox.switches import Pause, set_pause
from emailoffload.worker import schedules
from tests.fake_ses import FakeSes
from tests.outbox.factory import queue_emails
from tests.settings import SERVER

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.mariadb, pytest.mark.whole]

SCRIPT = """
import django; django.setup()
from django.core.management import call_command
from emailoffload.sources import registry
class Source:
    def recheck(self, views, now): return []
registry.get = lambda name: Source()
call_command("qcluster")
"""


@pytest.fixture
def emails() -> list[Email]:
    """What is due when the worker starts: a dispatcher that finds nothing looks again only after a while."""
    return queue_emails(600)


@pytest.fixture
def worker(ses: FakeSes, emails: list[Email]) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in a process group of its own; it claims nothing."""
    set_pause(Pause(claims=True))
    env = os.environ | {
        "DJANGO_SETTINGS_MODULE": "offloadsite.settings",
        "DATABASE_URL": SERVER.url(str(connection.settings_dict["NAME"]), "offload", "offload-password"),
        "AWS_ENDPOINT_URL_SESV2": ses.url,
        "SES_MAX_SEND_RATE": "40",
        "DISPATCH_THREADS": "4",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], env=env, cwd=configured.BASE_DIR, start_new_session=True
    )
    yield process
    if not group_is_gone(process):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def group_is_gone(process: subprocess.Popen[bytes]) -> bool:
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


def until(condition: Callable[[], bool], seconds: float) -> float:
    """Wait for `condition`; how long it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "\n".join(
            str(run)
            for run in Run.objects.values_list(
                "kind", "outcome", "message", "started_at", "finished_at", "counts"
            )
        )
        time.sleep(0.05)
    return time.monotonic() - started


def nothing_is_half_done() -> None:
    assert set(Email.objects.values_list("state", "lease")) == {("accepted", ""), ("queued", "")}
    assert not Attempt.objects.filter(outcome="in_flight").exists()
    assert not Lease.objects.exclude(token="").exists()
    assert not Run.objects.filter(outcome="running").exists()


def test_sigterm_to_the_worker_ends_its_passes_cleanly_within_seconds(
    ses: FakeSes, emails: list[Email], worker: subprocess.Popen[bytes]
) -> None:
    until(lambda: len(ses.accepted) > 60, 60)
    until(lambda: Lease.objects.filter(name="cron-guard").exclude(token="").exists(), 20)
    worker.send_signal(signal.SIGTERM)
    took = until(lambda: group_is_gone(worker), 30)
    assert took < 10
    assert worker.returncode == 0
    nothing_is_half_done()
    assert len(ses.accepted) < 600
    assert max(ses.times().values()) == 1 and set(ses.times()) <= {email.ref.hex for email in emails}
    assert Email.objects.filter(state="accepted").count() == len(ses.accepted)
    assert Schedule.objects.filter(func__startswith="emailoffload.").count() == len(schedules.wanted())
    assert not OrmQ.objects.filter(lock__gt=Run.objects.latest("id").finished_at).exists()


def test_sigterm_to_every_process_of_the_worker_at_once_leaves_nothing_half_sent(
    ses: FakeSes, worker: subprocess.Popen[bytes]
) -> None:
    until(lambda: len(ses.accepted) > 60, 60)
    os.killpg(worker.pid, signal.SIGTERM)
    until(lambda: group_is_gone(worker), 30)
    nothing_is_half_done()
    assert Email.objects.filter(state="accepted").count() == len(ses.accepted)
