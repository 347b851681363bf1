"""The simulated cron of IOMAD's queue does what facts §7.2 and §7.3 say, its carelessness included."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emailoffload.sandbox import sample_moodle
from emailoffload.sandbox.email_cron import KEPT, QUEUE_CLASS, SimulatedEmailCron
from emailoffload.sandbox.moodle_side import mysql_lock
from emailoffload.sandbox.php_serialize import PlainObject, serialize
from tests.conftest import Moodle
from tests.golden import FOLDER
from tests.mariadb import Server
from tests.sandbox.conftest import NOW

USER, COMPANY = 116, 1
"""A learner of the first company; `Site` puts them into the night shift."""
LOCK = "ae38fe680a36a9d229202214ef7e3da3a2e221b8"
"""The lock of the task for a database `moodle` with the prefix `mdl_`, as facts §3.5 gives it."""


class Site:
    """The sample with an empty queue and no templates, and the cron of its queue."""

    def __init__(self, sample: sqlite3.Connection, path: Path) -> None:
        self.sample = sample
        self.mails: list[dict[str, Any]] = []
        self.on_mail: Callable[[], object] = lambda: None
        self.cron = SimulatedEmailCron(
            lambda: sample_moodle.connect(path), prefix="mdl_", paramstyle="qmark", lock=None, mail=self.mail,
            mail_seconds=0, now=lambda: NOW,
        )  # fmt: skip
        sample.execute("DELETE FROM mdl_email")
        sample.execute("DELETE FROM mdl_email_template")
        sample.execute("UPDATE mdl_company_users SET departmentid = 12 WHERE userid = ?", [USER])
        sample.execute("DELETE FROM mdl_user_info_data WHERE userid = ?", [USER])
        self.address = self.value("SELECT email FROM mdl_user WHERE id = ?", USER)

    def mail(self, mail: dict[str, Any]) -> object:
        self.mails.append(mail)
        return self.on_mail()

    def value(self, sql: str, *args: object) -> Any:
        return self.sample.execute(sql, args).fetchone()[0]

    def template(self, name: str = "user_suspended", **columns: object) -> None:
        values = {"companyid": COMPANY, "name": name, **columns}
        marks = ", ".join("?" * len(values))
        self.sample.execute(
            f"INSERT INTO mdl_email_template ({', '.join(values)}) VALUES ({marks})", list(values.values())
        )

    def row(self, **columns: object) -> int:
        values = {
            "templatename": "approval_info", "modifiedtime": NOW - 60, "subject": "Hello", "body": "<p>Hello</p>",
            "companyid": COMPANY, "userid": USER, "headers": "", "due": NOW - 60, **columns,
        }  # fmt: skip
        cursor = self.sample.execute(
            f"INSERT INTO mdl_email ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})",
            list(values.values()),
        )
        return int(cursor.lastrowid or 0)

    def rows(self) -> list[tuple[Any, ...]]:
        return self.sample.execute(
            "SELECT id, sent, modifiedtime, subject FROM mdl_email ORDER BY id"
        ).fetchall()

    def who(self) -> list[tuple[str, str]]:
        return [(mail["role"], mail["address"]) for mail in self.mails]


@pytest.fixture
def site(sample: sqlite3.Connection, tmp_path: Path) -> Site:
    return Site(sample, tmp_path / "sample.sqlite3")


def test_a_due_row_is_mailed_and_marked_with_the_time(site: Site) -> None:
    row = site.row()
    assert str(site.cron.run_queue()) == (
        "1 queued rows mailed, 1 mails, 0 deleted as disabled, 0 old rows removed"
    )
    assert site.rows() == [(row, NOW, NOW, "Hello")]
    assert site.mails == [
        {
            "source": "iomad_queue", "role": "user", "row_id": row, "template": "approval_info", "user_id": USER,
            "address": site.address, "due": NOW - 60, "activity_id": 0, "ordinal": 1, "timesent": NOW,
        }
    ]  # fmt: skip
    site.cron.run_queue()
    assert len(site.mails) == 1


def test_a_row_due_this_very_second_is_not_due_yet(site: Site) -> None:
    site.row(due=NOW)
    site.cron.run_queue()
    assert site.mails == [] and site.rows()[0][1] is None


def test_rows_of_half_a_year_ago_are_removed_sent_or_not_unless_due_lies_ahead(site: Site) -> None:
    site.row(modifiedtime=NOW - KEPT - 1, sent=5)
    site.row(modifiedtime=NOW - KEPT - 1)
    kept = [site.row(modifiedtime=NOW - KEPT, sent=5), site.row(modifiedtime=NOW - KEPT - 1, due=NOW)]
    assert site.cron.run_queue().purged == 2
    assert [row[0] for row in site.rows()] == kept and site.mails == []


@pytest.mark.parametrize(
    ("state", "template", "mails"),
    [
        ("suspended", "approval_info", 0),
        ("deleted", "approval_info", 0),
        ("suspended", "company_suspended", 1),
        ("deleted", "company_suspended", 0),
        ("confirmed", "company_suspended", 1),
    ],
)
def test_rows_of_deleted_and_suspended_people_rest_but_for_a_suspended_company(
    site: Site, state: str, template: str, mails: int
) -> None:
    site.sample.execute(f"UPDATE mdl_user SET {state} = 1 WHERE id = ?", [USER])
    site.row(templatename=template)
    site.cron.run_queue()
    assert len(site.mails) == mails
    assert site.rows()[0][1] == (NOW if mails else None)


@pytest.mark.parametrize(
    ("name", "rows", "enabled"),
    [
        ("approval_info", [], True),
        ("approval_info", [(0, 0, 0)], True),
        ("approval_info", [(0, 1, 1)], True),
        ("approval_info", [(1, 0, 0)], False),
        ("approval_info", [(1, 0, 0), (0, 0, 0)], True),
        ("completion_course_manager", [(1, 0, 0)], True),
        ("completion_course_manager", [(0, 1, 0)], False),
        ("completion_course_supervisor", [(0, 1, 0)], True),
        ("completion_course_supervisor", [(0, 0, 1)], False),
        ("manager_report", [(0, 1, 0)], True),
    ],
)
def test_rows_of_a_disabled_template_are_deleted_unsent(
    site: Site, name: str, rows: list[tuple[int, int, int]], enabled: bool
) -> None:
    for place, switches in enumerate(rows):
        names = ("disabled", "disabledmanager", "disabledsupervisor")
        site.template(name, lang=("en", "de")[place], **dict(zip(names, switches, strict=True)))
    site.row(templatename=name)
    run = site.cron.run_queue()
    assert (len(site.rows()), len(site.mails), run.disabled) == ((1, 1, 0) if enabled else (0, 0, 1))


def test_another_companys_template_disables_nothing(site: Site) -> None:
    site.template("approval_info", disabled=1, companyid=2)
    site.row()
    assert site.cron.run_queue().mails == 1


def test_a_row_claimed_while_a_run_is_mailing_is_mailed_and_every_column_overwritten(site: Site) -> None:
    site.row()
    second = site.row(headers="", courseid=4)
    before = site.sample.execute("SELECT * FROM mdl_email WHERE id = ?", [second]).fetchone()

    def claim() -> None:
        site.sample.execute(
            "UPDATE mdl_email SET sent = 5, modifiedtime = 5, subject = 'x', body = 'x', courseid = 9, due = 1"
        )

    site.on_mail = claim
    assert site.cron.run_queue().mails == 2
    after = site.sample.execute("SELECT * FROM mdl_email WHERE id = ?", [second]).fetchone()
    names = [item[1] for item in site.sample.execute("PRAGMA table_info(mdl_email)")]
    changed = {name for name, old, new in zip(names, before, after, strict=True) if old != new}
    assert changed == {"sent", "modifiedtime"}
    assert site.rows()[1][1:3] == (NOW, NOW)


def test_a_row_deleted_while_a_run_is_mailing_is_mailed_all_the_same(site: Site) -> None:
    site.row()
    site.row()
    site.on_mail = lambda: site.sample.execute("DELETE FROM mdl_email")
    assert site.cron.run_queue().mails == 2
    assert site.rows() == []


def test_a_row_queued_while_a_run_is_mailing_waits_for_the_next_run(site: Site) -> None:
    site.row()
    site.on_mail = lambda: len(site.mails) == 1 and site.row()
    assert site.cron.run_queue().rows == 1
    site.on_mail = lambda: None
    assert site.cron.run_queue().rows == 1


def test_a_mail_that_fails_ends_the_rows_mails_but_the_row_counts_as_sent(site: Site) -> None:
    site.template("approval_info", emailccother="a@learn.example, b@learn.example")
    site.row()
    site.on_mail = lambda: len(site.mails) != 2
    site.cron.run_queue()
    assert [address for _role, address in site.who()] == [site.address, "a@learn.example"]
    assert site.rows()[0][1] == NOW


def test_everybody_that_the_template_names_gets_a_mail_of_their_own(site: Site) -> None:
    addresses = dict(site.sample.execute("SELECT id, email FROM mdl_user"))
    site.sample.execute("UPDATE mdl_user SET suspended = 1 WHERE id = 120")
    site.sample.execute("UPDATE mdl_user SET deleted = 1 WHERE id = 121")
    site.template(
        "approval_info", emailto="118,120", emailcc="119,121", emailtoother="to@third.example",
        emailccother="cc1@third.example,cc2@third.example",
    )  # fmt: skip
    site.row()
    site.cron.run_queue()
    assert site.who() == [
        ("user", site.address),
        ("to", addresses[118]),
        ("cc", addresses[119]),
        ("to", "to@third.example"),
        ("cc", "cc1@third.example"),
        ("cc", "cc2@third.example"),
    ]


@pytest.mark.parametrize(
    ("name", "managers_off", "supervisors_off", "roles"),
    [
        ("user_create", 0, 0, ["user", "manager", "manager", "supervisor", "supervisor"]),
        ("user_create", 1, 0, ["user", "supervisor", "supervisor"]),
        ("user_create", 0, 1, ["user", "manager", "manager"]),
        ("user_create", 1, 1, ["user"]),
        ("approval_info", 0, 0, ["user"]),
    ],
)
def test_managers_of_all_departments_above_and_supervisors_get_mails_for_users(
    site: Site, name: str, managers_off: int, supervisors_off: int, roles: list[str]
) -> None:
    """The night shift belongs to the warehouse, that to operations, that to the company (facts §7.3)."""
    site.template(name, disabledmanager=managers_off, disabledsupervisor=supervisors_off)
    site.sample.execute(
        "INSERT INTO mdl_user_info_data (userid, fieldid, data) VALUES (?, 3, ?)",
        [USER, "a@learn.example,nobody, c@x.example,b@x.example"],
    )
    site.row(templatename=name)
    site.cron.run_queue()
    assert [role for role, _address in site.who()] == roles
    addresses = dict(site.sample.execute("SELECT id, email FROM mdl_user"))
    managers = [address for role, address in site.who() if role == "manager"]
    assert managers == ([addresses[101], addresses[110]] if "manager" in roles else [])


def test_a_template_that_was_never_stored_copies_to_managers(site: Site) -> None:
    site.row(templatename="user_create")
    site.cron.run_queue()
    assert [role for role, _address in site.who()] == ["user", "manager", "manager"]


def test_the_template_as_it_was_stored_with_the_row_decides_not_as_it_is_now(site: Site) -> None:
    site.template("user_create", disabledmanager=0, emailccother="now@learn.example")
    then = {"emailccother": "then@learn.example", "disabledmanager": "1", "disabledsupervisor": "1"}
    site.row(templatename="user_create", headers=serialize({"template": PlainObject(then)}))
    site.cron.run_queue()
    assert site.who() == [("user", site.address), ("cc", "then@learn.example")]


def test_supervisors_fields_may_be_those_of_the_site(site: Site) -> None:
    site.sample.execute("UPDATE mdl_company SET emailprofileid = NULL")
    site.sample.execute(
        "INSERT INTO mdl_user_info_data (userid, fieldid, data) VALUES (?, 3, 'a@learn.example')", [USER]
    )
    site.template("user_create", disabledmanager=1, disabledsupervisor=0)
    site.row(templatename="user_create")
    site.cron.run_queue()
    site.sample.execute("INSERT INTO mdl_config (name, value) VALUES ('companyemailprofileid', '3')")
    site.row(templatename="user_create")
    site.cron.run_queue()
    assert [role for role, _address in site.who()] == ["user", "user", "supervisor"]


def test_the_task_is_marked_as_running_and_then_as_done(site: Site) -> None:
    task = "SELECT timestarted, pid IS NULL, lastruntime, nextruntime FROM mdl_task_scheduled WHERE classname = ?"
    seen: list[Any] = []
    site.on_mail = lambda: seen.append(site.sample.execute(task, [QUEUE_CLASS]).fetchone()[:2])
    site.row()
    site.cron.run_queue()
    assert seen == [(NOW, 0)]
    done = (None, 1, NOW, NOW - NOW % 300 + 300)
    assert site.sample.execute(task, [QUEUE_CLASS]).fetchone() == done


@pytest.mark.parametrize(
    ("change", "runs"),
    [
        ("nextruntime = {now} - 1", True),
        ("nextruntime = NULL", True),
        ("nextruntime = {now}", False),
        ("nextruntime = {now} - 1, disabled = 1", False),
    ],
)
def test_the_cron_chooses_the_task_when_its_next_run_time_has_passed(
    site: Site, change: str, runs: bool
) -> None:
    site.sample.execute(
        f"UPDATE mdl_task_scheduled SET lastruntime = {NOW - 300}, {change.format(now=NOW)} WHERE classname = ?",
        [QUEUE_CLASS],
    )
    site.row()
    assert (site.cron.run_if_due() is not None) is runs
    assert len(site.mails) == runs
    assert site.cron.run_if_due() is None


class Real:
    """The cron on the restored real site, with Moodle's lock."""

    def __init__(self, moodle: Moodle, server: Server) -> None:
        self.moodle = moodle
        self.mails: list[dict[str, Any]] = []
        self.on_mail: Callable[[], object] = lambda: None

        def connect() -> Any:
            return server.connect(moodle.database)

        def mail(mail: dict[str, Any]) -> object:
            self.mails.append(mail)
            return self.on_mail()

        moodle.execute("UPDATE mdl_email SET sent = due, modifiedtime = due")
        self.cron = SimulatedEmailCron(
            connect, prefix="mdl_", paramstyle="format", mail=mail, mail_seconds=0,
            lock=mysql_lock(connect, dbname="moodle", prefix="mdl_"),
        )  # fmt: skip


@pytest.fixture
def real(moodle: Moodle, server: Server) -> Real:
    return Real(moodle, server)


@pytest.mark.parametrize("case", ["iomad-user_create-1", "iomad-user_added_to_course-2"])
def test_on_the_real_site_the_same_people_get_a_mail_in_the_same_order(real: Real, case: str) -> None:
    golden = json.loads((FOLDER / f"{case}.json").read_text())
    real.moodle.execute("DELETE FROM mdl_email")
    real.moodle.insert("mdl_email", **golden["email"])
    assert real.cron.run_queue().rows == 1
    assert [mail["address"] for mail in real.mails] == [mail["rcpt_tos"][0] for mail in golden["mails"]]
    columns = real.moodle.rows("SELECT sent, modifiedtime, due FROM mdl_email")[0]
    assert columns[0] == columns[1] == real.mails[0]["timesent"] and columns[2] == golden["email"]["due"]


def test_on_mariadb_the_run_is_skipped_while_somebody_has_the_lock(real: Real, server: Server) -> None:
    real.moodle.execute("UPDATE mdl_email SET sent = NULL ORDER BY id LIMIT 3")
    task = "SELECT lastruntime, nextruntime, timestarted FROM mdl_task_scheduled WHERE classname = %s"
    before = real.moodle.rows(task, (QUEUE_CLASS,))
    other = server.connect()
    with other.cursor() as cursor:
        cursor.execute("SELECT GET_LOCK(%s, 0)", (LOCK,))
    run = real.cron.run_queue()
    assert run.locked_out and str(run) == "skipped: the task's lock is taken"
    assert real.mails == [] and real.moodle.rows(task, (QUEUE_CLASS,)) == before
    with other.cursor() as cursor:
        cursor.execute("SELECT RELEASE_LOCK(%s)", (LOCK,))
    other.close()
    assert real.cron.run_queue().rows == 3


def test_on_mariadb_the_lock_is_held_from_the_first_mail_to_the_last(real: Real) -> None:
    real.moodle.execute("UPDATE mdl_email SET sent = NULL ORDER BY id LIMIT 2")
    free: list[Any] = []
    real.on_mail = lambda: free.append(real.moodle.value("SELECT IS_FREE_LOCK(%s)", (LOCK,)))
    real.cron.run_queue()
    assert set(free) == {0} and len(free) == len(real.mails)
    assert real.moodle.value("SELECT IS_FREE_LOCK(%s)", (LOCK,)) == 1
