"""What copy rules add to a mail: each kind, each part of the scope, and what they never do."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from emailoffload.moodle import companies
from emailoffload.policy import copies
from emailoffload.policy.copies import MOST, BadValue, CopyRules, Subject, parse
from emailoffload.policy.models import CopyRule
from tests.conftest import Moodle
from tests.policy.people import (
    ACTIVITY,
    COMPANY,
    COURSE,
    LEARNER,
    MANAGER,
    OTHER,
    TEACHER,
    Firm,
    rule,
)

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)


@pytest.fixture
def firm(moodle: Moodle) -> Firm:
    return Firm(moodle)


def subject(**changes: Any) -> Subject:
    values: dict[str, Any] = {
        "key": 1,
        "source": "reengagement",
        "user_id": LEARNER,
        "company_id": COMPANY,
        "course_id": COURSE,
        "activity_id": ACTIVITY,
    }
    return Subject(**values | changes)


def addresses(asked: Subject | None = None) -> list[str]:
    asked = asked or subject()
    return [copy.address for copy in CopyRules.load().copies([asked]).get(asked.key, [])]


def test_fixed_addresses_get_a_copy_with_the_rule_as_its_origin(firm: Firm) -> None:
    made = rule(value="hr@firm.example, audit@firm.example", name="To HR")
    (hr, audit) = CopyRules.load().copies([subject()])[1]
    assert (hr.address, hr.name, hr.recipient_id, hr.text, hr.rule_id) == (
        "hr@firm.example", "", None, "thirdparty", made.pk,
    )  # fmt: skip
    assert audit.address == "audit@firm.example"
    assert hr.origin == "copy rule “To HR”"


def test_managers_get_a_copy_as_the_people_they_are(firm: Firm) -> None:
    team = firm.department("team")
    firm.place(LEARNER, team)
    foreman = firm.user("foreman")
    firm.place(foreman, team, kind=2)
    rule("company_managers", "", text="user")
    rule("department_managers", "")
    (boss, second) = CopyRules.load().copies([subject()])[1]
    assert (boss.recipient_id, boss.text) == (MANAGER, "user")
    assert boss.user is not None
    assert (second.recipient_id, second.address, second.name) == (
        foreman,
        "foreman@firm.example",
        "Foreman Firm",
    )


def test_a_profile_field_of_the_user_names_who_gets_a_copy(firm: Firm) -> None:
    firm.profile(LEARNER, 1, "lead@firm.example,second@firm.example")
    rule("profile_field", "labtext")
    assert addresses() == ["lead@firm.example", "second@firm.example"]
    assert addresses(subject(user_id=OTHER)) == []


def test_holders_of_a_role_get_a_copy_of_the_mails_of_their_course(firm: Firm) -> None:
    firm.role(firm.user("teacher"), firm.course_context())
    rule("course_role", str(TEACHER))
    assert addresses() == ["teacher@firm.example"]
    assert addresses(subject(course_id=COURSE + 1)) == []
    assert addresses(subject(course_id=0)) == []


@pytest.mark.parametrize(
    ("scope", "other"),
    [
        ({"source": "reengagement"}, {"source": "iomad_queue"}),
        ({"company_id": COMPANY}, {"company_id": 2}),
        ({"company_id": COMPANY}, {"company_id": None}),
        ({"course_id": COURSE}, {"course_id": 7}),
        ({"activity_id": ACTIVITY}, {"activity_id": 14}),
        ({"company_id": COMPANY, "course_id": COURSE}, {"course_id": 7}),
        ({"company_id": COMPANY, "course_id": COURSE}, {"company_id": 2}),
    ],
)
def test_all_parts_of_the_scope_must_fit(firm: Firm, scope: dict[str, Any], other: dict[str, Any]) -> None:
    rule(**scope)
    assert addresses() == ["hr@firm.example"]
    assert addresses(subject(**other)) == []


def test_mails_with_credentials_are_copied_only_where_the_rule_says_so(firm: Firm) -> None:
    made = rule()
    assert addresses(subject(sensitive=True)) == []
    CopyRule.objects.filter(pk=made.pk).update(credentials=True)
    assert addresses(subject(sensitive=True)) == ["hr@firm.example"]


def test_a_rule_that_is_switched_off_adds_nobody(firm: Firm) -> None:
    rule(enabled=False)
    assert addresses() == []


def test_an_address_gets_one_copy_however_many_rules_find_it(firm: Firm) -> None:
    firm.place(LEARNER)
    manager = firm.moodle.value("SELECT email FROM mdl_user WHERE id = %s", [MANAGER])
    rule("company_managers", "", name="b")
    rule(value=f"hr@firm.example,HR@firm.example,{manager.upper()}", name="a")
    found = CopyRules.load().copies([subject()])[1]
    assert [copy.address for copy in found] == ["hr@firm.example", manager.upper()]
    assert {copy.origin for copy in found} == {"copy rule “a”"}


def test_the_user_never_gets_a_copy_of_their_own_mail(firm: Firm) -> None:
    firm.place(LEARNER, kind=1)
    own = firm.moodle.value("SELECT email FROM mdl_user WHERE id = %s", [LEARNER])
    firm.moodle.execute("UPDATE mdl_user SET suspended = 1 WHERE id = %s", [MANAGER])
    firm.role(LEARNER, firm.course_context())
    rule(value=own.upper())
    rule("company_managers", "")
    rule("course_role", str(TEACHER))
    assert addresses() == []


@pytest.mark.parametrize(
    "change", [{"suspended": 1}, {"deleted": 1}, {"auth": "nologin"}, {"email": "nowhere"}, {"email": ""}]
)
def test_people_who_cannot_be_mailed_get_no_copy(firm: Firm, change: dict[str, Any]) -> None:
    firm.role(firm.user("teacher", **change), firm.course_context())
    rule("course_role", str(TEACHER))
    assert addresses() == []


def test_a_rule_that_finds_a_crowd_adds_nobody_and_the_others_go_on(firm: Firm, caplog: Any) -> None:
    copies._complain.cache_clear()
    for number in range(MOST + 1):
        firm.role(firm.user(f"t{number}"), firm.course_context())
    crowd = rule("course_role", str(TEACHER), name="a crowd")
    rule(name="hr")
    with caplog.at_level(logging.WARNING):
        assert addresses() == ["hr@firm.example"]
    assert f"Copy rule {crowd.pk} adds nobody" in caplog.text


BAD = [
    ("fixed", "", ""),
    ("fixed", "hr@firm.example, nobody", "nobody"),
    ("fixed", "HR <hr@firm.example>", "HR <hr@firm.example>"),
    ("profile_field", " ", ""),
    ("profile_field", "one,two", ""),
    ("course_role", "teacher", ""),
    ("course_role", "0", ""),
    ("course_role", "9" * 25, ""),
    ("course_role", "²", ""),
    ("company_managers", "hr@firm.example", ""),
    ("everybody", "", ""),
]


@pytest.mark.parametrize(("kind", "value", "part"), BAD)
def test_a_value_that_does_not_fit_its_kind_is_refused_with_what_to_enter(
    kind: str, value: str, part: str
) -> None:
    with pytest.raises(BadValue) as caught:
        parse(kind, value)
    assert caught.value.part == part
    assert str(caught.value.words).endswith((".", ")."))


def test_a_broken_rule_is_ignored_and_named_once_without_its_addresses(firm: Firm, caplog: Any) -> None:
    copies._complain.cache_clear()
    broken = rule(value="secret@firm.example, nobody", name="a")
    rule(name="b")
    with caplog.at_level(logging.WARNING):
        assert addresses() == ["hr@firm.example"]
        assert addresses() == ["hr@firm.example"]
    lines = [record for record in caplog.records if record.name == copies.__name__]
    assert len(lines) == 1
    assert f"Copy rule {broken.pk} " in lines[0].getMessage()
    assert "@" not in lines[0].getMessage()


def test_semicolons_and_lines_separate_addresses_too() -> None:
    found = parse("fixed", "a@b.example;c@d.example\n e@f.example ,")
    assert found == {"addresses": ("a@b.example", "c@d.example", "e@f.example")}


@pytest.mark.parametrize("value", ["hr", '"h r"@firm.example', "hr@[192.0.2.1]"])
def test_an_address_that_nobody_could_be_mailed_at_is_refused(value: str) -> None:
    with pytest.raises(BadValue) as refused:
        parse("fixed", f"a@b.example, {value}")
    assert refused.value.part == value


def test_where_no_rule_applies_moodle_is_not_asked(firm: Firm) -> None:
    rule(company_id=2)
    rules = CopyRules.load()
    with CaptureQueriesContext(connections["moodle"]) as queries:
        assert rules.copies([subject()]) == {}
    assert len(queries) == 0


def test_without_iomad_the_companys_kinds_find_nobody(firm: Firm, monkeypatch: pytest.MonkeyPatch) -> None:
    firm.place(LEARNER)
    monkeypatch.setattr(companies, "readable", lambda *models: False)
    rule("company_managers", "")
    rule("department_managers", "")
    assert addresses() == []


def test_many_mails_cost_as_few_queries_as_one(firm: Firm) -> None:
    firm.role(firm.user("teacher"), firm.course_context())
    for user in range(LEARNER, LEARNER + 40):
        firm.place(user)
    rule()
    rule("company_managers", "")
    rule("department_managers", "")
    rule("profile_field", "labtext")
    rule("course_role", str(TEACHER))

    def cost(count: int) -> int:
        subjects = [subject(key=number, user_id=LEARNER + number % 40) for number in range(count)]
        with (
            CaptureQueriesContext(connections["moodle"]) as theirs,
            CaptureQueriesContext(connections["default"]) as ours,
        ):
            assert len(CopyRules.load().copies(subjects)) == count
        assert len(ours) == 1
        return len(theirs)

    few = cost(1)
    assert cost(900) == few
    assert few <= 20
