"""Staff of one company in Django's admin, and how groups are bound to companies there."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.contrib.contenttypes.models import ContentType
from django.test import Client

from emailoffload.dashboard import people
from emailoffload.outbox.figures import LeftRow
from emailoffload.outbox.models import Attempt, AuditEntry
from emailoffload.outbox.reconciliation import ReconcileFinding
from emailoffload.policy.models import CopyRule, GroupCompany
from tests.dashboard.conftest import SignIn, make_user
from tests.dashboard.world import FOREIGN, LAB, OWN, STATES, World, asked, signed_in

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])

# --- Django's admin ---

SCOPED: dict[str, list[str]] = {
    "email": [
        "user_id__exact={user}", "user_id={user}", "company_id={company}", "company_id__exact={company}",
        "address__startswith={address}", "state=failed", "state__exact=failed", "q={user}", "q={address}",
        "q={message}", "o=5", "o=-1", "p=2", "all=", "_facets=True", "claim__id__exact={claim}",
        "claim__company_id={company}",
        "claim__user_name__startswith=F", "resend_of__id__exact={pk}", "resend_of__isnull=True", "id__in={pk}",
        "_popup=1&_to_field=id", "e=1",
    ],
    "claim": [
        "user_id__exact={user}", "company_id={company}", "q={user}", "state__exact=claimed", "o=1", "_facets=True",
        "company_id__isnull=True", "emails__address={address}", "emails__subject__startswith=F",
    ],
    "attempt": [
        "email__company_id={company}", "email__id__exact={pk}", "email_id={pk}", "outcome__exact=accepted", "o=2",
        "message_id={message}", "_facets=True",
    ],
    "reconcilefinding": [
        "user_id={user}", "company_id={company}", "verdict__exact=touched", "source__exact=iomad_queue",
        "claim__id__exact={claim}", "claim__user_name__startswith=F", "o=1", "_facets=True",
    ],
    "leftrow": [
        "q={user}", "user_id={user}", "company_id={company}", "source__exact=iomad_queue", "o=1", "_facets=True",
    ],
    "copyrule": ["q=rule", "company_id={company}", "_facets=True"],
}  # fmt: skip
"""Records that belong to companies, by the name of their model: what an address may ask for."""
REFUSED = {
    "run", "rowerror", "lease", "state", "auditentry", "sensitivetemplate", "groupcompany", "routingrule",
    "shadow", "suppression",
    "group", "user", "schedule", "success", "failure", "ormq",
}  # fmt: skip
"""Records of the whole site."""


def registered() -> dict[str, Any]:
    """The models of the admin by name."""
    return {str(model._meta.model_name): model for model in admin.site._registry}


def test_every_record_of_the_admin_is_either_of_companies_or_of_the_whole_site() -> None:
    assert {*SCOPED, *REFUSED} >= set(registered())


@pytest.mark.parametrize("name", [name for name in SCOPED if name in registered()])
def test_the_admin_has_nothing_of_others_for_the_staff_of_a_company(
    bound: Client, world: World, name: str
) -> None:
    model = registered()[name]
    base = f"/admin/emailoffload/{name}/"
    questions = [base]
    for email in (world.others[0], world.others[len(STATES)]):
        values = {
            "user": email.user_id, "company": email.company_id or "", "address": email.address, "pk": email.pk,
            "message": email.message_id, "claim": email.claim_id,
        }  # fmt: skip
        questions += [f"{base}?{query.format(**values)}" for query in SCOPED[name]]
    kind = ContentType.objects.get_for_model(model)
    for pk in scope_others(name, world):
        questions += [f"{base}{pk}/change/", f"{base}{pk}/history/", f"{base}{pk}/delete/", f"{base}{pk}/"]
        questions += [f"{base}{pk}/change/?_to_field=id&_popup=1", f"/admin/r/{kind.pk}/{pk}/"]
    for field in ("claim", "resend_of", "email"):
        questions.append(
            f"/admin/autocomplete/?app_label=emailoffload&model_name={name}&field_name={field}&term=F"
        )
    before = [asked(bound, address) for address in questions]
    world.forget_others()
    for address, answer in zip(questions, before, strict=True):
        assert asked(bound, address) == answer, address
    assert asked(bound, base)[0] == 200


def scope_others(name: str, world: World) -> list[int]:
    """Ids of some records of others."""
    if name == "copyrule":
        return list(CopyRule.objects.exclude(company_id=OWN).values_list("pk", flat=True))
    emails = (world.others[0], world.others[len(STATES)])
    if name == "reconcilefinding":
        rows = ReconcileFinding.objects.filter(claim__in=[email.claim_id for email in emails])
        return list(rows.values_list("pk", flat=True))
    if name == "leftrow":
        return list(LeftRow.objects.exclude(company_id=OWN).values_list("pk", flat=True))
    if name == "attempt":
        return list(Attempt.objects.filter(email__in=emails).values_list("pk", flat=True))
    return [email.claim_id if name == "claim" else email.pk for email in emails]


def test_the_admin_shows_the_staff_of_a_company_its_own(bound: Client, world: World) -> None:
    email = world.own[0]
    assert "Own subject" in asked(bound, "/admin/emailoffload/email/")[1]
    assert "Own subject" in asked(bound, f"/admin/emailoffload/email/{email.pk}/change/")[1]
    assert "Own activity" in asked(bound, "/admin/emailoffload/claim/")[1]
    assert email.message_id in asked(bound, f"/admin/emailoffload/attempt/{email.tries.get().pk}/change/")[1]


@pytest.mark.parametrize("name", sorted(REFUSED & set(registered())))
def test_records_of_the_whole_site_are_refused_to_the_staff_of_a_company(
    bound: Client, bound_user: User, world: World, name: str
) -> None:
    base = f"/admin/{registered()[name]._meta.app_label}/{name}/"
    pk = registered()[name]._default_manager.values_list("pk", flat=True).first() or 1
    for path in ("", "add/", f"{pk}/change/", f"{pk}/delete/"):
        assert asked(bound, base + path)[0] == 403, path
        assert asked(bound, base + path, {"name": "x"})[0] == 403, path
    status, body = asked(bound, f"{base}{pk}/history/")
    assert status == 403 or "doesn’t exist" in body
    assert f'href="{base}"' not in asked(bound, "/admin/")[1]


def test_the_staff_of_a_company_cannot_free_themselves(bound: Client, bound_user: User) -> None:
    group = Group.objects.get(name="Northwind staff")
    before = list(GroupCompany.objects.values_list("pk", "group_id", "company_id"))
    binding = GroupCompany.objects.filter(group=group).first()
    assert binding
    form = {"username": "bea", "is_superuser": "on", "is_active": "on", "is_staff": "on", "groups": ""}
    for address, data in (
        (f"/admin/auth/group/{group.pk}/change/", {"name": "x"}),
        (f"/admin/auth/group/{group.pk}/delete/", {"post": "yes"}),
        (
            "/admin/auth/group/",
            {"action": "delete_selected", "_selected_action": str(group.pk), "post": "yes"},
        ),
        (f"/admin/auth/user/{bound_user.pk}/change/", form),
        (f"/admin/auth/user/{bound_user.pk}/password/", {"password1": "x", "password2": "x"}),
        (f"/admin/emailoffload/groupcompany/{binding.pk}/delete/", {"post": "yes"}),
        ("/admin/emailoffload/groupcompany/add/", {"group": str(group.pk), "company_id": str(FOREIGN)}),
    ):
        assert asked(bound, address, data)[0] == 403, address
    assert list(GroupCompany.objects.values_list("pk", "group_id", "company_id")) == before
    bound_user.refresh_from_db()
    assert not bound_user.is_superuser


# --- Binding groups ---


def formset(*companies: int | str, group: Group | None = None) -> dict[str, str]:
    """The form of a group with its companies; the bindings that it has are to be removed."""
    bindings = list(GroupCompany.objects.filter(group=group).order_by("pk")) if group else []
    prefix = "offload_companies"
    data = {
        "name": "Northwind staff",
        f"{prefix}-TOTAL_FORMS": str(len(bindings) + len(companies)),
        f"{prefix}-INITIAL_FORMS": str(len(bindings)),
    }
    for number, binding in enumerate(bindings):
        data |= {
            f"{prefix}-{number}-id": str(binding.pk),
            f"{prefix}-{number}-group": str(binding.group_id),
            f"{prefix}-{number}-company_id": str(binding.company_id),
            f"{prefix}-{number}-DELETE": "on",
        }
    for number, company in enumerate(companies, len(bindings)):
        data[f"{prefix}-{number}-company_id"] = str(company)
    return data


def test_a_group_is_bound_to_a_company_of_moodle_s_and_that_is_audited(sign_in: SignIn) -> None:
    client = sign_in("superuser")
    page = asked(client, "/admin/auth/group/add/")[1]
    assert "Lab &amp; Co &quot;Ltd&quot; (1)</option>" in page
    assert "Added" not in page
    assert asked(client, "/admin/auth/group/add/", formset(LAB))[0] == 200
    binding = GroupCompany.objects.get()
    assert (binding.company_id, binding.company_name) == (LAB, 'Lab & Co "Ltd"')
    entry = AuditEntry.objects.get(action="bind_group")
    assert (entry.actor, entry.action, entry.object_id) == ("superuser", "bind_group", str(binding.group_id))
    assert entry.details == {"group": "Northwind staff", "before": [], "after": [LAB]}
    asked(client, f"/admin/auth/group/{binding.group_id}/change/", formset(group=binding.group))
    assert not GroupCompany.objects.exists()
    newest = AuditEntry.objects.filter(action="bind_group").order_by("-pk")[0]
    assert newest.details == {"group": "Northwind staff", "before": [LAB], "after": []}


def test_a_company_that_is_not_moodle_s_is_refused_and_one_that_is_gone_stays(sign_in: SignIn) -> None:
    client = sign_in("superuser")
    assert "Select a valid choice" in asked(client, "/admin/auth/group/add/", formset(99))[1]
    group = Group.objects.create(name="Former")
    GroupCompany.objects.create(group=group, company_id=77, company_name="Closed Ltd")
    assert "Closed Ltd (not in Moodle)</option>" in asked(client, f"/admin/auth/group/{group.pk}/change/")[1]


def test_while_moodle_does_not_answer_a_company_is_bound_by_its_typed_id(
    sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emailoffload.dashboard.people.companies", lambda: people.Answer({}, False))
    client = sign_in("superuser")
    assert "type the company&#x27;s id" in asked(client, "/admin/auth/group/add/")[1]
    for wrong in ("0", "-1", "x", str(2**70)):
        asked(client, "/admin/auth/group/add/", formset(wrong))
    assert not GroupCompany.objects.exists()
    asked(client, "/admin/auth/group/add/", formset(42))
    assert GroupCompany.objects.get().company_id == 42


def test_deleting_a_bound_group_is_audited(sign_in: SignIn) -> None:
    client = sign_in("superuser")
    group = Group.objects.create(name="Former")
    GroupCompany.objects.create(group=group, company_id=77)
    asked(client, f"/admin/auth/group/{group.pk}/delete/", {"post": "yes"})
    assert not Group.objects.filter(pk=group.pk).exists()
    assert AuditEntry.objects.get(action="bind_group").details == {
        "group": "Former",
        "before": [77],
        "after": [],
    }


def test_administrators_who_may_not_change_groups_bind_them_in_a_list_of_their_own() -> None:
    user = make_user("Offload administrators", "ann")
    user.is_staff = True
    user.save()
    client, group = signed_in(user), Group.objects.create(name="Northwind staff")
    assert asked(client, f"/admin/auth/group/{group.pk}/change/")[0] == 403
    form = {"group": str(group.pk), "company_id": str(LAB)}
    assert asked(client, "/admin/emailoffload/groupcompany/add/", form)[0] == 200
    binding = GroupCompany.objects.get()
    assert binding.company_name == 'Lab & Co "Ltd"'
    asked(client, f"/admin/emailoffload/groupcompany/{binding.pk}/delete/", {"post": "yes"})
    assert [entry.details["after"] for entry in AuditEntry.objects.order_by("pk")] == [[LAB], []]
