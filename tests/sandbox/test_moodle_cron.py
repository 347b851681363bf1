"""The simulated cron does what mod_reengagement's task does (facts §2), its carelessness included."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from emailoffload.sandbox import sample_moodle
from emailoffload.sandbox.moodle_cron import SimulatedCron
from emailoffload.sandbox.moodle_side import mysql_lock
from tests.conftest import Moodle
from tests.mariadb import Server
from tests.sandbox.conftest import NOW

DAY = 86400
DELAY = 3 * DAY
ACTIVITY, CMID, USER = 3, 203, 101  # "Due this month": after a delay of three days


class Site:
    """The sample with one row in progress, and its cron."""

    def __init__(
        self, sample: sqlite3.Connection, path: Path, variant: Literal["monolithic", "adhoc"]
    ) -> None:
        self.sample = sample
        self.mails: list[dict[str, Any]] = []
        self.enrolled = True
        self.on_mail: Callable[[], object] = lambda: None
        self.cron = SimulatedCron(
            lambda: sample_moodle.connect(path), prefix="mdl_", paramstyle="qmark", lock=None, mail=self.mail,
            mail_seconds=0, enrolled=lambda cmid, user: self.enrolled, now=lambda: NOW, variant=variant,
            start_users=False,
        )  # fmt: skip
        sample.execute("DELETE FROM mdl_reengagement_inprogress")
        sample.execute("DELETE FROM mdl_course_modules_completion")
        self.activity(emailuser=2, remindercount=3)

    def mail(self, mail: dict[str, Any]) -> None:
        self.mails.append(mail)
        self.on_mail()

    def activity(self, **columns: object) -> None:
        changes = ", ".join(f"{name} = ?" for name in columns)
        self.sample.execute(
            f"UPDATE mdl_reengagement SET {changes} WHERE id = {ACTIVITY}", list(columns.values())
        )

    def row(self, completiontime: int, emailtime: int, emailsent: int = 0, completed: int = 0) -> int:
        cursor = self.sample.execute(
            "INSERT INTO mdl_reengagement_inprogress (reengagement, userid, completiontime, emailtime,"
            " emailsent,"
            " completed) VALUES (?, ?, ?, ?, ?, ?)",
            (ACTIVITY, USER, completiontime, emailtime, emailsent, completed),
        )
        return int(cursor.lastrowid or 0)

    def rows(self) -> list[tuple[int, ...]]:
        return self.sample.execute(
            "SELECT emailsent, emailtime, completed FROM mdl_reengagement_inprogress ORDER BY id"
        ).fetchall()


@pytest.fixture(params=["monolithic", "adhoc"])
def site(request: pytest.FixtureRequest, sample: sqlite3.Connection, tmp_path: Path) -> Site:
    return Site(sample, tmp_path / "sample.sqlite3", request.param)


@pytest.mark.parametrize(
    ("completiontime", "emailsent", "completed", "after", "mails"),
    [
        pytest.param(NOW, 1, 0, [(2, NOW + DELAY, 0)], 1, id="not completed, time left: counted, mailed"),
        pytest.param(NOW - 1, 0, 0, [], 1, id="completed with no mail yet: the last mail, row deleted"),
        pytest.param(NOW - 1, 1, 0, [], 0, id="completed after a mail: no mail, row deleted"),
        pytest.param(NOW - 1, 0, 1, [], 1, id="already marked completed: the last mail, row deleted"),
        pytest.param(NOW, 3, 0, [(3, NOW - 10, 0)], 0, id="all mails sent: the row rests"),
        pytest.param(NOW - 1, 3, 0, [], 0, id="all mails sent and completed: row deleted"),
    ],
)
def test_each_state_of_a_row_ends_as_in_the_plugin(
    site: Site, completiontime: int, emailsent: int, completed: int, after: list[tuple[int, ...]], mails: int
) -> None:
    site.row(completiontime, NOW - 10, emailsent, completed)
    site.cron.run_reengagement()
    assert site.rows() == after
    assert len(site.mails) == mails
    if mails:
        assert site.mails[0]["due"] == NOW - 10 and site.mails[0]["ordinal"] == emailsent + 1


def test_a_row_due_this_very_second_is_not_due_yet(site: Site) -> None:
    site.row(NOW + DAY, NOW)
    site.cron.run_reengagement()
    assert site.rows() == [(0, NOW, 0)] and site.mails == []


def test_a_row_claimed_while_a_run_is_mailing_is_mailed_and_overwritten_all_the_same(site: Site) -> None:
    site.row(NOW + DAY, NOW - 10)
    site.row(NOW + DAY, NOW - 10)
    claimed: list[int] = []

    def claim() -> None:
        if not claimed:
            found = site.sample.execute(
                "UPDATE mdl_reengagement_inprogress SET emailsent = 1, emailtime = 5 WHERE emailsent = 0"
            )
            claimed.append(found.rowcount)

    site.on_mail = claim
    site.cron.run_reengagement()
    assert claimed == [1] and len(site.mails) == 2
    assert site.rows()[1] == (1, NOW + DELAY, 0)


def test_who_is_not_enrolled_loses_the_row_without_a_mail(site: Site) -> None:
    site.enrolled = False
    site.row(NOW + DAY, NOW - 10)
    site.row(NOW - DAY, NOW + DAY)
    site.cron.run_reengagement()
    assert site.rows() == [] and site.mails == []


def test_a_reminder_more_than_two_days_late_is_counted_but_not_mailed(site: Site) -> None:
    site.row(NOW + DAY, NOW - 2 * DAY - 1)
    site.row(NOW + DAY, NOW - 2 * DAY)
    site.cron.run_reengagement()
    assert site.rows() == [(1, NOW + DELAY, 0)] * 2
    assert [mail["due"] for mail in site.mails] == [NOW - 2 * DAY]


@pytest.mark.parametrize(("state", "mails"), [(0, 1), (1, 0), (2, 0), (3, 0), (4, 1)])
def test_the_suppress_target_stops_the_mail_but_not_the_counter(site: Site, state: int, mails: int) -> None:
    site.activity(suppresstarget=30)
    site.sample.execute(
        "INSERT INTO mdl_course_modules_completion (coursemoduleid, userid, completionstate) VALUES (30,"
        " ?, ?)",
        (USER, state),
    )
    site.row(NOW + DAY, NOW - 10)
    site.cron.run_reengagement()
    assert site.rows() == [(1, NOW + DELAY, 0)]
    assert len(site.mails) == mails


def test_third_parties_get_mails_of_their_own(site: Site) -> None:
    site.activity(thirdpartyemails="hr@learn.example , nobody, boss@learn.example", emailrecipient=1)
    site.row(NOW + DAY, NOW - 10)
    site.cron.run_reengagement()
    assert [(mail["role"], mail["address"]) for mail in site.mails] == [
        ("thirdparty", "hr@learn.example"),
        ("thirdparty", "boss@learn.example"),
    ]


def test_completion_mails_go_out_at_completion_and_never_means_never(site: Site) -> None:
    site.activity(emailuser=1)
    site.row(NOW - 1, NOW - 10)
    site.cron.run_reengagement()
    assert [mail["due"] for mail in site.mails] == [NOW - 1] and site.rows() == []
    site.activity(emailuser=0)
    site.row(NOW - 1, NOW - 10)
    site.cron.run_reengagement()
    assert len(site.mails) == 1 and site.rows() == []
    assert site.sample.execute(
        "SELECT completionstate FROM mdl_course_modules_completion WHERE coursemoduleid = ?", (CMID,)
    ).fetchall() == [(2,)]


def test_mailing_managers_stops_the_run_after_the_row_was_counted(site: Site) -> None:
    site.activity(emailrecipient=2)
    site.row(NOW + DAY, NOW - 10)
    assert "only Totara can" in site.cron.run_reengagement().aborted
    assert site.rows() == [(1, NOW + DELAY, 0)] and site.mails == []


def test_an_activity_without_a_course_module_stops_the_monolithic_run(
    sample: sqlite3.Connection, tmp_path: Path
) -> None:
    site = Site(sample, tmp_path / "sample.sqlite3", "monolithic")
    site.row(NOW + DAY, NOW - 10)
    sample.execute("DELETE FROM mdl_course_modules WHERE id = ?", (CMID,))
    assert "no course module" in site.cron.run_reengagement().aborted
    task = "SELECT faildelay, nextruntime, timestarted FROM mdl_task_scheduled ORDER BY id LIMIT 1"
    assert sample.execute(task).fetchone() == (60, NOW + 60, None)
    site.cron.run_reengagement()
    assert sample.execute(task).fetchone() == (120, NOW + 120, None)


def test_the_task_is_marked_as_running_and_then_as_done(site: Site) -> None:
    task = "SELECT timestarted, lastruntime, nextruntime FROM mdl_task_scheduled ORDER BY id LIMIT 1"
    seen: list[Any] = []
    site.on_mail = lambda: seen.append(site.sample.execute(task).fetchone()[0])
    site.row(NOW + DAY, NOW - 10)
    site.cron.run_reengagement()
    assert seen == ([NOW] if site.cron.variant == "monolithic" else [None])
    assert site.sample.execute(task).fetchone() == (None, NOW, NOW - NOW % 300 + 300)
    assert site.sample.execute("SELECT count(*) FROM mdl_task_adhoc").fetchone() == (0,)


def test_people_who_have_just_been_enrolled_are_started(site: Site) -> None:
    site.cron.start_users = True
    run = site.cron.run_reengagement()
    assert run.started > 1000 and site.mails == []
    assert {row[1] - NOW for row in site.rows()} >= {DELAY}
    assert site.cron.run_reengagement().started == 0


def test_on_mariadb_it_works_the_real_site_and_waits_for_nobody(moodle: Moodle, server: Server) -> None:
    due = NOW - 10
    moodle.execute(
        "UPDATE mdl_reengagement_inprogress SET emailtime = %s, completiontime = %s", (NOW + DAY, NOW + DAY)
    )
    moodle.execute(
        "UPDATE mdl_reengagement_inprogress SET emailtime = %s WHERE reengagement = 12 ORDER BY id LIMIT 3",
        (due,),
    )
    mails: list[dict[str, Any]] = []

    def connect() -> Any:
        return server.connect(moodle.database)

    cron = SimulatedCron(
        connect, prefix="mdl_", paramstyle="format", mail=mails.append, mail_seconds=0, start_users=False,
        lock=mysql_lock(connect, dbname="moodle", prefix="mdl_"), enrolled=lambda cmid, user: True,
        now=lambda: NOW,
    )  # fmt: skip
    other = server.connect()
    with other.cursor() as cursor:
        # The name that facts §3.5 gives for this database and prefix.
        cursor.execute("SELECT GET_LOCK('cb6ccfc6581ecd872a51fa146a232a28ccfb9d8d', 0)")
    assert cron.run_reengagement().locked_out and mails == []
    with other.cursor() as cursor:
        cursor.execute("SELECT RELEASE_LOCK('cb6ccfc6581ecd872a51fa146a232a28ccfb9d8d')")
    other.close()
    assert cron.run_reengagement().mails == len(mails) == 3
    assert moodle.value("SELECT count(*) FROM mdl_reengagement_inprogress WHERE emailtime = %s", (due,)) == 0
