"""The list of emails: filters without reloading, saved views, columns, and the file that is downloaded."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import expect

from emailoffload.dashboard.models import SavedView
from emailoffload.outbox.models import AuditEntry, Email
from emailoffload.outbox.states import EmailState
from tests.dashboard.browsing import Visit
from tests.dashboard.factories import make_day, make_email

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True, databases=["default", "moodle"]),
]


def test_filters_act_at_once_and_the_address_and_the_back_button_follow(visit: Visit, sam: User) -> None:
    make_day()
    visitor = visit(sam)
    page, found = visitor.page, visitor.page.locator("#found")
    visitor.go("/emails/")
    loaded = page.evaluate("() => { window.here = true; return performance.timeOrigin; }")
    page.get_by_text("State", exact=True).first.click()
    page.get_by_label("failed").check()
    expect(found).to_have_text("1 email found")
    expect(page).to_have_url(re.compile(r"\?.*state=failed"))
    page.get_by_label("bounced").check()
    expect(found).to_have_text("3 emails found")
    expect(page.locator("tbody tr")).to_have_count(3)
    # Nothing was loaded anew, and what is typed stays where it was.
    assert page.evaluate("performance.timeOrigin") == loaded
    visitor.check()
    page.get_by_role("link", name=re.compile("State: .*remove this filter", re.S)).first.click()
    expect(page).to_have_url(re.compile("state="))
    page.go_back()
    expect(found).to_have_text("3 emails found")
    expect(page.get_by_label("bounced")).to_be_checked()
    page.get_by_label("Search", exact=True).fill("nobody at all")
    expect(page.get_by_text("No email fits these filters.")).to_be_visible()
    visitor.check()


def test_a_view_is_saved_used_shown_first_and_deleted(visit: Visit, sam: User) -> None:
    make_day()
    visitor = visit(sam)
    page = visitor.page
    visitor.go("/emails/?state=failed")
    page.get_by_text("Save this view…").click()
    page.get_by_label("Name of the view").fill("What failed")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("navigation", name="Saved views")).to_contain_text("What failed")
    visitor.check()
    visitor.go("/emails/?view=0")
    page.get_by_role("link", name="What failed").click()
    expect(page.locator("tbody .badge")).to_have_text(["failed"])
    page.get_by_role("link", name="Manage saved views…").click()
    page.get_by_role("button", name="Show this first").click()
    expect(page.get_by_text("shown first")).to_be_visible()
    visitor.check()
    visitor.go("/emails/")
    expect(page.locator("tbody .badge")).to_have_text(["failed"])
    visitor.go("/emails/views/")
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("No saved view yet.")).to_be_visible()
    visitor.go("/emails/")
    expect(page.locator("tbody tr")).to_have_count(Email.objects.count())
    assert not SavedView.objects.exists()
    assert visitor.wrong == []


def test_columns_are_chosen_and_moved_and_stay(visit: Visit, sam: User) -> None:
    make_email(EmailState.DELIVERED)
    visitor = visit(sam)
    page = visitor.page
    visitor.go("/emails/")
    page.get_by_role("link", name="Columns…").click()
    page.get_by_role("checkbox", name="Company").uncheck()
    page.get_by_role("button", name="Save").last.click()
    heads = page.locator("thead th")
    expect(heads.filter(has_text="Company")).to_have_count(0)
    names = heads.all_inner_texts()
    page.get_by_role("link", name="Columns…").click()
    page.get_by_role("button", name=f"Move {names[-1]} up").click()
    page.get_by_role("button", name="Save").last.click()
    expect(heads.last).to_have_text(names[-2])
    visitor.check()
    visitor.go("/emails/")
    expect(heads.last).to_have_text(names[-2])


def test_the_exported_file_has_exactly_the_rows_of_the_list(visit: Visit, ann: User) -> None:
    make_day()
    make_email(EmailState.FAILED, name='=HYPERLINK("http://192.0.2.1")')
    visitor = visit(ann)
    page = visitor.page
    visitor.go("/emails/?state=failed&state=bounced")
    listed = [link.get_attribute("href") for link in page.locator("tbody a.subject").all()]
    page.get_by_role("link", name="Export as CSV…").click()
    expect(page.get_by_text(f"{len(listed)} emails will be exported.")).to_be_visible()
    visitor.check()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export", exact=True).click()
    text = Path(download.value.path()).read_text("utf-8-sig")
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [f"/emails/{line['email']}/" for line in lines] == listed
    assert {line["state"] for line in lines} == {"failed", "bounced"}
    assert "'=HYPERLINK" in text
    entry = AuditEntry.objects.get(action="export")
    assert (entry.actor, entry.details["rows"]) == ("ann", len(listed))
    assert visitor.wrong == []
