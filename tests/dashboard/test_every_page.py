"""Every page of a busy site, in light, dark and phone width: no barrier, nothing sideways, nothing wrong.

The tables below are compared with the addresses that there are, so a new page without a picture fails. The pictures
go to the folder that OFFLOAD_SCREENSHOTS names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.urls import URLPattern, reverse
from playwright.sync_api import expect

from emailoffload.dashboard import urls
from tests.dashboard.browsing import Visit, Visitor
from tests.dashboard.busy import Busy, make_busy_site
from tests.dashboard.conftest import make_user

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True, databases=["default", "moodle"]),
]
Pages = Callable[[Busy], dict[str, str]]
NOT_A_PAGE = {
    "logout", "set-language", "saved-view-save", "saved-view-change", "email-preview-html", "event-problem-body",
    "events-sns", "healthz", "healthz-worker", "readyz", "metrics",
}  # fmt: skip
"""Buttons, frames inside a page, and what programs ask."""
WITHOUT_LOGIN: dict[str, Pages] = {"login": lambda busy: {"login": ""}}
PAGES: dict[str, Pages] = {
    "password_change": lambda busy: {"password": ""},
    "password_change_done": lambda busy: {"password-done": ""},
    "overview": lambda busy: {"overview": "", "overview-7d": "?when=7d"},
    "left": lambda busy: {
        "left": "",
        "left-narrowed": "?reason=not_enrolled",
        "left-nothing": "?reason=user_deleted",
    },
    "emails": lambda busy: {
        "emails": "?view=0",
        "emails-filtered": "?q=fire&state=delivered&state=accepted&when=7d",
        "emails-nothing": "?q=999999",
        "emails-wrong": "?user=abc&state=nonsense",
    },
    "emails-columns": lambda busy: {"columns": ""},
    "emails-export": lambda busy: {"export": "?state=bounced"},
    "saved-views": lambda busy: {"views": ""},
    "email": lambda busy: {
        "email": f"{busy.arrived.pk}/",
        "email-failed": f"{busy.failed.pk}/",
        "email-waiting": f"{busy.waiting.pk}/",
        "email-bounced": f"{busy.bounced.pk}/",
    },
    "email-preview": lambda busy: {
        "preview": f"{busy.arrived.pk}/preview/",
        "preview-text": f"{busy.arrived.pk}/preview/?part=text",
        "preview-headers": f"{busy.arrived.pk}/preview/?part=headers",
    },
    "email-resend": lambda busy: {
        "resend": f"{busy.arrived.pk}/resend/",
        "resend-suppressed": f"{busy.bounced.pk}/resend/",
    },
    "email-cancel": lambda busy: {"cancel": f"{busy.waiting.pk}/cancel/"},
    "email-hand-back": lambda busy: {"hand-back": f"{busy.waiting.pk}/hand-back/"},
    "email-smtp": lambda busy: {"smtp": f"{busy.failed.pk}/smtp/"},
    "email-suppress": lambda busy: {
        "suppress": f"{busy.failed.pk}/suppress/",
        "unsuppress": f"{busy.bounced.pk}/suppress/",
    },
    "users": lambda busy: {"users": "", "users-found": "?q=ada", "users-nothing": "?q=nobody+of+that+name"},
    "user": lambda busy: {
        "user": "15093/",
        "user-moodle": f"{busy.known_user}/",
        "user-unknown": "987654321/",
    },
    "copies": lambda busy: {
        "copies": "",
        "copies-found": "?user=17&activity=13",
        "copies-wrong": "?user=abc&template=user_create&activity=13",
    },
    "coverage": lambda busy: {"coverage": "", "coverage-nothing": "?q=no+such+thing"},
    "routing": lambda busy: {
        "routing": "",
        "routing-found": "?user=17&activity=13",
        "routing-wrong": "?user=abc",
    },
    "shadows": lambda busy: {"shadows": ""},
    "user-export": lambda busy: {"user-export": ""},
    "user-erase": lambda busy: {"user-erase": ""},
    "pause": lambda busy: {"pause": ""},
    "fallbacks": lambda busy: {"fallbacks": ""},
    "fallback-group": lambda busy: {"fallback-group": "failed/?reason=held:deadline"},
    "reputation": lambda busy: {"reputation": ""},
    "alarms": lambda busy: {
        "alarms": "",
        "alarms-past": "?show=past",
        "alarms-nothing": "?show=open&code=credentials",
    },
    "suppressions": lambda busy: {"suppressions": "?state=all", "suppressions-wrong": "?reason=weather"},
    "suppression-add": lambda busy: {"suppression-add": ""},
    "suppression": lambda busy: {"suppression": f"{busy.suppression}/"},
    "reconciliation": lambda busy: {
        "reconciliation": "",
        "reconciliation-closed": "?status=closed",
        "reconciliation-wrong": "?user=abc",
    },
    "runs": lambda busy: {"runs": ""},
    "run": lambda busy: {"run": f"{busy.run}/"},
    "audit": lambda busy: {"audit": ""},
    "configuration": lambda busy: {"settings": ""},
    "events": lambda busy: {"events": "", "events-nothing": "?q=nobody@example.org"},
    "event-problems": lambda busy: {"event-problems": ""},
    "event-problem": lambda busy: {"event-problem": f"{busy.problem}/?show=1"},
}
"""By the name of an address: pictures of it, each with what stands after the part of the address without numbers."""


def stem(name: str) -> str:
    """The part of an address before its first number or word of choice."""
    pattern = next(each for each in urls.urlpatterns if isinstance(each, URLPattern) and each.name == name)
    return "/" + str(pattern.pattern).partition("<")[0]


def picture(visitor: Visitor, name: str, path: str) -> None:
    visitor.look("light")
    visitor.go(path)
    visitor.check_in_every_look(name)


def test_no_page_is_without_a_picture() -> None:
    names = {each.name for each in urls.urlpatterns if isinstance(each, URLPattern)}
    assert names - NOT_A_PAGE == WITHOUT_LOGIN.keys() | PAGES.keys()


@pytest.mark.timeout(900)
def test_every_page_is_without_barriers_in_every_look(visit: Visit, settings: Any) -> None:
    settings.SMTP_ROUTE = {"HOST": "localhost"}
    busy = make_busy_site()
    stranger = visit()
    for name, pages in WITHOUT_LOGIN.items():
        for label, rest in pages(busy).items():
            picture(stranger, label, stem(name) + rest)
    ada = visit(User.objects.get(username="ada"))
    for name, pages in PAGES.items():
        for label, rest in pages(busy).items():
            picture(ada, label, stem(name) + rest)
    ada.go("/fallbacks/failed/?reason=held:deadline")
    ada.page.get_by_role("checkbox", name="With all mails").check()
    ada.page.get_by_role("button", name="Mark as dealt with").click()
    ada.page.get_by_role("heading", name="Mark as dealt with?").wait_for()
    ada.check_in_every_look("fallback-confirm")
    ada.go("/?when=7d")
    ada.page.locator("#time-table summary").click()
    ada.check_in_every_look("overview-table")


def test_every_page_of_the_records_obeys_the_same_policy(visit: Visit) -> None:
    make_busy_site()
    ada = visit(User.objects.get(username="ada"))
    ada.go("/admin/")
    ada.picture("admin-light")
    for model in admin.site._registry:
        label = f"{model._meta.app_label}_{model._meta.model_name}"
        ada.go(reverse(f"admin:{label}_changelist"))
        ada.picture(f"admin-{label}-light")
        first = model._default_manager.first()
        if first:
            ada.go(reverse(f"admin:{label}_change", args=[first.pk]))
            ada.picture(f"admin-{label}-one-light")
        assert ada.wrong == [], ada.page.url


def test_the_banner_of_a_sample_site_is_no_barrier(visit: Visit, settings: Any) -> None:
    settings.SAMPLE_SITE = True
    ada = visit(make_user("superuser", "ada"))
    ada.go("/users/")
    expect(ada.page.get_by_text("Sample site.")).to_be_visible()
    ada.check_in_every_look("sample-site")


def test_refusals_are_pages_too(visit: Visit) -> None:
    someone = visit(make_user(None, "newcomer"))
    for name, path, heading in (("refused", "/", "Not allowed"), ("not-found", "/nowhere/", "Not found")):
        someone.go(path)
        someone.wrong.clear()  # the browser notes the status
        expect(someone.page.get_by_role("heading", name=heading)).to_be_visible()
        someone.check_in_every_look(name)
        someone.look("light")
