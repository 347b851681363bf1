"""The sample's mail queue is that of an IOMAD site, and new users have mails in it."""

from __future__ import annotations

import random
import re
import sqlite3
from itertools import pairwise
from typing import Any

import pytest

from emailoffload.moodle.formatting import phpserialize
from emailoffload.sandbox import sample_flow, sample_queue, sample_users
from emailoffload.sandbox.php_serialize import PlainObject, unserialize
from emailoffload.sandbox.sample_site import EMAIL_DELAY
from emailoffload.sandbox.sample_users import MAX_USERS, CannotCreate
from tests.conftest import Moodle
from tests.sandbox.conftest import NOW


def values(connection: sqlite3.Connection, sql: str, *args: object) -> list[Any]:
    return [row[0] for row in connection.execute(sql, args)]


@pytest.mark.parametrize("table", ["email", "email_template", "department", "company_users"])
def test_a_real_iomad_takes_the_samples_rows(sample: sqlite3.Connection, moodle: Moodle, table: str) -> None:
    """The tables are those of the restored real site, on a server that refuses what does not fit."""
    assert "STRICT_TRANS_TABLES" in moodle.value("SELECT @@sql_mode")
    names = [row[1] for row in sample.execute(f"PRAGMA table_info(mdl_{table})")]
    assert names == [row[0] for row in moodle.rows(f"SHOW COLUMNS FROM mdl_{table}")]
    moodle.execute(f"DELETE FROM mdl_{table}")
    rows = sample.execute(f"SELECT * FROM mdl_{table} ORDER BY id").fetchall()
    for row in rows:
        moodle.insert(f"mdl_{table}", **dict(zip(names, row, strict=True)))
    assert moodle.rows(f"SELECT * FROM mdl_{table} ORDER BY id") == rows


def test_headers_are_what_iomad_stores_and_the_product_reads_them(sample: sqlite3.Connection) -> None:
    lines = set()
    for name, company, text in sample.execute("SELECT templatename, companyid, headers FROM mdl_email"):
        assert phpserialize.loads(text)
        read = unserialize(text)
        template = read.pop("template")
        assert isinstance(template, PlainObject)
        stored = sample.execute(
            "SELECT * FROM mdl_email_template WHERE name = ? AND companyid = ?", (name, company)
        )
        columns = [item[0] for item in stored.description]
        assert list(template.properties) == columns
        for column, value in zip(columns, stored.fetchone(), strict=True):
            assert str(template.properties[column] or 0) == str(value or 0)
        lines |= {line.partition(":")[0] for line in read.values()}
    assert lines == {"Cc", "reply-to"}


def test_every_way_a_mail_is_copied_or_held_back_is_there(sample: sqlite3.Connection) -> None:
    def has(condition: str) -> bool:
        return bool(values(sample, f"SELECT 1 FROM mdl_email_template WHERE {condition}"))

    assert has("name = 'user_create' AND disabledmanager = 1")
    assert not has("name = 'user_create' AND disabledmanager = 0")  # they would get the password
    assert has("emailccother LIKE '%@%'") and has("emailcc <> ''") and has("emailreplytoother LIKE '%@%'")
    assert has("disabled = 1") and has("disabledmanager = 0 AND disabledsupervisor = 0")
    types = sample.execute("SELECT companyid, managertype FROM mdl_company_users GROUP BY 1, 2").fetchall()
    assert {(company, kind) for company in (1, 2, 3) for kind in (0, 1, 2)} == set(types)
    depth = "SELECT count(*) FROM mdl_department a JOIN mdl_department b ON b.id = a.parent JOIN"
    assert values(sample, f"{depth} mdl_department c ON c.id = b.parent WHERE c.parent <> 0") == [3]
    assert (
        values(sample, "SELECT count(*) FROM mdl_user_info_data WHERE fieldid = 3 AND data LIKE '%,%'")[0]
        > 20
    )


def test_everybody_has_a_department_of_their_own_company(sample: sqlite3.Connection) -> None:
    members = "FROM mdl_company_users cu JOIN mdl_department d ON d.id = cu.departmentid AND d.company = cu.companyid"
    assert values(sample, f"SELECT count(*) {members}") == values(
        sample, "SELECT count(*) FROM mdl_company_users"
    )


def test_the_past_is_sent_and_what_waits_is_due_later_than_iomads_delay(sample: sqlite3.Connection) -> None:
    past = sample.execute("SELECT sent, modifiedtime, due FROM mdl_email WHERE due < ?", [NOW]).fetchall()
    assert len(past) > 40 and all(sent == modified > due for sent, modified, due in past)
    waiting = sample.execute("SELECT sent, modifiedtime, due FROM mdl_email WHERE due >= ?", [NOW]).fetchall()
    assert len(waiting) > 20
    assert all(sent is None and due - modified >= EMAIL_DELAY for sent, modified, due in waiting)
    assert values(sample, "SELECT value FROM mdl_config WHERE name = 'iomad_emaildelay'") == [
        str(EMAIL_DELAY)
    ]


def test_texts_are_ready_to_send_and_name_a_password_where_iomads_do(sample: sqlite3.Connection) -> None:
    for name, subject, body in sample.execute("SELECT templatename, subject, body FROM mdl_email"):
        assert not re.search(r"\{\w+\}", subject + body)
        assert "<p>--</p><p>Kind regards" in body
        assert bool(re.search(r"[A-Z]\w+-[A-Z]\w+-\d{4}", body)) is (name in ("user_create", "user_reset"))


def test_some_rows_wait_that_iomad_will_never_send(sample: sqlite3.Connection) -> None:
    waiting = (
        "SELECT count(*) FROM mdl_email e JOIN mdl_user u ON u.id = e.userid"
        " LEFT JOIN mdl_email_template t ON t.name = e.templatename AND t.companyid = e.companyid"
        " WHERE e.sent IS NULL AND "
    )
    for reason in ("u.suspended = 1", "u.deleted = 1", "t.disabled = 1"):
        assert values(sample, waiting + reason) == [1]


def test_mails_keep_being_queued_while_the_site_runs(sample: sqlite3.Connection) -> None:
    for later in (NOW + 300, NOW + 600, NOW + 86400):
        sample_flow.keep_falling_due(sample, now=later)
        dues = values(
            sample,
            "SELECT due FROM mdl_email WHERE sent IS NULL AND due >= ? ORDER BY due",
            later + EMAIL_DELAY,
        )
        assert dues[0] <= later + EMAIL_DELAY + 2 * sample_queue.SPACING
        assert dues[-1] > later + sample_queue.HORIZON - 2 * sample_queue.SPACING
        assert max(b - a for a, b in pairwise(dues)) <= sample_queue.SPACING + 5
    count = values(sample, "SELECT count(*) FROM mdl_email")
    sample_flow.keep_falling_due(sample, now=later)
    assert values(sample, "SELECT count(*) FROM mdl_email") == count
    assert set(values(sample, "SELECT templatename FROM mdl_email WHERE modifiedtime = ?", later)) == set(
        sample_queue.EVERYDAY
    )


# --- new users ---


def test_new_users_have_all_that_iomad_gives_them(sample: sqlite3.Connection) -> None:
    created = sample_users.create_users(sample, 30, now=NOW, chooser=random.Random(1))
    assert (created.users, created.welcome, created.enrolled) == (30, 30, 10)
    assert created.due == NOW + EMAIL_DELAY and created.company == ""
    people = (created.first_id, created.last_id)
    assert people == (401, 430)
    for table, column, count in (
        ("user", "id", 30), ("company_users", "userid", 30), ("user_enrolments", "userid", 10),
        ("role_assignments", "userid", 10), ("email", "userid", 40),
    ):  # fmt: skip
        found = values(sample, f"SELECT count(*) FROM mdl_{table} WHERE {column} BETWEEN ? AND ?", *people)
        assert found == [count], table
    paths = values(
        sample, "SELECT path FROM mdl_context WHERE contextlevel = 30 AND instanceid BETWEEN ? AND ?", *people
    )
    assert len(set(paths)) == 30
    addresses = values(sample, "SELECT email FROM mdl_user")
    assert len(addresses) == len(set(addresses))
    waiting = sample.execute(
        "SELECT templatename, count(*), count(DISTINCT body), min(due), max(due), count(sent) FROM mdl_email"
        " WHERE userid BETWEEN ? AND ? GROUP BY 1",
        people,
    ).fetchall()
    assert waiting == [
        ("user_added_to_course", 10, 10, NOW + 60, NOW + 60, 0),
        ("user_create", 30, 30, NOW + 60, NOW + 60, 0),
    ]


def test_new_users_go_to_the_chosen_company_or_to_all_in_turn(sample: sqlite3.Connection) -> None:
    one = sample_users.create_users(sample, 4, 2, now=NOW)
    assert one.company == "Meridian Care Homes"
    spread = sample_users.create_users(sample, 6, now=NOW)
    where = "SELECT companyid FROM mdl_company_users WHERE userid BETWEEN ? AND ? ORDER BY userid"
    assert values(sample, where, one.first_id, one.last_id) == [2] * 4
    assert values(sample, where, spread.first_id, spread.last_id) == [1, 2, 3, 1, 2, 3]
    assert values(sample, "SELECT count(*) FROM mdl_email WHERE userid > 400 AND companyid = 2")[0] >= 6


@pytest.mark.parametrize("count", [0, -1, MAX_USERS + 1, 10**9])
def test_an_impossible_number_of_users_is_refused_and_nothing_written(
    sample: sqlite3.Connection, count: int
) -> None:
    before = sample.total_changes
    with pytest.raises(CannotCreate, match="from 1 to 5000"):
        sample_users.create_users(sample, count)
    assert sample.total_changes == before


def test_an_unknown_company_is_refused_with_those_there_are(sample: sqlite3.Connection) -> None:
    with pytest.raises(CannotCreate, match=r"no company 9 .* 1 \(Alder & Finch Logistics\), 2 \("):
        sample_users.create_users(sample, 1, 9)


def test_an_upload_that_fails_leaves_nothing_behind(
    sample: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object) -> int:
        raise ZeroDivisionError

    before = list(sample.iterdump())
    monkeypatch.setattr(sample_queue.Queue, "add", broken)
    with pytest.raises(ZeroDivisionError):
        sample_users.create_users(sample, 5)
    assert list(sample.iterdump()) == before


def test_two_thousand_users_are_created_at_once(sample: sqlite3.Connection) -> None:
    assert sample_users.create_users(sample, 2000).welcome == 2000
    assert values(sample, "SELECT count(DISTINCT username) FROM mdl_user") == [2302]
