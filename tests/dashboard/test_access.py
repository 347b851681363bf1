"""Logging in, groups, error pages and Django's admin; who sees which page is in `tests/permissions`."""

from __future__ import annotations

from importlib import import_module

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.test import Client

from emailoffload.outbox.models import Content
from emailoffload.outbox.states import EmailState
from tests.dashboard.conftest import PASSWORD, SignIn, make_user
from tests.dashboard.factories import make_email
from tests.dashboard.world import OWN, bind, signed_in

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])


def test_login_leads_to_the_page_that_was_asked_for(client: Client) -> None:
    make_user("Support staff", "sam")
    form = {"username": "sam", "password": PASSWORD, "next": "/users/15093/"}
    response = client.post("/login/", form)
    assert (response.status_code, response.headers["Location"]) == (302, "/users/15093/")


def test_login_never_leads_to_another_site(client: Client) -> None:
    make_user("Support staff", "sam")
    form = {"username": "sam", "password": PASSWORD, "next": "https://evil.example/"}
    assert client.post("/login/", form).headers["Location"] == "/"


def test_a_wrong_password_is_told_and_not_which_part_was_wrong(client: Client) -> None:
    make_user("Support staff", "sam")
    known = client.post("/login/", {"username": "sam", "password": "wrong"}).content.decode()
    assert "correct username and password" in known
    assert 'role="alert"' in known


def test_logout_is_a_post_only(support: Client) -> None:
    assert support.get("/logout/").status_code == 405
    assert support.post("/logout/").status_code == 302
    assert support.get("/").status_code == 302


def test_forms_are_refused_without_their_token() -> None:
    client = Client(enforce_csrf_checks=True)
    response = client.post("/login/", {"username": "sam", "password": "x"})
    assert response.status_code == 403
    assert "Please try again" in response.content.decode()


def test_the_groups_see_what_their_roles_need() -> None:
    first = import_module("emailoffload.migrations.0002_roles")
    second = import_module("emailoffload.migrations.0004_roles_of_policy")
    third = import_module("emailoffload.migrations.0007_routing_roles")
    first.create_roles(apps, None)
    second.extend_roles(apps, None)
    third.extend_roles(apps, None)
    fourth = import_module("emailoffload.migrations.0008_handle_fallback")
    fourth.extend_roles(apps, None)
    fifth = import_module("emailoffload.migrations.0009_reconciliation")
    sixth = import_module("emailoffload.migrations.0011_feedback_roles")
    fifth.extend_roles(apps, None)
    sixth.extend_roles(apps, None)
    seventh = import_module("emailoffload.migrations.0013_dashboard_roles")
    seventh.extend_roles(apps, None)
    eighth = import_module("emailoffload.migrations.0014_privacy")
    eighth.extend_role(apps, None)
    for name, models in first.ROLES.items():
        found = set(Group.objects.get(name=name).permissions.values_list("codename", flat=True))
        added = {codename for codename, _model in [*second.ROLES[name], *third.ROLES[name]]}
        added |= {"handle_fallback"} if name in fourth.ROLES else set()
        added |= {"view_reconcilefinding"} if name in fifth.ROLES else set()
        added |= {codename for codename, _model in sixth.ROLES[name]}
        added |= {codename for codename, _model in seventh.ROLES[name]}
        added |= set(eighth.NAMES) if name == eighth.ROLE else set()
        assert found == {f"view_{model}" for model in models} | added
    assert not Group.objects.get(name="Auditors").permissions.filter(codename="view_content").exists()


def test_a_group_that_was_changed_by_hand_stays_as_it_is() -> None:
    migration = import_module("emailoffload.migrations.0002_roles")
    migration.create_roles(apps, None)
    group = Group.objects.get(name="Support staff")
    group.permissions.clear()
    migration.create_roles(apps, None)
    assert not group.permissions.exists()


def test_the_later_permissions_are_added_to_what_a_site_chose_and_make_no_group_anew() -> None:
    migration = import_module("emailoffload.migrations.0004_roles_of_policy")
    Group.objects.filter(name="Auditors").delete()
    group, _ = Group.objects.get_or_create(name="Support staff")
    own = Permission.objects.get(codename="view_group", content_type__app_label="auth")
    group.permissions.set([own])
    migration.extend_roles(apps, None)
    assert set(group.permissions.values_list("codename", flat=True)) == {
        "view_group",
        "view_copyrule",
        "resend_email",
    }
    assert not Group.objects.filter(name="Auditors").exists()


def test_the_permissions_of_the_groups_are_those_that_django_makes() -> None:
    migration = import_module("emailoffload.migrations.0002_roles")
    for model, name in migration.NAMES.items():
        permission = Permission.objects.get(content_type__app_label="emailoffload", codename=f"view_{model}")
        assert permission.name == f"Can view {name}"
    for later in (
        import_module("emailoffload.migrations.0004_roles_of_policy"),
        import_module("emailoffload.migrations.0007_routing_roles"),
        import_module("emailoffload.migrations.0011_feedback_roles"),
    ):
        for codename in {codename for role in later.ROLES.values() for codename, _model in role}:
            permission = Permission.objects.get(content_type__app_label="emailoffload", codename=codename)
            assert permission.name == later.name_of(codename)


# --- Error pages ---


def test_a_refusal_names_the_cure_of_what_is_missing_not_of_something_else(support: Client) -> None:
    user = make_user("Support staff", "bo")
    bind(user, OWN)
    bound = signed_in(user)
    groups, companies = "which groups that account is in", "which companies that account sees"
    for client, address, cure, other in (
        (support, "/audit/", groups, companies),
        (bound, "/audit/", groups, companies),
        (bound, "/runs/", companies, groups),
    ):
        page = client.get(address)
        assert page.status_code == 403
        assert cure in page.content.decode(), address
        assert other not in page.content.decode(), address


def test_an_address_that_does_not_exist_says_so_to_all(client: Client, support: Client) -> None:
    for browser in (client, support):
        response = browser.get("/nowhere/")
        assert response.status_code == 404
        assert "There is no such page" in response.content.decode()


def test_an_error_of_the_server_is_told_calmly(support: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("emailoffload.dashboard.overview.collect", broken)
    support.raise_request_exception = False
    response = support.get("/")
    page = response.content.decode()
    assert response.status_code == 500
    assert "Mail is not affected" in page
    assert "secret detail" not in page


# --- Django's admin ---


@pytest.fixture
def administrator() -> Client:
    user = make_user("Offload administrators", "ann")
    user.is_staff = True
    user.save()
    client = Client()
    client.force_login(user)
    return client


def test_one_email_in_the_admin_shows_attempts_and_no_way_to_change(sign_in: SignIn) -> None:
    client, email = sign_in("superuser"), make_email(EmailState.FAILED)
    page = client.get(f"/admin/emailoffload/email/{email.pk}/change/").content.decode()
    assert "MessageRejected" in page
    assert 'name="_save"' not in page
    assert client.post(f"/admin/emailoffload/email/{email.pk}/change/", {"subject": "x"}).status_code == 403
    assert client.post(f"/admin/emailoffload/email/{email.pk}/delete/", {"post": "yes"}).status_code == 403


def test_contents_are_not_in_the_admin(sign_in: SignIn) -> None:
    make_email(body={})
    client = sign_in("superuser")
    assert client.get("/admin/emailoffload/content/").status_code == 404
    assert (
        "content"
        not in client.get("/admin/")
        .content.decode()
        .split('id="content-main"')[1]
        .split('id="content-related"')[0]
        .lower()
    )
    assert Content.objects.count() == 1


@pytest.mark.parametrize("queue", ["schedule", "success", "failure", "ormq"])
def test_the_queue_is_for_superusers_only(administrator: Client, sign_in: SignIn, queue: str) -> None:
    for codename in ("view", "change"):
        permission = Permission.objects.get(codename=f"{codename}_{queue}")
        Group.objects.get(name="Offload administrators").permissions.add(permission)
    assert administrator.get(f"/admin/django_q/{queue}/").status_code == 403
    client = sign_in("superuser")
    assert client.get(f"/admin/django_q/{queue}/").status_code == 200
    assert client.get(f"/admin/django_q/{queue}/add/").status_code == 403


def test_long_lists_in_the_admin_stop_counting(sign_in: SignIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emailoffload.admin_lists.COUNT_CAP", 2)
    for _ in range(4):
        make_email()
    page = sign_in("superuser").get("/admin/emailoffload/email/").content.decode()
    assert page.count("action-checkbox") == 0
    assert "2 emails" in page
