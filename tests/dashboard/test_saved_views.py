"""Saved views and columns: a person's own, remembered, and nobody else's to read or change."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client

from emailoffload.dashboard import columns, saved
from emailoffload.dashboard.models import Choice, SavedView
from emailoffload.outbox.models import AuditEntry
from tests.dashboard.conftest import SignIn
from tests.dashboard.factories import make_email

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])


@pytest.fixture
def admin(sign_in: SignIn) -> Client:
    return sign_in("Offload administrators")


def save(client: Client, name: str = "Failed", query: str = "state=failed", **more: str) -> str:
    response = client.post("/emails/views/save/", {"name": name, "query": query} | more)
    assert response.status_code == 302
    return response["Location"]


def change(client: Client, view: SavedView, do: str, **more: str) -> int:
    return client.post(f"/emails/views/{view.pk}/", {"do": do} | more).status_code


def page(client: Client, address: str = "/emails/views/") -> str:
    return client.get(address).content.decode()


def test_a_view_keeps_the_filters_and_nothing_else(support: Client) -> None:
    where = save(support, query="state=failed&q=&before=7&csrfmiddlewaretoken=x&state=failed&route=ses")
    view = SavedView.objects.get()
    assert view.query == "route=ses&state=failed"
    assert where == f"/emails/?route=ses&state=failed&view={view.pk}"
    shown = page(support, where)
    assert "Saved as “Failed”." in shown
    assert 'aria-current="true">Failed</a>' in shown
    assert "Save this view…" not in shown


def test_a_view_saved_again_under_its_name_has_the_new_filters(support: Client) -> None:
    save(support)
    save(support, query="state=bounced")
    assert SavedView.objects.get().query == "state=bounced"


def test_a_double_click_saves_a_view_once(support: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    owner_of, clicks = saved._id, []

    def and_the_other_click_saves(user: User) -> int:
        owner = owner_of(user)
        clicks.append(owner)
        if len(clicks) == 1:
            SavedView.objects.create(owner_id=owner, name="Failed", query="state=failed")
        return owner

    monkeypatch.setattr(saved, "_id", and_the_other_click_saves)
    where = save(support)
    assert where == f"/emails/?state=failed&view={SavedView.objects.get().pk}"


def test_a_view_without_a_name_is_not_saved_and_says_why(support: Client) -> None:
    where = save(support, name=" ", query="state=failed")
    assert where == "/emails/?state=failed"
    assert "The view was not saved" in page(support, where)
    assert not SavedView.objects.exists()


def test_nobody_keeps_more_than_so_many(support: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved, "MOST", 2)
    for name in "abc":
        save(support, name)
    assert set(SavedView.objects.values_list("name", flat=True)) == {"a", "b"}
    assert "You have 2 saved views" in page(support)
    save(support, "b", "role=copy")
    assert SavedView.objects.get(name="b").query == "role=copy"


@pytest.mark.parametrize("do", ["rename", "delete", "share", "unshare", "default", "no-default", "nonsense"])
def test_nobody_reads_changes_or_deletes_the_private_view_of_another(
    support: Client, admin: Client, sign_in: SignIn, do: str
) -> None:
    save(support, "My secret search", "q=ada@example.org")
    view = SavedView.objects.get()
    for other in (admin, sign_in("superuser")):
        assert change(other, view, do, name="Mine now") == 404
        assert "My secret search" not in page(other)
        assert "My secret search" not in page(other, f"/emails/?view={view.pk}")
    after = SavedView.objects.get()
    assert (after.name, after.query, after.shared, after.owner_id) == (
        view.name, view.query, False, view.owner_id,
    )  # fmt: skip
    assert not Choice.objects.exists()


def test_a_shared_view_is_everybodys_to_use_and_its_owners_to_change(admin: Client, support: Client) -> None:
    save(admin, "Morning round", "state=problem", shared="on")
    view = SavedView.objects.get()
    assert "Morning round" in page(support, "/emails/")
    assert change(support, view, "default") == 302
    for do in ("rename", "delete", "share", "unshare"):
        assert change(support, view, do, name="x") == 404
    assert SavedView.objects.get().name == "Morning round"
    assert AuditEntry.objects.get().details == {"name": "Morning round", "filters": ["state"]}


def test_sharing_needs_a_permission(support: Client) -> None:
    response = support.post("/emails/views/save/", {"name": "x", "query": "", "shared": "on"})
    assert response.status_code == 403
    assert "change_savedview" in response.content.decode()
    save(support)
    view = SavedView.objects.get()
    assert change(support, view, "share") == 403
    assert not SavedView.objects.get().shared
    assert "For everybody" not in page(support)


def test_who_may_share_may_take_back_what_others_share(admin: Client, sign_in: SignIn) -> None:
    save(admin, "Morning round", shared="on")
    assert change(sign_in("superuser"), SavedView.objects.get(), "delete") == 302
    assert not SavedView.objects.exists()
    assert list(AuditEntry.objects.values_list("action", flat=True)) == ["unshare_view", "share_view"]


def test_staff_of_a_company_see_no_shared_view_and_share_none(bound: Client, admin: Client) -> None:
    save(admin, "Foreign Ltd", "company=5", shared="on")
    assert "Foreign Ltd" not in page(bound) + page(bound, "/emails/")
    assert change(bound, SavedView.objects.get(), "default") == 404
    assert bound.post("/emails/views/save/", {"name": "x", "query": "", "shared": "on"}).status_code == 403


def test_a_view_is_renamed_unless_the_name_is_taken(support: Client) -> None:
    save(support, "a")
    save(support, "b")
    view = SavedView.objects.get(name="a")
    change(support, view, "rename", name="b")
    assert "You have a view called “b” already." in page(support)
    change(support, view, "rename", name="c")
    assert set(SavedView.objects.values_list("name", flat=True)) == {"b", "c"}


def test_the_view_to_begin_with_opens_without_filters_and_can_be_left(support: Client) -> None:
    save(support)
    view = SavedView.objects.get()
    change(support, view, "default")
    assert support.get("/emails/")["Location"] == f"/emails/?state=failed&view={view.pk}"
    assert support.get("/emails/?view=0").status_code == 200
    assert support.get("/emails/?role=copy").status_code == 200
    change(support, view, "no-default")
    assert support.get("/emails/").status_code == 200
    change(support, view, "default")
    change(support, view, "delete")
    assert support.get("/emails/").status_code == 200


def headings(client: Client) -> list[str]:
    body = page(client, "/emails/")
    return re.findall(r'role="columnheader" scope="col"[^>]*>([^<]*)<', body)


def test_columns_are_chosen_ordered_remembered_for_the_person_and_reset(
    support: Client, admin: Client
) -> None:
    make_email()
    standard = headings(support)
    assert standard[:3] == ["State", "Recipient", "Subject"]
    support.post("/emails/columns/?role=user", {"column": ["route", "subject", "state"]})
    assert headings(support) == ["Route", "Subject", "State"]
    assert headings(admin) == standard
    support.post("/emails/columns/", {"column": ["route", "subject", "state"], "up": "state"})
    assert headings(support) == ["Route", "State", "Subject"]
    support.post("/emails/columns/", {"column": ["route", "state", "subject"], "down": "route"})
    assert headings(support) == ["State", "Route", "Subject"]
    support.post("/emails/columns/", {"reset": "1"})
    assert headings(support) == standard


def test_every_column_can_be_shown(support: Client) -> None:
    make_email()
    support.post("/emails/columns/", {"column": list(columns.ALL)})
    assert len(headings(support)) == len(columns.ALL)


@pytest.mark.parametrize(
    "value", [7, [], {"columns": None}, {"columns": [7, None, "nonsense"]}, {"columns": "subject"}]
)
def test_a_choice_of_any_shape_shows_the_list(support: Client, value: object) -> None:
    make_email()
    user = User.objects.get(username="support")
    Choice.objects.create(user=user, name=columns.NAME, value=value)
    Choice.objects.create(user=user, name=saved.DEFAULT, value=value)
    assert "Subject" in headings(support)
