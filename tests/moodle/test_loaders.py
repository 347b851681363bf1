"""Rows are loaded in sets: the right ones, in as many queries for many ids as for few."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from emailoffload.moodle import loaders, schema
from emailoffload.moodle.site import load_site

pytestmark = [pytest.mark.mariadb, pytest.mark.django_db(databases=["default", "moodle"])]


def queries(call: Callable[[], Any]) -> int:
    with CaptureQueriesContext(connections["moodle"]) as captured:
        call()
    return len(captured)


def test_activities_come_with_course_module_and_context(moodle: Any) -> None:
    found = loaders.load_activities([1, 3, 12])
    assert set(found) == {1, 3, 12}
    first = found[1]
    assert (first.name, first.cmid, first.emailuser, first.remindercount) == ("G01 time html", 2, 2, 1)
    assert first.course is not None
    assert first.course.id == 2
    assert first.course.fullname == 'Golden course & "quotes" <em>x</em> $1 \\1'
    context = moodle.rows("SELECT id, path FROM mdl_context WHERE contextlevel = 70 AND instanceid = 2")
    assert (first.context_id, first.context_path) == context[0]
    assert found[3].thirdpartyemails.count("@") >= 2
    assert found[12].course is not None
    assert found[12].course.shortname == "BULK1"


def test_null_texts_are_empty(moodle: Any) -> None:
    moodle.execute(
        "UPDATE mdl_reengagement SET thirdpartyemails = NULL, emailsubjectthirdparty = NULL WHERE id = 1"
    )
    found = loaders.load_activities([1])[1]
    assert (found.thirdpartyemails, found.emailsubjectthirdparty) == ("", "")


def test_an_activity_without_course_module_has_none_and_one_that_is_gone_is_missing(moodle: Any) -> None:
    moodle.execute("DELETE FROM mdl_course_modules WHERE id = 2")
    moodle.execute("UPDATE mdl_course_modules SET deletioninprogress = 1 WHERE id = 3")
    found = loaders.load_activities([1, 2, 999])
    assert set(found) == {1, 2}
    assert found[1].cmid is None
    assert found[1].course is not None
    assert (found[2].cmid, found[2].deletioninprogress) == (3, 1)


def test_an_activity_whose_course_is_gone_has_no_course_module(moodle: Any) -> None:
    moodle.execute("DELETE FROM mdl_course WHERE id = 5")
    found = loaders.load_activities([12])[12]
    assert (found.cmid, found.course) == (None, None)


def test_course_modules_of_other_plugins_with_the_same_instance_do_not_count(moodle: Any) -> None:
    moodle.execute("DELETE FROM mdl_course_modules WHERE id = 2")
    assert moodle.value("SELECT COUNT(*) FROM mdl_course_modules WHERE instance = 1 AND module = 17") == 1
    assert loaders.load_activities([1])[1].cmid is None


def test_activities_by_mode(moodle: Any) -> None:
    found = loaders.load_activity_ids_by_mode()
    assert {4, 11} <= found[1]
    assert 5 in found[0]
    assert {1, 2, 3, 12} <= found[2]
    assert sum(len(ids) for ids in found.values()) == 22


def test_users_carry_what_mails_need(moodle: Any) -> None:
    row = moodle.rows("SELECT id, mailformat FROM mdl_user WHERE username = 'gtext'")[0]
    found = loaders.load_users([row[0], 999999])
    assert set(found) == {row[0]}
    assert (found[row[0]].username, found[row[0]].mailformat) == ("gtext", row[1])


def test_group_names_come_in_the_databases_order_and_only_of_that_course(moodle: Any) -> None:
    user = moodle.value("SELECT id FROM mdl_user WHERE username = 'gmulti'")
    for course, name in ((2, "élan"), (2, "ECHO"), (2, "Zoë"), (3, "other course")):
        group = moodle.insert("mdl_groups", courseid=course, name=name, idnumber="")
        moodle.insert("mdl_groups_members", groupid=group, userid=user)
    expected = moodle.rows(
        "SELECT g.name FROM mdl_groups g JOIN mdl_groups_members m ON m.groupid = g.id"
        " WHERE m.userid = %s AND g.courseid = 2 ORDER BY g.name",
        [user],
    )
    found = loaders.load_learners({(user, 2), (user, 4)}, groups=True, field_ids=set(), preference_names=())
    assert len(expected) > 4
    assert found[user, 2].groups == tuple(name for (name,) in expected)
    assert found[user, 4].groups == ()


def test_learners_carry_the_fields_and_preferences_asked_for(moodle: Any) -> None:
    user = moodle.value("SELECT id FROM mdl_user WHERE username = 'gplain'")
    moodle.insert("mdl_user_preferences", userid=user, name="email_bounce_count", value="3")
    moodle.insert("mdl_user_preferences", userid=user, name="something_else", value="x")
    found = loaders.load_learners(
        {(user, 2), (999999, 2)}, groups=False, field_ids={1, 2}, preference_names=["email_bounce_count"]
    )
    assert set(found) == {(user, 2)}
    learner = found[user, 2]
    assert learner.user.firstname == "Anna"
    assert learner.groups == ()
    assert {pk: value.dataformat for pk, value in learner.profile.items()} == {1: 0, 2: 1}
    assert dict(learner.preferences) == {"email_bounce_count": "3"}


def test_users_that_are_already_loaded_are_not_read_again(moodle: Any) -> None:
    users = loaders.load_users([3])
    assert (
        queries(
            lambda: loaders.load_learners(
                {(3, 2)}, groups=False, field_ids=(), preference_names=(), users=users
            )
        )
        == 0
    )


def test_the_company_is_that_of_the_first_row_by_id(moodle: Any) -> None:
    other = moodle.insert("mdl_company", name="Other", shortname="other", city="", country="GB", category=1)
    moodle.insert("mdl_company_users", companyid=other, userid=9, departmentid=2)
    moodle.insert("mdl_company_users", companyid=1, userid=9, departmentid=1)
    found = loaders.load_company_of([9, 10, 999999])
    assert found[9] == (other, "Other")
    assert 999999 not in found


def test_on_plain_moodle_nobody_has_a_company(moodle: Any, settings: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(loaders, "readable", lambda *models: False)
    assert loaders.load_company_of([3]) == {}


@pytest.mark.parametrize(("state", "complete"), [(0, False), (1, True), (2, True), (3, True), (4, False)])
def test_a_target_counts_as_complete_by_its_state(moodle: Any, state: int, complete: bool) -> None:
    moodle.execute("DELETE FROM mdl_course_modules_completion WHERE userid IN (3, 4)")
    moodle.insert(
        "mdl_course_modules_completion", coursemoduleid=1, userid=3, completionstate=state, timemodified=1
    )
    moodle.insert(
        "mdl_course_modules_completion", coursemoduleid=7, userid=4, completionstate=1, timemodified=1
    )
    found = loaders.load_target_completions({(3, 1), (4, 1)})
    assert found == ({(3, 1)} if complete else set())


@pytest.fixture
def bulk(moodle: Any) -> list[int]:
    """Ids of the 500 learners of the bulk courses."""
    return [pk for (pk,) in moodle.rows("SELECT id FROM mdl_user ORDER BY id DESC LIMIT 500")]


@pytest.mark.parametrize(
    "load",
    [
        loaders.load_users,
        loaders.load_company_of,
        lambda ids: loaders.load_target_completions({(pk, 1) for pk in ids}),
        lambda ids: loaders.load_learners(
            {(pk, 2) for pk in ids}, groups=True, field_ids={1, 2}, preference_names=["email_bounce_count"]
        ),
    ],
)
def test_five_hundred_cost_as_many_queries_as_two(load: Any, bulk: list[int]) -> None:
    assert queries(lambda: load(bulk)) == queries(lambda: load(bulk[:2])) <= 6


def test_all_activities_cost_as_many_queries_as_one(moodle: Any) -> None:
    one = queries(lambda: loaders.load_activities([1]))
    assert queries(lambda: loaders.load_activities(range(1, 23))) == one <= 5


def test_more_ids_than_fit_in_a_statement_are_sent_in_groups(
    bulk: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = loaders.load_users(bulk)
    pairs = {(pk, 5) for pk in bulk}
    learners = loaders.load_learners(pairs, groups=True, field_ids={1}, preference_names=["x"])
    monkeypatch.setattr(schema, "CHUNK", 99)
    assert queries(lambda: loaders.load_users(bulk)) == 6
    assert loaders.load_users(bulk) == whole
    assert loaders.load_learners(pairs, groups=True, field_ids={1}, preference_names=["x"]) == learners


@pytest.mark.parametrize(
    "call",
    [
        lambda: loaders.load_users([]),
        lambda: loaders.load_activities([]),
        lambda: loaders.load_company_of([]),
        lambda: loaders.load_target_completions(set()),
        lambda: loaders.load_courses([]),
        lambda: loaders.load_text_contexts([]),
        lambda: loaders.load_learners(set(), groups=True, field_ids={1}, preference_names=["x"]),
    ],
)
def test_nothing_asked_is_nothing_found(call: Any, moodle: Any) -> None:
    assert not call()


def test_the_sites_own_context_is_not_loaded_twice(moodle: Any) -> None:
    site = load_site()
    assert queries(lambda: loaders.load_text_contexts([1], site)) == 0
    assert loaders.load_text_contexts([1], site)[1] == site.site_context
