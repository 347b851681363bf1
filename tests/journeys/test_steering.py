"""Pausing, coverage and its rules, suppressions and the audit log: what an administrator does, and then sees."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import expect

from emailoffload.outbox import switches
from emailoffload.policy.models import RoutingRule
from emailoffload.worker import coverage
from tests.dashboard.browsing import Visit
from tests.dashboard.factories import make_day

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True, databases=["default", "moodle"]),
]


def test_claiming_is_paused_and_resumed_and_both_stand_in_the_audit_log(visit: Visit, ann: User) -> None:
    make_day()
    visitor = visit(ann)
    page = visitor.page
    visitor.go("/")
    page.get_by_role("link", name="Pause or resume…").click()
    page.get_by_role("radio", name="Pause claiming").check()
    page.get_by_label("Why?").fill("SES is being moved")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("#verdict")).to_contain_text("paused")
    expect(page.locator("main")).to_contain_text("By ann: SES is being moved")
    assert switches.pause().claims
    visitor.check()
    visitor.go("/pause/")
    page.get_by_role("radio", name="Go on claiming").check()
    page.get_by_label("Why?").fill("the move is done")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("heading", name="Pause or resume")).to_have_count(0)
    assert not switches.pause().claims
    visitor.go("/audit/")
    deeds = page.locator("tbody tr")
    expect(deeds.nth(0)).to_contain_text("resumed")
    expect(deeds.nth(0)).to_contain_text("the move is done")
    expect(deeds.nth(1)).to_contain_text("paused")
    visitor.check()


def test_what_is_not_offloaded_is_found_and_a_rule_is_added_there(visit: Visit, ann: User) -> None:
    ann.is_staff = True
    ann.save()
    coverage.run()
    visitor = visit(ann)
    page = visitor.page
    visitor.go("/coverage/")
    visitor.check()
    page.get_by_label("Verdict").select_option("not offloaded")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("table.coverage").first).to_be_visible()
    row = page.locator("table.coverage tbody tr").first
    name = row.locator(".subject").inner_text()
    row.get_by_role("link", name="Add a rule").click()
    expect(page.get_by_role("heading", name=re.compile("routing rule"))).to_be_visible()
    page.get_by_label("Name:").fill("As the pilot wants it")
    page.get_by_role("button", name="Save", exact=True).click()
    rule = RoutingRule.objects.get()
    assert rule.activity_id or rule.source
    visitor.go("/coverage/?q=" + name)
    expect(page.locator("td.rule").first).to_contain_text("As the pilot wants it")
    visitor.check()
    visitor.go("/audit/")
    expect(page.locator("tbody tr").first).to_contain_text("added a routing rule")


def test_an_address_is_suppressed_by_hand(visit: Visit, sam: User, ann: User) -> None:
    visitor = visit(ann)
    page = visitor.page
    visitor.go("/suppressions/")
    visitor.check()
    page.get_by_role("link", name="Add an address").click()
    page.get_by_label("Address", exact=True).fill("Eve@Example.net")
    page.get_by_label("Why does it get no mail?").fill("she asked for it")
    page.get_by_role("button", name="Suppress it").click()
    expect(page.get_by_text("eve@example.net").first).to_be_visible()
    visitor.go("/suppressions/?q=eve")
    visitor.check()
    visitor.go("/audit/")
    expect(page.locator("tbody tr").first).to_contain_text("suppressed an address")
