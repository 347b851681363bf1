"""is_enrolled() on a real site's database: each way a learner stops taking part, and how many queries."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from emailoffload.moodle.enrolment import CAPABILITY, eligible
from emailoffload.moodle.site import load_site

pytestmark = [pytest.mark.mariadb, pytest.mark.django_db(databases=["default", "moodle"], transaction=True)]

NOW = 1795300000
STUDENT = 5


class Case:
    """One learner of the real site in one activity, and the means to change what the rule looks at."""

    def __init__(self, moodle: Any) -> None:
        self.moodle = moodle
        self.user = moodle.value("SELECT id FROM mdl_user WHERE username = 'gplain'")
        self.cmid, self.course = moodle.rows(
            "SELECT cm.id, cm.course FROM mdl_course_modules cm JOIN mdl_modules m ON m.id = cm.module"
            " WHERE m.name = 'reengagement' AND cm.instance = 1"
        )[0]
        path = moodle.value(
            "SELECT path FROM mdl_context WHERE contextlevel = 70 AND instanceid = %s", (self.cmid,)
        )
        self.path = [int(part) for part in path.split("/") if part]

    def takes_part(self, now: int = NOW, user: int | None = None) -> bool:
        pair = (self.cmid, user or self.user)
        return eligible([pair], now, load_site()) == {pair}

    def enrolment(self, assignment: str) -> None:
        assert self.moodle.execute(
            "UPDATE mdl_user_enrolments SET " + assignment + " WHERE userid = %s AND enrolid IN"
            " (SELECT id FROM mdl_enrol WHERE courseid = %s)",
            (self.user, self.course),
        )

    def enrol(self, user: int, course: int) -> None:
        method = self.moodle.value(
            "SELECT MIN(id) FROM mdl_enrol WHERE courseid = %s AND status = 0", (course,)
        )
        values = {"enrolid": method, "userid": user, "status": 0, "timestart": 0, "timeend": 0}
        self.moodle.insert("mdl_user_enrolments", **values, **self._filled("mdl_user_enrolments", values))

    def assign(self, context: int, role: int, user: int | None = None) -> None:
        values = {"roleid": role, "contextid": context, "userid": user or self.user}
        self.moodle.insert("mdl_role_assignments", **values, **self._filled("mdl_role_assignments", values))

    def permit(self, context: int, permission: int, role: int = STUDENT) -> None:
        values = {"contextid": context, "roleid": role, "capability": CAPABILITY, "permission": permission}
        self.moodle.insert("mdl_role_capabilities", **values, **self._filled("mdl_role_capabilities", values))

    def unassign(self) -> None:
        self.moodle.execute("DELETE FROM mdl_role_assignments WHERE userid = %s", (self.user,))

    def _filled(self, table: str, values: dict[str, Any]) -> dict[str, int]:
        """Zeros for columns of Moodle's that have no default and do not matter here."""
        required = self.moodle.rows(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE()"
            " AND table_name = %s AND is_nullable = 'NO' AND column_default IS NULL AND extra = ''",
            (table,),
        )
        return {name: 0 for (name,) in required if name not in values}


@pytest.fixture
def case(moodle: Any) -> Case:
    return Case(moodle)


def test_an_enrolled_student_takes_part(case: Case) -> None:
    assert case.takes_part()


@pytest.mark.parametrize(
    "assignment",
    [
        "status = 1",
        f"timestart = {NOW + 1}",
        f"timestart = 0, timeend = {NOW}",
        f"timestart = {NOW - 10}, timeend = {NOW - 20}",
        f"timestart = {NOW + 10}, timeend = {NOW + 5}",
    ],
)
def test_an_enrolment_that_is_not_active_now_does_not_count(case: Case, assignment: str) -> None:
    case.enrolment(assignment)
    assert not case.takes_part()


@pytest.mark.parametrize(
    "assignment",
    [
        f"timestart = {NOW}, timeend = 0",
        f"timestart = {NOW}, timeend = {NOW + 1}",
        "timestart = 0, timeend = 2147483647",
    ],
)
def test_an_enrolment_counts_from_its_start_until_before_its_end(case: Case, assignment: str) -> None:
    case.enrolment(assignment)
    assert case.takes_part()


def test_a_disabled_enrolment_method_does_not_count(case: Case) -> None:
    case.moodle.execute("UPDATE mdl_enrol SET status = 1 WHERE courseid = %s", (case.course,))
    assert not case.takes_part()


def test_one_active_enrolment_beside_others_is_enough(case: Case) -> None:
    case.enrolment("status = 1")
    other = case.moodle.insert("mdl_enrol", enrol="self", courseid=case.course, status=0)
    case.moodle.insert(
        "mdl_user_enrolments", enrolid=other, userid=case.user, status=0, timestart=0, timeend=0
    )
    assert case.takes_part()


@pytest.mark.parametrize(
    ("assignment", "expected"), [("deleted = 1", False), ("suspended = 1", True), ("confirmed = 0", True)]
)
def test_a_deleted_user_takes_no_part_but_a_suspended_one_does(
    case: Case, assignment: str, expected: bool
) -> None:
    case.moodle.execute("UPDATE mdl_user SET " + assignment + " WHERE id = %s", (case.user,))
    assert case.takes_part() is expected


def test_the_guest_takes_no_part(case: Case) -> None:
    case.moodle.set_config("siteguest", str(case.user))
    assert not case.takes_part()


def test_a_user_without_a_role_takes_no_part(case: Case) -> None:
    case.unassign()
    assert not case.takes_part()


@pytest.mark.parametrize("level", range(4))
def test_a_role_given_anywhere_on_the_path_counts(case: Case, level: int) -> None:
    assert len(case.path) == 4
    case.unassign()
    case.assign(case.path[level], STUDENT)
    assert case.takes_part()


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("permission", [-1, -1000])
def test_an_override_below_the_role_counts(case: Case, level: int, permission: int) -> None:
    case.permit(case.path[level], permission)
    assert not case.takes_part()


def test_a_prohibit_in_another_role_beats_everything(case: Case) -> None:
    case.assign(case.path[1], 3)
    assert case.takes_part()
    case.permit(case.path[0], -1000, role=3)
    assert not case.takes_part()


def test_every_users_role_can_carry_the_capability(case: Case) -> None:
    case.unassign()
    case.moodle.set_config("defaultuserroleid", "7")
    case.permit(case.path[0], 1, role=7)
    assert case.takes_part()
    case.moodle.set_config("defaultuserroleid", "")
    assert not case.takes_part()


@pytest.mark.parametrize("level", range(4))
def test_a_locked_context_counts_only_where_locking_is_on(case: Case, level: int) -> None:
    case.moodle.execute("UPDATE mdl_context SET locked = 1 WHERE id = %s", (case.path[level],))
    assert case.takes_part()
    case.moodle.set_config("contextlocking", "1")
    assert not case.takes_part()


def test_an_admin_needs_an_enrolment_but_no_role(case: Case) -> None:
    assert not case.takes_part(user=2)
    case.enrol(2, case.course)
    assert case.takes_part(user=2)
    case.moodle.set_config("contextlocking", "1")
    case.moodle.set_config("contextlockappliestoadmin", "0")
    case.moodle.execute("UPDATE mdl_context SET locked = 1 WHERE id = %s", (case.path[3],))
    assert case.takes_part(user=2)
    case.moodle.set_config("contextlockappliestoadmin", "1")
    assert not case.takes_part(user=2)


def test_a_user_without_a_context_takes_no_part(case: Case) -> None:
    case.moodle.execute(
        "UPDATE mdl_context SET instanceid = 0 WHERE contextlevel = 30 AND instanceid = %s", (case.user,)
    )
    assert not case.takes_part()


def test_a_module_without_a_context_has_nobody(case: Case) -> None:
    case.moodle.execute("DELETE FROM mdl_context WHERE id = %s", (case.path[3],))
    assert not case.takes_part()


def test_a_module_whose_path_was_never_built_has_only_admins(case: Case) -> None:
    case.enrol(2, case.course)
    case.moodle.execute("UPDATE mdl_context SET path = NULL, depth = 0 WHERE id = %s", (case.path[3],))
    assert not case.takes_part()
    assert case.takes_part(user=2)


def test_on_the_front_page_the_front_page_role_is_enough(case: Case) -> None:
    front = case.moodle.value("SELECT id FROM mdl_course WHERE category = 0")
    context, path = case.moodle.rows(
        "SELECT id, path FROM mdl_context WHERE contextlevel = 50 AND instanceid = %s", (front,)
    )[0]
    case.unassign()
    case.moodle.execute("UPDATE mdl_course_modules SET course = %s WHERE id = %s", (front, case.cmid))
    case.moodle.execute(
        "UPDATE mdl_context SET path = %s WHERE id = %s", (f"{path}/{case.path[3]}", case.path[3])
    )
    assert not case.takes_part()
    case.moodle.set_config("defaultfrontpageroleid", "8")
    case.permit(context, 1, role=8)
    assert case.takes_part()


def test_an_unknown_capability_admits_nobody(case: Case) -> None:
    case.moodle.execute("DELETE FROM mdl_capabilities WHERE name = %s", (CAPABILITY,))
    assert not case.takes_part()


def test_pairs_that_do_not_exist_are_simply_not_eligible(case: Case) -> None:
    assert eligible([(999999, case.user), (case.cmid, 999999), (case.cmid, 0)], NOW, load_site()) == set()
    assert eligible([], NOW, load_site()) == set()


def test_all_reminders_of_the_site_take_a_bounded_number_of_queries(case: Case) -> None:
    pairs = case.moodle.rows(
        "SELECT cm.id, ip.userid FROM mdl_reengagement_inprogress ip JOIN mdl_course_modules cm"
        " ON cm.instance = ip.reengagement JOIN mdl_modules m ON m.id = cm.module AND m.name = 'reengagement'"
    )
    assert len(pairs) > 5000
    site = load_site()
    with CaptureQueriesContext(connections["moodle"]) as queries:
        found = eligible(pairs, NOW, site)
    chunks = -(-len(pairs) // 1000)
    assert len(queries) <= 8 + 4 * chunks
    assert len(found) > 4900
    assert max(query["sql"].count(",") for query in queries) < 2500
