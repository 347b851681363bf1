"""Who sees what: each page and each role, in one table."""

from __future__ import annotations

from importlib import import_module

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.test import Client

from emailoffload.outbox.models import AuditEntry, Content
from emailoffload.outbox.states import EmailState
from tests.dashboard.conftest import PASSWORD, SignIn, make_user
from tests.dashboard.factories import make_email, make_suppression
from tests.dashboard.reported import make_problem

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])

PAGES = {
    "/": "all",
    "/left/": "all",
    "/emails/": "all",
    "/emails/{pk}/": "all",
    "/emails/{pk}/preview/": "content",
    "/emails/{pk}/preview/?part=text": "content",
    "/emails/{pk}/preview/?part=headers": "content",
    "/emails/{pk}/preview/html/": "content",
    "/emails/{pk}/resend/": "act",
    "/emails/{pk}/cancel/": "act",
    "/emails/{pk}/hand-back/": "act",
    "/emails/{pk}/smtp/": "act",
    "/emails/{pk}/suppress/": "act",
    "/emails/columns/": "all",
    "/emails/views/": "all",
    "/emails/export/": "export",
    "/users/": "all",
    "/users/15093/": "all",
    "/runs/": "all",
    "/coverage/": "all",
    "/routing/": "all",
    "/routing/shadows/": "all",
    "/suppressions/": "all",
    "/suppressions/{suppression}/": "all",
    "/suppressions/add/": "suppress",
    "/events/": "all",
    "/events/problems/": "problems",
    "/events/problems/{problem}/": "problems",
    "/events/problems/{problem}/body/": "problem_bodies",
    "/reconciliation/": "all",
    "/pause/": "pause",
    "/reputation/": "watch",
    "/alarms/": "watch",
}
MAY = {
    "nobody": set(),
    "Auditors": {"all", "export", "problems", "watch"},
    "Support staff": {"act", "all", "content", "suppress"},
    "Offload administrators": {
        "act",
        "all",
        "export",
        "problems",
        "problem_bodies",
        "content",
        "pause",
        "suppress",
        "watch",
    },
    "superuser": {"act", "all", "export", "problems", "problem_bodies", "content", "pause", "suppress", "watch"},
}


@pytest.mark.parametrize("role", list(MAY))
@pytest.mark.parametrize("page", list(PAGES))
def test_a_page_is_shown_to_those_roles_and_refused_to_others(sign_in: SignIn, page: str, role: str) -> None:
    email = make_email(body={})
    row = make_suppression(email)
    response = sign_in(role).get(page.format(pk=email.pk, suppression=row.pk, problem=make_problem().pk))
    allowed = PAGES[page] in MAY[role]
    assert response.status_code == (200 if allowed else 403)
    if not allowed:
        words = response.content.decode()
        assert "needs the permission" in words
        assert "Support staff" in words
        assert not AuditEntry.objects.exists()


@pytest.mark.parametrize("page", list(PAGES))
def test_nobody_sees_a_page_without_a_login(client: Client, page: str) -> None:
    response = client.get(page.format(pk=make_email(body={}).pk, suppression=1, problem=1))
    assert response.status_code == 302
    assert response.headers["Location"].startswith("/login/?next=")


@pytest.mark.parametrize("page", [page for page, need in PAGES.items() if need in MAY["Support staff"]])
def test_no_page_is_kept_by_a_cache(support: Client, page: str) -> None:
    email = make_email(body={})
    response = support.get(page.format(pk=email.pk, suppression=make_suppression(email).pk))
    assert "no-store" in response.headers["Cache-Control"]


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
    for name, models in first.ROLES.items():
        found = set(Group.objects.get(name=name).permissions.values_list("codename", flat=True))
        added = {codename for codename, _model in [*second.ROLES[name], *third.ROLES[name]]}
        added |= {"handle_fallback"} if name in fourth.ROLES else set()
        added |= {"view_reconcilefinding"} if name in fifth.ROLES else set()
        added |= {codename for codename, _model in sixth.ROLES[name]}
        added |= {codename for codename, _model in seventh.ROLES[name]}
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

RECORDS = [
    "run",
    "rowerror",
    "claim",
    "email",
    "attempt",
    "lease",
    "state",
    "shadow",
    "reconcilefinding",
    "auditentry",
    "suppression",
]


@pytest.fixture
def administrator() -> Client:
    user = make_user("Offload administrators", "ann")
    user.is_staff = True
    user.save()
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.parametrize("record", RECORDS)
def test_records_in_the_admin_are_to_look_at(administrator: Client, sign_in: SignIn, record: str) -> None:
    make_email(EmailState.FAILED)
    for client in (administrator, sign_in("superuser")):
        assert client.get(f"/admin/emailoffload/{record}/").status_code == 200
        assert client.get(f"/admin/emailoffload/{record}/add/").status_code == 403


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
    monkeypatch.setattr("emailoffload.admin.COUNT_CAP", 2)
    for _ in range(4):
        make_email()
    page = sign_in("superuser").get("/admin/emailoffload/email/").content.decode()
    assert page.count("action-checkbox") == 0
    assert "2 emails" in page
