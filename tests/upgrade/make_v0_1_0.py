"""How tests/data/upgrade/v0.1.0.sql.gz was made: by the code of that release, in a checkout of it.

Not a test of today's code; pytest does not collect it here. To make the file again:

    git worktree add /tmp/old v0.1.0 && cd /tmp/old
    cp …/tests/upgrade/make_v0_1_0.py tests/test_make.py
    export CONTENT_KEYS=… (the one of tests/upgrade/old_site.py), OFFLOAD_DUMP_TO=…/tests/data/upgrade/v0.1.0.sql.gz
    …/.venv/bin/pytest tests/test_make.py -q -p no:randomly

The passes, kills and pages' records below are that release's own. The dump holds our database, and after it the rows
of the two tables of Moodle that its claims are about.
"""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connections
from django.test import Client
from django.utils import timezone
from django_q.models import Failure, OrmQ, Success

from emailoffload.feedback.models import Alarm, EventType, ReputationHour
from emailoffload.outbox.models import Attempt, AuditEntry, Claim, Email, Lease, Shadow, State
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.policy.models import CopyRule, GroupCompany, RoutingRule, SensitiveTemplate
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.worker import dispatch, intercept, schedules
from tests.claims.queue import queued
from tests.conftest import Moodle
from tests.dashboard.conftest import make_user
from tests.dashboard.factories import (
    make_claim,
    make_day,
    make_email,
    make_finding,
    make_suppression,
)
from tests.dashboard.reported import make_event, make_reports
from tests.processes import spawn, start
from tests.reengagement.test_decisions import soon

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
MOODLES = ("mdl_reengagement_inprogress", "mdl_email")
NEW = "--where=id > 70"
"""Which of them: the queue's rows that the restored site has are not dumped again."""


def kill(what: str, point: str, *args: object, **overrides: object) -> None:
    process = spawn(what, *args, env={"OFFLOAD_KILL_AT": point}, **overrides)
    start([process])
    assert process.wait(60) == -signal.SIGKILL, process.communicate()


def test_make(moodle: Moodle, ses: SandboxSES) -> None:
    """Fill every table; leave claims and sends as processes leave them that were killed; dump it."""
    crashes(moodle)
    records()
    people()
    small_tables()
    states = set(Email.objects.values_list("state", flat=True))
    assert states == set(EmailState.values), set(EmailState.values) - states
    assert set(Claim.objects.values_list("state", flat=True)) == set(ClaimState.values)
    empty = [
        model.__name__ for model in apps.get_models() if model._meta.managed and not model.objects.exists()
    ]
    assert not empty, empty
    dump(moodle)


def crashes(moodle: Moodle) -> None:
    """Real claims of both sources: killed before and after the claim, while sending, while handing back."""
    soon(moodle, 24, due=300)
    kill("intercept", "after_intent", "", 0, "none", "reengagement", CLAIM_BATCH_SIZE=3)
    kill("intercept", "after_claim", "-2", 0, "none", "reengagement", CLAIM_BATCH_SIZE=3)
    assert intercept.run(source="reengagement", lane="-3").claimed
    claimed = list(Claim.objects.filter(state="claimed").order_by("pk"))
    due = Email.objects.filter(claim__in=claimed[:5])
    due.update(next_try_at=timezone.now())
    assert dispatch.run(until_empty=True).sent == 5
    Email.objects.filter(claim__in=claimed[5:8]).update(next_try_at=timezone.now())
    kill("dispatch", "before_record", DISPATCH_THREADS=1)
    kill("release", "release_written")
    queued(moodle, 12)
    kill("intercept", "after_intent", "", 0, "none", "iomad_queue", CLAIM_BATCH_SIZE=3)
    kill("intercept", "after_claim", "-2", 0, "none", "iomad_queue", CLAIM_BATCH_SIZE=3)
    assert intercept.run(source="iomad_queue", lane="-3").claimed


def records() -> None:
    """What pages show: each state with its events, content and findings, made as that release's own tests do."""
    emails = make_day()
    make_reports()
    for state in (ClaimState.LOST, ClaimState.DROPPED, ClaimState.RELEASED):
        make_claim(state=state, settled_at=timezone.now() - timedelta(hours=3), note="by the suite")
    bounced = next(email for email in emails if email.state == EmailState.BOUNCED)
    make_suppression(bounced)
    make_suppression(
        address="back@example.org", active_key=None, removed_at=timezone.now(), removed_by="ada",
        removal_reason="They wrote to us",
    )  # fmt: skip
    make_finding(emails[0].claim)
    make_finding(emails[1].claim, closed_at=timezone.now(), closed_because="agrees")
    sent = make_email(EmailState.DELIVERED, due_at=timezone.now() - timedelta(days=40), body={})
    make_event(EventType.DELIVERY, sent)
    again = make_email(EmailState.ACCEPTED, sent.claim, resend_of=sent, body={})
    make_event(EventType.SEND, again)
    make_email(EmailState.DELIVERED, sensitive=True, erased_at=timezone.now())
    waiting = make_email(EmailState.UNCERTAIN, body={})
    stuck = make_email(EmailState.SENDING, body={}, attempts=1)
    Attempt.objects.filter(email__in=[waiting, stuck]).update(finished_at=None, outcome="in_flight")
    Email.objects.filter(pk=stuck.pk).update(
        lease=str(uuid.uuid4()), leased_until=timezone.now() - timedelta(minutes=5)
    )


def people() -> None:
    """An account of each role, one bound to a company, a session, an entry of the admin's own log."""
    root = make_user("superuser", "root")
    make_user("Offload administrators", "ada")
    otto = make_user("Auditors", "otto")
    otto.user_permissions.add(Permission.objects.get(codename="pause"))
    sally = make_user("Support staff", "sally")
    group = Group.objects.create(name="Northwind staff")
    GroupCompany.objects.create(group=group, company_id=3, company_name="Northwind Mills")
    sally.groups.add(group)
    Client().force_login(root)
    rule = CopyRule.objects.create(name="HR", kind="fixed", value="hr@example.org", company_id=3)
    RoutingRule.objects.create(name="All", mode="on")
    RoutingRule.objects.create(name="One company", mode="shadow", company_id=5, percentage=10)
    SensitiveTemplate.objects.create(name="site_password", note="by us")
    LogEntry.objects.create(
        user=root, action_flag=CHANGE, content_type=ContentType.objects.get_for_model(CopyRule),
        object_id=str(rule.pk), object_repr="HR", change_message="[]",
    )  # fmt: skip
    for action in ("resend", "view_content", "pause", "hand_back"):
        AuditEntry.objects.create(
            actor="ada", action=action, object_type="email", object_id="1", reason="why"
        )


def small_tables() -> None:
    """Shadows, alarms, reputation, leases, shared states, and what django-q keeps."""
    now = timezone.now()
    for number, verdict in enumerate(("waiting", "sent", "untouched", "gone", "changed")):
        Shadow.objects.create(
            source="reengagement", row_id=8800 + number, user_id=15093, activity_id=12, course_id=67, mails=1,
            before={"emailsent": 0, "emailtime": 1, "completed": 0}, due_at=now - timedelta(hours=2),
            seen_at=now - timedelta(hours=3), verdict=verdict,
            compared_at=None if verdict == "waiting" else now,
        )  # fmt: skip
    values: dict[str, Any] = {
        "level": "warning",
        "text": "The worker is silent.",
        "raised_at": now,
        "seen_at": now,
    }
    Alarm.objects.create(code="worker_silent", active_key="worker_silent", **values)
    Alarm.objects.create(code="breaker_open", ended_at=now, **values)
    ReputationHour.objects.create(hour=now.replace(minute=0, second=0, microsecond=0), sends=9, deliveries=8)
    Lease.objects.update_or_create(
        name="recover", defaults={"holder": "gone:1:x", "token": "x", "expires_at": now, "beat_at": now}
    )
    State.objects.update_or_create(name="dumped", defaults={"value": {"at": int(now.timestamp())}})
    schedules.ensure()
    common = {"func": "emailoffload.worker.tasks.recover", "started": now, "stopped": now}
    Success.objects.create(id="a" * 32, name="a", success=True, result={"counts": 1}, **common)
    Failure.objects.create(id="b" * 32, name="b", success=False, result="PassFailed", **common)
    OrmQ.objects.create(key="offload", payload="no task", lock=now)


def dump(moodle: Moodle) -> None:
    """Both databases into one file: ours whole, of Moodle's the rows of two tables."""

    def dumped(*options: str) -> bytes:
        program = ["mariadb-dump", "--no-defaults", "-uroot", f"-S{moodle.server.socket}", "--skip-comments"]
        return subprocess.run([*program, *options], check=True, stdout=subprocess.PIPE).stdout

    name = str(connections["default"].settings_dict["NAME"])
    ours = dumped("--skip-add-locks", "--skip-disable-keys", "--hex-blob", name)
    theirs = dumped(
        "--no-create-info", "--skip-add-locks", "--skip-disable-keys", NEW, moodle.database, *MOODLES
    )
    text = ours + b"-- Moodle\n" + theirs
    Path(os.environ["OFFLOAD_DUMP_TO"]).write_bytes(gzip.compress(text, 9, mtime=0))
