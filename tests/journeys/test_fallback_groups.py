"""A group of mails that did not go by the cloud: one, some chosen, all of a cause, each as the page said before."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import expect

from emailoffload.outbox.models import Email
from emailoffload.outbox.states import EmailState
from emailoffload.sandbox.ses_server import SandboxSES
from tests.conftest import Moodle
from tests.dashboard.browsing import Visit, Visitor
from tests.fallback.site import claimed, rows

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True, databases=["default", "moodle"]),
]
GROUP = "/fallbacks/failed/?reason=held:deadline"


def hand_back(visitor: Visitor, number: int, action: str = "Hand back to Moodle") -> None:
    """Press the button, compare the number on the page with those chosen, confirm, compare what is said then."""
    page = visitor.page
    mails = "1 mail" if number == 1 else f"{number} mails"
    page.get_by_role("button", name=re.compile(action)).click()
    expect(page.get_by_text(f"This concerns {mails}.")).to_be_visible()
    visitor.check()
    page.get_by_label("Why?").fill("SES is down")
    page.get_by_role("button", name=re.compile(action)).click()
    expect(page.locator("main [role=status]")).to_have_text(f"Done with {mails}.")
    visitor.check()


def test_one_some_and_all_of_a_cause_go_back_to_moodle(
    visit: Visit, sam: User, moodle: Moodle, ses: SandboxSES
) -> None:
    before = claimed(moodle, 6)
    Email.objects.update(state=EmailState.FAILED, reason="held:deadline")
    visitor = visit(sam)
    page = visitor.page
    visitor.go("/fallbacks/")
    visitor.check()
    page.locator("main a[href*='held']").first.click()
    expect(page.locator(".head .count")).to_have_text("6 emails")
    for chosen in (1, 2):
        visitor.go(GROUP)
        for box in page.locator("input[name=email]").all()[:chosen]:
            box.check()
        hand_back(visitor, chosen)
        assert Email.objects.filter(state=EmailState.RELEASED).count() == (1 if chosen == 1 else 3)
    visitor.go(GROUP)
    page.get_by_role("checkbox", name="With all mails of this cause").check()
    hand_back(visitor, 3)
    assert rows(moodle) == before
    visitor.go(GROUP)
    expect(page.get_by_text("No mail is in this group any more.")).to_be_visible()
    visitor.check()


def test_what_somebody_has_dealt_with_leaves_the_list(
    visit: Visit, sam: User, moodle: Moodle, ses: SandboxSES
) -> None:
    claimed(moodle, 2)
    Email.objects.update(state=EmailState.FAILED, reason="held:deadline")
    visitor = visit(sam)
    visitor.go(GROUP)
    visitor.page.locator("input[name=email]").first.check()
    hand_back(visitor, 1, "Mark as dealt with")
    assert sorted(Email.objects.values_list("state", flat=True)) == ["cancelled", "failed"]
    visitor.go("/fallbacks/")
    expect(visitor.page.locator("main li, main tr").filter(has_text="deadline").first).to_contain_text("1")
