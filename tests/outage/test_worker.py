"""The real worker while its own database dies and comes back: it waits, resumes, and has lost and doubled nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as configured
from django.db import connection, connections
from django_q.models import OrmQ
from django_q.tasks import async_task

from emailoffload.outbox.switches import Pause, set_pause
from tests import settings as test_settings
from tests.fake_ses import FakeSes
from tests.outage.second import Second
from tests.outbox.factory import queue_emails
from tests.worker.conftest import ses
from tests.worker.test_cluster import SCRIPT, group_is_gone

__all__ = ["ses"]
pytestmark = [
    pytest.mark.django_db(databases=["default", "moodle"], transaction=True),
    pytest.mark.mariadb,
    pytest.mark.race,
]
NAME = "offload_second"
MAILS = 300
AWAY_SECONDS = float(os.environ.get("OFFLOAD_TEST_AWAY_SECONDS", "4"))
"""Long enough that every process of the worker asks in vain."""


@pytest.fixture
def own(second: Second) -> Second:
    """Our database on the second server, with mails that are due."""
    set_pause(Pause(claims=True))
    queue_emails(MAILS)
    connections["default"].close()
    second.copy(str(connection.settings_dict["NAME"]), NAME)
    user, password = test_settings.APP_ACCOUNT
    second.server.run(
        f"CREATE OR REPLACE USER '{user}'@'localhost' IDENTIFIED BY '{password}';"
        f"GRANT ALL ON `{NAME}`.* TO '{user}'@'localhost'"
    )
    return second


@pytest.fixture
def worker(own: Second, ses: FakeSes, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker whose own database is on the second server."""
    env = os.environ | {
        "DJANGO_SETTINGS_MODULE": "offloadsite.settings",
        "DATABASE_URL": own.server.url(NAME, *test_settings.APP_ACCOUNT),
        "AWS_ENDPOINT_URL_SESV2": ses.url,
        "SES_MAX_SEND_RATE": "40",
        "DISPATCH_THREADS": "4",
    }
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT], env=env, cwd=configured.BASE_DIR, start_new_session=True,
            stdout=log, stderr=log,
        )  # fmt: skip
    yield process
    if not group_is_gone(process):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def states(own: Second) -> dict[Any, Any]:
    return dict(own.rows(f"SELECT state, COUNT(*) FROM {NAME}.emailoffload_email GROUP BY state"))


def test_the_worker_survives_the_death_of_its_database_and_each_mail_leaves_once(
    own: Second, ses: FakeSes, worker: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    until(lambda: len(ses.accepted) > 40, 60)
    own.kill()
    stopped = len(ses.accepted)
    gone = time.monotonic()
    until(lambda: time.monotonic() - gone > AWAY_SECONDS, 2 * AWAY_SECONDS)
    # What was in flight has left; nothing more does while it could not be recorded.
    assert len(ses.accepted) - stopped <= 2 * 3 * 4
    assert worker.poll() is None
    own.start()
    # The next schedule is up to a minute away; a task in the queue shows as well that tasks are taken again.
    async_task("emailoffload.worker.tasks.dispatch")
    payload = OrmQ.objects.latest("pk").payload
    own.server.run(
        f"INSERT INTO {NAME}.django_q_ormq (`key`, payload, `lock`)"
        f" VALUES ('emailoffload', '{payload}', UTC_TIMESTAMP() - INTERVAL 1 MINUTE)"
    )
    until(lambda: states(own) == {"accepted": MAILS}, 180)
    assert max(ses.times().values()) == 1 and len(ses.times()) == MAILS
    worker.send_signal(signal.SIGTERM)
    until(lambda: group_is_gone(worker), 30)
    assert worker.returncode == 0
    assert "password" not in (tmp_path / "log").read_text().lower()
