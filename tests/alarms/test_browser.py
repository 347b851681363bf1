"""Reputation and alarms in a real browser: no barrier in any look; the override by hand."""

from __future__ import annotations

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from emailoffload.feedback import alarms, claimstop, rates
from emailoffload.feedback.models import ReputationHour
from tests.dashboard.browsing import Visit
from tests.dashboard.conftest import make_user

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True, databases=["default", "moodle"]),
]


def a_bad_day() -> None:
    """Bounces that stop claims, alarms open and past."""
    now = timezone.now()
    hour = now.replace(minute=0, second=0, microsecond=0)
    for company, mails, bounces, complaints in ((3, 1000, 120, 0), (5, 800, 30, 1), (7, 40, 1, 0)):
        ReputationHour.objects.create(
            hour=hour, identity="learn.example.org", company_id=company, sends=mails, permanent_bounces=bounces,
            complaints=complaints,
        )  # fmt: skip
    claimstop.judge(rates.rates(now), now)
    text = "The whole account: claiming has stopped, but for mails with credentials. Moodle sends the others."
    alarms.raise_alarm("reputation_stop", "", "critical", text, "Correct the addresses.")
    alarms.raise_alarm(
        "fallbacks", "", "warning", "Within an hour 60 mails did not go by the cloud.", "See them."
    )
    alarms.raise_alarm("worker_silent", "", "critical", "No pass has run since 10:02 UTC.", "Start it.")
    alarms.end_alarm("worker_silent")


def test_reputation_and_alarms_are_without_barriers_in_every_look(visit: Visit) -> None:
    ada = visit(make_user("superuser", "ada"))
    for name, path in {"reputation-none": "/reputation/", "alarms-none": "/alarms/"}.items():
        ada.go(path)
        ada.check_in_every_look(name)
        ada.look("light")
    a_bad_day()
    for name, path in {
        "reputation": "/reputation/",
        "alarms": "/alarms/",
        "alarms-past": "/alarms/?show=past",
        "overview-alarms": "/",
    }.items():
        ada.go(path)
        ada.check_in_every_look(f"bad-day-{name}")
        ada.look("light")


def test_a_person_lets_claiming_go_on_for_a_while(visit: Visit) -> None:
    a_bad_day()
    ann = visit(make_user("Offload administrators", "ann"))
    ann.go("/reputation/")
    expect(ann.page.get_by_text("Claiming has stopped")).to_be_visible()
    ann.page.get_by_label("For how long?").select_option(label="a day")
    ann.page.get_by_label("Why?").fill("The addresses are corrected")
    ann.page.get_by_role("button", name="Apply").click()
    expect(ann.page.get_by_text("by ann: The addresses are corrected.")).to_be_visible()
    ann.check()
    assert not claimstop.stops().any
