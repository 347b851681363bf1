"""The page that says which rule holds, the shadows, and the form where rules are made."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import OperationalError
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from emailoffload.dashboard import shadows
from emailoffload.outbox.models import AuditEntry, Shadow
from emailoffload.policy import routing
from emailoffload.policy.models import GroupCompany, RoutingRule
from emailoffload.worker import shadow
from tests.conftest import Moodle
from tests.dashboard.conftest import make_user
from tests.dashboard.factories import make_claim, make_email
from tests.policy.people import ACTIVITY, COMPANY, COURSE, LEARNER, Firm
from tests.queries import counted
from tests.routing.site import rule

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
ROLES = ["nobody", "Support staff", "Auditors", "Offload administrators", "superuser"]


def client_of(role: str | None, username: str = "") -> Client:
    client = Client()
    client.force_login(make_user(None if role == "nobody" else role, username))
    return client


@pytest.fixture
def support(moodle: Moodle) -> Client:
    return client_of("Support staff")


def page(client: Client, address: str = "/routing/", **asked: Any) -> str:
    response = client.get(address, asked)
    assert response.status_code == 200
    return " ".join(response.content.decode().replace("&#x27;", "'").split())


# --- which rule holds ---


def test_a_mail_of_ours_is_explained_by_what_it_was_claimed_as(support: Client) -> None:
    email = make_email(claim=make_claim(fallback="smtp", activity_id=77, course_id=9))
    rule("nine", course_id=9, fallback="hold")
    rule("site", mode="off")
    found = page(support, email=email.pk)
    assert "The rule “nine” (course 9) decides: we send." in found
    assert "“site” (the whole site: Moodle sends) fits too, but is less specific." in found
    assert "the rules said for a cloud that fails: send by SMTP, else hold." in found
    assert "When the cloud fails, the rule says: hold for a person." in found


def test_an_activity_says_its_course_and_a_user_their_company(moodle: Moodle, support: Client) -> None:
    Firm(moodle).place(LEARNER)
    rule("course", course_id=COURSE, mode="off")
    rule("company", company_id=COMPANY, mode="shadow")
    found = page(support, activity=ACTIVITY, user=LEARNER)
    assert "The rule “course”" in found
    assert f"Activity {ACTIVITY} is in course {COURSE}." in found
    assert f"User {LEARNER} belongs to Lab &amp; Co" in found
    assert "“company”" in found
    assert "The rule “company”" in page(support, user=LEARNER)


def test_a_template_is_a_mail_of_iomad_and_without_either_both_sources_are_explained(
    support: Client,
) -> None:
    rule("accounts", source="iomad_queue", template="user_create", mode="off")
    found = page(support, template="user_create")
    assert "<h3>IOMAD mail</h3>" in found
    assert "<h3>Reengagement reminder</h3>" not in found
    assert "Moodle sends it." in found
    both = page(support, company=3)
    assert "<h3>IOMAD mail</h3>" in both
    assert "<h3>Reengagement reminder</h3>" in both


def test_a_roll_out_is_explained_for_a_user_and_for_nobody_in_particular(support: Client) -> None:
    rule("tenth", percentage=10)
    inside = next(user for user in range(900000, 999999) if routing.bucket("tenth", user) < 10)
    outside = next(user for user in range(900000, 999999) if routing.bucket("tenth", user) >= 10)
    assert f"user {inside} is among them" in page(support, user=inside, activity=ACTIVITY)
    assert f"user {outside} is not among them: Moodle sends." in page(support, user=outside)
    assert "for a part of the learners; for the others Moodle sends" in page(support, activity=ACTIVITY)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"email": 987654}, "There is no email 987654."),
        ({"email": 1, "user": 2}, "An email says all the rest itself"),
        ({"activity": 987654}, "Moodle has no reminder activity 987654"),
        ({"activity": ACTIVITY, "course": 999}, f"Activity {ACTIVITY} is in course {COURSE}"),
        ({"activity": ACTIVITY, "template": "user_create"}, "fill in only one of them"),
        ({"user": "ann"}, "Enter a whole number"),
        ({"company": "9" * 30}, "less than or equal"),
        ({"template": "../x"}, "Enter the name of a template"),
    ],
)
def test_what_cannot_be_answered_is_said_in_words(support: Client, asked: dict[str, Any], words: str) -> None:
    found = page(support, **asked)
    assert words in found
    assert "decides" not in found
    assert "No rule fits" not in found


def test_the_page_without_a_question_asks_moodle_nothing(support: Client) -> None:
    page(support)
    with counted() as queries:
        page(support)
    assert queries["moodle"] == 0


def test_the_page_says_when_moodle_does_not_answer(support: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: Any, **kwargs: Any) -> Any:
        raise OperationalError("gone")

    monkeypatch.setattr("emailoffload.moodle.loaders.load_company_of", away)
    assert "Moodle's database does not answer now" in page(support, user=LEARNER)
    email = make_email()
    assert "No rule fits this mail." in page(support, email=email.pk)


def test_rules_are_listed_in_the_order_in_which_they_count(support: Client) -> None:
    rule("Site", mode="off")
    rule("Unused", enabled=False, activity_id=1)
    rule("Company", company_id=3, percentage=10)
    rule("Activity", activity_id=13, mode="shadow")
    rule("Site on")
    text = page(support).partition("Rules, the most specific first")[2]
    places = [text.index(f">{name}<") for name in ("Activity", "Company", "Site", "Site on", "Unused")]
    assert places == sorted(places)
    assert "10 percent" in text
    assert "switched off" in text
    assert "activity 13" in text


def test_a_rule_s_name_is_text_and_never_markup(support: Client) -> None:
    rule("<script>alert(1)</script>", note="<img src=x>")
    found = page(support, user=987654321)
    assert "<script>alert" not in found
    assert "<img" not in found


# --- shadows ---


def make_shadow(verdict: str, detail: str = "", **values: Any) -> Shadow:
    now = timezone.now()
    return Shadow.objects.create(
        **{
            "source": "reengagement", "row_id": Shadow.objects.count() + 1, "user_id": 15093,
            "activity_id": 13, "course_id": 4, "mails": 2, "due_at": now, "seen_at": now,
            "verdict": verdict, "detail": detail,
        } | values
    )  # fmt: skip


def test_shadows_are_counted_by_verdict_and_each_count_leads_to_its_rows(support: Client) -> None:
    for verdict, detail in (
        (shadow.SENT, shadow.COUNTED), (shadow.SENT, shadow.QUEUE_SENT), (shadow.GONE, shadow.ROW_GONE),
        (shadow.UNTOUCHED, shadow.NOT_HANDLED), (shadow.CHANGED, shadow.CLAIMED_BY_US), (shadow.WAITING, ""),
    ):  # fmt: skip
        make_shadow(verdict, detail)
    overall = page(support)
    for verdict, (name, _tone) in shadows.VERDICTS.items():
        assert f'href="/routing/shadows/?verdict={verdict}"' in overall
        assert f"{name}</span> {2 if verdict == shadow.SENT else 1}<" in overall
        rows = page(support, "/routing/shadows/", verdict=verdict)
        assert rows.count("<td") == 7 * (2 if verdict == shadow.SENT else 1)
    assert page(support, "/routing/shadows/").count("<td") == 7 * 6


@pytest.mark.parametrize("detail", list(shadow.MEANINGS))
def test_each_row_says_in_words_what_was_seen(support: Client, detail: str) -> None:
    make_shadow(shadow.CHANGED, detail)
    assert str(shadow.MEANINGS[detail]) in page(support, "/routing/shadows/")


def test_shadows_come_in_pages(support: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadows, "PAGE_SIZE", 2)
    made = [make_shadow(shadow.SENT, template=f"kind_{n}") for n in range(5)]
    first = page(support, "/routing/shadows/", verdict="sent")
    assert "kind 4" in first
    assert f"verdict=sent&amp;before={made[3].pk}" in first
    assert "kind 2" in page(support, "/routing/shadows/", verdict="sent", before=made[3].pk)
    assert "nothing further" in page(support, "/routing/shadows/", before=made[0].pk)


def test_without_shadows_the_pages_say_how_to_get_some(support: Client) -> None:
    assert "A rule with the mode “shadow” makes them" in page(support)
    assert "There are no such shadows." in page(support, "/routing/shadows/", verdict="sent")


# --- who may ---


@pytest.mark.parametrize("address", ["/routing/", "/routing/shadows/"])
@pytest.mark.parametrize("role", ROLES)
def test_the_pages_need_the_permission_to_see_routing_rules(moodle: Moodle, role: str, address: str) -> None:
    response = client_of(role).get(address)
    assert response.status_code == (403 if role == "nobody" else 200)
    if role == "nobody":
        assert "permission to see routing rules" in response.content.decode()


@pytest.mark.parametrize("address", ["/routing/", "/routing/shadows/", "/pause/"])
def test_the_pages_need_a_login_and_are_not_kept_by_a_cache(moodle: Moodle, address: str) -> None:
    assert Client().get(address).status_code == 302
    assert "no-store" in client_of("superuser").get(address).headers["Cache-Control"]


@pytest.mark.parametrize("address", ["/routing/", "/routing/shadows/", "/pause/"])
def test_people_bound_to_companies_do_not_see_them(moodle: Moodle, address: str) -> None:
    client = client_of("Offload administrators", "ann")
    assert client.get(address).status_code == 200
    bind("ann")
    refused = client.get(address)
    assert refused.status_code == 403
    assert "This page is about the whole site." in refused.content.decode()
    assert 'href="/routing/"' not in client.get("/").content.decode()
    assert 'href="/pause/"' not in client.get("/").content.decode()


def bind(username: str) -> None:
    group = Group.objects.create(name="Lab staff")
    GroupCompany.objects.create(group=group, company_id=COMPANY)
    User.objects.get(username=username).groups.add(group)


# --- making rules ---

ADD = "admin:emailoffload_routingrule_add"
CHANGE = "admin:emailoffload_routingrule_change"


@pytest.fixture
def admin(moodle: Moodle) -> Client:
    client = client_of("Offload administrators", "ann")
    User.objects.filter(username="ann").update(is_staff=True)
    return client


def entered(**changes: Any) -> dict[str, Any]:
    return {
        "name": "Pilot", "enabled": "on", "source": "", "template": "", "company_id": "", "course_id": "",
        "activity_id": "", "mode": "on", "percentage": "100", "fallback": "moodle", "suppressed": "record",
        "note": "",
    } | changes  # fmt: skip


def test_a_rule_is_made_changed_and_deleted_with_a_record_each_time(admin: Client) -> None:
    assert admin.post(reverse(ADD), entered(mode="shadow")).status_code == 302
    made = RoutingRule.objects.get()
    assert admin.post(reverse(CHANGE, args=[made.pk]), entered(percentage="10")).status_code == 302
    delete = reverse("admin:emailoffload_routingrule_delete", args=[made.pk])
    assert admin.post(delete, {"post": "yes"}).status_code == 302
    trail = list(AuditEntry.objects.order_by("id").values_list("actor", "action", "object_id"))
    assert trail == [("ann", f"{action}_routingrule", str(made.pk)) for action in ("add", "change", "delete")]
    changed = AuditEntry.objects.get(action="change_routingrule").details
    assert (changed["before"]["mode"], changed["after"]["mode"]) == ("shadow", "on")
    assert (changed["before"]["percentage"], changed["after"]["percentage"]) == (100, 10)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"template": "user_create"}, "Templates are IOMAD's"),
        ({"template": "user_create", "source": "reengagement"}, "Templates are IOMAD's"),
        ({"template": "no such", "source": "iomad_queue"}, "Enter the name of a template"),
        ({"activity_id": 987654}, "no reminder activity 987654"),
        ({"activity_id": ACTIVITY, "course_id": 999}, f"The activity is in course {COURSE}"),
        ({"activity_id": ACTIVITY, "source": "iomad_queue"}, "belong to no activity"),
        ({"course_id": 987654}, "no course 987654"),
        ({"company_id": 0}, "greater than or equal to 1"),
        ({"percentage": "101"}, "less than or equal to 100"),
        ({"percentage": "-1"}, "greater than or equal to 0"),
        ({"mode": "maybe"}, "Select a valid choice"),
        ({"fallback": "fax"}, "Select a valid choice"),
        ({"source": "forum"}, "Select a valid choice"),
    ],
)
def test_a_rule_that_could_not_work_is_refused_with_the_cure(
    admin: Client, changes: dict[str, Any], words: str
) -> None:
    response = admin.post(reverse(ADD), entered(**changes))
    assert response.status_code == 200
    assert words in response.content.decode().replace("&#x27;", "'")
    assert not RoutingRule.objects.exists()
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"percentage": "0"},
        {"mode": "off"},
        {"template": "user_create", "source": "iomad_queue", "company_id": 1, "fallback": "hold"},
        {"activity_id": ACTIVITY, "course_id": COURSE, "source": "reengagement", "company_id": 1},
    ],
)
def test_a_rule_that_can_work_is_taken(admin: Client, changes: dict[str, Any]) -> None:
    assert admin.post(reverse(ADD), entered(**changes)).status_code == 302
    assert RoutingRule.objects.count() == 1


@pytest.fixture
def moodle_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: Any, **kwargs: Any) -> Any:
        raise OperationalError("gone")

    monkeypatch.setattr("emailoffload.moodle.loaders.load_activities", away)


def test_a_rule_is_taken_as_entered_while_moodle_does_not_answer(admin: Client, moodle_is_away: None) -> None:
    assert admin.post(reverse(ADD), entered(activity_id=987654, mode="off")).status_code == 302
    assert RoutingRule.objects.get().activity_id == 987654


@pytest.mark.parametrize("role", ["Support staff", "Auditors"])
def test_others_look_at_rules_and_change_none(moodle: Moodle, role: str) -> None:
    client = client_of(role, "sam")
    User.objects.filter(username="sam").update(is_staff=True)
    made = rule()
    assert client.get(reverse(CHANGE, args=[made.pk])).status_code == 200
    assert client.post(reverse(CHANGE, args=[made.pk]), entered()).status_code == 403
    assert client.post(reverse(ADD), entered()).status_code == 403
    assert RoutingRule.objects.count() == 1


def test_people_bound_to_companies_neither_see_nor_change_rules(admin: Client) -> None:
    made = rule(company_id=COMPANY)
    make_shadow(shadow.SENT, company_id=COMPANY)
    bind("ann")
    for kind in ("routingrule", "shadow"):
        assert admin.get(reverse(f"admin:emailoffload_{kind}_changelist")).status_code == 403
    assert admin.get(reverse(CHANGE, args=[made.pk])).status_code in {302, 403}
    assert admin.post(reverse(ADD), entered()).status_code == 403
    assert RoutingRule.objects.count() == 1
