"""A site on which everything is well: each test makes one thing wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.utils import timezone

from emailoffload.actions import doctor
from emailoffload.actions.diagnosis.finding import Finding
from emailoffload.delivery import ses
from emailoffload.outbox import guardstate
from emailoffload.outbox.models import Run
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.worker import schedules
from tests.conftest import Moodle

TASK = r"\mod_reengagement\task\cron_task"
QUEUE_TASK = r"\local_email\task\cron_task"


@pytest.fixture
def ses_sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[SandboxSES]:
    """A local SES that the product's client talks to."""
    with SandboxSES() as sandbox:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", sandbox.url)
        ses.forget_client()
        yield sandbox
    ses.forget_client()


@pytest.fixture
def site(moodle: Moodle, ses_sandbox: SandboxSES, settings: Any) -> Moodle:
    """The real site with a cron that has just run, and a worker that is alive and watches IOMAD's queue."""
    settings.ALLOWED_HOSTS = ["localhost"]  # the test runner allows one of its own
    moodle.execute("UPDATE mdl_task_scheduled SET timestarted = NULL, faildelay = 0, disabled = 0")
    moodle.execute(
        "UPDATE mdl_task_scheduled SET lastruntime = %s WHERE classname IN (%s, %s)",
        (int(time.time()) - 60, TASK, QUEUE_TASK),
    )
    schedules.ensure()
    guardstate.save(guardstate.Guard("tick", last_look=timezone.now()))
    for kind in ("intercept", "dispatch", "recover"):
        Run.objects.create(kind=kind, started_at=timezone.now(), finished_at=timezone.now(), outcome="ok")
    return moodle


@pytest.fixture
def examine() -> Callable[[str], Finding]:
    """The finding with an id, of a whole examination."""

    def find(wanted: str) -> Finding:
        (found,) = [finding for finding in doctor.run() if finding.id == wanted]
        return found

    return find
