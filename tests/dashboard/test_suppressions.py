"""Suppressed addresses on the dashboard: found, explained, added and lifted by those who may."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from emailoffload.dashboard import suppressions
from emailoffload.feedback.models import Suppression
from emailoffload.outbox.models import AuditEntry
from emailoffload.outbox.states import EmailState
from tests.conftest import Moodle
from tests.dashboard.conftest import SignIn
from tests.dashboard.factories import make_email, make_suppression
from tests.dashboard.world import OWN, World
from tests.queries import counted

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])
MAY_LIFT = {
    "nobody": False,
    "Auditors": False,
    "Support staff": True,
    "Offload administrators": True,
    "superuser": True,
}


def text(client: Client, path: str, status: int = 200) -> str:
    response = client.get(path)
    assert response.status_code == status
    return response.content.decode()


def over(address: str, **values: Any) -> Suppression:
    """A row that a person has lifted."""
    columns = {
        "active_key": None, "removed_at": timezone.now(), "removed_by": "sam", "removal_reason": "works again",
    }  # fmt: skip
    return make_suppression(address=address, **columns | values)


def test_the_list_shows_what_is_suppressed_now_with_reason_evidence_and_ses_s_list(support: Client) -> None:
    email = make_email(EmailState.BOUNCED, subject="First aid")
    make_suppression(email)
    make_suppression(
        address="eve@example.org", reason="person", agreement="to_add", origin="person", added_by="ann"
    )
    over("old@example.org")
    make_suppression(
        address="full@example.org", reason="transient", until=timezone.now() - timedelta(minutes=1)
    )
    page = text(support, "/suppressions/")
    assert "2 addresses" in page
    assert f'href="/emails/{email.pk}/"' in page and "First aid" in page
    assert "permanent bounce" in page and "on both lists" in page
    assert "to be added to SES&#x27;s list" in page and "ann" in page
    assert "old@example.org" not in page and "full@example.org" not in page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=ADA@example.org", {"ada"}),
        ("q=ad", {"ada"}),
        ("q=15093", {"ada"}),
        ("q=777", set()),
        ("q=old@example.org", set()),
        ("q=old&state=all", {"old"}),
        ("state=over", {"old"}),
        ("state=all", {"ada", "eve", "old"}),
        ("reason=person", {"eve"}),
        ("agreement=to_add", {"eve"}),
        ("reason=complaint", set()),
    ],
)
def test_filters_in_the_address_find_by_address_user_reason_state_and_list(
    support: Client, query: str, found: set[str]
) -> None:
    make_suppression(make_email(EmailState.BOUNCED))
    make_suppression(address="eve@example.org", reason="person", agreement="to_add")
    over("old@example.org")
    page = text(support, f"/suppressions/?{query}")
    assert {name for name in ("ada", "eve", "old") if f">{name}@example.org</a>" in page} == found
    assert ("No suppressed address fits" in page) is not bool(found)


def test_a_filter_that_cannot_be_used_is_told_and_an_empty_list_says_what_to_do(support: Client) -> None:
    assert "A filter cannot be used" in text(support, "/suppressions/?reason=weather")
    assert "manage.py doctor" in text(support, "/suppressions/")


def test_long_lists_have_pages_and_cost_the_same_however_long(
    support: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emailoffload.dashboard.suppressions.PAGE_SIZE", 2)
    for number in range(5):
        make_suppression(make_email(EmailState.BOUNCED, address=f"a{number}@example.org"))
    newest = Suppression.objects.latest("pk").pk
    with counted() as first:
        assert 'rel="next"' in text(support, "/suppressions/")
    page = text(support, f"/suppressions/?before={newest - 1}&q=a")
    assert f"?q=a&amp;before={newest - 3}" in page and 'rel="prev"' in page
    monkeypatch.setattr("emailoffload.dashboard.suppressions.PAGE_SIZE", 50)
    with counted() as all_of_them:
        text(support, "/suppressions/")
    assert len(all_of_them) == len(first)


@pytest.mark.parametrize("role", list(MAY_LIFT))
def test_only_those_with_the_permission_lift_and_only_with_a_reason(sign_in: SignIn, role: str) -> None:
    row = make_suppression(make_email(EmailState.BOUNCED))
    client, path = sign_in(role), f"/suppressions/{row.pk}/"
    response = client.post(path, {"reason": "the mailbox was made anew"})
    row.refresh_from_db()
    if MAY_LIFT[role]:
        assert (response.status_code, response.headers["Location"]) == (302, path)
        assert (row.active_key, row.agreement, row.removal_reason) == (
            None, "to_remove", "the mailbox was made anew",
        )  # fmt: skip
        assert AuditEntry.objects.get().action == "lift_suppression"
        page = text(client, path)
        assert f"by {row.removed_by}" in page and "to be removed from SES&#x27;s list" in page
        assert client.post(path, {"reason": "again"}).status_code == 409
    else:
        assert response.status_code == 403
        assert "needs the permission" in response.content.decode()
        assert row.active_key and not AuditEntry.objects.exists()


def test_without_a_reason_nothing_is_lifted_and_looking_lifts_nothing(support: Client) -> None:
    row = make_suppression(make_email(EmailState.BOUNCED))
    path = f"/suppressions/{row.pk}/"
    assert support.post(path, {"reason": " "}).status_code == 400
    assert "Let it get mail again" in text(support, path)
    assert support.put(path).status_code == 405
    row.refresh_from_db()
    assert row.active_key is not None


@pytest.mark.parametrize("role", list(MAY_LIFT))
def test_only_those_with_the_permission_add(sign_in: SignIn, role: str) -> None:
    client = sign_in(role)
    response = client.post("/suppressions/add/", {"address": "Eve@example.org", "reason": "left"})
    if MAY_LIFT[role]:
        row = Suppression.objects.get()
        assert response.headers["Location"] == f"/suppressions/{row.pk}/"
        assert (row.address, row.reason, row.detail) == ("eve@example.org", "person", "left")
        assert "Add an address" in text(client, "/suppressions/")
        again = client.post("/suppressions/add/", {"address": "eve@example.org", "reason": "left"})
        assert again.status_code == 400 and "suppressed already" in again.content.decode()
    else:
        assert response.status_code == 403
        assert not Suppression.objects.exists()


def test_the_page_of_an_address_tells_its_whole_history(support: Client) -> None:
    over("ada@example.org", removed_by="", removal_reason="delivered", reason="transient")
    over("ada@example.org", removed_by="Amazon SES", removal_reason="gone_at_ses")
    row = make_suppression(make_email(EmailState.BOUNCED))
    page = text(support, f"/suppressions/{row.pk}/")
    assert "smtp; 550 5.1.1 user unknown" in page and "5.1.1</code>" in page
    assert "A mail arrived there again." in page
    assert "Somebody removed it from the suppression list of the SES account." in page
    assert text(support, "/suppressions/999999/", 404)


def test_the_pages_of_mail_and_user_say_that_the_address_is_suppressed(
    support: Client, moodle: Moodle
) -> None:
    email = make_email(EmailState.BOUNCED)
    paths = (f"/emails/{email.pk}/", "/users/15093/")
    for path in paths:
        assert "gets no mail" not in text(support, path)
    row = make_suppression(email)
    for path in paths:
        assert f'href="/suppressions/{row.pk}/"' in text(support, path)
    # A user whose address in Moodle is another one by now can get mail again.
    address = moodle.value("SELECT email FROM mdl_user WHERE id = 3")
    other = make_suppression(address=address)
    assert f'href="/suppressions/{other.pk}/"' in text(support, "/users/3/")


def test_staff_of_a_company_lift_what_a_mail_of_theirs_led_to_and_nothing_else(
    bound: Client, world: World
) -> None:
    page = text(bound, "/suppressions/")
    assert world.barred.address in page and "shared@example.net" in page
    assert not any(row.address in page for row in world.foreign)
    shared = text(bound, f"/suppressions/{world.shared.pk}/")
    assert "no mail of your companies" in shared
    assert "Foreign" not in shared and "550" not in shared
    assert bound.post(f"/suppressions/{world.shared.pk}/", {"reason": "x"}).status_code == 403
    assert bound.get("/suppressions/add/").status_code == 403
    assert bound.post(f"/suppressions/{world.barred.pk}/", {"reason": "works"}).status_code == 302
    assert set(Suppression.objects.filter(active_key=None)) == {world.barred}


def test_staff_of_a_company_look_through_a_bounded_number_of_addresses_at_a_time(
    bound: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suppressions, "WALK", 3)
    address = make_email(EmailState.BOUNCED, company_id=OWN, address="own@example.org").address
    mine = make_suppression(address=address)
    others = [make_suppression(address=f"other{n}@elsewhere.example") for n in range(5)]
    first = text(bound, "/suppressions/")
    assert "Only addresses suppressed since" in first and "Look further back" in first
    assert "own@example.org" not in first and "other1@elsewhere.example" not in first
    older = bound.get("/suppressions/").context["older"]
    assert older == f"?before={others[2].pk}"
    page = bound.get(f"/suppressions/{older}")
    assert [row.row.pk for row in page.context["lines"]] == [mine.pk]
    assert "Only addresses suppressed since" not in page.content.decode()
    back = bound.get(f"/suppressions/?after={mine.pk}").context
    assert back["newer"].endswith(f"after={others[2].pk}")
    assert text(bound, "/suppressions/?state=over").count("No suppressed address fits these filters.") == 1


def test_in_the_admin_they_are_for_people_who_see_the_whole_site(bound: Client, sign_in: SignIn) -> None:
    make_suppression(make_email(EmailState.BOUNCED))
    assert Permission.objects.filter(codename="lift_suppression").exists()
    assert bound.get("/admin/emailoffload/suppression/").status_code == 403
    assert "ada@example.org" in text(
        sign_in("superuser"), "/admin/emailoffload/suppression/?q=ada@example.org"
    )
