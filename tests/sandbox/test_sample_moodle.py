"""The sample Moodle is a site that the product can read, and its reminders keep falling due."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from emailoffload.moodle import models
from emailoffload.sandbox import events, sample_flow, sample_moodle
from emailoffload.sandbox.moodle_side import enrolled_by_sql
from tests.sandbox.conftest import NOW


@pytest.fixture
def alias(sample: sqlite3.Connection, django_db_blocker: Any) -> Iterator[str]:
    """A Django connection to the sample."""
    path = sample.execute("PRAGMA database_list").fetchone()[2]
    connections.databases["sample"] = {
        **connections.databases["default"], "ENGINE": "django.db.backends.sqlite3", "NAME": path,
        "OPTIONS": {}, "TEST": {},
    }  # fmt: skip
    with django_db_blocker.unblock():
        yield "sample"
        connections["sample"].close()
    del connections["sample"], connections.databases["sample"]


@pytest.mark.parametrize(
    "model", [model for model in models.MODELS if model is not models.JobAssignment], ids=lambda m: m.__name__
)
def test_every_model_can_be_read_from_the_sample(model: Any, alias: str) -> None:
    optional = {column for table, column in models.OPTIONAL_COLUMNS if table == model._meta.db_table}
    wanted = [name for name in models.columns_of(model) if name not in optional]
    rows = list(model.objects.using(alias).values_list(*wanted))
    assert rows or model in (models.AdhocTask, models.TaskLog, models.FilterConfig)


def test_the_sample_is_the_same_every_time(sample: sqlite3.Connection, tmp_path: Path) -> None:
    other_path = tmp_path / "other.sqlite3"
    sample_moodle.create(other_path, now=NOW)
    other = sample_moodle.connect(other_path)
    assert list(sample.iterdump()) == list(other.iterdump())
    other.close()


def test_creating_it_again_replaces_it(sample: sqlite3.Connection, tmp_path: Path) -> None:
    sample.execute("DELETE FROM mdl_user")
    sample.close()
    sample_moodle.create(tmp_path / "sample.sqlite3", now=NOW)
    with sqlite3.connect(tmp_path / "sample.sqlite3") as again:
        assert again.execute("SELECT count(*) FROM mdl_user").fetchone()[0] == sample_moodle.LEARNERS + 2
    assert not list(tmp_path.glob("*.part*"))


def test_all_addresses_are_under_reserved_names(sample: sqlite3.Connection) -> None:
    addresses = [row[0] for row in sample.execute("SELECT email FROM mdl_user WHERE id > 2")]
    assert len(set(addresses)) == sample_moodle.LEARNERS
    assert all(address.endswith((".example", ".invalid")) and address.isascii() for address in addresses)


def test_learners_are_enrolled_and_those_who_left_are_not(sample: sqlite3.Connection) -> None:
    enrolled = enrolled_by_sql(lambda: sample, prefix="mdl_", paramstyle="qmark", now=lambda: NOW)
    pairs = sample.execute(
        "SELECT cm.id, ip.userid, ue.status, u.deleted FROM mdl_reengagement_inprogress ip"
        " JOIN mdl_reengagement r ON r.id = ip.reengagement JOIN mdl_user u ON u.id = ip.userid"
        " JOIN mdl_course_modules cm ON cm.instance = r.id AND cm.module = 19"
        " JOIN mdl_user_enrolments ue ON ue.enrolid = r.course AND ue.userid = ip.userid LIMIT 400"
    ).fetchall()
    assert {bool(status or deleted) for _cm, _user, status, deleted in pairs} == {False, True}
    for cmid, user, status, deleted in pairs:
        assert enrolled(cmid, user) is not bool(status or deleted)


def test_it_has_every_mode_and_every_reason_not_to_mail(sample: sqlite3.Connection) -> None:
    def values(column: str, table: str) -> set[Any]:
        return {row[0] for row in sample.execute(f"SELECT DISTINCT {column} FROM {table}")}

    assert values("emailuser", "mdl_reengagement") == {0, 1, 2}
    assert {1, 2, 3} < values("remindercount", "mdl_reengagement")
    assert values("suppresstarget <> 0", "mdl_reengagement") == {0, 1}
    assert values("thirdpartyemails <> ''", "mdl_reengagement") == {0, 1}
    for column in ("suspended", "deleted", "emailstop", "mailformat", "auth = 'nologin'"):
        assert values(column, "mdl_user") == {0, 1}
    assert values("value", "mdl_user_preferences") == {"none"}
    assert values("completed", "mdl_reengagement_inprogress") == {0, 1}


def due_times(connection: sqlite3.Connection, first: int, last: int) -> list[int]:
    found = connection.execute(
        "SELECT ip.emailtime FROM mdl_reengagement_inprogress ip"
        " JOIN mdl_reengagement r ON r.id = ip.reengagement WHERE r.emailuser = 2"
        " AND ip.emailsent < r.remindercount AND ip.emailtime BETWEEN ? AND ? ORDER BY 1",
        (first, last),
    )
    return [row[0] for row in found]


def test_reminders_fall_due_every_few_seconds_from_the_start(sample: sqlite3.Connection) -> None:
    times = due_times(sample, NOW, NOW + 1800)
    assert times[0] <= NOW + 30
    assert max(later - earlier for earlier, later in pairwise(times)) <= 15


def test_after_a_pause_of_any_length_reminders_fall_due_again(sample: sqlite3.Connection) -> None:
    for pause in (3 * 3600, 86400, 400 * 86400):
        later = NOW + pause
        assert sample_flow.keep_falling_due(sample, now=later) > 100
        times = due_times(sample, later, later + 1800)
        assert times[0] <= later + 30
        assert max(b - a for a, b in pairwise(times)) <= 15
    assert sample_flow.keep_falling_due(sample, now=later) == 0


def test_topping_up_leaves_rows_alone_whose_mail_may_still_be_on_its_way(sample: sqlite3.Connection) -> None:
    id_, due, delay = sample.execute(
        "SELECT ip.id, ip.emailtime, r.emaildelay FROM mdl_reengagement_inprogress ip"
        " JOIN mdl_reengagement r ON r.id = ip.reengagement WHERE r.emailuser = 2 AND r.remindercount > 2"
        " AND ip.emailsent = 0 AND ip.completed = 0 ORDER BY ip.emailtime LIMIT 1"
    ).fetchone()
    sample.execute(
        "UPDATE mdl_reengagement_inprogress SET emailsent = 1, emailtime = ? WHERE id = ?", (due + delay, id_)
    )
    sample_flow.keep_falling_due(sample, now=due + 1500, horizon=86400)
    assert sample.execute("SELECT 1 FROM mdl_reengagement_inprogress WHERE id = ?", (id_,)).fetchone()


def test_every_kind_of_mailbox_gets_one_of_the_first_reminders_and_few_are_out_of_order(
    sample: sqlite3.Connection,
) -> None:
    reminders = (
        "SELECT u.id, u.email FROM mdl_reengagement_inprogress ip JOIN mdl_user u ON u.id = ip.userid"
        " JOIN mdl_reengagement r ON r.id = ip.reengagement WHERE r.emailuser = 2 ORDER BY ip.emailtime"
    )
    first = [_tag(email) for _user, email in sample.execute(reminders + " LIMIT 40")]
    assert set(first) >= {*events.STORIES} - {"success", "reject"}
    everybody = [_tag(email) for (email,) in sample.execute("SELECT email FROM mdl_user WHERE id > 2")]
    assert 1 <= everybody.count("bounce") + everybody.count("suppressionlist") <= 0.02 * len(everybody)
    assert everybody.count("complaint") == 1
    managers = sample.execute(
        "SELECT email FROM mdl_user u JOIN mdl_company_users cu ON cu.userid = u.id WHERE cu.managertype > 0"
    )
    assert {_tag(email) for (email,) in managers} == {""}


def _tag(email: str) -> str:
    return email.partition("@")[0].partition("+")[2]
