"""What only a browser can show: live updates, times of one's own zone, the frame of a mail, the order of focus.

Every page in every look is in `test_every_page`, what people come for in `tests/journeys`.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from emailoffload.outbox.models import AuditEntry, Email, Lease, State
from emailoffload.outbox.states import EmailState
from emailoffload.worker import rollups
from tests.dashboard.browsing import Visit
from tests.dashboard.conftest import make_user
from tests.dashboard.factories import make_day, make_email, make_run

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True, databases=["default", "moodle"]),
]


def a_busy_day() -> Email:
    """A site in the middle of its day; returns a mail to user 15093 that arrived."""
    make_day()
    for minutes in (2, 4, 6, 9):
        due = timezone.now() + timedelta(minutes=minutes)
        make_email(EmailState.QUEUED, due_at=due, subject=f"Time to renew: first aid, part {minutes}")
    make_run(
        outcome="errors", counts={"seen": 900, "claimed": 0, "left": {"no_course_module": 3}, "errors": 3}
    )
    Lease.objects.create(name="dispatch-1", holder="mail-1:4711", beat_at=timezone.now())
    account = {
        "sending_enabled": True,
        "max_send_rate": 14.0,
        "max_24h": 50000,
        "sent_24h": 1234,
        "production": True,
    }
    State.objects.create(name="ses_account", value={"account": account})
    return make_email(EmailState.DELIVERED, body={})


def test_a_support_person_answers_for_user_15093_and_reads_the_mail(visit: Visit) -> None:
    email = a_busy_day()
    make_user("Support staff", "sam")
    sam = visit()
    sam.log_in("sam")
    box = sam.page.get_by_role("searchbox", name="Find a user: id, name or address")
    sam.page.keyboard.press("/")
    expect(box).to_be_focused()
    box.fill("15093")
    box.press("Enter")
    sam.page.wait_for_url(sam.base + "/users/15093/")
    expect(sam.page.locator(".verdict")).to_contain_text("Yes: delivered to ada@example.org on")
    sam.page.locator(".after a").click()
    sam.page.wait_for_url(f"{sam.base}/emails/{email.pk}/")
    expect(sam.page.get_by_role("heading", name="Timeline")).to_be_visible()
    expect(sam.page.locator(".timeline")).to_contain_text("Claimed in Moodle")
    sam.page.get_by_role("link", name="Open the mail").click()
    mail = sam.page.frame_locator("iframe.mail")
    expect(mail.get_by_role("heading", name="Fire safety")).to_be_visible()
    sam.page.get_by_role("link", name="Text").click()
    expect(sam.page.locator("pre.mail")).to_contain_text("Dear Ada, please complete Fire safety.")
    assert [
        entry.details["part"] for entry in AuditEntry.objects.filter(action="view_content").order_by("pk")
    ] == ["html", "text"]
    sam.page.get_by_role("button", name="Log out").click()
    expect(sam.page.get_by_role("heading", name="Log in")).to_be_visible()
    assert sam.wrong == []


def test_active_content_of_a_mail_does_nothing_in_the_preview(visit: Visit) -> None:
    html = (
        '<p id="words">Hello</p><script>document.getElementById("words").textContent = "owned"</script>'
        "<img src=\"http://192.0.2.1/pixel.gif\" onerror=\"document.getElementById('words').textContent = 'owned'\">"
        '<a href="http://192.0.2.1/" target="_top">away</a>'
        '<meta http-equiv="refresh" content="0;url=http://192.0.2.1/"><style>@import "http://192.0.2.1/x.css";</style>'
        '<form action="http://192.0.2.1/" target="_top"><button>Win</button></form><base href="http://192.0.2.1/">'
        '<svg><script>document.body.textContent = "owned"</script></svg><iframe src="/emails/"></iframe>'
    )
    email = make_email(EmailState.DELIVERED, body={"html": html})
    sam = visit(make_user("Support staff", "sam"))
    path = f"/emails/{email.pk}/preview/"
    sam.go(path)
    mail = sam.page.frame_locator("iframe.mail")
    expect(mail.locator("#words")).to_have_text("Hello")
    mail.get_by_role("link", name="away").click()
    mail.get_by_role("button", name="Win").click()
    expect(sam.page.get_by_role("heading", name="Please complete Fire safety")).to_be_visible()
    expect(mail.locator("#words")).to_have_text("Hello")
    assert sam.page.url == sam.base + path
    # The browser names each thing that it blocked; nothing was asked of the network.
    assert sam.wrong
    assert not [text for text in sam.wrong if text.startswith("asked")]
    stopped = ("Content Security Policy", "sandbox", "X-Frame-Options")
    assert all(any(word in text for word in stopped) for text in sam.wrong), sam.wrong


def test_times_are_shown_in_the_viewers_own_zone(visit: Visit) -> None:
    moment = timezone.now().replace(year=2026, month=7, day=1, hour=12, minute=30)
    email = make_email(EmailState.DELIVERED, due_at=moment)
    sam_user = make_user("Support staff", "sam")
    sam = visit(sam_user)
    sam.go(f"/emails/{email.pk}/")
    due = sam.page.locator("dt:text-is('Due') + dd time")
    expect(due).to_have_text("1 Jul 2026, 13:30")
    expect(due).to_have_attribute("title", "Wednesday, 1 July 2026 at 13:30:" + f"{moment:%S} BST")
    without = visit(sam_user, java_script_enabled=False)
    without.go(f"/emails/{email.pk}/")
    expect(without.page.locator("dt:text-is('Due') + dd time")).to_have_text("1 Jul 2026, 12:30 UTC")


def test_the_overview_stays_fresh_and_can_be_paused(visit: Visit) -> None:
    make_email(EmailState.FAILED)
    sam = visit(make_user("Support staff", "sam"))
    sam.page.clock.install()
    sam.go("/")
    expect(sam.page.locator(".tasks")).to_contain_text("1 failed")
    details = sam.page.locator("#health-cards")
    details.locator("summary").click()
    make_email(EmailState.FAILED)
    sam.page.clock.run_for(31_000)
    expect(sam.page.locator(".tasks")).to_contain_text("2 failed")
    # What was open stays open, and the keyboard stays where it was.
    expect(details.locator(".grid")).to_be_visible()
    expect(details.locator("summary")).to_be_focused()
    sam.page.get_by_role("button", name="Pause updates").focus()
    sam.page.keyboard.press("Enter")
    expect(sam.page.get_by_text("Updates are paused.")).to_be_visible()
    asked: list[str] = []
    sam.page.on("request", lambda request: asked.append(request.url))
    sam.page.clock.run_for(120_000)
    assert asked == []
    # The choice is remembered, and going on asks at once.
    sam.page.reload()
    make_email(EmailState.FAILED)
    sam.page.get_by_role("button", name="Resume updates").click()
    expect(sam.page.locator(".tasks")).to_contain_text("3 failed")
    assert sam.wrong == []


@pytest.mark.parametrize("how", ["no answer", "an error"])
def test_where_the_site_does_not_answer_the_page_stays_and_says_that_it_is_old(
    visit: Visit, how: str
) -> None:
    make_email(EmailState.FAILED)
    sam = visit(make_user("Support staff", "sam"))
    sam.page.clock.install()
    sam.go("/")
    sam.page.route("**/", lambda route: route.abort() if how == "no answer" else route.fulfill(status=503))
    sam.page.clock.run_for(31_000)
    expect(sam.page.locator("#live-status")).to_have_text("Not up to date: the site does not answer.")
    expect(sam.page.locator(".tasks")).to_contain_text("1 failed")
    sam.page.unroute("**/")
    sam.page.clock.run_for(31_000)
    expect(sam.page.locator("#live-status")).to_be_empty()


def test_the_line_of_health_is_replaced_only_when_it_says_something_else(visit: Visit) -> None:
    sam = visit(make_user("Support staff", "sam"))
    sam.page.clock.install()
    sam.go("/")
    line = sam.page.locator("#verdict")
    expect(line).to_contain_text("No worker has run yet")
    sam.page.evaluate("document.querySelector('#verdict .verdict').dataset.seen = '1'")
    with sam.page.expect_response(lambda answer: answer.ok):
        sam.page.clock.run_for(31_000)
    expect(sam.page.locator("#verdict [data-seen]")).to_have_count(1)
    Lease.objects.create(name="dispatch", beat_at=timezone.now())
    sam.page.clock.run_for(31_000)
    expect(line).to_contain_text("All is well.")
    assert sam.wrong == []


def test_charts_lead_to_their_rows(visit: Visit) -> None:
    a_busy_day()
    rollups.run(rebuild=True)
    sam = visit(make_user("Support staff", "sam"))
    sam.go("/?when=24h")
    sam.page.locator(".drawn a[href*='state=failed']").first.click()
    expect(sam.page.get_by_role("heading", name="Emails")).to_be_visible()
    assert sam.wrong == []


def test_everything_can_be_read_without_javascript(visit: Visit) -> None:
    email = a_busy_day()
    sam = visit(make_user("Support staff", "sam"), java_script_enabled=False)
    sam.go("/users/15093/")
    expect(sam.page.locator(".verdict")).to_contain_text("Yes:")
    sam.go(f"/emails/{email.pk}/preview/")
    expect(sam.page.frame_locator("iframe.mail").get_by_role("heading", name="Fire safety")).to_be_visible()
    sam.go("/")
    expect(sam.page.get_by_role("heading", name="The last 24 hours")).to_be_visible()
    expect(sam.page.get_by_role("button", name="Pause updates")).to_have_count(0)
    assert sam.wrong == []


def test_the_keyboard_reaches_the_content_first(visit: Visit) -> None:
    sam = visit(make_user("Support staff", "sam"))
    sam.go("/")
    sam.page.keyboard.press("Tab")
    expect(sam.page.get_by_role("link", name="Skip to the content")).to_be_focused()
    sam.page.keyboard.press("Enter")
    expect(sam.page.locator("main")).to_be_focused()


@pytest.mark.parametrize(("look", "width"), [("light", 1280), ("dark", 1280), ("light", 1920)])
def test_the_sections_stand_in_one_row_and_the_pages_of_the_open_one_in_another(
    visit: Visit, look: str, width: int
) -> None:
    ada = visit(make_user("superuser", "ada"), look, viewport={"width": width, "height": 800})
    ada.go("/reconciliation/")
    rows = []
    for row in ("sections", "entries"):
        links = ada.page.locator(f"header nav.{row} a")
        expect(links.last).to_be_visible()
        places = [box for each in links.all() if (box := each.bounding_box())]
        assert len(places) > 2
        assert {place["y"] for place in places} == {places[0]["y"]}
        rows.append(places[0])
    search = ada.page.get_by_role("search").first.bounding_box()
    assert search and search["y"] + search["height"] <= rows[0]["y"]
    assert rows[0]["y"] + rows[0]["height"] <= rows[1]["y"]
    ada.check()
    ada.picture(f"tabs-{width}-{look}")
