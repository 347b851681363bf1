"""Several dispatchers at once, and dispatchers that are killed: none lost, none doubled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as configured
from django.db import connection
from django.utils import timezone

from emailoffload.outbox.models import Attempt, Email, Lease
from emailoffload.worker import dispatch
from emailoffload.worker.recover_sends import recover_sends
from tests.fake_ses import FakeSes
from tests.outbox.factory import queue_emails
from tests.settings import SERVER

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.mariadb,
    pytest.mark.kill,
    pytest.mark.usefixtures("source"),
]

SCRIPT = """
import django, json, os; django.setup()
from django.db import connection
from emailoffload.sources import registry
class Source:
    def recheck(self, views, now): return []
registry.get = lambda name: Source()
from emailoffload.worker import dispatch
print(json.dumps(dispatch.run(until_empty=True).as_dict()))
"""


def dispatcher(ses: FakeSes, **environment: str) -> subprocess.Popen[str]:
    """A dispatcher in a process of its own, on the suite's database."""
    database = str(connection.settings_dict["NAME"])
    env = os.environ | {
        "DJANGO_SETTINGS_MODULE": "offloadsite.settings",
        "DATABASE_URL": SERVER.url(database, "offload", "offload-password"),
        "AWS_ENDPOINT_URL_SESV2": ses.url,
        **environment,
    }
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        env=env,
        cwd=configured.BASE_DIR,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_four_dispatchers_send_each_of_500_mails_exactly_once(ses: FakeSes) -> None:
    emails = queue_emails(500)
    ses.delay = 0.02
    processes = [dispatcher(ses, DISPATCH_SLOTS="4", DISPATCH_THREADS="8") for _ in range(4)]
    ends = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, ends
    assert sum(json.loads(out)["sent"] for out, _ in ends) == 500
    assert ses.times() == {email.ref.hex: 1 for email in emails}
    assert set(Email.objects.values_list("state", "attempts", "lease")) == {("accepted", 1, "")}
    assert Attempt.objects.filter(outcome="accepted").count() == Attempt.objects.count() == 500


def test_more_dispatchers_than_slots_send_each_mail_once_and_the_rest_step_back(ses: FakeSes) -> None:
    emails = queue_emails(100)
    ses.delay = 0.05
    processes = [dispatcher(ses, DISPATCH_SLOTS="1", DISPATCH_THREADS="4") for _ in range(3)]
    results = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    assert sum(result["sent"] for result in results) == 100
    assert ses.times() == {email.ref.hex: 1 for email in emails}


@pytest.mark.parametrize(
    "moment",
    [
        "after_marking",
        "after_marking:2",
        "before_send:5",
        "after_send",
        "after_send:20",
        "before_record",
        "before_record:2",
    ],
)
def test_a_killed_dispatcher_loses_no_mail_and_doubles_none(ses: FakeSes, moment: str) -> None:
    emails = queue_emails(60)
    process = dispatcher(ses, OFFLOAD_KILL_AT=moment, DISPATCH_THREADS="4")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == -9, errors
    # Nobody touches what may still be alive; once its lease is over, recovery settles it.
    assert recover_sends() == {"leases_freed": 0, "sends_uncertain": 0}
    later = timezone.now() + timedelta(minutes=5)
    in_flight = set(Email.objects.filter(state="sending").values_list("ref", flat=True))
    assert len(in_flight) <= 3 * 4
    assert recover_sends(later)["sends_uncertain"] == len(in_flight)
    Lease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    dispatch.run(until_empty=True)
    states: dict[Any, str] = dict(Email.objects.values_list("ref", "state"))
    assert Counter(states.values()) == {"uncertain": len(in_flight), "accepted": 60 - len(in_flight)}
    assert {ref for ref, state in states.items() if state == "uncertain"} == in_flight
    assert set(Email.objects.filter(state="uncertain").values_list("reason", flat=True)) <= {"interrupted"}
    times = ses.times()
    assert max(times.values()) == 1
    assert {email.ref.hex for email in emails} - set(times) <= {ref.hex for ref in in_flight}
    assert Attempt.objects.filter(outcome="in_flight").count() == 0
    assert set(Attempt.objects.filter(email__state="uncertain").values_list("outcome", flat=True)) <= {
        "unknown"
    }
