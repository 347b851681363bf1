"""The pages as the staff of one company meet them, in a real browser, in every look."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group
from playwright.sync_api import expect

from emailoffload.outbox.states import EmailState
from emailoffload.policy.models import GroupCompany
from tests.dashboard.browsing import Visit
from tests.dashboard.conftest import make_user
from tests.dashboard.factories import make_claim, make_email
from tests.dashboard.test_browser import a_busy_day
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


def test_the_staff_of_one_company_meet_no_barrier_in_any_look(visit: Visit) -> None:
    a_busy_day()
    own = queue_mail("user_create", "Welcome to Lab & Co", LAB, 'Lab & Co "Ltd"')
    queue_mail("license_allocated", "A licence for First aid", LAB, 'Lab & Co "Ltd"')
    user = make_user("Support staff", "sam")
    user.is_staff = True
    user.save()
    bind(user, LAB, name="Staff of Lab & Co")
    GroupCompany.objects.update(company_name='Lab & Co "Ltd"')
    sam = visit(user)
    for name, path in {
        "own-overview": "/",
        "own-emails": "/emails/",
        "own-emails-company": "/emails/?company=Lab&template=user_create",
        "own-email": f"/emails/{own}/",
        "own-user": f"/users/{MEMBER}/",
        "own-user-unknown": f"/users/{UNKNOWN}/",
        "own-users": "/users/?q=plain",
    }.items():
        sam.look("light")
        sam.go(path)
        expect(sam.page.locator(".own")).to_have_text('You see only what belongs to Lab & Co "Ltd".')
        sam.check_in_every_look(name)


def test_an_administrator_binds_a_group_to_a_company_of_moodle_s(visit: Visit) -> None:
    group = Group.objects.create(name="Staff of Lab & Co")
    ada = visit(make_user("superuser", "ada"))
    ada.go(f"/admin/auth/group/{group.pk}/change/")
    choice = ada.page.locator("select[name=offload_companies-0-company_id]")
    choice.select_option(label='Lab & Co "Ltd" (1)')
    ada.picture("admin-group")
    ada.page.get_by_role("button", name="Save", exact=True).click()
    expect(ada.page.locator(".messagelist")).to_contain_text("was changed successfully")
    assert GroupCompany.objects.get(group=group).company_id == LAB
    assert ada.wrong == []
