"""German pages in a real browser: they fit a phone, have no barrier, and times are the viewer's own."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from emailoffload.outbox.states import EmailState
from tests.dashboard.browsing import Visit
from tests.dashboard.conftest import make_user
from tests.dashboard.factories import make_day, make_email, make_suppression

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True, databases=["default", "moodle"]),
]
ADDRESSES = (
    "/", "/emails/?when=7d", "/users/15093/", "/fallbacks/", "/coverage/", "/routing/", "/suppressions/", "/runs/",
    "/reputation/", "/settings/",
)  # fmt: skip


def test_german_pages_fit_a_phone_and_have_no_barrier(visit: Visit) -> None:
    make_day()
    email = make_email(EmailState.FAILED, body={})
    make_suppression()
    ada = visit(make_user("superuser", "ada"), "phone", locale="de-DE", timezone_id="Europe/Berlin")
    for address in (*ADDRESSES, f"/emails/{email.pk}/", f"/emails/{email.pk}/resend/"):
        ada.go(address)
        expect(ada.page.locator("html")).to_have_attribute("lang", "de")
        ada.check()


def test_the_language_is_chosen_without_losing_the_page_and_times_follow_it(visit: Visit) -> None:
    moment = make_email(EmailState.DELIVERED).due_at
    sam = visit(make_user("Support staff", "sam"), locale="en-GB", timezone_id="Europe/Berlin")
    sam.go("/emails/?state=delivered")
    sam.page.get_by_role("button", name="Deutsch").click()
    sam.page.wait_for_url(sam.base + "/emails/?state=delivered")
    expect(sam.page.get_by_role("heading", name="E-Mails", exact=True)).to_be_visible()
    shown = sam.page.evaluate(
        "at => new Intl.DateTimeFormat('de', {day: 'numeric', month: 'short', year: 'numeric', hour: '2-digit',"
        " minute: '2-digit', timeZone: 'Europe/Berlin'}).format(new Date(at))",
        moment.isoformat(),
    )
    expect(sam.page.locator(f"time:text-is('{shown}')").first).to_be_visible()
    sam.page.get_by_role("button", name="English").click()
    expect(sam.page.get_by_role("heading", name="Emails", exact=True)).to_be_visible()
    assert sam.wrong == []


def test_the_language_is_chosen_without_javascript(visit: Visit) -> None:
    sam = visit(make_user("Support staff", "sam"), java_script_enabled=False)
    sam.go("/emails/?state=failed")
    sam.page.get_by_role("button", name="Deutsch").click()
    assert sam.page.url == sam.base + "/emails/?state=failed"
    expect(sam.page.locator("html")).to_have_attribute("lang", "de")
