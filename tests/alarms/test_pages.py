"""Reputation and alarms on the dashboard: who sees what, what the overview says first, the override."""

from __future__ import annotations

from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from emailoffload.feedback import alarms, claimstop, rates
from emailoffload.feedback.models import Alarm, ReputationHour
from emailoffload.outbox.models import AuditEntry, Lease, Run
from tests.dashboard.conftest import SignIn, make_user
from tests.dashboard.world import OWN, bind, signed_in

pytestmark = pytest.mark.django_db
ADMINS, AUDITORS, SUPPORT = "Offload administrators", "Auditors", "Support staff"


@pytest.fixture(autouse=True)
def roles(sign_in: SignIn) -> None:
    make_user(None, "first")
    import_module("emailoffload.migrations.0011_feedback_roles").extend_roles(apps, None)


def hour(company: int, mails: int, bounces: int = 0) -> None:
    now = timezone.now().replace(minute=0, second=0, microsecond=0)
    ReputationHour.objects.create(
        hour=now, identity="learn.example.org", company_id=company, sends=mails, permanent_bounces=bounces
    )


def text(client: Client, path: str) -> str:
    response = client.get(path)
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def bound() -> User:
    user = make_user(ADMINS, "bea")
    bind(user, OWN)
    return user


def test_rates_are_shown_with_what_ses_reviews_and_pauses_for(sign_in: SignIn) -> None:
    hour(4, 1000, 30)
    page = text(sign_in(AUDITORS), "/reputation/")
    for words in (
        "3.00 % (30)",
        "too high",
        "By company",
        "By sender",
        "learn.example.org",
        "10.00 %",
        "0.50 %",
    ):
        assert words in page
    assert 'name="lasting"' not in page


def test_an_empty_page_says_that_nothing_can_be_judged(sign_in: SignIn) -> None:
    page = text(sign_in(ADMINS), "/reputation/")
    assert "too few mails to judge" in page
    assert "No event of SES" in text(signed_in(bound()), "/reputation/")


def test_people_of_a_company_see_its_rates_and_nothing_of_the_sites() -> None:
    hour(OWN, 500)
    hour(OWN + 1, 777)
    client = signed_in(bound())
    page = text(client, "/reputation/")
    assert "500" in page and "777" not in page and "1,277" not in page and "learn.example.org" not in page
    assert "The whole account" not in page and 'name="lasting"' not in page
    assert client.get("/alarms/").status_code == 403
    assert client.post("/reputation/", {"lasting": "4", "reason": "x"}).status_code == 403
    alarms.raise_alarm("worker_silent", "", "critical", "Nobody is there.", "Start it.")
    assert "Nobody is there." not in text(client, "/")


def test_the_overview_begins_with_open_alarms_what_they_mean_and_what_to_do(sign_in: SignIn) -> None:
    alarms.raise_alarm("fallbacks", "", "warning", "60 mails did not go.", "See Fallbacks.")
    alarms.raise_alarm("worker_silent", "", "critical", "Nobody <is> there.", "Start it.")
    alarms.raise_alarm("events_late", "", "warning", "Old news.", "x")
    alarms.end_alarm("events_late")
    page = text(sign_in(SUPPORT), "/")
    order = [page.index(words) for words in ("Nobody &lt;is&gt; there.", "60 mails", "Needs a person now")]
    assert order == sorted(order)
    assert "Start it." in page and "Old news." not in page and 'href="/alarms/' not in page
    assert 'href="/alarms/?show=open"' in text(sign_in(ADMINS), "/")


def test_the_overview_says_what_the_rates_stop_and_who_said_otherwise(sign_in: SignIn) -> None:
    now = timezone.now()
    hour(4, 1000, 100)
    claimstop.judge(rates.rates(now), now)
    client = sign_in(ADMINS)
    assert "Only mails with credentials are claimed" in text(client, "/")
    assert "Claiming has stopped, but for mails with credentials" in text(client, "/reputation/")
    answer = client.post("/reputation/", {"lasting": "24", "reason": "addresses corrected"})
    assert (answer.status_code, answer.headers["Location"]) == (302, "/reputation/")
    assert not claimstop.stops().any
    assert "Claiming goes on whatever the rates are" in text(client, "/")
    assert "by offload: addresses corrected." in text(client, "/reputation/")
    assert client.post("/reputation/", {"lasting": "end", "reason": "enough"}).status_code == 302
    assert claimstop.stops().account
    assert AuditEntry.objects.count() == 2


@pytest.mark.parametrize("data", [{"lasting": "24"}, {"lasting": "9999", "reason": "x"}, {"reason": "x"}])
def test_an_override_without_a_time_or_a_reason_is_refused(sign_in: SignIn, data: dict[str, Any]) -> None:
    assert sign_in(ADMINS).post("/reputation/", data).status_code == 400
    assert not AuditEntry.objects.exists()


def test_only_those_who_may_pause_override(sign_in: SignIn) -> None:
    assert sign_in(AUDITORS).post("/reputation/", {"lasting": "4", "reason": "x"}).status_code == 403
    assert sign_in("nobody").get("/reputation/").status_code == 403


def test_alarms_are_listed_open_and_past_by_kind(sign_in: SignIn, settings: Any) -> None:
    client = sign_in(AUDITORS)
    page = text(client, "/alarms/")
    assert "There has been no alarm." in page and "Nobody is told of alarms" in page
    settings.ALARM_WEBHOOK_URL = "https://hook.example.org"
    alarms.raise_alarm("fallbacks", "", "warning", "60 mails did not go.", "x")
    alarms.raise_alarm("worker_silent", "", "critical", "Nobody was there.", "x")
    alarms.end_alarm("worker_silent")
    told = {"email:aa": {"raised": "t"}, "email:bb": {"ended": "t"}, "webhook": {"error": "It said no."}}
    Alarm.objects.filter(code="fallbacks").update(told=told)
    both = text(client, "/alarms/")
    assert "60 mails" in both and "Nobody was there." in both and "Nobody is told" not in both
    assert "2 addresses" in both and "Not told: It said no." in both
    assert "Nobody was there." not in text(client, "/alarms/?show=open")
    assert "60 mails" not in text(client, "/alarms/?show=past")
    assert "60 mails" not in text(client, "/alarms/?code=worker_silent")
    assert "No such alarm." in text(client, "/alarms/?show=open&code=worker_silent")


def test_an_outside_watch_learns_whether_the_worker_lives_without_a_login() -> None:
    client = Client()
    assert client.get("/healthz/worker").status_code == 503
    now = timezone.now()
    Run.objects.create(kind="recover", started_at=now - timedelta(minutes=6))
    Lease.objects.create(name=alarms.LEASE, beat_at=now)
    answer = client.get("/healthz/worker")
    assert (answer.status_code, answer.json()) == (503, {"status": "worker is silent"})
    Run.objects.create(kind="recover", started_at=now)
    assert client.get("/healthz/worker").status_code == 200
    assert client.get("/healthz").status_code == 200
