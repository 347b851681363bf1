"""Logging in and out, the own password, the language and the keyboard's shortcuts."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import expect

from tests.dashboard.browsing import Visit
from tests.dashboard.conftest import PASSWORD
from tests.dashboard.factories import make_day

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True, databases=["default", "moodle"]),
]
NEW = "seven green lamps in the cellar"


def test_after_too_many_wrong_passwords_the_page_says_until_when(visit: Visit, sam: User) -> None:
    visitor = visit()
    page = visitor.page
    visitor.go("/login/")
    for number in range(6):
        page.get_by_label("Username").fill("sam")
        page.get_by_label("Password").fill("wrong" if number < 5 else PASSWORD)
        page.get_by_role("button", name="Log in").click()
        if page.get_by_role("heading", name="Too many attempts").is_visible():
            break
        expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_role("heading", name="Too many attempts")).to_be_visible()
    expect(page.locator("main time")).to_be_visible()
    visitor.wrong = [text for text in visitor.wrong if "429" not in text]  # the browser notes the status
    visitor.check_in_every_look("locked")


def test_a_password_is_changed_and_the_new_one_lets_in(visit: Visit, sam: User) -> None:
    visitor = visit(sam)
    page = visitor.page
    visitor.go("/")
    page.get_by_role("link", name="Change password").click()
    for label, text in (
        ("Old password", PASSWORD),
        ("New password", "12345"),
        ("New password confirmation", "12345"),
    ):
        page.get_by_label(label, exact=True).or_(page.get_by_label(label + ":", exact=True)).fill(text)
    page.get_by_role("button", name="Change password").click()
    expect(page.get_by_role("alert")).to_contain_text("was not changed")
    visitor.wrong.clear()
    visitor.check()
    page.locator("#id_old_password").fill(PASSWORD)
    page.locator("#id_new_password1").fill(NEW)
    page.locator("#id_new_password2").fill(NEW)
    page.get_by_role("button", name="Change password").click()
    expect(page).to_have_url(f"{visitor.base}/password/done/")
    page.get_by_role("button", name="Log out").click()
    visitor.log_in("sam", "/users/", NEW)
    visitor.check()


def test_the_language_is_changed_by_the_keyboard_alone(visit: Visit, sam: User) -> None:
    visitor = visit(sam)
    page = visitor.page
    visitor.go("/users/")
    german = page.get_by_role("button", name="Deutsch")
    page.locator("footer").scroll_into_view_if_needed()
    for _ in range(40):
        page.keyboard.press("Tab")
        if german.evaluate("button => button === document.activeElement"):
            break
    expect(german).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_attribute("lang", "de")
    expect(page).to_have_url(f"{visitor.base}/users/")
    visitor.check()
    visitor.go("/")
    expect(page.locator("html")).to_have_attribute("lang", "de")
    visitor.look("phone")
    visitor.check()


def test_the_shortcuts_work_are_listed_and_can_be_switched_off(visit: Visit, sam: User) -> None:
    make_day()
    visitor = visit(sam)
    page = visitor.page
    visitor.go("/emails/")
    dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
    page.keyboard.press("?")
    expect(dialog).to_be_visible()
    visitor.check()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    subjects = page.locator("main table a.subject")
    for key, at in (("j", 0), ("j", 1), ("k", 0), ("ArrowDown", 1)):
        page.keyboard.press(key)
        expect(subjects.nth(at)).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_label("Search", exact=True)).to_be_focused()
    # In a field the same keys are letters.
    page.keyboard.type("j?")
    expect(page.get_by_label("Search", exact=True)).to_have_value("j?")
    expect(dialog).to_be_hidden()
    page.get_by_role("button", name="Keyboard shortcuts").click()
    page.get_by_label("Use single-key shortcuts").uncheck()
    page.get_by_role("button", name="Close").click()
    page.reload()
    page.keyboard.press("?")
    expect(dialog).to_be_hidden()
    assert visitor.wrong == []
