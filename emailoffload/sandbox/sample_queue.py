"""The sample site's mail queue: IOMAD's `email` table and the companies' templates (facts §7.1)."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import cycle, islice

from emailoffload.sandbox import sample_data as data
from emailoffload.sandbox import sample_templates as templates
from emailoffload.sandbox.sample_schema import Writer
from emailoffload.sandbox.sample_site import EMAIL_DELAY
from emailoffload.sandbox.sample_templates import Course, Recipient

SPACING = 30
"""Seconds between two queued mails that fall due."""
HORIZON = 900
"""So far ahead queued mails are laid out."""
EVERYDAY = ("user_added_to_course", "license_allocated", "user_reset", "expiry_warn_user")
"""What an IOMAD site queues day by day, beside the mails to new users."""
_PAST = 48
"""Mails that left in the past; IOMAD keeps them for six months."""
_NEW = 6
"""The learners who joined last: their welcome mails wait first."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A mail to put into the queue; times are UNIX seconds."""

    template: str
    user: int
    modified: int
    due: int
    course: int | None = None
    sent: int | None = None


def write_templates(writer: Writer) -> None:
    """Every company's own version of the mails (facts §1.3)."""
    rows: list[tuple[object, ...]] = []
    for company, (_name, _short, domain) in enumerate(data.COMPANIES, 1):
        for template in templates.TEMPLATES:
            if company in template.companies:
                row = templates.stored(template, len(rows) + 1, company, domain)
                rows.append(tuple(row.values()))
    writer.insert("email_template", templates.COLUMNS, rows)


class Queue:
    """Puts mails into the queue of a sample site as `EmailTemplate::send` does; made passwords come from
    `chooser`."""

    def __init__(self, writer: Writer, chooser: random.Random) -> None:
        self.writer = writer
        self.random = chooser
        columns = templates.COLUMNS.split()
        self.templates = {
            (str(row[2]), int(row[1])): dict(zip(columns, row, strict=True))
            for row in writer.query(f"SELECT {', '.join(columns)} FROM {{email_template}}")
        }
        self.courses = {
            id_: Course(id_, name) for id_, name in writer.query("SELECT id, fullname FROM {course}")
        }
        (self.wwwroot,) = writer.query("SELECT wwwroot FROM sandbox_site")[0]

    def add(self, wanted: Iterable[Wanted]) -> int:
        """Queue mails; one for a company without a template of that name is left out. Returns how many."""
        items = list(wanted)
        people = self._recipients({item.user for item in items})
        named = {int(id_) for row in self.templates.values() for id_ in str(row["emailcc"]).split(",") if id_}
        addresses = {
            id_: email for id_, email in self.writer.query("SELECT id, email FROM {user}") if id_ in named
        }
        rows = [
            templates.queue_row(
                self.templates[item.template, people[item.user].company],
                people[item.user],
                self.courses[item.course] if item.course else None,
                wwwroot=self.wwwroot,
                password=templates.password(self.random),
                addresses=addresses,
                modified=item.modified,
                due=item.due,
                sent=item.sent,
            )
            for item in items
            if (item.template, people[item.user].company) in self.templates
        ]
        self.writer.insert("email", templates.QUEUE_COLUMNS, rows)
        return len(rows)

    def _recipients(self, users: set[int]) -> dict[int, Recipient]:
        """The people by id; the company is that of their first membership."""
        found = self.writer.query(
            "SELECT u.id, u.firstname, u.lastname, u.username, c.id, c.name FROM {user} u"
            " JOIN {company_users} cu ON cu.userid = u.id JOIN {company} c ON c.id = cu.companyid"
            " ORDER BY cu.id DESC"
        )
        return {row[0]: Recipient(*row) for row in found if row[0] in users}


def write_queue(queue: Queue, users: list[int], now: int) -> None:
    """The past, what waits now, and rows that IOMAD never sends (facts §7.2)."""
    enrolled = queue.writer.query("SELECT userid, min(enrolid) FROM {user_enrolments} GROUP BY userid")
    course_of = dict(enrolled)
    past: list[Wanted] = []
    for number, user in enumerate(islice(cycle(users[12::7]), _PAST)):
        due = now - (_PAST - number) * data.DAY - number * 61
        sent = due + 60 + number * 5 % 240  # the cron comes by every five minutes
        name = ("user_create", *EVERYDAY)[number % 5]
        course = None if name in ("user_create", "user_reset") else course_of.get(user, 2)
        past.append(Wanted(name, user, sent, due, course, sent))
    waiting = [
        Wanted("user_create", user, now, now + EMAIL_DELAY + 5 * number)
        for number, user in enumerate(users[-_NEW:])
    ]
    modified, due = now, now + EMAIL_DELAY
    never = [
        Wanted("user_added_to_course", users[11], modified, due, 2),  # suspended: rests
        Wanted("user_added_to_course", users[47], modified, due, 2),  # deleted: rests
        Wanted("completion_warn_user", users[2], modified, due, 2),  # template disabled: IOMAD deletes it
    ]
    queue.add([*past, *waiting, *never])
    lay_out(queue, now)


def lay_out(queue: Queue, now: int) -> int:
    """Queue everyday mails that fall due one after another up to `HORIZON` ahead; returns how many.

    Their `due` is later than the site's delay alone would make it: callers of IOMAD may ask for that, as for
    an enrolment that starts later (facts §7.1).
    """
    (latest,) = queue.writer.query("SELECT max(due) FROM {email} WHERE due <= ?", [now + HORIZON])[0]
    first = max(now + EMAIL_DELAY, (latest or 0) + SPACING)
    dues = range(first, now + HORIZON, SPACING)
    people = queue.writer.query(
        "SELECT ue.userid, min(ue.enrolid) FROM {user_enrolments} ue JOIN {user} u ON u.id = ue.userid"
        " WHERE ue.status = 0 AND u.deleted = 0 AND u.suspended = 0 GROUP BY ue.userid"
        " ORDER BY (ue.userid * 7919 + ?) % 10007 LIMIT ?",
        [first // SPACING * 104729, len(dues)],
    )
    return (
        queue.add(
            Wanted(name, user, now, due, None if name == "user_reset" else course)
            for due, (user, course), name in zip(
                dues,
                cycle(people),
                cycle(EVERYDAY[first // SPACING % 4 :] + EVERYDAY[: first // SPACING % 4]),
            )
        )
        if people
        else 0
    )
