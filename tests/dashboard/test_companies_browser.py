"""The pages as the staff of one company meet them, in a real browser, in every look."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group
from playwright.sync_api import expect

from emailoffload.outbox.states import EmailState
from emailoffload.policy.models import GroupCompany
from tests.dashboard.conftest import PASSWORD, make_user
from tests.dashboard.factories import make_claim, make_email
from tests.dashboard.test_browser import (  # noqa: F401 - the browser's fixtures
    LOOKS,
    Visitor,
    a_busy_day,
    browser,
    screenshots,
    visit,
)
from tests.dashboard.world import LAB, MEMBER, UNKNOWN, bind

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True, databases=["default", "moodle"]),
]


def queue_mail(template: str, subject: str, company: int, name: str) -> int:
    """A mail of IOMAD's about a member of a company; its id."""
    claim = make_claim(
        source="iomad_queue",
        template=template,
        user_id=MEMBER,
        user_name="Iona Mad",
        activity_id=0,
        activity_name="",
        cmid=0,
        company_id=company,
        company_name=name,
    )
    return make_email(EmailState.DELIVERED, claim, template=template, subject=subject, body={}).pk


@pytest.mark.parametrize("look", list(LOOKS))
def test_the_staff_of_one_company_meet_no_barrier_in(visit: Any, look: str) -> None:  # noqa: F811
    a_busy_day()
    own = queue_mail("user_create", "Welcome to Lab & Co", LAB, 'Lab & Co "Ltd"')
    queue_mail("license_allocated", "A licence for First aid", LAB, 'Lab & Co "Ltd"')
    user = make_user("Support staff", "sam")
    user.is_staff = True
    user.save()
    bind(user, LAB, name="Staff of Lab & Co")
    GroupCompany.objects.update(company_name='Lab & Co "Ltd"')
    sam: Visitor = visit(look)
    sam.log_in("sam")
    for name, path in {
        "own-overview": "/",
        "own-emails": "/emails/",
        "own-emails-company": "/emails/?company=Lab&template=user_create",
        "own-email": f"/emails/{own}/",
        "own-user": f"/users/{MEMBER}/",
        "own-user-unknown": f"/users/{UNKNOWN}/",
        "own-users": "/users/?q=plain",
    }.items():
        sam.go(path)
        expect(sam.page.locator(".own")).to_have_text('You see only what belongs to Lab & Co "Ltd".')
        sam.check()
        sam.picture(f"{look}-{name}")


def test_an_administrator_binds_a_group_to_a_company_of_moodle_s(visit: Any) -> None:  # noqa: F811
    make_user("superuser", "ada")
    group = Group.objects.create(name="Staff of Lab & Co")
    ada: Visitor = visit()
    ada.go(f"/admin/auth/group/{group.pk}/change/")
    ada.page.get_by_label("Username").fill("ada")
    ada.page.get_by_label("Password").fill(PASSWORD)
    ada.page.get_by_role("button", name="Log in").click()
    choice = ada.page.locator("select[name=offload_companies-0-company_id]")
    choice.select_option(label='Lab & Co "Ltd" (1)')
    ada.picture("admin-group")
    ada.page.get_by_role("button", name="Save", exact=True).click()
    expect(ada.page.locator(".messagelist")).to_contain_text("was changed successfully")
    assert GroupCompany.objects.get(group=group).company_id == LAB
    assert ada.wrong == []
