"""The sample Moodle is SQLite: everything that is read there works without MySQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.db import models as fields
from django.db.backends.sqlite3.base import DatabaseWrapper

from emailoffload.moodle import cronlock, errors, grants, loaders, models
from emailoffload.moodle.site import load_site

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "moodle"])
ABSENT = {"job_assignment"}


@pytest.fixture
def sample(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A tiny Moodle in SQLite, connected as the product's `moodle`."""
    path = tmp_path / "sample.sqlite3"
    raw = sqlite3.connect(path)
    for model in models.MODELS:
        columns = ", ".join(_column(field) for field in model._meta.concrete_fields)
        if model._meta.db_table.removeprefix("mdl_") not in ABSENT:
            raw.execute(f"CREATE TABLE {model._meta.db_table} ({columns})")
    raw.executescript(ROWS)
    raw.commit()
    original = connections["moodle"]
    config: dict[str, Any] = {**original.settings_dict, "NAME": str(path), "OPTIONS": {}}
    connections["moodle"] = DatabaseWrapper(config, alias="moodle")
    yield raw
    connections["moodle"].close()
    connections["moodle"] = original
    raw.close()


def _column(field: Any) -> str:
    if field.primary_key:
        return f"{field.column} INTEGER PRIMARY KEY"
    text = isinstance(field, fields.CharField | fields.TextField)
    null = "" if field.null else " NOT NULL"
    return f'"{field.column}" {"TEXT" if text else "INTEGER"}{null} DEFAULT {"NULL" if field.null else "0"}'


ROWS = r"""
INSERT INTO mdl_config (name, value) VALUES ('branch', '404'), ('siteadmins', '1'), ('lang', 'en');
INSERT INTO mdl_config_plugins (plugin, name, value) VALUES ('mod_reengagement', 'version', '2023020804');
INSERT INTO mdl_modules (id, name, visible) VALUES (1, 'reengagement', 1), (2, 'page', 1);
INSERT INTO mdl_task_scheduled (component, classname) VALUES
  ('mod_reengagement', '\mod_reengagement\task\cron_task');
INSERT INTO mdl_course (id, category, shortname, fullname) VALUES (1, 0, 's', 'Site'), (2, 1, 'c', 'Course');
INSERT INTO mdl_user (id, username, firstname) VALUES (1, 'admin', 'Ada'), (2, 'learner', 'Lee');
INSERT INTO mdl_reengagement (id, course, name) VALUES (7, 2, 'Remind');
INSERT INTO mdl_course_modules (id, course, module, instance, visible) VALUES
  (9, 2, 1, 7, 1), (10, 2, 2, 3, 1);
INSERT INTO mdl_context (id, contextlevel, instanceid, path, depth) VALUES
  (1, 10, 0, '/1', 1), (2, 50, 2, '/1/2', 2), (3, 70, 9, '/1/2/3', 3), (4, 50, 1, '/1/4', 2);
INSERT INTO mdl_filter_active (filter, contextid, active, sortorder) VALUES ('activitynames', 1, 1, 1);
INSERT INTO mdl_groups (id, courseid, name) VALUES (1, 2, 'Zulu'), (2, 2, 'Alpha');
INSERT INTO mdl_groups_members (groupid, userid) VALUES (1, 2), (2, 2);
INSERT INTO mdl_company (id, name) VALUES (4, 'Acme');
INSERT INTO mdl_company_users (companyid, userid) VALUES (4, 2);
INSERT INTO mdl_course_modules_completion (coursemoduleid, userid, completionstate) VALUES (10, 2, 1);
"""


def test_the_sample_is_ready(sample: sqlite3.Connection) -> None:
    found = errors.require_ready()
    assert (found.kind, found.iomad, found.totara) == ("monolithic", True, False)


def test_its_site_and_rows_are_read(sample: sqlite3.Connection) -> None:
    site = load_site()
    assert (site.shortname, site.branch) == ("s", 404)
    assert site.support_user is not None
    assert site.support_user.user.firstname == "Ada"
    activity = loaders.load_activities([7])[7]
    assert (activity.cmid, activity.context_path) == (9, "/1/2/3")
    learner = loaders.load_learners({(2, 2)}, groups=True, field_ids={1}, preference_names=["x"])[2, 2]
    assert (learner.user.firstname, learner.groups) == ("Lee", ("Alpha", "Zulu"))
    assert loaders.load_company_of([1, 2]) == {2: (4, "Acme")}
    assert loaders.load_target_completions({(2, 10), (2, 9)}) == {(2, 10)}


def test_names_of_its_activities_are_linked(sample: sqlite3.Connection) -> None:
    assert loaders.load_text_contexts([2])[2].activities_unknown == ("page",)
    sample.executescript("CREATE TABLE mdl_page (id, course, name); INSERT INTO mdl_page VALUES (3, 2, 'P');")
    found = loaders.load_text_contexts([2])[2]
    assert [(a.cmid, a.name) for a in found.activities] == [(9, "Remind"), (10, "P")]


def test_it_has_no_lock_to_share_and_says_so(sample: sqlite3.Connection) -> None:
    with cronlock.CronLock(cronlock.reengagement_lock_target()) as lock:
        assert not lock.acquired
        assert "MariaDB" in lock.reason
    assert not cronlock.is_free(cronlock.reengagement_lock_target())


def test_it_has_no_grants_to_check(sample: sqlite3.Connection) -> None:
    assert grants.check_grants(connections["moodle"]) == grants.GrantFindings([], [])


def test_a_sample_that_is_missing_is_not_created(sample: sqlite3.Connection, tmp_path: Path) -> None:
    connections["moodle"].close()
    connections["moodle"].settings_dict["NAME"] = str(tmp_path / "none.sqlite3")
    with pytest.raises(errors.MoodleUnreachable) as caught:
        errors.require_ready()
    assert "quickstart" in caught.value.cure
    assert not (tmp_path / "none.sqlite3").exists()
