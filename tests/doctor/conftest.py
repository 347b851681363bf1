"""A site on which everything is well: each test makes one thing wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.utils import timezone

from emailoffload.actions import doctor
from emailoffload.actions.diagnosis.finding import Finding
from emailoffload.actions.sessetup import plan
from emailoffload.actions.sessetup.plan import Choice
from emailoffload.delivery import ses
from emailoffload.feedback import liststate
from emailoffload.outbox import guardstate
from emailoffload.outbox.models import Run, State
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.worker import schedules
from tests.conftest import Moodle

TASK = r"\mod_reengagement\task\cron_task"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:email-offload-events"
QUEUE_TASK = r"\local_email\task\cron_task"


@pytest.fixture
def ses_sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[SandboxSES]:
    """A local SES that the product's client talks to."""
    with SandboxSES() as sandbox:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", sandbox.url)
        ses.forget_client()
        yield sandbox
    ses.forget_client()


def publish_events(sandbox: SandboxSES, **changes: Any) -> None:
    """The configuration set publishes all events to the topic."""
    wanted = plan.event_destination(Choice("eu-west-1", "123456789012"))
    sandbox.api.event_destinations["email-offload"] = {"events": {**wanted, **changes}}


@pytest.fixture
def site(moodle: Moodle, ses_sandbox: SandboxSES, settings: Any) -> Moodle:
    """The real site with a cron that has just run, a worker that is alive and watches IOMAD's queue, and events
    that come by the webhook."""
    settings.SES_CONFIGURATION_SET, settings.SNS_TOPICS = "email-offload", [TOPIC]
    publish_events(ses_sandbox)
    State.objects.create(
        name="webhook",
        value={TOPIC: {"state": "active", "since": timezone.now().isoformat(), "detail": f"{TOPIC}:1"}},
    )
    settings.ALARM_WEBHOOK_URL = "https://chat.example.org/hook"
    settings.ALLOWED_HOSTS = ["localhost"]  # the test runner allows one of its own
    moodle.execute("UPDATE mdl_task_scheduled SET timestarted = NULL, faildelay = 0, disabled = 0")
    moodle.execute(
        "UPDATE mdl_task_scheduled SET lastruntime = %s WHERE classname IN (%s, %s)",
        (int(time.time()) - 60, TASK, QUEUE_TASK),
    )
    schedules.ensure()
    liststate.save(liststate.ListState(listed_at=timezone.now(), compared_at=timezone.now()))
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
