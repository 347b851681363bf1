"""Staff of one company: to them, what belongs to others does not exist.

The proof is by difference: whatever is asked, the answer is the same, byte by byte, as on a site that never
had the records of others. It is asked in every way that an address allows, by people with every permission.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.test import Client
from django.utils import timezone

from emailoffload.dashboard import companies, people, urls
from emailoffload.feedback.models import Suppression
from emailoffload.moodle.models import Course, Enrol, Reengagement, UserEnrolment
from emailoffload.outbox import scope
from emailoffload.outbox.models import AuditEntry, Email, State
from emailoffload.policy.models import GroupCompany
from tests.conftest import Moodle
from tests.dashboard.conftest import make_user
from tests.dashboard.factories import make_claim, make_email
from tests.dashboard.world import (
    FOREIGN,
    LAB,
    MEMBER,
    OWN,
    STATES,
    STRANGER,
    UNKNOWN,
    World,
    asked,
    bind,
    mails_of,
    signed_in,
)

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])


@pytest.fixture(autouse=True)
def not_from_this_host(settings: Any) -> None:
    """What machines on the host itself may ask is about the whole site: people do not sit there."""
    settings.METRICS_ALLOWED = []


def pages_of(email: Email) -> list[str]:
    """Every way to ask for emails by what is known of one."""
    terms = [
        email.address, email.address.upper(), email.address[:4], email.message_id or "0102", email.ref.hex,
        str(email.user_id), email.subject, email.name, str(email.pk),
    ]  # fmt: skip
    filters = [
        f"company={email.company_id or 0}", f"company={email.claim.company_name or 'Homeless'}",
        f"user={email.user_id}", f"activity={email.activity_id}", f"course={email.course_id}",
        f"template={email.template}", f"reason={email.reason}", f"state={email.state}",
        f"before={email.pk + 1}", f"after={email.pk - 1}", f"before={email.pk + 1}&company={email.company_id or 0}",
        "role=user", "source=iomad_queue", "when=24h", "route=ses", "state=problem",
        f"course={email.claim.course_name}", f"activity={email.claim.activity_name}",
        f"q={email.claim.course_name}", f"q=company: {email.claim.company_name or 'Homeless'}",
        f"company_id={email.company_id or 0}",
        f"company__in={email.company_id or 0}", f"claim__company_id={email.company_id or 0}",
    ]  # fmt: skip
    return ["/emails/", *(f"/emails/?q={term}" for term in terms), *(f"/emails/?{each}" for each in filters)]


Ask = tuple[str, dict[str, str] | None]


def gets(*addresses: str) -> list[Ask]:
    """Questions that change nothing."""
    return [(address, None) for address in addresses]


EVERY_URL: dict[str, Callable[[Email], list[Ask]]] = {
    "login": lambda email: gets("/login/"),
    "logout": lambda email: gets("/logout/"),
    "audit": lambda email: gets("/audit/"),
    "configuration": lambda email: gets("/settings/"),
    "run": lambda email: gets("/runs/1/"),
    "set-language": lambda email: gets("/language/"),
    "password_change": lambda email: gets("/password/"),
    "password_change_done": lambda email: gets("/password/done/"),
    "healthz": lambda email: gets("/healthz"),
    "healthz-worker": lambda email: gets("/healthz/worker"),
    "readyz": lambda email: gets("/readyz"),
    "metrics": lambda email: gets("/metrics"),
    "reputation": lambda email: [
        ("/reputation/", None),
        ("/reputation/", {"lasting": "4", "reason": "They did not get it"}),
    ],
    "alarms": lambda email: gets("/alarms/", "/alarms/?show=open", "/alarms/?code=fallbacks"),
    "events-sns": lambda email: [("/events/sns/", None), ("/events/sns/", {"address": email.address})],
    "overview": lambda email: gets("/"),
    "left": lambda email: gets("/left/", "/left/?show=lost", f"/left/?company={email.company_id or 0}"),
    "emails": lambda email: gets(*pages_of(email)),
    "emails-columns": lambda email: gets(f"/emails/columns/?company={email.company_id or 0}"),
    "emails-export": lambda email: gets(
        f"/emails/export/?q={email.address}",
        f"/emails/export/?company={email.company_id or 0}",
        f"/emails/export/?course={email.course_id}",
        f"/emails/export/?q={email.subject}",
    ),
    "saved-views": lambda email: gets("/emails/views/"),
    "saved-view-save": lambda email: [
        ("/emails/views/save/", {"name": "", "query": f"company={email.company_id or 0}"})
    ],
    "saved-view-change": lambda email: [
        (f"/emails/views/{email.pk}/", {"do": "delete"}),
        ("/emails/views/999/", {"do": "default"}),
    ],
    "email": lambda email: gets(f"/emails/{email.pk}/"),
    "email-preview": lambda email: gets(
        f"/emails/{email.pk}/preview/",
        *(f"/emails/{email.pk}/preview/?part={part}" for part in ("html", "text", "headers")),
    ),
    "email-preview-html": lambda email: gets(f"/emails/{email.pk}/preview/html/?images=1"),
    "email-resend": lambda email: [
        (f"/emails/{email.pk}/resend/", None),
        (f"/emails/{email.pk}/resend/", {"reason": "They did not get it"}),
        (f"/emails/{email.pk}/resend/", {"reason": ""}),
    ],
    **{
        f"email-{action}": lambda email, action=action: [
            (f"/emails/{email.pk}/{action}/", None),
            (f"/emails/{email.pk}/{action}/", {"reason": "They did not get it", "do": "add"}),
            (f"/emails/{email.pk}/{action}/", {"reason": "They did not get it", "do": "lift"}),
            (f"/emails/{email.pk}/{action}/", {"reason": ""}),
        ]
        for action in ("cancel", "hand-back", "smtp", "suppress")
    },
    "fallbacks": lambda email: gets("/fallbacks/"),
    "fallback-group": lambda email: [
        (f"/fallbacks/{state}/?reason={email.reason}{more}", data)
        for state, action in (("failed", "dismiss"), ("uncertain", "accepted"))
        for more, data in (
            ("", None),
            (f"&before={email.pk + 1}", None),
            ("", {"action": action, "all": "1"}),
            ("", {"action": action, "email": str(email.pk)}),
            ("", {"action": action, "ids": str(email.pk), "confirm": "1", "reason": "They have it"}),
        )
    ],
    "users": lambda email: gets(
        f"/users/?q={email.address}", f"/users/?q={email.user_id}", f"/users/?q={email.name}"
    ),
    "user": lambda email: gets(
        f"/users/{email.user_id}/",
        f"/users/{email.user_id}/?coming=1",
        f"/users/{email.user_id}/?before={email.pk + 1}",
        f"/users/{email.user_id}/?after={email.pk - 1}",
    ),
    "copies": lambda email: gets(
        "/copies/",
        f"/copies/?user={email.user_id}",
        f"/copies/?user={email.user_id}&activity={email.activity_id}&course={email.course_id}",
        f"/copies/?user={email.user_id}&template={email.template}",
    ),
    "routing": lambda email: gets(
        "/routing/",
        f"/routing/?email={email.pk}",
        f"/routing/?user={email.user_id}&activity={email.activity_id}",
        f"/routing/?company={email.company_id or 0}&template={email.template}",
    ),
    "coverage": lambda email: [*gets("/coverage/", f"/coverage/?q={email.activity_id}"), ("/coverage/", {})],
    "shadows": lambda email: gets("/routing/shadows/", "/routing/shadows/?verdict=sent"),
    "user-export": lambda email: [
        (f"/users/{email.user_id}/export/", None),
        (f"/users/{email.user_id}/export/", {"reason": "Ticket 4711"}),
    ],
    "user-erase": lambda email: [
        (f"/users/{email.user_id}/erase/", None),
        (f"/users/{email.user_id}/erase/", {"reason": "Ticket 4711", "confirm": str(email.user_id)}),
    ],
    "pause": lambda email: [
        ("/pause/", None),
        ("/pause/", {"do": "pause-both", "reason": "They did not get it"}),
    ],
    "events": lambda email: gets(
        "/events/",
        f"/events/?q={email.address}",
        f"/events/?q={email.message_id or '0102'}",
        f"/events/?q={email.ref.hex}",
        "/events/?type=bounce",
        "/events/?match=matched",
        "/events/?match=given_up",
        "/events/?before=999999",
    ),
    "event-problems": lambda email: gets("/events/problems/"),
    "event-problem": lambda email: gets("/events/problems/1/"),
    "event-problem-body": lambda email: gets("/events/problems/1/body/"),
    "suppressions": lambda email: gets(
        "/suppressions/",
        f"/suppressions/?q={email.address}",
        f"/suppressions/?q={email.address[:4]}&state=all",
        f"/suppressions/?q={email.user_id}",
        "/suppressions/?state=over",
        "/suppressions/?reason=bounce&agreement=agreed",
    ),
    "suppression": lambda email: [
        (f"/suppressions/{row.pk}/", data)
        for row in Suppression.objects.exclude(email__company_id=OWN)
        for data in (None, {"reason": ""}, {"reason": "They did not get it"})
    ],
    "suppression-add": lambda email: [
        ("/suppressions/add/", None),
        ("/suppressions/add/", {"address": email.address, "reason": "They left"}),
    ],
    "reconciliation": lambda email: gets(
        "/reconciliation/",
        "/reconciliation/?status=all",
        "/reconciliation/?verdict=touched&source=iomad_queue",
        f"/reconciliation/?user={email.user_id}",
        f"/reconciliation/?user={email.user_id}&status=closed",
    ),
    "runs": lambda email: gets("/runs/", "/runs/?kind=intercept"),
}
"""Every address of the dashboard, with all that can be asked of it about an email."""


def test_every_address_of_the_dashboard_is_asked_about_other_companies() -> None:
    assert {pattern.name for pattern in urls.urlpatterns} == set(EVERY_URL)


@pytest.mark.parametrize("name", [name for name in EVERY_URL if name != "logout"])
def test_what_belongs_to_others_does_not_exist_for_the_staff_of_a_company(
    bound: Client, world: World, name: str
) -> None:
    # The list has many questions about each mail: there, one mail of each kind of stranger has to do.
    others = world.others[:: len(STATES)] if name == "emails" else world.others
    questions = [ask for email in others for ask in EVERY_URL[name](email)]
    questions = list({repr(ask): ask for ask in questions}.values())
    before = [asked(bound, *ask) for ask in questions]
    audited = AuditEntry.objects.count()
    world.forget_others()
    for ask, answer in zip(questions, before, strict=True):
        assert asked(bound, *ask) == answer, ask
    assert audited == 0


@pytest.mark.parametrize("name", ["overview", "emails", "email", "users", "user", "reconciliation"])
def test_the_same_questions_show_the_records_of_others_to_staff_of_the_whole_site(
    support: Client, world: World, name: str
) -> None:
    questions = EVERY_URL[name](world.others[0])
    before = [asked(support, *ask) for ask in questions]
    world.forget_others()
    assert [asked(support, *ask) for ask in questions] != before


def test_staff_of_a_company_see_all_of_its_own(bound: Client, world: World) -> None:
    email = world.own[0]
    for address in (
        *(
            "/",
            "/emails/",
            "/emails/?q=own@example.net",
            f"/emails/?company={OWN}",
            "/emails/?company=own+ltd",
        ),
        *(f"/emails/{email.pk}/", "/users/15093/", f"/emails/{email.pk}/preview/"),
    ):
        status, body = asked(bound, address)
        assert status == 200
        assert "Own subject" in body
    assert "Own html" in asked(bound, f"/emails/{email.pk}/preview/html/")[1]
    assert "5 emails" in asked(bound, "/emails/")[1]
    world.barred.delete()
    new = asked(bound, f"/emails/{email.pk}/resend/", {"reason": "They deleted it"})
    assert new[0] == 200
    assert Email.objects.filter(resend_of=email, company_id=OWN).count() == 1


def test_a_page_says_which_companies_are_seen(bound: Client, support: Client) -> None:
    assert "You see only what belongs to Company 1, Company 3." in asked(bound, "/emails/")[1]
    assert "You see only" not in asked(support, "/emails/")[1]


def test_records_of_the_whole_site_are_refused_with_a_sentence(bound: Client, world: World) -> None:
    status, body = asked(bound, "/runs/")
    assert status == 403
    assert "This page is about the whole site." in body
    assert 'href="/runs/"' not in asked(bound, "/")[1]


def test_the_overview_tells_staff_of_a_company_only_that_a_worker_lives(bound: Client, world: World) -> None:
    State.objects.create(
        name="pause", value={"claims": True, "sends": True, "by": "ann", "reason": "Foreign reason"}
    )
    body = asked(bound, "/")[1]
    assert body.count('class="card health') == 1
    assert "Alive." in body
    assert "passes" not in body


@pytest.mark.parametrize("path", ["/emails/", "/users/15093/", "/", "email"])
def test_being_bound_costs_no_query_for_each_record(
    bound: Client, world: World, path: str, django_assert_num_queries: Any, django_assert_max_num_queries: Any
) -> None:
    address = f"/emails/{world.own[0].pk}/" if path == "email" else path
    bound.get(address)
    with django_assert_max_num_queries(26) as first:
        bound.get(address)
    mails_of(OWN, 15093, "More")
    mails_of(LAB, 15093, "Third")
    make_email(claim=world.own[0].claim)
    with django_assert_num_queries(len(first)):
        bound.get(address)


# --- Users, as Moodle knows them ---


@pytest.mark.parametrize("query", ["", "&template=user_create", "&activity=1", "&course=2"])
def test_who_would_get_a_mail_is_told_of_no_user_of_others(bound: Client, query: str) -> None:
    known, unknown = (asked(bound, f"/copies/?user={number}{query}") for number in (STRANGER, UNKNOWN))
    answers = [
        re.sub(rf"\b{number}\b", "N", body) for number, body in ((STRANGER, known[1]), (UNKNOWN, unknown[1]))
    ]
    assert "None of your companies has a user N" in answers[0]
    assert answers[0].split('<div class="head">')[1] == answers[1].split('<div class="head">')[1]


@pytest.mark.parametrize("place", ["activity", "course"])
def test_who_would_get_a_mail_is_told_of_no_place_where_the_user_is_not(
    bound: Client, support: Client, place: str
) -> None:
    model = Reengagement if place == "activity" else Course
    column = "course" if place == "activity" else "id"
    at_home = Enrol.objects.filter(
        pk__in=UserEnrolment.objects.filter(userid=MEMBER).values("enrolid")
    ).values_list("courseid", flat=True)
    elsewhere = model.objects.exclude(**{f"{column}__in": list(at_home)}).values_list("pk", flat=True)[0]
    answers = [asked(bound, f"/copies/?user={MEMBER}&{place}={pk}")[1] for pk in (elsewhere, UNKNOWN)]
    for body in answers:
        assert f"User {MEMBER} takes part in no such activity or course." in body
        assert "recipients</h2>" not in body
        assert "1 recipient" not in body
    assert "takes part in no such" not in asked(support, f"/copies/?user={MEMBER}&{place}={elsewhere}")[1]


@pytest.mark.parametrize("query", ["", "?coming=1", "?before=9", "?after=9"])
def test_a_user_of_others_looks_like_one_that_does_not_exist(bound: Client, query: str) -> None:
    answers = []
    for number in (STRANGER, UNKNOWN):
        status, page = asked(bound, f"/users/{number}/{query}")
        # What the person typed stands in the title, and where the choice of the language leads back to.
        answers.append((status, re.sub(rf"\b[Uu]ser {number}\b|/users/{number}/", "user N", page)))
    assert answers[0] == answers[1]
    assert answers[0][0] == 200


def test_a_member_of_the_company_is_shown_as_moodle_knows_them(bound: Client, support: Client) -> None:
    body = asked(bound, f"/users/{MEMBER}/")[1]
    assert "Iona" in body
    assert "Lab &amp; Co" in body
    assert "no mail of your companies" in body
    assert asked(support, f"/users/{STRANGER}/")[1].count("<dt>Username</dt>") == 1


def test_a_user_with_a_visible_mail_is_shown_although_a_member_no_more(bound: Client) -> None:
    make_email(claim=make_claim(user_id=STRANGER))
    assert asked(bound, f"/users/{STRANGER}/")[1].count("<dt>Username</dt>") == 1


def test_people_are_found_by_name_and_address_among_the_members_only(bound: Client, support: Client) -> None:
    person = people.person(STRANGER).value
    member = people.person(MEMBER).value
    assert person
    assert member
    for text in (person.name, person.username, person.address):
        assert f'/users/{STRANGER}/"' in asked(support, f"/users/?{urlencode({'q': text})}")[1]
        assert f'/users/{STRANGER}/"' not in asked(bound, f"/users/?{urlencode({'q': text})}")[1]
    for text in (member.name, member.username, member.address):
        assert f'/users/{MEMBER}/"' in asked(bound, f"/users/?{urlencode({'q': text})}")[1]


def test_what_is_coming_is_shown_where_the_users_mails_belong_to_the_company(
    moodle: Moodle, transactional_db: None
) -> None:
    row = moodle.rows(
        "SELECT userid, reengagement FROM mdl_reengagement_inprogress WHERE completed = 0 LIMIT 1"
    )
    user_id, activity_id = row[0]
    moodle.execute(
        "UPDATE mdl_reengagement SET emailuser = 2, remindercount = 9 WHERE id = %s", [activity_id]
    )
    soon = int(timezone.now().timestamp()) + 900
    moodle.execute(
        "UPDATE mdl_reengagement_inprogress SET emailtime = %s, completiontime = %s, emailsent = 0"
        " WHERE userid = %s AND reengagement = %s",
        [soon, soon + 9, user_id, activity_id],
    )
    moodle.execute("DELETE FROM mdl_company_users WHERE userid = %s", [user_id])
    place = {"userid": user_id, "managertype": 0, "departmentid": 1, "suspended": 0}
    moodle.insert("mdl_company_users", companyid=OWN, **place)
    moodle.insert("mdl_company_users", companyid=FOREIGN, **place)
    answers = {}
    for company in (OWN, FOREIGN):
        user = make_user("Support staff", f"sam{company}")
        bind(user, company, name=f"Staff {company}")
        answers[company] = asked(signed_in(user), f"/users/{user_id}/?coming=1")[1]
    assert "reminder 1 of 9" in answers[OWN]
    assert "reminder 1 of 9" not in answers[FOREIGN]
    assert "Moodle has nothing of your companies planned" in answers[FOREIGN]
    assert "<dt>Username</dt>" in answers[FOREIGN]


# --- Who is bound ---


def test_the_companies_of_all_bound_groups_are_seen_and_an_unbound_group_adds_nothing() -> None:
    user = make_user("Support staff", "sam")
    assert scope.companies_of(user) is None
    bind(user, OWN, LAB, name="First")
    bind(user, LAB, FOREIGN, name="Second")
    again = User.objects.get(pk=user.pk)
    assert scope.companies_of(again) == frozenset({OWN, LAB, FOREIGN})
    assert scope.is_bound(again)


def test_superusers_are_never_bound_and_strangers_see_nothing() -> None:
    user = make_user("superuser")
    bind(user, OWN)
    make_email()
    assert scope.companies_of(user) is None
    assert scope.emails_for(user).count() == 1
    assert scope.emails_for(AnonymousUser()).count() == 0


def test_the_companies_of_a_person_are_asked_for_once_in_a_request(
    bound_user: User, django_assert_num_queries: Any
) -> None:
    user = User.objects.get(pk=bound_user.pk)
    with django_assert_num_queries(1):
        for _ in range(3):
            scope.companies_of(user)
            scope.bindings_of(user)


def test_a_binding_that_ends_opens_the_site_again_at_the_next_request(bound: Client, world: World) -> None:
    assert asked(bound, f"/emails/{world.others[0].pk}/")[0] == 404
    GroupCompany.objects.all().delete()
    assert asked(bound, f"/emails/{world.others[0].pk}/")[0] == 200


# --- The filter ---


def test_emails_are_filtered_by_a_company_s_id_name_or_part_of_a_name(support: Client) -> None:
    make_email(claim=make_claim(company_id=7, company_name="Alpine Rescue"), subject="S:alpine")
    make_email(claim=make_claim(company_id=8, company_name="Alpine Rescue Team"), subject="S:team")
    make_email(claim=make_claim(company_id=None, company_name=""), subject="S:none")
    for text, expected, note in (
        ("7", ["alpine"], "Mails of Alpine Rescue (company 7)."),
        ("alpine rescue", ["alpine"], "Mails of Alpine Rescue (company 7)."),
        ("rescue", ["team", "alpine"], "Mails of Alpine Rescue (company 7), Alpine Rescue Team (company 8)."),
        ("99", [], "Mails of company 99."),
        ("Zebra", [], "No company has “Zebra” in its name."),
        ("lab & co", [], 'Mails of Lab & Co "Ltd" (company 1).'),
    ):
        body = unescape(asked(support, f"/emails/?{urlencode({'company': text})}")[1])
        assert [part.split("<")[0] for part in body.split(">S:")[1:]] == expected
        assert note in body


def test_the_filter_offers_companies_that_have_mails_and_to_bound_people_their_own(
    support: Client, bound: Client, world: World
) -> None:
    assert '<option value="Foreign Ltd">company 5</option>' in asked(support, "/emails/")[1]
    own = asked(bound, "/emails/")[1]
    assert '<option value="Own Ltd">company 3</option>' in own
    assert "Foreign" not in own and "Second" not in own


def test_a_company_is_called_by_the_name_on_its_newest_mail(support: Client, bound_user: User) -> None:
    make_email(claim=make_claim(company_id=OWN, company_name="Old name"))
    make_email(claim=make_claim(company_id=OWN, company_name="New name"))
    assert companies.stored(bound_user) == {OWN: "New name"}


def test_mails_of_iomad_are_filtered_by_template_and_named_in_words(support: Client) -> None:
    claim = make_claim(source="iomad_queue", template="user_create", activity_id=0, activity_name="")
    make_email(claim=claim, template="user_create", subject="S:welcome")
    make_email(subject="S:reminder")
    body = asked(support, "/emails/?template=user_create")[1]
    assert [part.split("<")[0] for part in body.split(">S:")[1:]] == ["welcome"]
    assert "Kind of mail: New account." in body
    assert '<span class="name">New account</span>' in body
    assert "Enter the name of a template" in asked(support, "/emails/?template=%3Cb%3E")[1]


def test_a_site_without_companies_sees_no_column_and_no_filter_for_them(support: Client) -> None:
    make_email(claim=make_claim(company_id=None, company_name=""))
    body = asked(support, "/emails/")[1]
    assert ">Company<" not in body
    assert 'name="company"' not in body
