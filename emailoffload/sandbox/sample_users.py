"""New users of the sample Moodle, created as an upload in IOMAD creates them: each with a mail that waits in
IOMAD's queue, so that one can watch it go by."""

from __future__ import annotations

import random
import sqlite3
import time
from dataclasses import dataclass

from emailoffload.sandbox import sample_data as data
from emailoffload.sandbox.sample_people import USER_COLUMNS, Names, department_id
from emailoffload.sandbox.sample_queue import Queue, Wanted
from emailoffload.sandbox.sample_schema import Writer
from emailoffload.sandbox.sample_site import EMAIL_DELAY, ROLE_STUDENT

MAX_USERS = 5000
"""So many users at once at most: the sample is one file, and the local SES serves its pages meanwhile."""
ENROLLED = 3
"""Every third new user is put into a course as well, which is a second mail."""


class CannotCreate(ValueError):
    """The number or the company is not one that users can be created for; the text says what is."""


@dataclass(frozen=True, slots=True)
class Created:
    """What was created. `due` is UNIX seconds; `company` is '' where users went to all companies."""

    users: int
    first_id: int
    last_id: int
    company: str
    welcome: int
    """Queued mails with a password (`user_create`)."""
    enrolled: int
    """Queued mails about a course (`user_added_to_course`)."""
    due: int


def companies(connection: sqlite3.Connection, prefix: str = "mdl_") -> dict[int, str]:
    """The companies of the sample: id → name."""
    return dict(Writer(connection, prefix).query("SELECT id, name FROM {company} ORDER BY id"))


def create_users(
    connection: sqlite3.Connection,
    count: int,
    company: int | None = None,
    *,
    prefix: str = "mdl_",
    now: int | None = None,
    chooser: random.Random | None = None,
) -> Created:
    """Create `count` users in one transaction, in a company or spread over all; `now` is UNIX seconds.

    Raises CannotCreate when the number is not 1 … MAX_USERS or there is no such company, and
    sqlite3.OperationalError when the file stays locked by somebody else.
    """
    if not 1 <= count <= MAX_USERS:
        raise CannotCreate(f"Choose a number of users from 1 to {MAX_USERS}.")
    known = companies(connection, prefix)
    if company is not None and company not in known:
        there = ", ".join(f"{id_} ({name})" for id_, name in known.items())
        raise CannotCreate(f"There is no company {company} in the sample. There are: {there}.")
    moment = int(time.time()) if now is None else now
    writer = Writer(connection, prefix)
    connection.execute("BEGIN IMMEDIATE")
    try:
        upload = _Upload(writer, chooser or random.SystemRandom(), moment)
        created = upload.create(count, [company] if company else list(known), known.get(company or 0, ""))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return created


class _Upload:
    def __init__(self, writer: Writer, chooser: random.Random, now: int) -> None:
        self.writer = writer
        self.random = chooser
        self.now = now

    def create(self, count: int, into: list[int], company_name: str) -> Created:
        """Write every row that a new user has; `into` are the companies, taken in turn."""
        writer = self.writer
        (first,) = writer.query("SELECT max(id) + 1 FROM {user}")[0]
        (context,) = writer.query("SELECT max(id) + 1 FROM {context}")[0]
        names = Names(self.random, {name for (name,) in writer.query("SELECT username FROM {user}")})
        ids = range(first, first + count)
        users: list[tuple[object, ...]] = []
        places: list[tuple[int, ...]] = []
        for number, user_id in enumerate(ids):
            company = into[number % len(into)]
            company_name_here, _short, domain = data.COMPANIES[company - 1]
            given, family, local = names.next(user_id)
            department = self.random.choice(data.DEPARTMENTS)
            city = self.random.choice(data.CITIES)
            address = f"{local}@{domain}"
            users.append(
                (user_id, local, given, family, address, company_name_here, department, city, 1, "99")
            )
            places.append((company, user_id, department_id(company, department)))
        writer.insert("user", USER_COLUMNS, users)
        writer.insert("company_users", "companyid userid departmentid", places)
        writer.insert(
            "context",
            "id contextlevel instanceid path depth locked",
            [(context + i, 30, user, f"/1/{context + i}", 2, 0) for i, user in enumerate(ids)],
        )
        return self._queue(ids, company_name)

    def _queue(self, ids: range, company_name: str) -> Created:
        """Enrol some of them, and queue the mails."""
        due = self.now + EMAIL_DELAY
        courses = range(2, 2 + len(data.COURSES))
        enrolled = [(user, self.random.choice(courses)) for user in ids if user % ENROLLED == 0]
        contexts = dict(self.writer.query("SELECT instanceid, id FROM {context} WHERE contextlevel = 50"))
        self.writer.insert(
            "user_enrolments", "enrolid userid timestart timeend", [(c, u, self.now, 0) for u, c in enrolled]
        )
        self.writer.insert(
            "role_assignments",
            "roleid contextid userid",
            [(ROLE_STUDENT, contexts[course], user) for user, course in enrolled],
        )
        queue = Queue(self.writer, self.random)
        return Created(
            users=len(ids),
            first_id=ids[0],
            last_id=ids[-1],
            company=company_name,
            welcome=queue.add(Wanted("user_create", user, self.now, due) for user in ids),
            enrolled=queue.add(
                Wanted("user_added_to_course", user, self.now, due, course) for user, course in enrolled
            ),
            due=due,
        )
