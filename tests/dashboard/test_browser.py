"""A support person's way through the dashboard in a real browser: no error, no broken policy, no barrier.

Screenshots of every page in light, dark and phone width go to the folder that OFFLOAD_SCREENSHOTS names.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from emailoffload.feedback.models import EventProblem, Suppression
from emailoffload.outbox.models import AuditEntry, Email, Lease, Shadow, State
from emailoffload.outbox.states import EmailState
from emailoffload.policy.models import CopyRule, RoutingRule
from emailoffload.worker import rollups
from tests.dashboard.conftest import PASSWORD, make_user
from tests.dashboard.factories import make_day, make_email, make_finding, make_run, make_suppression
from tests.dashboard.reported import make_reports

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True, databases=["default", "moodle"]),
]
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "has_touch": True},
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Playwright's loop makes Django believe that the database is used from async code.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert program, "Chromium is not installed. On Debian: apt-get install chromium. See README, 'Testing'."
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield chromium
        chromium.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


class Visitor:
    """A page that remembers everything that went wrong in it."""

    def __init__(self, context: BrowserContext, base: str, screenshots: Path) -> None:
        self.page: Page = context.new_page()
        self.base = base
        self.screenshots = screenshots
        self.wrong: list[str] = []
        self.page.on(
            "console", lambda m: self.wrong.append(m.text) if m.type in {"error", "warning"} else None
        )
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("requestfinished", self._asked)
        self.page.on(
            "requestfailed", lambda request: self._asked(request) if request.failure != "csp" else None
        )

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.base, "data:", "about:")):
            self.wrong.append(f"asked {request.url}: {request.failure or 'answered'}")

    def go(self, path: str) -> None:
        """Open a page of the dashboard."""
        self.page.goto(self.base + path)

    def log_in(self, username: str, path: str = "/") -> None:
        """Log in as a person does, on the way to a page."""
        self.go(path)
        self.page.get_by_label("Username").fill(username)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Log in").click()
        self.page.wait_for_url(self.base + path)

    def check(self) -> None:
        """No barrier that axe knows, nothing sideways, and nothing went wrong so far."""
        found = Axe().run(self.page, options={"iframes": False})
        barriers = [
            (each["id"], [node["html"][:160] for node in each["nodes"]])
            for each in found.response["violations"]
        ]
        assert barriers == []
        width = self.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert width[0] <= width[1], f"{self.page.url} is wider than the window: {width}"
        assert self.wrong == []

    def picture(self, name: str) -> None:
        """Keep a screenshot of the whole page."""
        self.page.screenshot(path=self.screenshots / f"{name}.png", full_page=True)


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("OFFLOAD_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def visit(browser: Browser, live_server: Any, screenshots: Path) -> Iterator[Any]:
    contexts: list[BrowserContext] = []

    def make(look: str = "light", **options: Any) -> Visitor:
        context = browser.new_context(locale="en-GB", timezone_id="Europe/London", **(LOOKS[look] | options))
        context.set_default_timeout(15_000)
        contexts.append(context)
        return Visitor(context, live_server.url, screenshots)

    yield make
    for context in contexts:
        context.close()


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


def make_suppressions() -> Suppression:
    """Addresses that get no mail, for every reason, one still to be put on SES's list, and one that is over."""
    now = timezone.now()
    lifted: dict[str, Any] = {
        "active_key": None, "removed_at": now, "removed_by": "sam", "removal_reason": "The mailbox was made anew",
    }  # fmt: skip
    make_suppression(address="charles@example.org", **lifted)
    make_suppression(
        address="full@example.net", reason="transient", until=now + timedelta(days=2), agreement="ours"
    )
    make_suppression(
        address="eve@example.net", reason="person", origin="person", added_by="ann", agreement="to_add"
    )
    make_suppression(address="mallory@example.com", reason="complaint", origin="ses", added_by="Amazon SES")
    bounced = make_email(EmailState.BOUNCED, address="charles@example.org", subject="First aid, part 2")
    return make_suppression(bounced)


def test_a_support_person_answers_for_user_15093_and_reads_the_mail(visit: Any) -> None:
    email = a_busy_day()
    make_user("Support staff", "sam")
    sam: Visitor = visit()
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
    assert [entry.details["part"] for entry in AuditEntry.objects.order_by("pk")] == ["html", "text"]
    sam.page.get_by_role("button", name="Log out").click()
    expect(sam.page.get_by_role("heading", name="Log in")).to_be_visible()
    assert sam.wrong == []


def test_active_content_of_a_mail_does_nothing_in_the_preview(visit: Any) -> None:
    html = (
        '<p id="words">Hello</p><script>document.getElementById("words").textContent = "owned"</script>'
        "<img src=\"http://192.0.2.1/pixel.gif\" onerror=\"document.getElementById('words').textContent = 'owned'\">"
        '<a href="http://192.0.2.1/" target="_top">away</a>'
    )
    email = make_email(EmailState.DELIVERED, body={"html": html})
    make_user("Support staff", "sam")
    sam: Visitor = visit()
    path = f"/emails/{email.pk}/preview/"
    sam.log_in("sam", path)
    mail = sam.page.frame_locator("iframe.mail")
    expect(mail.locator("#words")).to_have_text("Hello")
    mail.get_by_role("link", name="away").click()
    expect(sam.page.get_by_role("heading", name="Please complete Fire safety")).to_be_visible()
    assert sam.page.url == sam.base + path
    # The browser names each thing that it blocked; nothing was asked of the network.
    assert sam.wrong
    assert not [text for text in sam.wrong if text.startswith("asked")]
    assert all("Content Security Policy" in text or "sandbox" in text for text in sam.wrong), sam.wrong


def test_filters_are_used_and_shared_by_their_address(visit: Any) -> None:
    a_busy_day()
    make_user("Auditors", "ann")
    ann: Visitor = visit()
    ann.log_in("ann", "/emails/")
    ann.page.get_by_text("State", exact=True).first.click()
    ann.page.get_by_label("failed").check()
    ann.page.get_by_label("Rendered").select_option("24h")
    ann.page.get_by_role("button", name="Show").click()
    expect(ann.page.locator(".count")).to_have_text("1 email found")
    expect(ann.page.locator("tbody .badge")).to_have_text(["failed"])
    assert "state=failed" in ann.page.url and "when=24h" in ann.page.url
    ann.check()
    ann.page.get_by_role("link", name="Clear all filters").click()
    expect(ann.page.locator("tbody tr")).to_have_count(37)


def test_times_are_shown_in_the_viewers_own_zone(visit: Any) -> None:
    moment = timezone.now().replace(year=2026, month=7, day=1, hour=12, minute=30)
    email = make_email(EmailState.DELIVERED, due_at=moment)
    make_user("Support staff", "sam")
    sam: Visitor = visit()
    sam.log_in("sam", f"/emails/{email.pk}/")
    due = sam.page.locator("dt:text-is('Due') + dd time")
    expect(due).to_have_text("1 Jul 2026, 13:30")
    expect(due).to_have_attribute("title", "Wednesday, 1 July 2026 at 13:30:" + f"{moment:%S} BST")
    without: Visitor = visit(java_script_enabled=False)
    without.log_in("sam", f"/emails/{email.pk}/")
    expect(without.page.locator("dt:text-is('Due') + dd time")).to_have_text("1 Jul 2026, 12:30 UTC")


def test_the_overview_stays_fresh_and_can_be_paused(visit: Any) -> None:
    make_email(EmailState.FAILED)
    make_user("Support staff", "sam")
    sam: Visitor = visit()
    sam.page.clock.install()
    sam.log_in("sam")
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
def test_where_the_site_does_not_answer_the_page_stays_and_says_that_it_is_old(visit: Any, how: str) -> None:
    make_email(EmailState.FAILED)
    make_user("Support staff", "sam")
    sam: Visitor = visit()
    sam.page.clock.install()
    sam.log_in("sam")
    sam.page.route("**/", lambda route: route.abort() if how == "no answer" else route.fulfill(status=503))
    sam.page.clock.run_for(31_000)
    expect(sam.page.locator("#live-status")).to_have_text("Not up to date: the site does not answer.")
    expect(sam.page.locator(".tasks")).to_contain_text("1 failed")
    sam.page.unroute("**/")
    sam.page.clock.run_for(31_000)
    expect(sam.page.locator("#live-status")).to_be_empty()


def test_the_line_of_health_is_replaced_only_when_it_says_something_else(visit: Any) -> None:
    make_user("Support staff", "sam")
    sam: Visitor = visit()
    sam.page.clock.install()
    sam.log_in("sam")
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


def test_charts_have_no_barrier_and_lead_to_their_rows(visit: Any) -> None:
    a_busy_day()
    rollups.run(rebuild=True)
    make_user("Support staff", "sam")
    for look in LOOKS:
        sam: Visitor = visit(look)
        sam.log_in("sam", "/?when=24h")
        sam.page.locator("#time-table summary").click()
        sam.check()
        sam.picture(f"overview-figures-{look}")
    sam.page.locator(".drawn a[href*='state=failed']").first.click()
    expect(sam.page.get_by_role("heading", name="Emails")).to_be_visible()
    assert sam.wrong == []


def test_everything_can_be_read_without_javascript(visit: Any) -> None:
    email = a_busy_day()
    make_user("Support staff", "sam")
    sam: Visitor = visit(java_script_enabled=False)
    sam.log_in("sam", "/users/15093/")
    expect(sam.page.locator(".verdict")).to_contain_text("Yes:")
    sam.go(f"/emails/{email.pk}/preview/")
    expect(sam.page.frame_locator("iframe.mail").get_by_role("heading", name="Fire safety")).to_be_visible()
    sam.go("/")
    expect(sam.page.get_by_role("heading", name="The last 24 hours")).to_be_visible()
    expect(sam.page.get_by_role("button", name="Pause updates")).to_have_count(0)
    assert sam.wrong == []


def test_the_keyboard_reaches_the_content_first(visit: Any) -> None:
    make_user("Support staff", "sam")
    sam: Visitor = visit()
    sam.log_in("sam")
    sam.page.keyboard.press("Tab")
    expect(sam.page.get_by_role("link", name="Skip to the content")).to_be_focused()
    sam.page.keyboard.press("Enter")
    expect(sam.page.locator("main")).to_be_focused()


@pytest.mark.parametrize(("look", "width"), [("light", 1280), ("dark", 1280), ("light", 1920)])
def test_the_sections_stand_in_one_row_and_the_pages_of_the_open_one_in_another(
    visit: Any, look: str, width: int
) -> None:
    make_user("superuser", "ada")
    ada: Visitor = visit(look, viewport={"width": width, "height": 800})
    ada.log_in("ada", "/reconciliation/")
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


def make_rules_and_shadows() -> None:
    """A few rules of each kind, and a shadow of each verdict."""
    RoutingRule.objects.create(name="Whole site, watched", mode="shadow", note="Until the end of May")
    RoutingRule.objects.create(name="Pilot activity", activity_id=13, percentage=10, fallback="hold")
    RoutingRule.objects.create(name="Not used now", mode="off", company_id=4, enabled=False)
    now = timezone.now()
    for number, verdict in enumerate(("waiting", "sent", "untouched", "gone", "changed")):
        Shadow.objects.create(
            source="iomad_queue", row_id=number, template="user_added_to_course", user_id=15093, activity_id=0,
            course_id=4, mails=1, due_at=now, seen_at=now, verdict=verdict, detail="not_handled",
        )  # fmt: skip


def make_findings() -> None:
    """A finding of each verdict, one that is closed, and the comparison that they come from."""
    details = {
        "possible_double": "overwritten", "possible_loss": "withheld", "overdue": "passed_over",
        "touched": "other_values", "gone": "row_gone", "waiting": "not_yet", "picked_up": "counted",
    }  # fmt: skip
    for verdict, detail in details.items():
        make_finding(make_email().claim, verdict=verdict, detail=detail)
    make_finding(make_email().claim, closed_at=timezone.now(), closed_because="agrees")
    evidence = {"notifications": False, "task_log": False}
    last = {
        "finished_at": timezone.now().isoformat(),
        "days": 7,
        "claims": 48210,
        "counts": {"agrees": 48202},
    }
    State.objects.create(name="reconcile", value={"sweep": None, "last": last | {"evidence": evidence}})


@pytest.mark.parametrize("look", list(LOOKS))
def test_every_page_is_without_barriers_in(visit: Any, look: str) -> None:
    email = a_busy_day()
    failed = Email.objects.filter(state=EmailState.FAILED).first()
    assert failed
    from emailoffload.moodle.models import User

    known = User.objects.filter(username="gsusp").values_list("id", flat=True)[0]
    for name, value in (("To HR", "hr@firm.example"), ("To nobody", "not an address")):
        CopyRule.objects.create(name=name, kind=CopyRule.Kind.FIXED, value=value)
    make_rules_and_shadows()
    barred = make_suppressions()
    reported = make_reports()
    make_findings()
    make_user("superuser", "ada")
    ada: Visitor = visit(look)
    ada.go("/login/")
    ada.check()
    ada.picture(f"login-{look}")
    ada.log_in("ada")
    for name, path in {
        "overview": "/",
        "emails": "/emails/",
        "emails-filtered": "/emails/?q=fire&state=delivered&state=accepted&when=7d",
        "emails-nothing": "/emails/?q=999999",
        "emails-wrong": "/emails/?user=abc&state=nonsense",
        "email": f"/emails/{email.pk}/",
        "email-failed": f"/emails/{failed.pk}/",
        "preview": f"/emails/{email.pk}/preview/",
        "preview-text": f"/emails/{email.pk}/preview/?part=text",
        "preview-headers": f"/emails/{email.pk}/preview/?part=headers",
        "users": "/users/",
        "users-found": "/users/?q=g",
        "users-search": "/users/?q=plain",
        "user": "/users/15093/",
        "user-moodle": f"/users/{known}/",
        "copies": "/copies/",
        "copies-found": "/copies/?user=17&activity=13",
        "copies-wrong": "/copies/?user=abc&template=user_create&activity=13",
        "routing": "/routing/",
        "routing-found": "/routing/?user=17&activity=13",
        "routing-wrong": "/routing/?email=1&user=abc",
        "shadows": "/routing/shadows/",
        "coverage": "/coverage/",
        "coverage-nothing": "/coverage/?q=no+such+thing",
        "reconciliation": "/reconciliation/",
        "reconciliation-closed": "/reconciliation/?status=closed&verdict=touched&user=15093",
        "reconciliation-nothing": "/reconciliation/?user=99",
        "reconciliation-wrong": "/reconciliation/?user=abc",
        "pause": "/pause/",
        "fallbacks": "/fallbacks/",
        "fallback-group": f"/fallbacks/failed/?reason={failed.reason}",
        "email-bounced": f"/emails/{reported[0].pk}/",
        "email-opened": f"/emails/{reported[1].pk}/",
        "events": "/events/",
        "events-nothing": "/events/?q=nobody@example.org",
        "event-problems": "/events/problems/",
        "event-problem": f"/events/problems/{EventProblem.objects.all()[0].pk}/?show=1",
        "suppressions": "/suppressions/?state=all",
        "suppressions-wrong": "/suppressions/?reason=weather",
        "suppression": f"/suppressions/{barred.pk}/",
        "suppression-add": "/suppressions/add/",
        "runs": "/runs/",
    }.items():
        ada.go(path)
        ada.check()
        ada.picture(f"{name}-{look}")
    ada.go(f"/fallbacks/failed/?reason={failed.reason}")
    ada.page.get_by_role("checkbox", name="With all mails").check()
    ada.page.get_by_role("button", name="Mark as dealt with").click()
    ada.page.get_by_role("heading", name="Mark as dealt with?").wait_for()
    ada.check()
    ada.picture(f"fallback-confirm-{look}")


def test_the_records_in_the_admin_obey_the_same_policy(visit: Any) -> None:
    email = a_busy_day()
    make_user("superuser", "ada")
    ada: Visitor = visit()
    ada.log_in("ada")
    for path in ("/admin/", "/admin/emailoffload/email/", f"/admin/emailoffload/email/{email.pk}/change/"):
        ada.go(path)
        expect(ada.page.locator("#site-name")).to_have_text("Email Offload: records")
    assert ada.wrong == []


def test_refusals_are_pages_too(visit: Any) -> None:
    make_user(None, "newcomer")
    someone: Visitor = visit()
    someone.log_in("newcomer")
    expect(someone.page.get_by_role("heading", name="Not allowed")).to_be_visible()
    someone.wrong.clear()  # the browser notes the status 403
    someone.check()
    someone.picture("refused-light")
    someone.go("/nowhere/")
    someone.wrong.clear()  # and the status 404
    expect(someone.page.get_by_role("heading", name="Not found")).to_be_visible()
    someone.check()
    someone.picture("not-found-light")
