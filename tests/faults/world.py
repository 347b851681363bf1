"""The restored site with one claim of each kind for each column of the table, and the parts that fail."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from django.utils import timezone

from emailoffload.delivery import health, rate
from emailoffload.delivery import ses as product
from emailoffload.outbox.models import Claim, Email
from emailoffload.policy.models import CopyRule
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.worker import dispatch, intercept, recover
from tests.claims.queue import queued
from tests.conftest import Moodle
from tests.fallback.sink import Sink
from tests.fallback.site import QUEUE, REMINDERS
from tests.faults.table import KINDS, POLICIES

MANAGER = "manager@example.org"
OF_STUDENTS, OF_BOTH = 13, 14
"""Activities: reminders for the student, and for the student and a manager."""
LATER = timedelta(hours=1)
PATIENCE, HANG_PATIENCE = 10.0, 0.4
"""Seconds that are waited for an answer; a busy machine must not look like a server that hangs."""
BUDGET = 10.0
"""At most; a pass ends when all that is due was tried."""
MODES = {
    "throttle": "throttle", "quota": "quota", "pause": "pause", "reject": "reject",
    "hang before": "hang_before", "hang after": "hang_after", "reset before": "reset_before",
    "reset after": "reset_after", "error 500": "error500", "garbage": "garbage", "slow": "slow",
}  # fmt: skip
Key = tuple[str, str]
"""(kind, policy)"""


class World:
    """Claims by (kind, policy), and what has become of them."""

    def __init__(self, moodle: Moodle, ses: SandboxSES, sink: Sink, settings: Any) -> None:
        self.moodle, self.ses, self.sink, self.settings = moodle, ses, sink, settings
        settings.SES_READ_TIMEOUT_SECONDS, settings.DISPATCH_THREADS = PATIENCE, 12
        settings.SMTP_ROUTE = True
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", sink.port
        settings.EMAIL_TIMEOUT = settings.SMTP_TIMEOUT_SECONDS = PATIENCE
        self.claims: dict[Key, int] = {}
        self.mails: dict[Key, Email] = {}
        """The mail that the table is about."""
        self.before = self._make()
        self._claim()
        self._manager_is_left()

    def _make(self) -> dict[tuple[str, int], tuple[Any, ...]]:
        execute, many = self.moodle.execute, len(POLICIES)
        due = int(time.time()) + 300
        execute("UPDATE mdl_email SET sent = 1 WHERE sent IS NULL")
        keep = [
            row[0]
            for activity, count in ((OF_STUDENTS, 2 * many), (OF_BOTH, many))
            for row in self.moodle.rows(
                "SELECT id FROM mdl_reengagement_inprogress WHERE reengagement = %s ORDER BY id LIMIT %s",
                [activity, count],
            )
        ]
        marks = ",".join(map(str, keep))
        execute(f"DELETE FROM mdl_reengagement_inprogress WHERE id NOT IN ({marks})")
        execute("UPDATE mdl_reengagement_inprogress SET emailtime = %s", [due])
        last = ",".join(map(str, keep[many : 2 * many]))
        execute(f"UPDATE mdl_reengagement_inprogress SET completed = 1 WHERE id IN ({last})")
        ids = {
            "ahead": keep[:many],
            "last owed": keep[many : 2 * many],
            "manager left": keep[2 * many :],
            "queue": queued(self.moodle, many),
            "credential": queued(self.moodle, many, template="user_create"),
        }
        self.rows_of = {(kind, p): ids[kind][n] for kind in KINDS for n, p in enumerate(POLICIES)}
        return self.rows()

    def _claim(self) -> None:
        CopyRule.objects.create(name="manager", kind="fixed", value=MANAGER, activity_id=OF_BOTH)
        for source in ("reengagement", "iomad_queue"):
            result = intercept.run(source=source)
            assert result.claimed == len(POLICIES) * (3 if source == "reengagement" else 2), result.left
        by_row = {(c.source, c.row_id): c for c in Claim.objects.all()}
        for (kind, policy), row in self.rows_of.items():
            claim = by_row[self._source(kind), row]
            self.claims[kind, policy] = claim.pk
            Claim.objects.filter(pk=claim.pk).update(fallback=POLICIES[policy][0])
            role = {} if kind != "manager left" else {"address": MANAGER}
            self.mails[kind, policy] = Email.objects.get(claim=claim, **role)
        assert Email.objects.filter(sensitive=True).count() == len(POLICIES)

    def _manager_is_left(self) -> None:
        """Let the students' mails of these claims leave while all is well; nothing else is due yet."""
        later = timezone.now() + LATER
        Email.objects.update(due_at=later, next_try_at=later, deadline_at=later + LATER)
        students = Email.objects.filter(claim__activity_id=OF_BOTH).exclude(address=MANAGER)
        students.update(next_try_at=timezone.now())
        dispatch.run(budget=BUDGET)
        assert self.ses.accepted == students.count() == len(POLICIES)

    @staticmethod
    def _source(kind: str) -> str:
        return "iomad_queue" if kind in {"queue", "credential"} else "reengagement"

    def rows(self) -> dict[tuple[str, int], tuple[Any, ...]]:
        """What Moodle's rows hold, by (source, row)."""
        return {
            (source, row[0]): row
            for source, query in (("reengagement", REMINDERS), ("iomad_queue", QUEUE))
            for row in self.moodle.rows(query)
        }

    def break_ses(self, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let SES, or the way to it, fail from now on."""
        # Ten sends in a row without an answer would end the pass, and which ten is chance.
        monkeypatch.setattr(health, "NO_ANSWER", 10_000)
        # A pass would stay on for the next try of each mail.
        monkeypatch.setattr(dispatch, "SOON", timedelta(seconds=0.05))
        rate.known()
        if fault in MODES:
            self.ses.fault(mode=MODES[fault], seconds=HANG_PATIENCE / 2)
        else:
            endpoint = {
                "tls": f"https://127.0.0.1:{self.sink.port}",  # speaks no TLS
                "dns": "http://nobody.invalid:8026",
                "refused": "http://127.0.0.1:9",
            }[fault]
            monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", endpoint)
        self.settings.SES_READ_TIMEOUT_SECONDS = HANG_PATIENCE if "hang" in fault else PATIENCE
        product.forget_client()

    def mend_ses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """All is well again."""
        self.ses.clear_faults()
        monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", self.ses.url)
        self.settings.SES_READ_TIMEOUT_SECONDS = PATIENCE
        product.forget_client()
        health.close()
        rate.forget()

    def smtp(self, *, up: bool) -> None:
        """Let the SMTP server answer, or nobody listen there."""
        self.settings.EMAIL_PORT = self.sink.port if up else 9

    def of(self, policy: str) -> Any:
        """The mails of the claims under this policy that have not left."""
        claims = [pk for (_, name), pk in self.claims.items() if name == policy]
        return Email.objects.filter(claim__in=claims).exclude(state="accepted")

    def move_time(self, policy: str, phase: str) -> None:
        """Let a phase begin for the mails of one policy."""
        now = timezone.now()
        mails = self.of(policy)
        if phase == "before":
            mails.update(due_at=now, next_try_at=now, deadline_at=now + LATER)
        elif phase == "deadline":
            # What is set aside for SMTP has a deadline of its own by now.
            mails.exclude(route="smtp").update(deadline_at=now)
            mails.update(next_try_at=now)
        else:
            mails.update(next_try_at=now, deadline_at=F("deadline_at") - 2 * LATER)

    def work(self) -> None:
        """What the worker does in the next minute."""
        dispatch.run(budget=BUDGET)
        recover.run()

    def cells(self, policy: str) -> dict[str, str]:
        """By kind: what has become of it, as the table says it."""
        rows = self.rows()
        sent = [message.offload_id for message in self.ses.messages]
        by_smtp = self.sink.refs()
        found = {}
        for kind in KINDS:
            email = Email.objects.get(pk=self.mails[kind, policy].pk)
            state = "held" if email.state == "failed" and email.reason.startswith("held:") else email.state
            row = (self._source(kind), self.rows_of[kind, policy])
            whose = "back" if rows[row] == self.before[row] else "ours"
            ref = email.ref.hex
            found[kind] = f"{state} {sent.count(ref)}+{by_smtp.count(ref)} {whose}"
        return found

    def ledger(self) -> None:
        """Owed = accepted + SMTP + handed back + held or uncertain; none twice, none that is nowhere."""
        transmitted = [message.offload_id for message in self.ses.messages] + self.sink.refs()
        assert len(transmitted) == len(set(transmitted)), "a mail left twice"
        rows = self.rows()
        ends: dict[str, int] = {}
        for email in Email.objects.select_related("claim"):
            left = email.ref.hex in transmitted
            row = (email.claim.source, email.claim.row_id)
            ends[email.state] = ends.get(email.state, 0) + 1
            if email.state == "released":
                assert rows[row] == self.before[row] and not left, "handed back, and left"
            else:
                assert rows[row] != self.before[row], "Moodle may mail it too"
            if email.state in {"accepted", "sent_smtp"}:
                assert left
            elif email.state != "uncertain":
                assert not left
        settled = sum(ends.get(s, 0) for s in ("accepted", "sent_smtp", "released", "failed", "uncertain"))
        assert settled == Email.objects.count() == len(KINDS) * len(POLICIES) + len(POLICIES), ends
