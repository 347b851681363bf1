"""The installed code is recognised from the database alone, and only known code is claimed from."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.db import connections

from emailoffload.moodle import errors, variants
from tests.conftest import grant_moodle_account

pytestmark = [pytest.mark.mariadb, pytest.mark.django_db(databases=["default", "moodle"])]

ADHOC = r"\mod_reengagement\task\reengagement_adhoc_task"
SEND_EMAIL = r"\mod_reengagement\task\send_email"


def set_version(moodle: Any, version: int | str) -> None:
    moodle.set_config("version", str(version), plugin="mod_reengagement")


def queue(moodle: Any, classname: str) -> None:
    moodle.insert("mdl_task_adhoc", component="mod_reengagement", classname=classname, nextruntime=0)


def log(moodle: Any, classname: str, age: int) -> None:
    moodle.insert(
        "mdl_task_log", type=1, component="mod_reengagement", classname=classname.lstrip("\\"),
        userid=0, timestart=time.time() - age, timeend=time.time() - age, dbreads=0, dbwrites=0, result=0,
        output="",
    )  # fmt: skip


def test_the_real_site_is_the_monolithic_plugin_on_iomad(moodle: Any) -> None:
    found = variants.detect()
    assert (found.kind, found.version, found.supported) == ("monolithic", 2023020804, True)
    assert (found.iomad, found.totara, found.company_cc) == (True, False, False)
    assert errors.require_ready() == found


@pytest.mark.parametrize("version", [2020102202, 2021080102, 2022102900, 2023020804, 2023020805])
def test_known_versions_are_supported(moodle: Any, version: int) -> None:
    set_version(moodle, version)
    found = variants.detect()
    assert (found.kind, found.supported, found.version) == ("monolithic", True, version)


@pytest.mark.parametrize("version", [2014071701, 2018040501, 2019091000, 2022092900, 2023020806, 2025010100])
def test_a_version_that_is_not_known_is_refused(moodle: Any, version: int) -> None:
    set_version(moodle, version)
    found = variants.detect()
    assert (found.kind, found.supported) == ("unknown", False)
    assert str(version) in found.why
    with pytest.raises(errors.UnsupportedVariant) as caught:
        errors.require_ready()
    assert caught.value.cure


def test_no_plugin_is_absent(moodle: Any) -> None:
    moodle.execute("DELETE FROM mdl_config_plugins WHERE plugin = 'mod_reengagement'")
    found = variants.detect()
    assert (found.kind, found.supported, found.version) == ("absent", False, None)
    with pytest.raises(errors.PluginAbsent):
        errors.require_ready()


@pytest.mark.parametrize("version", [2023020804, 2025010100])
def test_a_queued_ad_hoc_task_shows_the_ad_hoc_code(moodle: Any, version: int) -> None:
    set_version(moodle, version)
    assert not variants.adhoc_tasks_present()
    queue(moodle, ADHOC)
    found = variants.detect()
    assert (found.kind, found.supported) == ("adhoc", True)
    assert variants.adhoc_tasks_present()


def test_an_ad_hoc_task_in_the_recent_log_shows_the_ad_hoc_code(moodle: Any) -> None:
    set_version(moodle, 2025010100)
    log(moodle, ADHOC, age=3600)
    assert variants.detect().kind == "adhoc"
    assert not variants.adhoc_tasks_present()


def test_an_old_log_entry_says_nothing_about_todays_code(moodle: Any) -> None:
    set_version(moodle, 2025010100)
    log(moodle, ADHOC, age=30 * 86400)
    assert variants.detect().kind == "unknown"


@pytest.mark.parametrize("where", ["queued", "logged", "scheduled"])
def test_the_enovation_fork_is_refused_even_with_a_known_version(moodle: Any, where: str) -> None:
    if where == "queued":
        queue(moodle, SEND_EMAIL)
    elif where == "logged":
        log(moodle, SEND_EMAIL, age=90 * 86400)
    else:
        moodle.execute(
            "UPDATE mdl_task_scheduled SET classname = %s WHERE component = 'mod_reengagement'", [SEND_EMAIL]
        )
    found = variants.detect()
    assert (found.kind, found.supported) == ("enovation", False)


def test_tasks_of_other_components_say_nothing(moodle: Any) -> None:
    queue(moodle, r"\mod_forum\task\send_email")
    log(moodle, r"\local_x\task\reengagement_adhoc_task", age=60)
    assert variants.detect().kind == "monolithic"


def test_the_company_cc_patch_shows_by_its_suppress_target(moodle: Any) -> None:
    moodle.execute("UPDATE mdl_reengagement SET suppresstarget = -1 WHERE id = 1")
    found = variants.detect()
    assert found.company_cc
    assert found.supported


def test_the_company_cc_patch_shows_by_its_column(moodle: Any, server: Any) -> None:
    moodle.execute("ALTER TABLE mdl_company ADD COLUMN reengccemail LONGTEXT")
    try:
        grant_moodle_account(server, moodle.database)
        assert variants.detect().company_cc
    finally:
        moodle.execute("ALTER TABLE mdl_company DROP COLUMN reengccemail")
        grant_moodle_account(server, moodle.database)
    connections["moodle"].close()
    assert not variants.detect().company_cc


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE mdl_modules SET visible = 0 WHERE name = 'reengagement'",
        "UPDATE mdl_task_scheduled SET disabled = 1 WHERE component = 'mod_reengagement'",
        "UPDATE mdl_config SET value = '0' WHERE name = 'cron_enabled'",
    ],
)
def test_where_moodle_would_send_nothing_nothing_is_claimed(moodle: Any, sql: str) -> None:
    moodle.execute(sql)
    found = variants.detect()
    assert (found.kind, found.supported) == ("disabled", False)
    with pytest.raises(errors.UnsupportedVariant):
        errors.require_ready()


def test_moodle_before_4_0_is_refused(moodle: Any) -> None:
    moodle.set_config("branch", "311")
    found = variants.detect()
    assert not found.supported
    assert "4.0" in found.why


def test_totara_is_refused(moodle: Any) -> None:
    moodle.set_config("totara_release", "17")
    found = variants.detect()
    assert (found.totara, found.supported) == (True, False)


@pytest.mark.parametrize(
    ("config", "branch"),
    [
        ({"branch": "404"}, 404),
        ({"branch": "500", "release": "5.0.1 (Build: 20250811)"}, 500),
        ({"release": "4.4.5 (Build: 20241209)"}, 404),
        ({"release": "4.1+ (Build: 1)"}, 401),
        ({"release": "5.0 (Build: 1)"}, 500),
        ({"branch": "", "release": "3.11.2"}, 311),
        ({}, 0),
        ({"release": "unknown"}, 0),
    ],
)
def test_the_branch_is_read_from_what_the_site_records(config: dict[str, str], branch: int) -> None:
    assert variants.branch_of(config) == branch
