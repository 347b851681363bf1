"""What people get: by e-mail through the SMTP route, by webhook with a signature; and what the doctor says of it."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from emailoffload.actions.diagnosis import reputation as doctor
from emailoffload.feedback import alarms
from emailoffload.feedback.models import Alarm
from emailoffload.worker import alarm_telling
from offloadsite import env
from tests.alarms.conftest import Hook
from tests.fallback.sink import Sink

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


@pytest.fixture
def people(settings: Any) -> None:
    settings.ALARM_EMAILS = ["ops@example.org", "boss@example.org"]
    settings.ALARM_FROM = ["offload@example.org"]
    settings.DASHBOARD_URL = "https://offload.example.org"


def raised() -> Alarm:
    text = "Within an hour 60 mails did not go by the cloud."
    return alarms.raise_alarm("fallbacks", "", "warning", text, "Look at them.", {"released": 60})[0]


@pytest.mark.usefixtures("people")
def test_each_address_gets_one_mail_when_it_begins_and_one_when_it_ends(sink: Sink) -> None:
    raised()
    assert alarm_telling.tell(timezone.now()).told == 2
    assert alarm_telling.tell(timezone.now()).told == 0
    alarms.end_alarm("fallbacks")
    assert alarm_telling.tell(timezone.now()).told == 2
    assert sink.recipients == ["ops@example.org", "boss@example.org"] * 2
    first, last = sink.taken[0], sink.taken[-1]
    assert first["Subject"] == "[Email Offload offload.example.org] Alarm: many mails do not go by the cloud"
    assert last["Subject"] == "[Email Offload offload.example.org] Over: many mails do not go by the cloud"
    body = first.get_content()
    assert "60 mails" in body and "Look at them." in body and "https://offload.example.org/fallbacks/" in body
    assert "Over since" in last.get_content() and "Look at them." not in last.get_content()
    assert len({mail["Message-ID"] for mail in sink.taken}) == 4


@pytest.mark.usefixtures("people")
def test_an_address_that_was_not_reached_is_tried_again_alone_with_the_same_id(sink: Sink) -> None:
    alarm = raised()
    sink.fault, sink.one_shot = "greylist", True
    now = timezone.now()
    told = alarm_telling.tell(now)
    assert (told.told, told.failed) == (1, 1)
    assert doctor.telling()[0] == "warning"
    alarm.refresh_from_db()
    assert all("@" not in name + json.dumps(entry) for name, entry in alarm.told.items())
    assert alarm_telling.tell(now + 2 * MINUTE).told == 1
    assert sorted(str(mail["To"]) for mail in sink.taken) == ["boss@example.org", "ops@example.org"]
    assert doctor.telling()[0] == "ok"


@pytest.mark.usefixtures("people")
def test_a_server_that_is_away_costs_one_try_for_all_and_the_end_tells_of_the_whole(sink: Sink) -> None:
    raised()
    sink.stop()
    now = timezone.now()
    assert alarm_telling.tell(now).failed == 2
    alarms.end_alarm("fallbacks")
    again = Sink()
    from django.conf import settings

    settings.EMAIL_PORT = again.port
    assert alarm_telling.tell(now + 2 * MINUTE).told == 2
    assert all("Since:" in mail.get_content() and "Over since:" in mail.get_content() for mail in again.taken)
    assert alarm_telling.tell(now + 9 * MINUTE).told == 0
    again.stop()


def test_the_webhook_gets_json_that_the_secret_proves(hook: Hook, settings: Any) -> None:
    settings.ALARM_WEBHOOK_SECRET = "a secret"
    alarm = raised()
    assert alarm_telling.tell(timezone.now()).told == 1
    alarms.end_alarm("fallbacks")
    alarm_telling.tell(timezone.now())
    (headers, body), (_, last) = hook.posts
    proof = hmac.new(b"a secret", headers["X-Email-Offload-Timestamp"].encode() + b"." + body, hashlib.sha256)
    assert headers["X-Email-Offload-Signature"] == f"sha256={proof.hexdigest()}"
    assert headers["Content-Type"] == "application/json"
    said, over = json.loads(body), json.loads(last)
    assert said.keys() == {
        "id", "event", "code", "subject", "level", "title", "text", "cure", "details", "raised_at", "ended_at", "link",
    }  # fmt: skip
    assert (said["event"], said["code"], said["details"]) == ("raised", "fallbacks", {"released": 60})
    assert (said["raised_at"], said["ended_at"]) == (alarm.raised_at.isoformat(), None)
    assert over["event"] == "ended" and over["ended_at"] and over["id"] != said["id"]


@pytest.mark.parametrize("status", [301, 302, 400, 500])
def test_a_webhook_that_does_not_say_yes_was_not_told_and_redirects_are_not_followed(
    hook: Hook, status: int
) -> None:
    hook.status, hook.location = status, hook.url
    raised()
    assert alarm_telling.tell(timezone.now()).failed == 1
    assert len(hook.posts) == 1
    assert Alarm.objects.get().told["webhook"]["error"] == f"The webhook answered {status}."


def test_a_webhook_that_is_away_is_an_error_in_words_without_its_address(hook: Hook, settings: Any) -> None:
    settings.ALARM_WEBHOOK_URL = "http://127.0.0.1:9/secret-path"
    raised()
    assert alarm_telling.tell(timezone.now()).failed == 1
    error = Alarm.objects.get().told["webhook"]["error"]
    assert error.startswith("The webhook did not answer") and "secret-path" not in error


def test_without_a_channel_nothing_is_told_and_the_doctor_warns(settings: Any) -> None:
    raised()
    assert alarm_telling.tell(timezone.now()).told == 0
    assert Alarm.objects.get().told == {}
    assert doctor.channels()[0] == "warning"
    settings.ALARM_EMAILS, settings.SMTP_ROUTE = ["ops@example.org"], False
    assert doctor.channels()[0] == "problem"
    settings.SMTP_ROUTE = True
    assert doctor.channels()[0] == "ok"


@pytest.mark.usefixtures("people")
def test_the_command_sends_a_test_and_says_who_could_not_be_told(sink: Sink, hook: Hook) -> None:
    hook.status = 500
    out = io.StringIO()
    with pytest.raises(SystemExit) as stopped:
        call_command("alarms", "--test", "--json", stdout=out)
    assert stopped.value.code == 1
    said = json.loads(out.getvalue())["channels"]
    assert said.pop("webhook") == "The webhook answered 500."
    assert list(said.values()) == ["", ""] and len(sink.taken) == 2
    assert not Alarm.objects.exists()


def test_the_command_looks_reports_and_exits_1_while_an_alarm_is_open(settings: Any) -> None:
    out = io.StringIO()
    call_command("alarms", "--json", stdout=out)
    assert json.loads(out.getvalue())["alarms"] == []
    alarms.raise_alarm("worker_silent", "", "critical", "No pass has run.", "Start it.")
    with pytest.raises(SystemExit):
        call_command("alarms", stdout=out)
    assert "critical: the worker is silent" in out.getvalue()


@pytest.mark.parametrize(
    ("parse", "value"),
    [
        (env.secure_address, "http://chat.example.org/hook"),
        (env.secure_address, "ftp://127.0.0.1/x"),
        (env.secure_address, "https:///x"),
        (env.addresses, "Ann <ann@example.org>"),
        (env.addresses, "ann"),
    ],
)
def test_settings_that_would_tell_nobody_or_tell_it_in_the_open_are_refused(parse: Any, value: str) -> None:
    with pytest.raises(env.Malformed):
        parse(value)
