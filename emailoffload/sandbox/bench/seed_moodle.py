"""The Moodle site beside a seeded database: the real small one with as many people, activities and reminders added.

The dashboard asks Moodle who somebody is, what is coming for them, and what each activity's settings come to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from emailoffload.sandbox import mariadb
from emailoffload.sandbox.bench.seed_plan import (
    COMPANIES,
    FIRST_NAMES,
    LAST_NAMES,
    SUBJECTS,
    Plan,
    company,
    pick,
)
from emailoffload.sandbox.bench.stage import MOODLE

MARK = "bench_seed"
"""The table that says how far the site was filled."""
MOST_REMINDERS = 1_000_000
MODEL = 3
"""The user, and the activity's user settings, of which the others are copies."""


def fill(server: mariadb.Server, plan: Plan) -> None:
    """Fill the site, unless it was filled for as many emails already."""
    connection = server.connect(MOODLE)
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE IF NOT EXISTS {MARK} (emails BIGINT, seed BIGINT)")
            cursor.execute(f"SELECT emails, seed FROM {MARK}")
            if cursor.fetchall() == ((plan.emails, plan.seed),):
                return
            columns = {table: _columns(cursor, table) for table in _TABLES}
            cursor.execute(
                "SET unique_checks = 0, foreign_key_checks = 0, sql_mode = 'NO_UNSIGNED_SUBTRACTION',"
                " optimizer_switch = 'derived_merge=off'"
            )
            for sql in _statements(plan, columns):
                cursor.execute(sql)
            for table in _TABLES:
                cursor.execute(f"ANALYZE TABLE {table}")
                cursor.fetchall()
            cursor.execute(f"DELETE FROM {MARK}")
            cursor.execute(f"INSERT INTO {MARK} VALUES (%s, %s)", (plan.emails, plan.seed))
    finally:
        connection.close()


_TABLES = (
    "mdl_user", "mdl_company", "mdl_company_users", "mdl_course", "mdl_reengagement", "mdl_course_modules",
    "mdl_enrol", "mdl_user_enrolments", "mdl_reengagement_inprogress",
)  # fmt: skip


def _columns(cursor: Any, table: str) -> list[str]:
    cursor.execute(f"SHOW COLUMNS FROM {table}")
    return [str(row[0]) for row in cursor.fetchall()]


def _copies(table: str, columns: list[str], model: int, numbers: str, changed: Mapping[str, str]) -> str:
    """SQL that copies a row for each of `numbers` (a SELECT of `id` and more) that is not there; `changed` are columns
    with their SQL."""
    values = ", ".join(changed.get(name, f"m.`{name}`") for name in columns)
    names = ", ".join(f"`{name}`" for name in columns)
    source = f"({numbers}) s STRAIGHT_JOIN {table} m ON m.id = {model}"
    return f"INSERT IGNORE INTO {table} ({names}) SELECT {values} FROM {source}"


def _statements(plan: Plan, columns: Mapping[str, list[str]]) -> Iterator[str]:
    people = (
        f"SELECT seq AS id, {company(plan.draw('person'))} AS company, {pick(plan.draw('first'), FIRST_NAMES)} AS"
        " first,"
        f" {pick(plan.draw('last'), LAST_NAMES)} AS last FROM seq_1_to_{plan.people}"
    )
    changed = {
        "id": "s.id", "username": "CONCAT('person', s.id)", "firstname": "s.first", "lastname": "s.last",
        "idnumber": "''",
        "email": "LOWER(CONCAT(s.first, '.', s.last, s.id, '@company', s.company, '.example'))",
    }  # fmt: skip
    yield _copies("mdl_user", columns["mdl_user"], MODEL, people, changed)
    companies = {"id": "s.id", "name": "CONCAT('Company ', s.id)", "shortname": "CONCAT('company', s.id)"}
    yield _copies(
        "mdl_company", columns["mdl_company"], 1, f"SELECT seq AS id FROM seq_2_to_{COMPANIES}", companies
    )
    yield (
        "INSERT IGNORE INTO mdl_company_users (companyid, userid, managertype, departmentid, suspended, educator)"
        f" SELECT s.company, s.id, s.id % 500 = 0, 1, 0, 0 FROM ({people}) s WHERE s.id % 33 <> 7"
    )
    subject = f"ELT(1 + s.id % {len(SUBJECTS)}, {', '.join(map(repr, SUBJECTS))})"
    courses = {"id": "s.id", "fullname": f"CONCAT({subject}, ' ', s.id)", "shortname": "CONCAT('c', s.id)"}
    all_courses = f"SELECT seq AS id FROM seq_2_to_{plan.courses + 1}"
    yield _copies("mdl_course", columns["mdl_course"], 2, all_courses, courses)
    activities = f"SELECT seq AS id FROM seq_1_to_{plan.activities}"
    home = f"2 + s.id % {plan.courses}"
    named = {
        "id": "s.id",
        "course": home,
        "name": f"CONCAT('Reminder: ', {subject})",
        "emailuser": "1 + (s.id % 8 > 0)",
    }
    yield _copies("mdl_reengagement", columns["mdl_reengagement"], 1, activities, named)
    module = "(SELECT id FROM mdl_modules WHERE name = 'reengagement')"
    placed = {
        "id": "100000 + s.id",
        "course": home,
        "instance": "s.id",
        "module": module,
        "deletioninprogress": "0",
    }
    yield _copies(
        "mdl_course_modules", columns["mdl_course_modules"], 1, f"{activities} WHERE seq > 22", placed
    )
    methods = {"id": "100000 + s.id", "courseid": "s.id"}
    yield _copies("mdl_enrol", columns["mdl_enrol"], 1, all_courses, methods)
    yield (
        "INSERT IGNORE INTO mdl_user_enrolments (status, enrolid, userid, timestart, timeend, modifierid,"
        " timecreated,"
        f" timemodified) SELECT 0, 100000 + 2 + seq % {plan.courses}, seq, 0, 0, 2, 0, 0 FROM seq_1_to_{plan.people}"
    )
    reminders = min(MOST_REMINDERS, plan.emails)
    due = f"UNIX_TIMESTAMP({plan.now}) + 86400 + seq % 2592000"
    yield (
        "INSERT INTO mdl_reengagement_inprogress (reengagement, userid, completiontime, emailtime, emailsent,"
        " completed)"
        f" SELECT 1 + seq % {plan.activities}, 1 + seq * 7919 % {plan.people}, {due} + 7776000, {due}, 0, 0"
        f" FROM seq_1_to_{reminders} WHERE (SELECT COUNT(*) FROM mdl_reengagement_inprogress) < {reminders}"
    )
