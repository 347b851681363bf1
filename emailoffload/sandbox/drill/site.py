"""The sample Moodle of a drill: learners who are owed one mail each, and Moodle's own cron."""

from __future__ import annotations

import random
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emailoffload.moodle.targets import IOMAD_QUEUE, REENGAGEMENT
from emailoffload.sandbox import sample_moodle, sample_queue
from emailoffload.sandbox.drill.moodledb.base import AWAY
from emailoffload.sandbox.email_cron import SimulatedEmailCron
from emailoffload.sandbox.moodle_cron import SimulatedCron
from emailoffload.sandbox.moodle_side import enrolled_by_sql
from emailoffload.sandbox.sample_people import COMPANY_MANAGERS
from emailoffload.sandbox.sample_schema import Writer

PREFIX = "mdl_"
ACTIVITY = "Yearly refresher"
"""An activity of the sample with long pauses between its reminders: nobody is owed a second one here."""
TEMPLATE = "user_create"
"""IOMAD's mail to a new user, with their password."""
POLICIES = {1: "moodle", 2: "smtp", 3: "hold"}
"""What happens when the cloud fails, by company of the sample."""
_LEARNERS = (
    "SELECT u.id, u.email, cu.companyid, r.id FROM {user} u JOIN {company_users} cu ON cu.userid = u.id"
    " JOIN {user_enrolments} ue ON ue.userid = u.id AND ue.status = 0"
    " JOIN {reengagement} r ON r.course = ue.enrolid"
    " WHERE r.name = ? AND u.suspended = 0 AND u.deleted = 0 AND u.emailstop = 0 AND u.auth = 'manual'"
    " AND u.email NOT LIKE '%.invalid' AND u.id > ? AND NOT EXISTS (SELECT 1 FROM {user_preferences} p"
    " WHERE p.userid = u.id) GROUP BY u.id ORDER BY u.id"
)


@dataclass(frozen=True, slots=True)
class Owed:
    """One mail that a learner is owed; `due` is UNIX seconds."""

    address: str
    policy: str
    source: str
    row_id: int
    due: int


class Site:
    """The sample Moodle in `path`, with no mail owed to anybody at first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        sample_moodle.create(path, prefix=PREFIX)
        self.connection = sample_moodle.connect(path)
        self.writer = Writer(self.connection, PREFIX)
        self.writer.run("DELETE FROM {reengagement_inprogress}", [()])
        self.writer.run("DELETE FROM {email}", [()])
        self._queue = sample_queue.Queue(self.writer, random.SystemRandom())
        self._free: dict[str, list[tuple[int, str, int]]] = defaultdict(list)
        for user, address, company, activity in self.writer.query(
            _LEARNERS, [ACTIVITY, max(COMPANY_MANAGERS)]
        ):
            self._free[POLICIES[company]].append((user, address, activity))
        self.mailed: Counter[str] = Counter()
        """How many mails Moodle itself has sent, by learner's address."""
        self._crons = self._make_crons()

    def close(self) -> None:
        """Close the connections."""
        for cron in self._crons:
            cron.connection.close()
        self.connection.close()

    def owe(self, policy: str, reminders: int, queued: int, due: int) -> list[Owed]:
        """Have learners of the company with this policy owed reminders, and mails of IOMAD's queue, due at `due`."""
        people = [self._free[policy].pop() for _ in range(reminders + queued)]
        made = []
        for user, address, activity in people[:reminders]:
            cursor = self.connection.execute(
                f"INSERT INTO {PREFIX}reengagement_inprogress (reengagement, userid, completiontime, emailtime)"
                " VALUES (?, ?, ?, ?)",
                [activity, user, due + 90 * 86400, due],
            )
            made.append(Owed(address, policy, REENGAGEMENT, int(cursor.lastrowid or 0), due))
        for user, address, _activity in people[reminders:]:
            self._queue.add([sample_queue.Wanted(TEMPLATE, user, int(time.time()), due)])
            (row_id,) = self.writer.query("SELECT max(id) FROM {email}")[0]
            made.append(Owed(address, policy, IOMAD_QUEUE, row_id, due))
        return made

    def run_cron(self) -> int:
        """One run of each of Moodle's tasks, now; returns how many mails Moodle sent to learners."""
        before = self.mailed.total()
        reminders, queue = self._crons
        reminders.run_reengagement()
        queue.run_queue()
        return self.mailed.total() - before

    def untouched(self, mails: Sequence[Owed]) -> int:
        """How many of these have their row as Moodle left it: nothing counted as sent."""
        unsent = {
            REENGAGEMENT: "SELECT count(*) FROM {reengagement_inprogress} WHERE emailsent = 0 AND id = ?",
            IOMAD_QUEUE: "SELECT count(*) FROM {email} WHERE sent IS NULL AND id = ?",
        }
        return sum(int(self.writer.query(unsent[mail.source], [mail.row_id])[0][0]) for mail in mails)

    def go_away(self) -> None:
        """From now on the product gets no answer from this database."""
        self.path.with_name(AWAY).touch()

    def come_back(self) -> None:
        """Answer again."""
        self.path.with_name(AWAY).unlink(missing_ok=True)

    def _make_crons(self) -> tuple[SimulatedCron, SimulatedEmailCron]:
        def connect() -> sqlite3.Connection:
            return sample_moodle.connect(self.path)

        shared: dict[str, Any] = {
            "prefix": PREFIX, "paramstyle": "qmark", "lock": None, "mail": self._note, "mail_seconds": 0.0,
        }  # fmt: skip
        enrolled = enrolled_by_sql(connect, prefix=PREFIX, paramstyle="qmark")
        return (
            SimulatedCron(connect, enrolled=enrolled, start_users=False, **shared),
            SimulatedEmailCron(connect, **shared),
        )

    def _note(self, mail: dict[str, Any]) -> None:
        if mail["role"] == "user":
            self.mailed[mail["address"]] += 1
