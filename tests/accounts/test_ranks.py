"""People who may change accounts cannot make themselves more than they are."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client

from emailoffload.outbox.models import AuditEntry
from tests.dashboard.conftest import make_user
from tests.dashboard.world import signed_in

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])
BINDINGS = {"offload_companies-TOTAL_FORMS": "0", "offload_companies-INITIAL_FORMS": "0"}


@pytest.fixture
def lead() -> User:
    """Support staff who also look after accounts and groups."""
    user = make_user("Support staff", "lea")
    user.is_staff = True
    user.save()
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="auth"))
    return User.objects.get(pk=user.pk)


@pytest.fixture
def client(lead: User) -> Client:
    """A client that is logged in as them."""
    return signed_in(lead)


def account(user: User, **changes: object) -> dict[str, object]:
    """The form of an account as it is, with changes."""
    form: dict[str, object] = {
        "username": user.username, "is_active": "on", "is_staff": "on" if user.is_staff else "",
        "groups": list(user.groups.values_list("pk", flat=True)),
        "user_permissions": list(user.user_permissions.values_list("pk", flat=True)),
        "date_joined_0": "2026-01-01", "date_joined_1": "00:00:00",
    }  # fmt: skip
    return {name: value for name, value in {**form, **changes}.items() if value != ""}


def rights(user: User) -> tuple[bool, set[str]]:
    """Superuser or not, and every permission."""
    fresh = User.objects.get(pk=user.pk)
    return fresh.is_superuser, fresh.get_all_permissions()


def test_nobody_makes_themselves_a_superuser_or_gives_themselves_what_they_lack(
    client: Client, lead: User
) -> None:
    before = rights(lead)
    address = f"/admin/auth/user/{lead.pk}/change/"
    assert client.post(address, account(lead, is_superuser="on")).status_code == 302
    for field, row in (
        ("groups", Group.objects.get(name="Offload administrators")),
        ("user_permissions", Permission.objects.get(codename="pause")),
    ):
        answer = client.post(address, account(lead, **{field: [row.pk]}))
        assert "Select a valid choice" in answer.content.decode()
    assert rights(lead) == before
    page = client.get(address).content.decode()
    assert "Offload administrators" not in page
    assert 'name="is_superuser"' not in page


@pytest.mark.parametrize("who", ["superuser", "Offload administrators"])
def test_an_account_that_may_more_is_out_of_reach(client: Client, who: str) -> None:
    above = make_user(who, "ann")
    before, password = rights(above), above.password
    assert client.get(f"/admin/auth/user/{above.pk}/change/").status_code == 200
    for path, form in (
        ("change/", account(above, username="mine", is_superuser="")),
        (
            "password/",
            {
                "password1": "quite another phrase",
                "password2": "quite another phrase",
                "usable_password": "true",
            },
        ),
        ("delete/", {"post": "yes"}),
    ):
        assert client.post(f"/admin/auth/user/{above.pk}/{path}", form).status_code == 403, path
    form = {"action": "delete_selected", "_selected_action": str(above.pk), "post": "yes"}
    assert client.post("/admin/auth/user/", form).status_code == 403
    assert rights(above) == before
    assert User.objects.get(pk=above.pk).password == password
    assert User.objects.get(pk=above.pk).username == "ann"


def test_a_group_that_may_more_is_out_of_reach_and_none_is_given_more(client: Client) -> None:
    above, own = Group.objects.get(name="Offload administrators"), Group.objects.create(name="Own")
    pause = Permission.objects.get(codename="pause")
    held = list(above.permissions.values_list("pk", flat=True))
    address = f"/admin/auth/group/{above.pk}/"
    assert client.post(f"{address}change/", {"name": "x", **BINDINGS}).status_code == 403
    assert client.post(f"{address}delete/", {"post": "yes"}).status_code == 403
    form = {"name": "Own", "permissions": [pause.pk], **BINDINGS}
    for path in (f"/admin/auth/group/{own.pk}/change/", "/admin/auth/group/add/"):
        assert "Select a valid choice" in client.post(path, form).content.decode()
    assert not own.permissions.exists()
    assert list(above.permissions.values_list("pk", flat=True)) == held


def test_accounts_below_are_looked_after_and_each_change_is_audited(client: Client, lead: User) -> None:
    new = {
        "username": "kim",
        "password1": "quite a new phrase",
        "password2": "quite a new phrase",
        "usable_password": "true",
    }
    assert client.post("/admin/auth/user/add/", new).status_code == 302
    kim = User.objects.get(username="kim")
    support = Group.objects.get(name="Support staff")
    assert (
        client.post(f"/admin/auth/user/{kim.pk}/change/", account(kim, groups=[support.pk])).status_code
        == 302
    )
    form = {"password1": "yet another phrase", "password2": "yet another phrase", "usable_password": "true"}
    assert client.post(f"/admin/auth/user/{kim.pk}/password/", form).status_code == 302
    assert User.objects.get(pk=kim.pk).check_password("yet another phrase")
    assert client.post(f"/admin/auth/user/{kim.pk}/delete/", {"post": "yes"}).status_code == 302
    entries = list(AuditEntry.objects.order_by("pk"))
    assert [entry.action for entry in entries] == [
        "add_user",
        "change_user",
        "set_password_user",
        "delete_user",
    ]
    assert {entry.actor for entry in entries} == {"lea"}
    assert {entry.object_id for entry in entries} == {str(kim.pk)}
    assert entries[1].details["before"]["groups"] == []
    assert entries[1].details["after"]["groups"] == ["Support staff"]
    assert "phrase" not in str([entry.details for entry in entries])


def test_superusers_make_superusers_and_that_is_audited() -> None:
    root, kim = make_user("superuser"), make_user("Auditors", "kim")
    answer = signed_in(root).post(f"/admin/auth/user/{kim.pk}/change/", account(kim, is_superuser="on"))
    assert answer.status_code == 302
    assert rights(kim)[0]
    entry = AuditEntry.objects.get(action="change_user")
    assert (entry.details["before"]["is_superuser"], entry.details["after"]["is_superuser"]) == (False, True)
