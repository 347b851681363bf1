"""What the doctor and a drain say about the SMTP route."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from django.core.management import call_command

from emailoffload.actions import drain
from emailoffload.actions.diagnosis import mail_server
from emailoffload.delivery import ses as product
from emailoffload.outbox.models import Email
from emailoffload.policy.models import RoutingRule
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.worker import tasks
from tests.conftest import Moodle
from tests.fallback.sink import Sink
from tests.fallback.site import claimed, ends, rows

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)


def test_a_server_that_takes_the_login_is_fine_and_gets_no_mail(sink: Sink) -> None:
    assert mail_server.server()[0] == "ok"
    assert (sink.connections, sink.taken) == (1, [])


def test_a_server_that_is_not_there_or_refuses_the_login_is_a_problem(sink: Sink, settings: Any) -> None:
    settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = "secret"
    sink.fault = "login"
    verdict, text, cure = mail_server.server()
    assert (verdict, "smtp_login" in text, "EMAIL_URL" in cure) == ("problem", True, True)
    sink.stop()
    verdict, text, cure = mail_server.server()
    assert (verdict, "smtp_unreachable" in text) == ("problem", True)
    assert "secret" not in text + cure


def test_a_way_without_encryption_to_another_host_is_warned_of(
    sink: Sink, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail_server, "_is_here", lambda host: False)
    assert mail_server.server()[0] == "warning"


@pytest.mark.usefixtures("no_smtp")
def test_no_server_is_fine_unless_a_rule_asks_for_one() -> None:
    assert mail_server.server()[0] == "ok"
    RoutingRule.objects.create(name="by smtp", fallback="smtp")
    verdict, _, cure = mail_server.server()
    assert (verdict, "EMAIL_URL" in cure) == ("warning", True)


def test_a_drain_sends_by_smtp_what_neither_moodle_nor_ses_takes(
    moodle: Moodle, ses: SandboxSES, sink: Sink, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    claimed(moodle, 2)
    first = Email.objects.order_by("pk")[0]
    # The row has gone on to its next reminder, which Moodle will send: it cannot be handed back.
    moodle.execute(
        "UPDATE mdl_reengagement_inprogress SET emailsent = emailsent + 1, emailtime = %s WHERE id = %s",
        [int(time.time()) + 999_999, first.claim.row_id],
    )
    ses.fault(mode="pause")
    call_command("drain", "--json")
    found = json.loads(capsys.readouterr().out)
    assert (found["released"], found["sent"], found["by_smtp"], found["waiting"]) == (1, 0, 1, {})
    assert len(sink.taken) == 1
    drain.resume(actor="tester")


def test_an_opened_breaker_calls_the_fallback(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = claimed(moodle)
    ses.fault(mode="pause")
    product.forget_client()
    called: list[str] = []
    monkeypatch.setattr(tasks, "_enqueue", called.append)
    tasks.dispatch()
    assert called == ["fallback"]
    tasks.fallback()
    assert ends() == [("released", "account:SendingPausedException")]
    assert rows(moodle) == before
