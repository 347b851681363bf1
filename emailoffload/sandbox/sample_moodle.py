"""The sample Moodle: an IOMAD site with three companies, six courses and 300 learners, as one SQLite file.

It always comes out the same (but for the times, which start now), and goes on: `sample_flow.keep_falling_due`
starts learners again, as a site does where people keep enrolling, so that there are mails to watch for hours.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from pathlib import Path

from emailoffload.sandbox import sample_data as data
from emailoffload.sandbox import sample_queue
from emailoffload.sandbox.sample_mailboxes import write_mailboxes
from emailoffload.sandbox.sample_people import write_departments, write_people
from emailoffload.sandbox.sample_schema import VERSION, Writer, create_tables, version
from emailoffload.sandbox.sample_site import ROLE_STUDENT, ROLE_TEACHER, write_site

LEARNERS = 300
SPACING = 5
"""Seconds between two reminders that fall due."""
HORIZON = 2 * data.HOUR
"""So far ahead reminders are laid out."""
REENGAGEMENT_MODULE = 19
QUIZ_MODULE = 18


class NoSample(RuntimeError):
    """There is no sample Moodle that could be used; the text says how to get one."""


def connect(path: Path, patience: float = 20.0) -> sqlite3.Connection:
    """Open a sample Moodle for writing, autocommit, WAL: three processes use it at once.

    A statement waits `patience` seconds for the others at most.
    """
    connection = sqlite3.connect(path, timeout=patience, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


def open_existing(path: Path, patience: float = 20.0) -> sqlite3.Connection:
    """Open the sample Moodle at `path`. Raises NoSample where there is none, or one of another edition."""
    if not path.exists():
        raise NoSample(f"There is no sample Moodle at {path}. Create it: manage.py samplemoodle create.")
    connection = connect(path, patience)
    if version(connection) != VERSION:
        connection.close()
        raise NoSample(
            f"The sample Moodle at {path} was made by another version of Email Offload. "
            "Make it anew: manage.py samplemoodle create --fresh."
        )
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


class _Builder(Writer):
    def __init__(self, connection: sqlite3.Connection, prefix: str, wwwroot: str, now: int) -> None:
        super().__init__(connection, prefix)
        self.wwwroot = wwwroot
        self.now = now
        self.random = random.Random(4711)  # noqa: S311 - the same site every time
        self.context_id = 0

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
        write_departments(self)
        users = write_people(self, self.random, self.now, LEARNERS)
        for user_id in users:
            self.context(30, user_id, system)
        for number, course in enumerate(data.COURSES):
            self.course(number, course, category, users)
        self.exceptions(users)
        self.progress()
        write_mailboxes(self)
        self.run("INSERT INTO sandbox_site (wwwroot) VALUES (?)", [(self.wwwroot,)])
        sample_queue.write_templates(self)
        sample_queue.write_queue(sample_queue.Queue(self, self.random), users, self.now)

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
        self.insert("role_assignments", "roleid contextid userid", [(ROLE_TEACHER, context_id, 201 + number)])
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
        pairs = self.query(
            "SELECT r.id, r.emailuser, r.emaildelay, r.duration, r.remindercount, ue.userid, cm.id"
            " FROM {reengagement} r JOIN {course_modules} cm ON cm.instance = r.id AND cm.module = ?"
            " JOIN {user_enrolments} ue ON ue.enrolid = r.course ORDER BY r.id, ue.userid",
            [REENGAGEMENT_MODULE],
        )
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
