"""Managers, supervisors, holders and addresses on the real site, as IOMAD itself finds them."""

from __future__ import annotations

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from emailoffload.moodle import companies
from emailoffload.moodle.site import load_site
from tests.conftest import Moodle
from tests.policy.people import (
    CATEGORY_CONTEXT,
    COMPANY,
    COURSE,
    LEARNER,
    MANAGER,
    OTHER,
    TEACHER,
    TOP,
    Firm,
)

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
HERE = (LEARNER, COMPANY)


@pytest.fixture
def firm(moodle: Moodle) -> Firm:
    return Firm(moodle)


def ids(found: object) -> list[int]:
    return [user.id for user in found]  # type: ignore[attr-defined]


def test_managers_are_those_of_the_users_departments_and_of_all_above(firm: Firm) -> None:
    north = firm.department("north")
    team, beside = firm.department("team", north), firm.department("beside", north)
    boss, foreman, neighbour = firm.user("boss"), firm.user("foreman"), firm.user("neighbour")
    firm.place(LEARNER, team)
    firm.place(boss, north, kind=1)
    firm.place(foreman, team, kind=2)
    firm.place(neighbour, beside, kind=1)
    assert ids(companies.company_managers([HERE])[HERE]) == [MANAGER, boss]
    assert ids(companies.department_managers([HERE])[HERE]) == [foreman]


def test_a_user_of_two_departments_has_the_managers_of_both_each_once(firm: Firm) -> None:
    one, two = firm.department("one"), firm.department("two")
    boss = firm.user("boss")
    for place in (one, two):
        firm.place(LEARNER, place)
        firm.place(boss, place, kind=1)
    assert ids(companies.company_managers([HERE])[HERE]) == [MANAGER, boss]


def test_only_the_company_that_was_asked_for_counts(firm: Firm) -> None:
    other, top = firm.company("other")
    boss = firm.user("boss")
    firm.place(LEARNER)
    firm.place(LEARNER, top, company=other)
    firm.place(boss, top, kind=1, company=other)
    found = companies.company_managers([HERE, (LEARNER, other), (OTHER, other)])
    assert {key: ids(users) for key, users in found.items()} == {HERE: [MANAGER], (LEARNER, other): [boss]}


@pytest.mark.parametrize("change", [{"deleted": 1}, {"suspended": 1}])
def test_managers_without_a_working_account_are_left_out(firm: Firm, change: dict[str, int]) -> None:
    firm.place(LEARNER)
    firm.place(firm.user("gone", **change), kind=1)
    assert ids(companies.company_managers([HERE])[HERE]) == [MANAGER]


def test_a_manager_is_a_manager_of_their_own_mails_but_the_crons_account_is_nobodys(firm: Firm) -> None:
    me = (MANAGER, COMPANY)
    assert ids(companies.company_managers([me])[me]) == [MANAGER]
    assert companies.company_managers([me], cron_user=MANAGER) == {}


def test_departments_that_go_round_in_a_circle_end(firm: Firm) -> None:
    one = firm.department("one")
    two = firm.department("two", one)
    firm.moodle.execute("UPDATE mdl_department SET parent = %s WHERE id = %s", [two, one])
    boss = firm.user("boss")
    firm.place(LEARNER, two)
    firm.place(boss, one, kind=1)
    assert ids(companies.company_managers([HERE])[HERE]) == [boss]


def test_supervisors_stand_in_the_companys_field_else_in_the_sites(firm: Firm) -> None:
    firm.place(LEARNER)
    firm.profile(
        LEARNER, 1, "one@firm.example,two@firm.example, three@firm.example,nonsense,one@firm.example"
    )
    firm.profile(LEARNER, 7, "site@firm.example")
    firm.profile(OTHER, 7, "other@firm.example")
    firm.moodle.set_config("companyemailprofileid", "7")
    assert companies.supervisors([LEARNER, OTHER], load_site()) == {
        LEARNER: ("site@firm.example",),
        OTHER: ("other@firm.example",),
    }
    firm.moodle.execute("UPDATE mdl_company SET emailprofileid = 1")
    assert companies.supervisors([LEARNER], load_site()) == {
        LEARNER: ("one@firm.example", "two@firm.example")
    }, "IOMAD does not trim, so an address after a blank is not valid to it"
    firm.moodle.execute("DELETE FROM mdl_user_info_data WHERE userid = %s AND fieldid = 1", [LEARNER])
    assert companies.supervisors([LEARNER], load_site()) == {}, "an empty field is not made up for"


def test_holders_of_a_role_are_those_of_the_course_and_above_it(firm: Firm) -> None:
    above, here, site = firm.user("above"), firm.user("here"), firm.user("site")
    firm.role(above, CATEGORY_CONTEXT)
    firm.role(here, firm.course_context())
    firm.role(here, CATEGORY_CONTEXT)
    firm.role(site, 1)
    firm.role(firm.user("elsewhere"), firm.course_context(7))
    firm.role(firm.user("another"), firm.course_context(), role=3)
    firm.role(firm.user("left", suspended=1), firm.course_context())
    found = companies.role_holders([COURSE], [TEACHER])
    assert {key: ids(users) for key, users in found.items()} == {(COURSE, TEACHER): [above, here, site]}


def test_addresses_of_a_profile_field_are_trimmed_and_judged_and_its_name_is_exact(firm: Firm) -> None:
    firm.profile(LEARNER, 1, " a@firm.example , no address,b@firm.example")
    found = companies.profile_addresses([LEARNER, OTHER], ["labtext", "LABTEXT"])
    assert found == {(LEARNER, "labtext"): ("a@firm.example", "b@firm.example")}


def test_without_iomads_tables_there_are_no_managers_supervisors_or_companies(
    firm: Firm, monkeypatch: pytest.MonkeyPatch
) -> None:
    firm.place(LEARNER)
    monkeypatch.setattr(companies, "readable", lambda *models: False)
    assert companies.company_managers([HERE]) == {}
    assert companies.department_managers([HERE]) == {}
    assert companies.supervisors([LEARNER], load_site()) == {}


def test_a_site_without_the_patch_has_no_cc_addresses(firm: Firm) -> None:
    assert companies.company_cc([COMPANY]) == {}


def test_the_number_of_queries_does_not_grow_with_the_number_of_people(firm: Firm) -> None:
    for number in range(6):
        place = firm.department(f"team {number}")
        firm.place(firm.user(f"boss{number}"), place, kind=1)
        firm.place(LEARNER + number, place)
        firm.role(LEARNER + number, firm.course_context(), role=TEACHER)
        firm.profile(LEARNER + number, 1, "a@firm.example")
    site = load_site()

    def cost(users: list[int]) -> int:
        with CaptureQueriesContext(connections["moodle"]) as queries:
            assert len(companies.company_managers([(user, COMPANY) for user in users])) == len(users)
            companies.supervisors(users, site)
            assert len(companies.profile_addresses(users, ["labtext"])) == len(users)
            assert companies.role_holders([COURSE], [TEACHER])
        return len(queries)

    assert cost([LEARNER]) == cost([LEARNER + number for number in range(6)])


def test_every_manager_of_the_top_department_stands_above_everybody(firm: Firm) -> None:
    boss = firm.user("boss")
    firm.place(boss, TOP, kind=2)
    firm.place(LEARNER, firm.department("team"))
    assert ids(companies.department_managers([HERE])[HERE]) == [boss]
