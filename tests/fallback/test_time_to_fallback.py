"""Time to fallback, with the real worker on MariaDB: what SES refuses goes another way at its deadline, and a dead
worker stops no mail that is not claimed.

The worker's schedules come every minute or every four; here the test asks for the same passes more often. Asserted
are order and causes, and that nothing happens before its deadline; never how fast it is.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta

import pytest
from django.conf import settings as configured
from django.db import connection
from django_q.models import OrmQ
from django_q.tasks import async_task

from emailoffload.delivery import health
from emailoffload.outbox.models import Attempt, Claim, Email, Run
from emailoffload.outbox.states import ClaimState
from emailoffload.outbox.switches import Pause, set_pause
from emailoffload.sandbox.moodle_cron import SimulatedCron
from emailoffload.sandbox.moodle_side import enrolled_by_sql, mysql_lock
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.worker import tasks
from tests.conftest import Moodle
from tests.fallback.sink import Sink
from tests.reengagement.test_decisions import soon
from tests.settings import APP_ACCOUNT, MOODLE_DATABASE, SERVER

pytestmark = [
    pytest.mark.django_db(databases=["default", "moodle"], transaction=True),
    pytest.mark.mariadb,
    pytest.mark.race,
]
DEADLINE = 4
AHEAD = 7
"""Time enough for a worker to claim what is due then."""
SCRIPT = f"""
import django; django.setup()
from django.conf import settings
from django.core.management import call_command
from emailoffload.delivery import health
settings.SEND_DEADLINE_SECONDS = {DEADLINE}
health.SHORTEST = health.LONGEST = 60.0
call_command("qcluster")
"""
UPDATE = "UPDATE mdl_reengagement_inprogress SET emailtime = %s WHERE id "


class Worker:
    """The real worker, `manage.py qcluster`, in a process group of its own."""

    def __init__(self, ses: SandboxSES, sink: Sink) -> None:
        env = os.environ | {
            "DJANGO_SETTINGS_MODULE": "offloadsite.settings",
            "DATABASE_URL": SERVER.url(str(connection.settings_dict["NAME"]), *APP_ACCOUNT),
            "AWS_ENDPOINT_URL_SESV2": ses.url,
            "EMAIL_URL": f"smtp://127.0.0.1:{sink.port}",
            "CLAIM_MARGIN_SECONDS": "2",
            "DISPATCH_THREADS": "4",
            "DISPATCH_SLOTS": "1",  # one dispatcher sees all failures
            "LOG_LEVEL": "ERROR",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT], env=env, cwd=configured.BASE_DIR, start_new_session=True
        )

    def kill(self) -> None:
        """SIGKILL to all of its processes at once."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def until(self, condition: Callable[[], bool], seconds: float = 40) -> None:
        """Wait for something, and have the passes of the schedules made meanwhile."""
        deadline, asked = time.monotonic() + seconds, 0.0
        while not condition():
            assert time.monotonic() < deadline
            assert self.process.poll() is None
            if time.monotonic() - asked > 0.7 and OrmQ.objects.count() < 6:
                asked = time.monotonic()
                for name in ("intercept", "recover", "dispatch"):
                    async_task(f"{tasks.MODULE}.{name}")
            time.sleep(0.05)


@pytest.fixture
def cloud() -> Iterator[ExitStack]:
    """What keeps SES listening; closed, it refuses connections."""
    with ExitStack() as listening:
        yield listening


@pytest.fixture
def worker(cloud: ExitStack, sink: Sink, moodle: Moodle) -> Iterator[Worker]:
    moodle.execute("UPDATE mdl_reengagement_inprogress SET emailtime = %s", [int(time.time()) + 7200])
    made = Worker(cloud.enter_context(SandboxSES(max_send_rate=1000)), sink)
    try:
        made.until(lambda: Run.objects.filter(kind="recover").exclude(finished_at=None).exists())
        yield made
    finally:
        made.kill()


def cron(mailed: list[int]) -> SimulatedCron:
    """Moodle's own cron, which notes the rows that it mails."""

    def connect() -> object:
        return SERVER.connect(MOODLE_DATABASE)

    return SimulatedCron(
        connect,
        prefix="mdl_",
        paramstyle="format",
        lock=mysql_lock(connect, dbname=MOODLE_DATABASE, prefix="mdl_"),
        mail=lambda mail: mailed.append(int(mail["row_id"])),
        mail_seconds=0,
        enrolled=enrolled_by_sql(connect, prefix="mdl_", paramstyle="format"),
        start_users=False,
    )


def laid_out(moodle: Moodle, claimed: int, later: int) -> tuple[list[int], list[int]]:
    """Rows that are due in a moment, and rows that are due in hours; returns the ids of both."""
    rows = [row for row, _ in soon(moodle, claimed + later, due=7200)]
    ours, others = rows[:claimed], rows[claimed:]
    moodle.execute(UPDATE + "<= %s", [int(time.time()) + AHEAD, ours[-1]])
    return ours, others


def fall_due(moodle: Moodle, rows: list[int]) -> None:
    moodle.execute(UPDATE + ">= %s", [int(time.time()) - 1, rows[0]])


def claims_of(rows: list[int]) -> int:
    return Claim.objects.filter(row_id__in=rows, state=ClaimState.CLAIMED).count()


def test_what_ses_refuses_goes_another_way_at_its_deadline_and_nothing_is_claimed_once_the_breaker_is_open(
    moodle: Moodle, cloud: ExitStack, sink: Sink, worker: Worker
) -> None:
    ours, others = laid_out(moodle, 12, 3)
    set_pause(Pause(sends=True))  # until SES is gone, also where this machine is slow
    worker.until(lambda: claims_of(ours) == len(ours))
    by_smtp = Claim.objects.filter(row_id__in=ours[6:])
    by_smtp.update(fallback="smtp")
    cloud.close()
    set_pause(Pause())

    worker.until(lambda: health.breaker() is not None)
    last_pass = Run.objects.latest("id").pk
    fall_due(moodle, others)
    worker.until(lambda: not Email.objects.filter(state__in=["queued", "sending"]).exists())

    passes = Run.objects.filter(pk__gt=last_pass, kind="intercept").exclude(finished_at=None)
    worker.until(lambda: passes.filter(counts__left__delivery_unhealthy=len(others)).exists())
    assert claims_of(others) == 0
    for email in Email.objects.all():
        assert email.state_at >= email.due_at + timedelta(seconds=DEADLINE)
    ways = Email.objects.values_list("claim__fallback", "state", "reason", "route")
    assert {(policy, state, route) for policy, state, _, route in ways} == {
        ("moodle", "released", "moodle"),
        ("smtp", "sent_smtp", "smtp"),
    }
    assert {reason for *_, reason, _ in ways} <= {"EndpointConnectionError", "deadline"}
    assert set(Attempt.objects.filter(route="ses").values_list("outcome", flat=True)) == {"not_transmitted"}
    assert len(sink.taken) == 6

    mailed: list[int] = []
    cron(mailed).run_reengagement()
    assert sorted(mailed) == sorted(ours[:6] + others)


def test_with_the_worker_dead_moodles_cron_sends_at_its_next_run_what_is_not_claimed(
    moodle: Moodle, worker: Worker
) -> None:
    ours, others = laid_out(moodle, 6, 4)
    set_pause(Pause(sends=True))  # what is claimed waits
    worker.until(lambda: claims_of(ours) == len(ours))
    worker.kill()
    fall_due(moodle, others)
    mailed: list[int] = []
    moodles = cron(mailed)
    deadline = time.monotonic() + 10
    while moodles.run_reengagement().locked_out:
        # The server has not noticed yet that the processes are gone; the run that is skipped mails nothing.
        assert time.monotonic() < deadline
    assert sorted(mailed) == sorted(others)
    assert claims_of(ours) == len(ours)
