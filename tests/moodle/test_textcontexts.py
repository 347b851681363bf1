"""The filters of a course's context, and what *activitynames* would link there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from emailoffload.moodle.textcontexts import active_filters, load_text_contexts
from emailoffload.moodle.types import CourseActivityName
from tests.conftest import _rows
from tests.settings import MOODLE_ACCOUNT

pytestmark = [pytest.mark.mariadb, pytest.mark.django_db(databases=["default", "moodle"])]


@pytest.mark.parametrize(
    ("rows", "on"),
    [
        ([("a", 1, 1, 1)], ["a"]),
        ([("a", -1, 1, 1)], []),
        ([("a", 1, 1, 1), ("a", -1, 2, 0)], []),
        ([("a", -1, 1, 1), ("a", 1, 3, 0)], ["a"]),
        ([("a", 1, 1, 1), ("a", -1, 2, 0), ("a", 1, 3, 0)], ["a"]),
        ([("a", -9999, 1, 1), ("a", 1, 3, 0)], []),
        ([("b", 1, 1, 7), ("a", 1, 1, 9)], ["b", "a"]),
        ([("b", 1, 1, 2), ("a", 1, 1, 1), ("b", 1, 3, 0)], ["a", "b"]),
        ([], []),
    ],
)
def test_a_filter_is_on_by_the_deepest_say_unless_disabled(rows: Any, on: list[str]) -> None:
    assert active_filters(rows) == on


def context(moodle: Any, course: int) -> int:
    return int(
        moodle.value("SELECT id FROM mdl_context WHERE contextlevel = 50 AND instanceid = %s", [course])
    )


def names(course: int) -> list[str]:
    return [f.name for f in load_text_contexts([course])[course].filters]


def test_a_course_can_switch_a_filter_off_and_another_on(moodle: Any) -> None:
    here = context(moodle, 2)
    moodle.insert("mdl_filter_active", filter="emoticon", contextid=here, active=-1, sortorder=0)
    moodle.insert("mdl_filter_active", filter="multilang", contextid=1, active=-1, sortorder=7)
    moodle.insert("mdl_filter_active", filter="multilang", contextid=here, active=1, sortorder=0)
    assert names(2) == [
        "displayh5p",
        "activitynames",
        "mathjaxloader",
        "urltolink",
        "mediaplugin",
        "multilang",
    ]
    assert "emoticon" in names(5)
    assert "multilang" not in names(5)


def test_settings_are_those_of_the_courses_own_context(moodle: Any) -> None:
    moodle.insert("mdl_filter_config", filter="urltolink", contextid=context(moodle, 2), name="x", value="1")
    moodle.insert("mdl_filter_config", filter="urltolink", contextid=1, name="y", value="2")
    found = load_text_contexts([2])[2]
    assert {f.name: dict(f.config) for f in found.filters if f.config} == {"urltolink": {"x": "1"}}


def test_a_course_without_a_context_has_no_filters(moodle: Any) -> None:
    assert load_text_contexts([99])[99].filters == ()


@pytest.fixture
def pages(moodle: Any) -> Iterator[None]:
    """The table of the page plugin, with the page of course 2, readable."""
    moodle.execute("CREATE TABLE mdl_page (id BIGINT PRIMARY KEY, course BIGINT, name VARCHAR(255))")
    moodle.execute(
        "CREATE TABLE mdl_folder (id BIGINT PRIMARY KEY, course BIGINT, name VARCHAR(255), display INT)"
    )
    moodle.connection.query("INSERT INTO mdl_page VALUES (1, 2, 'Handbook')")
    moodle.connection.query(
        "INSERT INTO mdl_folder VALUES (1, 2, 'Files', 0), (2, 2, 'Shown on the page', 1)"
    )
    user = f"'{MOODLE_ACCOUNT[0]}'@'localhost'"
    moodle.connection.query(f"GRANT SELECT (id, course, name) ON moodle.mdl_page TO {user}")
    moodle.connection.query(f"GRANT SELECT (id, course, name, display) ON moodle.mdl_folder TO {user}")
    yield
    moodle.connection.query(f"REVOKE SELECT (id, course, name) ON moodle.mdl_page FROM {user}")
    moodle.connection.query(f"REVOKE SELECT (id, course, name, display) ON moodle.mdl_folder FROM {user}")
    moodle.connection.query("DROP TABLE mdl_page")
    moodle.connection.query("DROP TABLE mdl_folder")


def place(moodle: Any, plugin: str, instance: int, **values: Any) -> int:
    module = moodle.value("SELECT id FROM mdl_modules WHERE name = %s", [plugin])
    return int(moodle.insert("mdl_course_modules", course=2, module=module, instance=instance, **values))


def test_visible_activities_with_a_page_are_linked(moodle: Any, pages: None) -> None:
    folder = place(moodle, "folder", 1)
    place(moodle, "folder", 2)
    place(moodle, "label", 1)
    moodle.execute("UPDATE mdl_course_modules SET visible = 1 WHERE id = 2")
    found = load_text_contexts([2])[2]
    assert found.activities == (
        CourseActivityName(1, "page", "Handbook"),
        CourseActivityName(2, "reengagement", "G01 time html"),
        CourseActivityName(folder, "folder", "Files"),
    )
    assert found.activities_unknown == ()


def test_hidden_deleted_and_disabled_activities_are_not_linked(moodle: Any, pages: None) -> None:
    moodle.execute("UPDATE mdl_course_modules SET visible = 1 WHERE id IN (2, 3)")
    moodle.execute("UPDATE mdl_course_modules SET deletioninprogress = 1 WHERE id = 2")
    moodle.execute("UPDATE mdl_modules SET visible = 0 WHERE name = 'page'")
    assert [a.cmid for a in load_text_contexts([2])[2].activities] == [3]


def test_a_plugin_whose_names_may_not_be_read_is_named(moodle: Any) -> None:
    found = load_text_contexts([2, 5])
    assert found[2].activities_unknown == ("page",)
    assert found[5].activities_unknown == ()


def test_without_activitynames_no_activity_is_looked_at(moodle: Any) -> None:
    moodle.execute("UPDATE mdl_filter_active SET active = -9999 WHERE filter = 'activitynames'")
    found = load_text_contexts([2])[2]
    assert (found.activities, found.activities_unknown) == ((), ())


def test_a_plugin_with_a_strange_name_never_reaches_a_statement(moodle: Any) -> None:
    moodle.execute("UPDATE mdl_modules SET name = 'page` x' WHERE name = 'page'")
    assert load_text_contexts([2])[2].activities_unknown == ("page` x",)


def test_ten_courses_cost_as_many_queries_as_one(moodle: Any) -> None:
    courses = [
        course for (course,) in _rows(moodle.connection, "SELECT id FROM mdl_course WHERE category > 0")
    ]
    counts = []
    for wanted in ([2], courses):
        with CaptureQueriesContext(connections["moodle"]) as captured:
            load_text_contexts(wanted)
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 8
