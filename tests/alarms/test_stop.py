"""Where too many mails bounce claims stop: never those of mails with credentials, and Moodle keeps the others."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from emailoffload.actions import reputation as actions
from emailoffload.feedback.models import ReputationHour
from emailoffload.outbox.models import Claim, Email
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.sources import reasons
from emailoffload.worker import alarms, intercept
from tests.conftest import Moodle
from tests.iomad import queue
from tests.reengagement.test_decisions import soon

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)


def bounces(*, company: int = 0, identity: str = "", mails: int = 1000, bad: int = 100) -> None:
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    ReputationHour.objects.create(
        hour=hour, identity=identity, company_id=company, sends=mails, permanent_bounces=bad
    )


def rows(moodle: Moodle) -> dict[str, int]:
    """One mail with credentials and one without, in IOMAD's queue; ids by kind."""
    queue.empty(moodle)
    return {
        "user_create": queue.put(moodle),
        "license_allocated": queue.put(moodle, templatename="license_allocated"),
    }


def claimed() -> set[str]:
    return set(Claim.objects.filter(state="claimed").values_list("template", flat=True))


def test_the_accounts_rate_stops_ordinary_mails_and_not_those_with_credentials(
    moodle: Moodle, ses: SandboxSES
) -> None:
    waiting = rows(moodle)
    bounces()
    found = intercept.run(source="iomad_queue")
    assert (found.refused, found.claimed, claimed()) == ("", 1, {"user_create"})
    assert found.left[reasons.REPUTATION] == 1
    assert Email.objects.get().sensitive
    left = moodle.rows("SELECT id FROM mdl_email WHERE sent IS NULL")
    assert [row[0] for row in left] == [waiting["license_allocated"]]


def test_reminders_are_left_to_moodle_without_being_rendered_until_a_person_says_otherwise(
    moodle: Moodle, ses: SandboxSES
) -> None:
    soon(moodle)
    bounces()
    alarms.run()
    found = intercept.run(source="reengagement")
    assert (found.seen > 0, found.claimed, found.left[reasons.REPUTATION]) == (True, 0, found.seen)
    actions.override(timedelta(hours=1), actor="ann", reason="corrected")
    assert intercept.run(source="reengagement").claimed > 0


@pytest.mark.parametrize("whose", [{"company": queue.COMPANY}, {"identity": "lab.example"}])
def test_the_rate_of_a_company_or_a_domain_stops_only_its_mails(
    moodle: Moodle, ses: SandboxSES, whose: dict[str, Any]
) -> None:
    rows(moodle)
    bounces(**whose)
    bounces(identity="other.example", mails=20_000, bad=0)
    found = intercept.run(source="iomad_queue")
    assert (found.claimed, claimed(), found.left[reasons.REPUTATION]) == (1, {"user_create"}, 1)


def test_the_rate_of_others_stops_nothing(moodle: Moodle, ses: SandboxSES) -> None:
    rows(moodle)
    bounces(company=queue.COMPANY + 7, identity="other.example")
    bounces(identity="more.example", mails=20_000, bad=0)
    assert intercept.run(source="iomad_queue").claimed == 2


def test_a_shadow_pass_sees_what_it_always_sees(moodle: Moodle, ses: SandboxSES) -> None:
    rows(moodle)
    bounces()
    assert intercept.run(source="iomad_queue", shadow=True).left[reasons.REPUTATION] == 0
