"""The sample Moodle: an IOMAD site with three companies, six courses and 300 learners, as one SQLite file.

It always comes out the same (but for the times, which start now), and goes on: `keep_falling_due` starts
learners again, as a site does where people keep enrolling, so that there are reminders to watch for hours.
"""

from __future__ import annotations

import os
import random
import re
import sqlite3
import time
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from emailoffload.sandbox import sample_data as data
from emailoffload.sandbox.sample_schema import create_tables
from emailoffload.sandbox.sample_site import ROLE_STUDENT, write_site

LEARNERS = 300
SPACING = 5
"""Seconds between two reminders that fall due."""
HORIZON = 2 * data.HOUR
"""So far ahead reminders are laid out."""
ASLEEP = 1800
"""A row overdue for longer was not handled by any cron: nothing ran, the site was asleep."""
REENGAGEMENT_MODULE = 19
QUIZ_MODULE = 18

Rows = Sequence[Sequence[object]]


def connect(path: Path) -> sqlite3.Connection:
    """Open a sample Moodle for writing, autocommit, WAL: three processes use it at once."""
    connection = sqlite3.connect(path, timeout=20, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


def create(
    path: Path, *, prefix: str = "mdl_", wwwroot: str = "http://127.0.0.1:8000", now: int | None = None
) -> None:
    """Create the sample Moodle at `path`, replacing what is there; `now` is UNIX seconds.

    It is built beside its place and moved there when it is whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    _remove(part)
    connection = sqlite3.connect(part, isolation_level=None)
    connection.execute("BEGIN")
    create_tables(connection, prefix)
    _Builder(connection, prefix, wwwroot, int(time.time()) if now is None else now).build()
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    _remove(path)
    os.replace(part, path)


def _remove(path: Path) -> None:
    """Remove a SQLite file with its write-ahead log."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


class _Builder:
    def __init__(self, connection: sqlite3.Connection, prefix: str, wwwroot: str, now: int) -> None:
        self.connection = connection
        self.prefix = prefix
        self.wwwroot = wwwroot
        self.now = now
        self.random = random.Random(4711)  # noqa: S311 - the same site every time
        self.context_id = 0

    def insert(self, table: str, columns: str, rows: Rows) -> None:
        names = columns.split()
        into = f"INTO {{{table}}} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
        self.run("INSERT " + into, rows)

    def run(self, sql: str, rows: Rows) -> None:
        self.connection.executemany(_named(sql, self.prefix), rows)

    def context(self, level: int, instance: int, parent: str) -> tuple[int, str]:
        self.context_id += 1
        path = f"{parent}/{self.context_id}"
        self.insert(
            "context",
            "id contextlevel instanceid path depth locked",
            [(self.context_id, level, instance, path, path.count("/"), 0)],
        )
        return self.context_id, path

    def build(self) -> None:
        """Fill every table."""
        _, system = self.context(10, 0, "")
        write_site(self.insert, self.now)
        self.context(50, 1, system)
        _, category = self.context(40, 1, system)
        for user_id in (1, 2):
            self.context(30, user_id, system)
        users = self.people(system)
        for number, course in enumerate(data.COURSES):
            self.course(number, course, category, users)
        self.exceptions(users)
        self.progress()

    def people(self, system: str) -> list[int]:
        """300 learners with ids from 101, spread over the companies; returns their ids."""
        users: list[int] = []
        used: set[str] = set()
        for number in range(LEARNERS):
            user_id = 101 + number
            company = number % len(data.COMPANIES)
            if number % 37 == 36:
                first, last, local = data.NATIVE_NAMES[number // 37 % len(data.NATIVE_NAMES)]
            else:
                first, last = self.random.choice(data.FIRST_NAMES), self.random.choice(data.LAST_NAMES)
                local = f"{_ascii(first)}.{_ascii(last)}"
            if local in used:
                local += str(number)
            used.add(local)
            self.insert(
                "user",
                "id username firstname lastname email institution department city mailformat timezone",
                [
                    (
                        user_id,
                        local,
                        first,
                        last,
                        f"{local}@{data.COMPANIES[company][2]}",
                        data.COMPANIES[company][0],
                        self.random.choice(data.DEPARTMENTS),
                        self.random.choice(data.CITIES),
                        0 if number % 15 == 7 else 1,
                        "Asia/Tokyo" if number % 50 == 9 else "99",
                    )
                ],
            )
            self.context(30, user_id, system)
            self.insert(
                "company_users", "companyid userid departmentid", [(company + 1, user_id, company + 1)]
            )
            profile = [
                (user_id, 1, self.random.choice(["Team lead", "Driver", "Carer", "Chef & baker", "Clerk"]))
            ]
            if number % 4:
                profile.append((user_id, 2, str(self.now - self.random.randrange(30, 900) * data.DAY)))
            self.insert("user_info_data", "userid fieldid data", profile)
            users.append(user_id)
        return users

    def course(self, number: int, course: data.SampleCourse, category: str, users: list[int]) -> None:
        """One course: its activities, groups, and half of the learners enrolled as students."""
        course_id = 2 + number
        self.insert(
            "course", "id category fullname shortname", [(course_id, 1, course.fullname, course.shortname)]
        )
        context_id, path = self.context(50, course_id, category)
        self.insert("enrol", "id enrol courseid roleid", [(course_id, "manual", course_id, ROLE_STUDENT)])
        self.insert("quiz", "id course name", [(course_id, course_id, f"{course.fullname}: final quiz")])
        quiz_cmid = course_id * 10
        self.insert(
            "course_modules", "id course module instance", [(quiz_cmid, course_id, QUIZ_MODULE, course_id)]
        )
        self.context(70, quiz_cmid, path)
        learners = sorted(self.random.sample(users, LEARNERS // 2))
        since = self.now - 90 * data.DAY
        self.insert(
            "user_enrolments",
            "enrolid userid timestart timeend",
            [(course_id, user, since, 0) for user in learners],
        )
        self.insert(
            "role_assignments", "roleid contextid userid", [(ROLE_STUDENT, context_id, u) for u in learners]
        )
        groups = [(course_id * 10 + i, course_id, name) for i, name in enumerate(course.groups)]
        self.insert("groups", "id courseid name", groups)
        members = {(self.random.choice(groups)[0], user) for user in learners for _ in range(1 + user % 2)}
        self.insert("groups_members", "groupid userid", sorted(members))
        for place, activity in enumerate(course.activities):
            self.activity(course_id * 2 - 3 + place, course_id, activity, path, quiz_cmid)
        self.insert(
            "course_modules_completion",
            "coursemoduleid userid completionstate timemodified",
            [(quiz_cmid, user, self.random.choice([1, 2]), self.now - data.DAY) for user in learners[::9]],
        )

    def activity(
        self, id_: int, course_id: int, item: data.SampleActivity, path: str, quiz_cmid: int
    ) -> None:
        """One activity of mod_reengagement with its course module and context."""

        def site(text: str) -> str:
            return text.replace(data.WWWROOT, self.wwwroot)

        self.insert(
            "reengagement",
            "id course name timecreated timemodified emailuser emailcontent emailcontentformat emailsubject"
            " emailcontentmanager emailsubjectmanager thirdpartyemails emailsubjectthirdparty"
            " emailcontentthirdparty duration remindercount suppresstarget emaildelay",
            [
                (
                    id_,
                    course_id,
                    item.name,
                    self.now,
                    self.now,
                    item.emailuser,
                    site(item.content),
                    1,
                    item.subject,
                    "",
                    "",
                    item.thirdparty,
                    item.thirdparty_subject,
                    site(item.thirdparty_content),
                    item.duration,
                    item.remindercount,
                    quiz_cmid if item.suppressed_by_quiz else 0,
                    item.emaildelay,
                )
            ],
        )
        cmid = 200 + id_
        self.insert(
            "course_modules", "id course module instance", [(cmid, course_id, REENGAGEMENT_MODULE, id_)]
        )
        self.context(70, cmid, path)

    def exceptions(self, users: list[int]) -> None:
        """People who get no mail, each kind for another reason."""
        for change, chosen in (
            ("UPDATE {user} SET suspended = 1", users[11::60]),
            ("UPDATE {user} SET emailstop = 1", users[23::60]),
            ("UPDATE {user} SET deleted = 1", users[47::150]),
            ("UPDATE {user} SET auth = 'nologin'", users[31::150]),
            ("UPDATE {user} SET email = replace(email, '.example', '.invalid')", users[53::150]),
        ):
            self.run(change + " WHERE id = ?", [(user,) for user in chosen])
        self.insert(
            "user_preferences",
            "userid name value",
            [
                (user, "message_provider_mod_reengagement_mod_reengagement_enabled", "none")
                for user in users[41::75]
            ],
        )
        unenrolled = [(user,) for user in users[5::50]]
        self.run("UPDATE {user_enrolments} SET status = 1 WHERE userid = ?", unenrolled)

    def progress(self) -> None:
        """Everybody who is enrolled has started every activity; reminders fall due one after another
        from now on."""
        found = _named(
            "SELECT r.id, r.emailuser, r.emaildelay, r.duration, r.remindercount, ue.userid, cm.id"
            " FROM {reengagement} r JOIN {course_modules} cm ON cm.instance = r.id AND cm.module = ?"
            " JOIN {user_enrolments} ue ON ue.enrolid = r.course ORDER BY r.id, ue.userid",
            self.prefix,
        )
        pairs = self.connection.execute(found, [REENGAGEMENT_MODULE]).fetchall()
        self.random.shuffle(pairs)
        # Some have only been enrolled: the first run of the cron starts them (facts §2.3).
        pairs = [pair for number, pair in enumerate(pairs) if number % 60]
        rows: list[tuple[int, ...]] = []
        reminders = endings = 0
        for id_, emailuser, delay, duration, count, user, _cmid in pairs:
            ends = self.now + duration
            if emailuser == 2:
                due = self.now + 20 + reminders * SPACING
                reminders += 1
                if due > self.now + HORIZON:
                    due = self.now + HORIZON + self.random.randrange(delay)
                sent = self.random.randrange(count) if reminders % 3 == 0 else 0
                last = sent == 0 and reminders % 40 == 13
                over = sent == 0 and reminders % 40 == 25
                ends = due - 60 if last else self.now - data.HOUR if over else max(ends, due + data.DAY)
                rows.append((id_, user, ends, due, sent, int(over)))
            else:
                endings += 1
                soon = self.now + 90 + endings * 45
                rows.append((id_, user, soon if endings < 60 else ends + endings, self.now + delay, 0, 0))
        self.insert(
            "reengagement_inprogress",
            "reengagement userid completiontime emailtime emailsent completed",
            rows,
        )
        self.insert(
            "course_modules_completion",
            "coursemoduleid userid completionstate timemodified",
            [(cmid, user, 0, self.now - data.DAY) for *_rest, user, cmid in pairs],
        )


def keep_falling_due(
    connection: sqlite3.Connection, *, prefix: str = "mdl_", now: int | None = None, horizon: int = HORIZON
) -> int:
    """Lay out reminders up to `horizon` seconds ahead, one every few seconds; returns how many were added.

    Learners start an activity again: rows at rest, or whose last mail left over an hour ago, make way for new
    ones, as after a course reset. So do rows that are overdue since the sample site was last running. Rows
    that somebody may just be sending are left alone.
    """
    moment = int(time.time()) if now is None else now
    connection.execute("BEGIN IMMEDIATE")
    try:
        added = _lay_out(connection, prefix, moment, horizon)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return added


_FORGET_OVERDUE = (
    "DELETE FROM {reengagement_inprogress} WHERE emailtime < ? AND id IN (SELECT ip.id FROM"
    " {reengagement_inprogress} ip JOIN {reengagement} r ON r.id = ip.reengagement"
    " WHERE r.emailuser = 2 AND ip.emailsent < r.remindercount)"
)
_LATEST = (
    "SELECT max(ip.emailtime) FROM {reengagement_inprogress} ip"
    " JOIN {reengagement} r ON r.id = ip.reengagement"
    " WHERE r.emailuser = 2 AND ip.emailsent < r.remindercount AND ip.emailtime BETWEEN ? AND ?"
)
_AT_REST = (
    "SELECT r.id, ue.userid, r.duration, ip.id, cm.id FROM {reengagement} r"
    " JOIN {user_enrolments} ue ON ue.enrolid = r.course AND ue.status = 0"
    " JOIN {course_modules} cm ON cm.instance = r.id AND cm.module = :module"
    " LEFT JOIN {reengagement_inprogress} ip ON ip.reengagement = r.id AND ip.userid = ue.userid"
    " WHERE r.emailuser = 2 AND (ip.id IS NULL OR ("
    "   min(ip.emailtime, ip.emailtime - r.emaildelay * (ip.emailsent < r.remindercount)) < :hour_ago"
    "   AND (ip.emailtime > :beyond OR ip.emailsent >= r.remindercount)))"
    " ORDER BY (ue.userid * 7919 + r.id * 104729) % 10007 LIMIT :wanted"
)


def _lay_out(connection: sqlite3.Connection, prefix: str, moment: int, horizon: int) -> int:
    def sql(text: str) -> str:
        return _named(text, prefix)

    connection.execute(sql(_FORGET_OVERDUE), [moment - ASLEEP])
    latest = connection.execute(sql(_LATEST), [moment, moment + horizon]).fetchone()[0]
    first = max(moment + 20, (latest or 0) + SPACING)
    pairs = connection.execute(
        sql(_AT_REST),
        {
            "module": REENGAGEMENT_MODULE,
            "hour_ago": moment - data.HOUR,
            "beyond": moment + horizon,
            "wanted": max(0, (moment + horizon - first) // SPACING),
        },
    ).fetchall()
    old_rows = [(old,) for _id, _user, _duration, old, _cmid in pairs if old is not None]
    connection.executemany(sql("DELETE FROM {reengagement_inprogress} WHERE id = ?"), old_rows)
    connection.executemany(
        sql(
            "INSERT INTO {reengagement_inprogress} (reengagement, userid, completiontime, emailtime)"
            " VALUES (?, ?, ?, ?)"
        ),
        [
            (id_, user, first + place * SPACING + max(duration, data.DAY), first + place * SPACING)
            for place, (id_, user, duration, _old, _cmid) in enumerate(pairs)
        ],
    )
    connection.executemany(
        sql(
            "UPDATE {course_modules_completion} SET completionstate = 0"
            " WHERE userid = ? AND coursemoduleid = ?"
        ),
        [(user, cmid) for _id, user, _duration, _old, cmid in pairs],
    )
    return len(pairs)


def _named(sql: str, prefix: str) -> str:
    """Moodle's own way to write table names: `{user}` stands for the table with the site's prefix."""
    return re.sub(r"\{(\w+)\}", lambda found: prefix + found[1], sql)


_LETTERS = str.maketrans("ŁłøØıđ", "lloOid")


def _ascii(name: str) -> str:
    """A name as the local part of an address."""
    plain = name.translate(_LETTERS)
    folded = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode().lower()
    return "".join(character for character in folded if character.isalnum())
