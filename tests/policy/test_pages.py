"""The page that says who would get a mail, and the forms where rules are made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from emailoffload.outbox.models import AuditEntry
from emailoffload.policy.copies import MOST
from emailoffload.policy.models import CopyRule, GroupCompany, SensitiveTemplate
from tests.conftest import Moodle, grant_moodle_account
from tests.dashboard.conftest import make_user
from tests.policy.people import ACTIVITY, COMPANY, COURSE, LEARNER, MANAGER, OTHER, TEACHER, Firm, rule

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
NOT_AN_ACTIVITY = 987654


@pytest.fixture
def firm(moodle: Moodle) -> Firm:
    return Firm(moodle)


def client_of(role: str | None, username: str = "") -> Client:
    client = Client()
    client.force_login(make_user(role, username))
    return client


@pytest.fixture
def support(firm: Firm) -> Client:
    return client_of("Support staff")


def page(client: Client, **asked: Any) -> str:
    response = client.get("/copies/", asked)
    assert response.status_code == 200
    return " ".join(response.content.decode().replace("&#x27;", "'").split())


# --- who would get it ---


def test_the_page_lists_recipients_with_address_text_and_rule(firm: Firm, support: Client) -> None:
    own = firm.moodle.value("SELECT email FROM mdl_user WHERE id = %s", [LEARNER])
    firm.moodle.execute(
        "UPDATE mdl_reengagement SET thirdpartyemails = 'boss@third.example' WHERE id = %s", [ACTIVITY]
    )
    firm.place(LEARNER)
    rule("company_managers", "", name="Their managers", text="user")
    found = page(support, user=LEARNER, activity=ACTIVITY)
    assert "3 recipients" in found
    for part in (own, "boss@third.example", f"User {MANAGER}", "copy rule “Their managers”", "Lab &amp; Co"):
        assert part in found


@pytest.mark.parametrize(
    ("made", "asked", "why"),
    [
        ({"enabled": False}, {}, "It is switched off."),
        ({"value": "nonsense"}, {}, "It cannot be used: This is not an email address"),
        ({"company_id": 7}, {}, "It is for another company."),
        ({"course_id": 7}, {"activity": ACTIVITY}, "It is for another course."),
        ({"activity_id": 14}, {"activity": ACTIVITY}, "It is for another activity."),
        ({"source": "iomad_queue"}, {}, "It is for another source of mail."),
        ({}, {"template": "user_create"}, "This mail carries credentials"),
        ({}, {"template": "my_own"}, "This mail carries credentials"),
        ({"kind": "profile_field", "value": "labtext"}, {}, "It finds nobody"),
    ],
)
def test_a_rule_that_adds_nobody_is_listed_with_the_reason(
    firm: Firm, support: Client, made: dict[str, Any], asked: dict[str, Any], why: str
) -> None:
    SensitiveTemplate.objects.create(name="my_own")
    rule(**{"name": "Idle rule"} | made)
    found = page(support, user=LEARNER, **asked)
    assert "1 recipient<" in found
    assert "Idle rule" in found.partition("Rules that add nobody")[2]
    assert why in found


def test_a_rule_that_finds_a_crowd_is_listed_with_the_reason(firm: Firm, support: Client) -> None:
    for number in range(MOST + 1):
        firm.role(firm.user(f"t{number}"), firm.course_context())
    rule("course_role", str(TEACHER))
    assert f"It finds more than {MOST} recipients" in page(support, user=LEARNER, course=COURSE)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"user": 987654}, "Moodle has no user 987654"),
        ({"user": 0}, "Moodle has no user 0"),
        ({"user": LEARNER, "activity": NOT_AN_ACTIVITY}, f"no reminder activity {NOT_AN_ACTIVITY}"),
        (
            {"user": LEARNER, "activity": ACTIVITY, "course": COURSE + 1},
            f"Activity {ACTIVITY} is in course {COURSE}",
        ),
        (
            {"user": LEARNER, "activity": ACTIVITY, "template": "user_create"},
            "A template is a mail of IOMAD's",
        ),
        ({"user": "ann"}, "Enter a whole number"),
        ({"user": "9" * 30}, "less than or equal"),
        ({"user": ""}, "This field is required"),
        ({"user": LEARNER, "template": "../x"}, "Enter the name of a template"),
    ],
)
def test_what_cannot_be_answered_is_said_in_words(support: Client, asked: dict[str, Any], words: str) -> None:
    found = page(support, **asked)
    assert words in found
    assert 'id="recipients"' not in found


def test_the_number_in_the_address_of_an_activity_leads_to_the_right_one(firm: Firm, support: Client) -> None:
    module = firm.moodle.value(
        "SELECT cm.id FROM mdl_course_modules cm JOIN mdl_modules m ON m.id = cm.module"
        " WHERE m.name = 'reengagement' AND cm.id NOT IN (SELECT id FROM mdl_reengagement) LIMIT 1"
    )
    instance = firm.moodle.value("SELECT instance FROM mdl_course_modules WHERE id = %s", [module])
    assert f"enter {instance}." in page(support, user=LEARNER, activity=module)


@pytest.mark.parametrize(
    ("change", "words"),
    [("deleted = 1", "deleted"), ("suspended = 1", "suspended"), ("auth = 'nologin'", "cannot log in")],
)
def test_of_an_account_that_gets_no_mail_the_page_says_so(
    firm: Firm, support: Client, change: str, words: str
) -> None:
    rule()
    firm.moodle.execute(f"UPDATE mdl_user SET {change} WHERE id = %s", [LEARNER])
    found = page(support, user=LEARNER)
    assert words in found
    assert "hr@firm.example" not in found


def test_the_empty_page_asks_and_answers_nothing(support: Client) -> None:
    with CaptureQueriesContext(connections["moodle"]) as queries:
        found = page(support)
    assert len(queries) == 0
    assert "Only the user is needed" in found


def test_the_page_says_when_moodle_does_not_answer(support: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db.utils import OperationalError

    def away(*args: Any, **kwargs: Any) -> Any:
        raise OperationalError("gone")

    monkeypatch.setattr("emailoffload.moodle.loaders.load_users", away)
    assert "Moodle's database does not answer now" in page(support, user=LEARNER)


@pytest.fixture
def with_cc(moodle: Moodle, server: Any) -> Iterator[None]:
    moodle.execute("ALTER TABLE mdl_company ADD COLUMN reengccemail LONGTEXT")
    try:
        with moodle.connection.cursor() as cursor:
            cursor.execute("UPDATE mdl_company SET reengccemail = 'cc@firm.example'")
        grant_moodle_account(server, moodle.database)
        yield
    finally:
        moodle.execute("ALTER TABLE mdl_company DROP COLUMN reengccemail")
        grant_moodle_account(server, moodle.database)


def test_a_companys_own_cc_addresses_are_listed_for_reminders_only(
    firm: Firm, support: Client, with_cc: None
) -> None:
    firm.place(LEARNER)
    assert "cc@firm.example" in page(support, user=LEARNER)
    assert "cc@firm.example" not in page(support, user=LEARNER, template="license_allocated")


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        (None, False),
        ("Support staff", True),
        ("Auditors", True),
        ("Offload administrators", True),
        ("superuser", True),
    ],
)
def test_the_page_needs_the_permission_to_see_copy_rules(
    moodle: Moodle, role: str | None, allowed: bool
) -> None:
    response = client_of(role).get("/copies/")
    assert response.status_code == (200 if allowed else 403)
    if not allowed:
        assert "permission to see copy rules" in response.content.decode()


def test_the_page_needs_a_login_and_is_not_kept_by_a_cache(support: Client) -> None:
    assert Client().get("/copies/").status_code == 302
    assert "no-store" in support.get("/copies/").headers["Cache-Control"]


def test_people_bound_to_companies_see_their_own_users_and_rules_only(firm: Firm, support: Client) -> None:
    other, top = firm.company("other")
    firm.place(LEARNER)
    firm.place(OTHER, top, company=other)
    rule(name="Whole site", value="site@firm.example")
    rule(name="Ours", value="ours@firm.example", company_id=COMPANY)
    rule(name="Theirs", value="theirs@firm.example", company_id=other)
    group = Group.objects.create(name="Lab staff")
    GroupCompany.objects.create(group=group, company_id=COMPANY)
    User.objects.get(username="support").groups.add(group)
    ours = page(support, user=LEARNER)
    assert "ours@firm.example" in ours
    assert "site@firm.example" not in ours
    assert "Theirs" not in ours
    assert "Rules that concern the whole site are not shown to you" in ours
    for foreign in (OTHER, 3, 987654):
        theirs = page(support, user=foreign)
        assert "None of your companies has a user" in theirs
        assert 'id="recipients"' not in theirs


# --- making rules ---


@pytest.fixture
def admin(firm: Firm) -> Client:
    client = client_of("Offload administrators")
    User.objects.filter(username="offload").update(is_staff=True)
    return client


ADD = "admin:emailoffload_copyrule_add"


def entered(**changes: Any) -> dict[str, Any]:
    return {
        "name": "HR", "enabled": "on", "source": "", "company_id": "", "course_id": "", "activity_id": "",
        "kind": "fixed", "value": "hr@firm.example", "text": "thirdparty", "note": "",
    } | changes  # fmt: skip


def test_a_rule_is_made_changed_and_deleted_with_a_record_each_time(admin: Client) -> None:
    assert admin.post(reverse(ADD), entered()).status_code == 302
    made = CopyRule.objects.get()
    change = reverse("admin:emailoffload_copyrule_change", args=[made.pk])
    assert admin.post(change, entered(value="audit@firm.example")).status_code == 302
    delete = reverse("admin:emailoffload_copyrule_delete", args=[made.pk])
    assert admin.post(delete, {"post": "yes"}).status_code == 302
    trail = list(AuditEntry.objects.order_by("id").values_list("actor", "action", "object_id"))
    assert trail == [
        ("offload", f"{action}_copyrule", str(made.pk)) for action in ("add", "change", "delete")
    ]
    changed = AuditEntry.objects.get(action="change_copyrule").details
    assert (changed["before"]["value"], changed["after"]["value"]) == (
        "hr@firm.example",
        "audit@firm.example",
    )


def test_rules_that_are_deleted_together_are_on_record_one_by_one(admin: Client) -> None:
    made = [rule(name=name) for name in ("a", "b")]
    form = {"action": "delete_selected", "_selected_action": [each.pk for each in made], "post": "yes"}
    assert admin.post(reverse("admin:emailoffload_copyrule_changelist"), form).status_code == 302
    assert AuditEntry.objects.filter(action="delete_copyrule").count() == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"value": "hr@firm.example, nobody"}, "nobody: This is not an email address"),
        ({"value": ""}, "Enter at least one email address"),
        ({"kind": "company_managers"}, "Leave this empty"),
        ({"kind": "profile_field", "value": "nofield"}, "no profile field with the short name “nofield”"),
        ({"kind": "profile_field", "value": "LABTEXT"}, "Capitals count"),
        ({"kind": "course_role", "value": "teacher"}, "Enter the number of the role"),
        ({"activity_id": NOT_AN_ACTIVITY}, f"no reminder activity {NOT_AN_ACTIVITY}"),
        ({"activity_id": ACTIVITY, "course_id": 7}, f"The activity is in course {COURSE}"),
        ({"course_id": 987654}, "no course 987654"),
        ({"company_id": 0}, "greater than or equal to 1"),
        ({"activity_id": ACTIVITY, "source": "iomad_queue"}, "belong to no activity"),
        ({"source": "forum"}, "Select a valid choice"),
    ],
)
def test_a_rule_that_could_not_work_is_refused_with_the_cure(
    admin: Client, changes: dict[str, Any], words: str
) -> None:
    response = admin.post(reverse(ADD), entered(**changes))
    assert response.status_code == 200
    assert words in response.content.decode().replace("&#x27;", "'")
    assert not CopyRule.objects.exists()
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "profile_field", "value": " labtext "},
        {"kind": "course_role", "value": "4"},
        {"kind": "department_managers", "value": ""},
        {"activity_id": ACTIVITY, "course_id": COURSE, "source": "reengagement", "company_id": COMPANY},
    ],
)
def test_a_rule_that_can_work_is_taken(admin: Client, changes: dict[str, Any]) -> None:
    assert admin.post(reverse(ADD), entered(**changes)).status_code == 302
    assert CopyRule.objects.count() == 1


def test_the_page_of_a_rule_leads_to_who_would_get_it(admin: Client) -> None:
    made = rule(activity_id=ACTIVITY, course_id=COURSE)
    shown = admin.get(reverse("admin:emailoffload_copyrule_change", args=[made.pk])).content.decode()
    assert f'href="/copies/?activity={ACTIVITY}"' in shown
    assert f'value="{ACTIVITY}"' in page(admin, activity=ACTIVITY)


def test_support_staff_look_at_rules_and_change_none(firm: Firm, support: Client) -> None:
    User.objects.filter(username="support").update(is_staff=True)
    made = rule()
    assert support.get(reverse("admin:emailoffload_copyrule_change", args=[made.pk])).status_code == 200
    assert support.post(reverse(ADD), entered()).status_code == 403
    assert support.post(reverse("admin:emailoffload_copyrule_delete", args=[made.pk])).status_code == 403
    assert CopyRule.objects.count() == 1


def test_people_bound_to_companies_change_no_rules(firm: Firm, admin: Client) -> None:
    ours, theirs = rule(name="ours", company_id=COMPANY), rule(name="theirs")
    group = Group.objects.create(name="Lab staff")
    GroupCompany.objects.create(group=group, company_id=COMPANY)
    User.objects.get(username="offload").groups.add(group)
    shown = admin.get(reverse("admin:emailoffload_copyrule_changelist")).content.decode()
    assert "ours" in shown
    assert "theirs" not in shown
    foreign = reverse("admin:emailoffload_copyrule_change", args=[theirs.pk])
    assert admin.get(foreign).status_code == 302
    own = reverse("admin:emailoffload_copyrule_change", args=[ours.pk])
    assert admin.post(own, entered(value="else@firm.example")).status_code == 403
    assert admin.post(reverse(ADD), entered()).status_code == 403
