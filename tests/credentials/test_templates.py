"""Which templates are sensitive, and who decides about further ones."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from emailoffload.outbox.models import AuditEntry
from emailoffload.policy.credentials import ALWAYS, sensitive_templates
from emailoffload.policy.models import GroupCompany, SensitiveTemplate
from tests.dashboard.conftest import SignIn, make_user

pytestmark = pytest.mark.django_db
LIST = "/admin/emailoffload/sensitivetemplate/"


@pytest.fixture
def administrator() -> Client:
    """Somebody of the group that steers."""
    user = make_user("Offload administrators", "ann")
    user.is_staff = True
    user.save()
    client = Client()
    client.force_login(user)
    return client


def test_password_templates_are_always_sensitive_and_further_ones_are_added() -> None:
    assert sensitive_templates() == ALWAYS == {"user_create", "user_reset", "password_update"}
    SensitiveTemplate.objects.create(name="license_allocated")
    assert sensitive_templates() == ALWAYS | {"license_allocated"}


def test_the_list_names_those_that_are_fixed(administrator: Client) -> None:
    page = administrator.get(LIST).content.decode()
    assert "Always sensitive, whatever stands here: password_update, user_create, user_reset." in page


def test_each_change_leaves_an_audit_entry(administrator: Client) -> None:
    administrator.post(f"{LIST}add/", {"name": "license_allocated", "note": "holds a code"})
    row = SensitiveTemplate.objects.get()
    administrator.post(f"{LIST}{row.pk}/change/", {"name": "other", "note": "holds a licence code"})
    row.refresh_from_db()
    assert (row.name, row.note) == ("license_allocated", "holds a licence code")
    administrator.post(f"{LIST}{row.pk}/delete/", {"post": "yes"})
    assert not SensitiveTemplate.objects.exists()
    entries = AuditEntry.objects.order_by("pk").values_list("actor", "action", "object_id", "reason")
    assert list(entries) == [
        ("ann", "sensitive_template_add", "license_allocated", "holds a code"),
        ("ann", "sensitive_template_change", "license_allocated", "holds a licence code"),
        ("ann", "sensitive_template_delete", "license_allocated", "holds a licence code"),
    ]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("user_create", "always sensitive"),
        ("License allocated", "small letters"),
        ("lizenz_für_alle", "small letters"),
        ("", "required"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused_with_the_reason(
    administrator: Client, name: str, words: str
) -> None:
    answer = administrator.post(f"{LIST}add/", {"name": name, "note": ""})
    assert answer.status_code == 200
    assert words in answer.content.decode()
    assert not SensitiveTemplate.objects.exists()


@pytest.mark.parametrize("role", ["nobody", "Support staff", "Auditors"])
def test_others_change_nothing(sign_in: SignIn, role: str) -> None:
    client = sign_in(role)
    assert client.post(f"{LIST}add/", {"name": "license_allocated"}).status_code in (302, 403)
    assert not SensitiveTemplate.objects.exists()


def test_people_bound_to_a_company_decide_nothing_for_the_whole_site(administrator: Client) -> None:
    GroupCompany.objects.create(group=Group.objects.get(name="Offload administrators"), company_id=3)
    assert administrator.get(LIST).status_code == 403
    assert administrator.post(f"{LIST}add/", {"name": "license_allocated"}).status_code == 403
