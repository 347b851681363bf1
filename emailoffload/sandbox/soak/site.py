"""What is owed in a soak: reminders of every kind that matters, and mails that IOMAD queues all the time.

| Activity | Owed | Policy | Why it is here |
|---|---|---|---|
| 12, 13 | two reminders each | `moodle` | claimed, handed back, claimed again |
| 14 | two reminders each | `smtp` | |
| 15 | one reminder, to learner and third party | `moodle` | a claim with two mails |
| 16 | the same | `smtp` | |
| 17 | one reminder | `hold` | |
| 18 | three reminders, seconds apart | `moodle` | several claims of one row at once |
| 19 | one, the learner completes before it is due | `moodle` | the last mail owed; Moodle deletes the row |
| 20 | one, the learner completes some time after it | `moodle` | Moodle deletes a claimed row |
| 21 | one, due before the start | `moodle` | claimed only under the cron lock |
| queue | one, for every third row another to a Cc | `moodle` | due as soon as it is there |
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass

import MySQLdb
from MySQLdb.connections import Connection

from emailoffload.actions.setup.databases import grant
from emailoffload.sandbox.bench.stage import ACCOUNT, MOODLE, OURS, PASSWORD, Stage
from emailoffload.sandbox.soak.crons import QUEUE, REMINDERS
from emailoffload.sandbox.soak.journal import Mail
from emailoffload.sandbox.soak.plan import Plan

OURSELVES, SITE = "soak_offload", "soak_moodle"
"""The product's account for its own database, and Moodle's own account."""
DAY = 86400
FOREVER = 90 * DAY
BODY = "<p>Dear %userfirstname%,</p><p>please go on with <b>%coursefullname%</b>.</p>"
SECOND = "second@lab.example"
THIRD = "third@lab.example"


@dataclass(frozen=True, slots=True)
class Kind:
    """The reminders of one activity. Times are shares of the time of trouble, except where they are negative."""

    activity: int
    reminders: int
    policy: str
    until: float
    """First reminders are due from the start until then."""
    third: bool = False
    delay: float = 0.0
    """Between reminders, as a share; 0: a day, so that no other falls due."""
    completes: tuple[int, int] = (FOREVER, FOREVER)
    """When the learner completes, in seconds after the reminder is due: from, to."""


RAPID, RAPID_SECONDS = 18, 7
"""The activity whose reminders follow each other so fast that several are claimed at once."""
KINDS = (
    Kind(12, 2, "moodle", 0.5, delay=0.35),
    Kind(13, 2, "moodle", 0.5, delay=0.4),
    Kind(14, 2, "smtp", 0.5, delay=0.35),
    Kind(15, 1, "moodle", 0.95, third=True),
    Kind(16, 1, "smtp", 0.95, third=True),
    Kind(17, 1, "hold", 0.95),
    Kind(RAPID, 3, "moodle", 0.85, delay=0.15),
    Kind(19, 2, "moodle", 0.95, completes=(-20, -3)),
    Kind(20, 2, "moodle", 0.6, completes=(93, 125)),
    Kind(21, 1, "moodle", -60.0),
)
MAILS_A_LEARNER = sum((kind.reminders if kind.delay else 1) * (2 if kind.third else 1) for kind in KINDS)
QUEUE_SHARE = 0.2
TEMPLATES = ("user_create", "user_added_to_course", "license_allocated", "user_reset")
NO_CC = 's:12:"emailccother";s:0:""'
BIRTHS = (
    "CREATE DATABASE IF NOT EXISTS soak_births",
    "DROP TABLE IF EXISTS soak_births.email",
    "CREATE TABLE soak_births.email (id BIGINT PRIMARY KEY, templatename VARCHAR(100), subject VARCHAR(255),"
    " body TEXT, userid BIGINT, headers TEXT) CHARACTER SET utf8mb4",
)


def accounts(made: Stage) -> dict[str, str]:
    """Make the least-privileged accounts; returns the environment that uses them."""
    ours = grant(OURS, f"'{OURSELVES}'@'localhost'")
    made.server.run(
        f"CREATE OR REPLACE USER '{OURSELVES}'@'localhost' IDENTIFIED BY '{PASSWORD}';"
        f"{ours};"
        f"CREATE OR REPLACE USER '{SITE}'@'localhost' IDENTIFIED BY '{PASSWORD}';"
        f"GRANT ALL PRIVILEGES ON {MOODLE}.* TO '{SITE}'@'localhost'"
    )
    return {
        "DATABASE_URL": made.server.url(OURS, OURSELVES, PASSWORD),
        "MOODLE_DATABASE_URL": made.server.url(MOODLE, ACCOUNT, PASSWORD),
    }


def lay_out(made: Stage, plan: Plan, start: int) -> set[Mail]:
    """Empty our database, put the reminders into Moodle's, the rules into ours; returns the reminders' mails owed."""
    _empty(made)
    chance = random.Random(plan.seed)  # noqa: S311 - repeatable, no secret
    connection = made.server.connect(MOODLE)
    try:
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM mdl_reengagement_inprogress")
            cursor.execute("UPDATE mdl_email SET sent = modifiedtime WHERE sent IS NULL")
            cursor.execute("DELETE FROM mdl_email WHERE subject LIKE 'Soak %'")
            cursor.execute(
                "UPDATE mdl_task_scheduled SET timestarted = NULL, faildelay = 0, disabled = 0, lastruntime = %s,"
                " nextruntime = 0 WHERE component IN ('local_email', 'mod_reengagement')",
                [start - 60],
            )
            cursor.execute(
                "SELECT DISTINCT ue.userid, u.email FROM mdl_user_enrolments ue JOIN mdl_enrol e ON e.id = ue.enrolid"
                " JOIN mdl_reengagement r ON r.course = e.courseid AND r.id = %s JOIN mdl_user u ON u.id = ue.userid"
                " WHERE u.username LIKE 'bulk%%' AND u.deleted = 0 AND u.suspended = 0 ORDER BY ue.userid LIMIT %s",
                [KINDS[0].activity, max(1, round(plan.mails * (1 - QUEUE_SHARE) / MAILS_A_LEARNER))],
            )
            learners = list(cursor.fetchall())
            owed: set[Mail] = set()
            for kind in KINDS:
                owed |= _reminders(connection, kind, learners, plan, start, chance)
        _rules(made)
    finally:
        connection.close()
    return owed


def _reminders(
    connection: Connection,
    kind: Kind,
    learners: list[tuple[int, str]],
    plan: Plan,
    start: int,
    chance: random.Random,
) -> set[Mail]:
    delay = max(2, int(kind.delay * plan.seconds)) if kind.delay else DAY
    if kind.activity == RAPID:
        delay = min(RAPID_SECONDS, delay)
    rows = []
    for user, _address in learners:
        within = plan.seconds * kind.until if kind.until > 0 else kind.until
        due = start + int(chance.uniform(3, within) if within > 3 else chance.uniform(within, -5))
        rows.append((kind.activity, user, due + chance.randint(*kind.completes), due))
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE mdl_reengagement SET emailuser = 2, emailrecipient = 0, remindercount = %s, emaildelay = %s,"
            " thirdpartyemails = %s, emailcontent = %s, emailsubject = 'A reminder', emailcontentthirdparty = %s,"
            " emailsubjectthirdparty = 'About a learner', suppresstarget = 0 WHERE id = %s",
            [kind.reminders, delay, THIRD if kind.third else "", BODY, BODY, kind.activity],
        )
        cursor.executemany(
            "INSERT INTO mdl_reengagement_inprogress (reengagement, userid, completiontime, emailtime, emailsent,"
            " completed) VALUES (%s, %s, %s, %s, 0, 0)",
            rows,
        )
        cursor.execute(
            "SELECT ip.id, u.email FROM mdl_reengagement_inprogress ip JOIN mdl_user u ON u.id = ip.userid"
            " WHERE ip.reengagement = %s",
            [kind.activity],
        )
        return {
            (REMINDERS, row, ordinal, address.lower())
            for row, email in cursor.fetchall()
            for ordinal in range(1, 1 + (kind.reminders if kind.delay else 1))
            for address in ([email, THIRD] if kind.third else [email])
        }


def _empty(made: Stage) -> None:
    """Empty our tables of what an earlier run left; what migrations put into Django's own stays."""
    tables = made.rows(
        f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{OURS}'"
        " AND (table_name LIKE 'emailoffload%' OR table_name LIKE 'django_q%')",
        "information_schema",
    )
    truncate = "".join(f"TRUNCATE TABLE `{name}`;" for (name,) in tables)
    made.server.run(f"SET foreign_key_checks = 0; {truncate}", OURS)


def _rules(made: Stage) -> None:
    values = ", ".join(
        f"('soak {kind.activity}', 1, '', '', {kind.activity}, 'on', 100, '{kind.policy}', 'record', '')"
        for kind in KINDS
    )
    made.server.run(
        "INSERT INTO emailoffload_routingrule (name, enabled, source, template, activity_id, mode, percentage,"
        f" fallback, suppressed, note) VALUES {values}",
        OURS,
    )


class Feeder(threading.Thread):
    """IOMAD's web server: puts mails into the queue during the time of trouble, until MariaDB has taken each."""

    def __init__(self, made: Stage, plan: Plan) -> None:
        super().__init__(name="soak-feeder", daemon=True)
        self.made = made
        self.rows = round(plan.mails * QUEUE_SHARE * 0.75)
        self.seconds = plan.seconds * 0.95
        self.over = threading.Event()
        self.first = int(made.rows("SELECT MAX(id) FROM mdl_email", MOODLE)[0][0]) + 1
        """The ids are given here, so that a statement whose answer was lost may be sent again."""
        self._prepare()

    def _prepare(self) -> None:
        """All rows to be, in a table that nobody else looks at."""
        people = self.made.rows(
            "SELECT id, firstname FROM mdl_user WHERE username LIKE 'bulk%' AND deleted = 0 AND suspended = 0",
            MOODLE,
        )
        model = str(
            self.made.rows(
                "SELECT headers FROM mdl_email WHERE templatename = 'completion_warn_user'", MOODLE
            )[0][0]
        )
        rows = []
        for place in range(self.rows):
            name = TEMPLATES[place % len(TEMPLATES)]
            user, firstname = people[place % len(people)]
            headers = model.replace('s:20:"completion_warn_user"', f's:{len(name)}:"{name}"')
            if place % 3 == 0:
                headers = headers.replace(NO_CC, f's:12:"emailccother";s:{len(SECOND)}:"{SECOND}"')
            body = f"<p>Dear {firstname},</p><p>this is for you.</p>"
            rows.append((self.first + place, name, f"Soak {firstname}", body, user, headers))
        connection = self.made.server.connect()
        try:
            with connection.cursor() as cursor:
                for statement in BIRTHS:
                    cursor.execute(statement)
                cursor.executemany("INSERT INTO soak_births.email VALUES (%s, %s, %s, %s, %s, %s)", rows)
        finally:
            connection.close()

    def run(self) -> None:
        """Feed evenly until all are there, or `over` is set and they are put there at once."""
        began, fed = time.monotonic(), 0
        while fed < self.rows:
            share = 1.0 if self.over.is_set() else min(1.0, (time.monotonic() - began) / self.seconds)
            upto = min(self.rows, int(self.rows * share) + 1)
            try:
                self._bear(fed, upto)
                fed = upto
            except MySQLdb.Error:
                time.sleep(0.2)  # MariaDB is away; the rows come when it is back
                continue
            self.over.wait(0.25)

    def _bear(self, begin: int, end: int) -> None:
        connection = self.made.server.connect(MOODLE)
        try:
            with connection.cursor() as cursor:
                cursor.execute(
                    "INSERT IGNORE INTO mdl_email (id, templatename, modifiedtime, sent, subject, body, varsreplaced,"
                    " companyid, courseid, userid, senderid, headers, due) SELECT id, templatename,"
                    " UNIX_TIMESTAMP(), NULL, subject, body, 1, 1, 4, userid, -20, headers, UNIX_TIMESTAMP()"
                    " FROM soak_births.email WHERE id >= %s AND id < %s",
                    [self.first + begin, self.first + end],
                )
        finally:
            connection.close()

    def owed(self) -> set[Mail]:
        """The mails owed for the queue."""
        rows = self.made.rows(
            "SELECT b.id, u.email, b.headers LIKE '%second@lab.example%' FROM soak_births.email b"
            " JOIN mdl_user u ON u.id = b.userid",
            MOODLE,
        )
        return {
            (QUEUE, row, 1, address.lower())
            for row, email, copied in rows
            for address in ([email, SECOND] if copied else [email])
        }
