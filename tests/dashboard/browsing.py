"""A headless browser that looks at the dashboard as people do, and remembers everything that goes wrong in it.

One Chromium serves all tests of a process. A test asks for `visit` and gets visitors: each a window of its own, in
light, dark or phone width, as somebody who is logged in already unless logging in is what the test is about.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.dashboard.world import PASSWORD

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": DESK},
    "dark": {"color_scheme": "dark", "viewport": DESK},
    "phone": {"color_scheme": "light", "viewport": PHONE, "has_touch": True},
}
COLOURS = {"runOnly": ["color-contrast", "link-in-text-block"]}
"""All that can differ between light and dark."""
OF_A_MAIL = {
    rule: {"enabled": False}
    for rule in (
        "region",
        "landmark-one-main",
        "page-has-heading-one",
        "html-has-lang",
        "document-title",
        "bypass",
    )
}
"""Rules about a page of its own. A mail in its frame is none, and what it says is its author's."""
REPORT = """addEventListener("securitypolicyviolation", (event) => {
  console.error(`policy: ${event.violatedDirective} forbids ${event.blockedURI || "inline"} in ${event.sourceFile}`);
});"""
ABORTED = ("htmx:afterRequest", "htmx:sendAbort")
"""What htmx notes when a newer question overtakes an older one. Failures have names of their own."""
START_MS = 120_000
"""Chromium's start while others use the machine: a start that fails is an error of each test of its package."""
Visit = Callable[..., "Visitor"]
_running: list[Browser] = []


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The process's Chromium, one for all the packages whose conftest names this fixture."""
    if _running:
        yield _running[0]
        return
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert program, "Chromium is not installed. On Debian: apt-get install chromium. See README, 'Testing'."
    with sync_playwright() as playwright, pytest.MonkeyPatch.context() as patch:
        # Playwright's loop makes Django believe that the database is used from async code.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        chromium = playwright.chromium.launch(executable_path=program, args=ARGUMENTS, timeout=START_MS)
        _running.append(chromium)
        yield chromium
        _running.clear()
        chromium.close()


@pytest.fixture(scope="session")
def axe() -> Axe:
    """The checker of barriers, read once."""
    return Axe()


@pytest.fixture
def screenshots() -> Path | None:
    """The folder that OFFLOAD_SCREENSHOTS names; none, and no picture is taken."""
    name = os.environ.get("OFFLOAD_SCREENSHOTS")
    if not name:
        return None
    folder = Path(name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def visit(browser: Browser, axe: Axe, live_server: Any, screenshots: Path | None) -> Iterator[Visit]:
    """A function: (user or None, look, options of the window) → a visitor."""
    contexts: list[BrowserContext] = []

    def make(user: User | None = None, look: str = "light", **options: Any) -> Visitor:
        given = {"locale": "en-GB", "timezone_id": "Europe/London", "reduced_motion": "reduce"}
        context = browser.new_context(**(given | LOOKS[look] | options))
        context.set_default_timeout(8_000)
        contexts.append(context)
        visitor = Visitor(context, live_server.url, screenshots, axe)
        if user:
            visitor.enter(user)
        return visitor

    yield make
    for context in contexts:
        context.close()


class Visitor:
    """A page that remembers everything that went wrong in it: `wrong`, empty while all is well."""

    def __init__(self, context: BrowserContext, base: str, screenshots: Path | None, axe: Axe) -> None:
        context.add_init_script(REPORT)
        self.context = context
        self.page: Page = context.new_page()
        self.base = base
        self.screenshots = screenshots
        self.axe = axe
        self.wrong: list[str] = []
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("requestfinished", self._asked)
        self.page.on("requestfailed", self._failed)

    def _said(self, message: Any) -> None:
        if message.type in {"error", "warning"} and not message.text.startswith(ABORTED):
            # "Failed to load resource" alone would not say which.
            self.wrong.append(f"{message.text} ({message.location.get('url', '')})")

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.base, "data:", "about:", "blob:")):
            self.wrong.append(f"asked {request.url}: {request.failure or 'answered'}")

    def _failed(self, request: Any) -> None:
        self._asked(request)
        # What somebody left before it was there is no failure; what the policy forbade is noted by the console.
        if request.failure not in {"net::ERR_ABORTED", "csp"}:
            self.wrong.append(f"failed {request.url}: {request.failure}")

    def enter(self, user: User) -> None:
        """Be logged in from now on, without the form."""
        client = Client()
        client.force_login(user)
        cookie = client.cookies[settings.SESSION_COOKIE_NAME]
        self.context.add_cookies([{"name": cookie.key, "value": cookie.value, "url": self.base}])

    def go(self, path: str) -> None:
        """Open a page of the dashboard."""
        self.page.goto(self.base + path)

    def log_in(self, username: str, path: str = "/", password: str = PASSWORD) -> None:
        """Log in as a person does, on the way to a page."""
        self.go(path)
        self.page.get_by_label("Username").fill(username)
        self.page.get_by_label("Password", exact=True).fill(password)
        self.page.get_by_role("button", name="Log in", exact=True).click()
        self.page.wait_for_url(self.base + path)

    def barriers(self, page: Page | None = None, **options: Any) -> list[Any]:
        """What axe finds on the page, by its default rules."""
        where = page or self.page
        if not where.evaluate("typeof axe === 'object'"):
            where.evaluate(self.axe.axe_script)
        # Told to give only what it found wrong, it takes a third of the time.
        asked = {"iframes": False, "resultTypes": ["violations"], **options}
        found = where.evaluate("options => axe.run(document, options)", asked)
        return [(each["id"], [node["html"][:160] for node in each["nodes"]]) for each in found["violations"]]

    def barriers_in_mails(self) -> list[Any]:
        """What axe finds in the mails that frames of the page show.

        Nothing runs in such a frame, axe neither: it looks at the same document in a window without a network.
        """
        found = []
        for frame in self.page.frames[1:]:
            scratch = self.context.new_page()
            scratch.route("**/*", lambda route: route.abort())
            scratch.set_content(frame.content())
            found += self.barriers(scratch, rules=OF_A_MAIL)
            scratch.close()
        return found

    def narrow_enough(self) -> None:
        """Nothing is wider than the window."""
        width = self.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert width[0] <= width[1], f"{self.page.url} is wider than the window: {width}"

    def check(self, **options: Any) -> None:
        """No barrier that axe knows, in the page and in a mail that it shows; nothing sideways; nothing went wrong."""
        assert self.barriers(**options) == [], self.page.url
        assert self.barriers_in_mails() == [], self.page.url
        self.narrow_enough()
        assert self.wrong == [], self.page.url

    def check_in_every_look(self, name: str) -> None:
        """The same in light, dark and phone width, loading the page once; a picture of each."""
        self.look("light")
        self.check()
        self.picture(f"{name}-light")
        self.look("dark")
        assert self.barriers(**COLOURS) == [], f"{self.page.url} in the dark"
        self.picture(f"{name}-dark")
        self.look("phone")
        self.check(rules={"color-contrast": {"enabled": False}})  # those are the colours of the first look
        self.picture(f"{name}-phone")

    def look(self, look: str) -> None:
        """Change the colours and the width of the window."""
        values = LOOKS[look]
        self.page.emulate_media(color_scheme=values["color_scheme"], reduced_motion="reduce")
        self.page.set_viewport_size(values["viewport"])

    def picture(self, name: str) -> None:
        """Keep a screenshot of the whole page, if somebody asked for them."""
        if self.screenshots:
            self.page.screenshot(path=self.screenshots / f"{name}.png", full_page=True)
