"""A simulated Moodle cron: mod_reengagement's task as facts §2 and §3 describe it, race and all.

It is deliberately as careless as the original. A run reads all due rows into memory, then mails them one
by one
and overwrites each row without looking again, so that a claim which relies on luck is mailed twice. It knows
nothing of the product and shares no code with it: the name of the cron lock, who is enrolled, and what is due
are worked out here a second time, so that a common mistake cannot hide.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from emailoffload.sandbox.moodle_side import Lock, Row, ScheduledTask

CRON_CLASS = r"\mod_reengagement\task\cron_task"
ADHOC_CLASS = r"\mod_reengagement\task\reengagement_adhoc_task"
TWO_DAYS = 172800
NEVER, COMPLETION, AFTER_DELAY = 0, 1, 2


class RunAborted(Exception):
    """Something that makes the original throw: the rest of the run does not happen (facts §2.4, §2.8)."""


@dataclass(slots=True)
class CronRun:
    """What one run did. `locked_out`: the lock was taken, so that nothing happened."""

    started: int = 0
    completed: int = 0
    deleted: int = 0
    reminded: int = 0
    mails: int = 0
    locked_out: bool = False
    aborted: str = ""

    def __str__(self) -> str:
        if self.locked_out:
            return "skipped: the task's lock is taken"
        text = (
            f"{self.reminded} reminders due, {self.mails} mails, {self.started} started, "
            f"{self.completed} ended"
        )
        return f"{text}; aborted: {self.aborted}" if self.aborted else text


class SimulatedCron(ScheduledTask):
    """mod_reengagement's cron on any DB-API connection (`paramstyle` "qmark" or "format", autocommit on).

    `connect` opens a connection; `lock` takes Moodle's lock of a resource (None: none is taken); `mail`
    gets each
    mail as it is sent: role, row_id, activity_id, cmid, user_id, address, due, ordinal, timesent;
    `mail_seconds`
    is how long one SMTP transmission takes; `enrolled(cmid, userid)` is Moodle's is_enrolled; `variant`
    is the
    plugin's code line (facts §2.11); `start_users` switches phase A.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        *,
        prefix: str,
        paramstyle: str,
        lock: Lock | None,
        mail: Callable[[Row], None],
        mail_seconds: float,
        enrolled: Callable[[int, int], bool],
        now: Callable[[], float] = time.time,
        variant: Literal["monolithic", "adhoc"] = "monolithic",
        period: int = 300,
        start_users: bool = True,
    ) -> None:
        super().__init__(
            CRON_CLASS, connect, prefix=prefix, paramstyle=paramstyle, lock=lock, now=now, period=period
        )
        self.mail = mail
        self.mail_seconds = mail_seconds
        self.enrolled = enrolled
        self.variant = variant
        self.start_users = start_users
        self._run = CronRun()

    # --- the task (facts §2.2, §3.5, §3.6) ---

    def run_reengagement(self) -> CronRun:
        """One run of the scheduled task; of the ad hoc variant, also of the tasks that it queues."""
        self._run = CronRun()
        with self.locked(CRON_CLASS) as obtained:
            if not obtained:
                self._run.locked_out = True
                return self._run
            started = int(self.now())
            self.starting(started)
            try:
                if self.variant == "monolithic":
                    self._phases(None)
                else:
                    self._queue_adhoc_tasks()
            except RunAborted as error:
                self._run.aborted = str(error)
                self.failed()
            else:
                self.finished(started)
        if self.variant == "adhoc":
            self.run_adhoc_tasks()
        return self._run

    def run_adhoc_tasks(self) -> None:
        """Run every queued ad hoc task, each under its own lock and with its own clock reading (facts
        §2.11)."""
        for task in self.rows(
            "SELECT id, customdata FROM {task_adhoc} WHERE classname = %s ORDER BY id", ADHOC_CLASS
        ):
            with self.locked(f"adhoc_{task['id']}") as obtained:
                if not obtained:
                    continue
                self.execute(
                    "UPDATE {task_adhoc} SET timestarted = %s WHERE id = %s", int(self.now()), task["id"]
                )
                try:
                    self._phases(int(json.loads(task["customdata"])["rid"]))
                except RunAborted as error:
                    self._run.aborted = str(error)
                    again = int(self.now()) + 60
                    self.execute(
                        "UPDATE {task_adhoc} SET timestarted = NULL, faildelay = 60, nextruntime = %s"
                        " WHERE id = %s",
                        again,
                        task["id"],
                    )
                else:
                    self.execute("DELETE FROM {task_adhoc} WHERE id = %s", task["id"])

    def _queue_adhoc_tasks(self) -> None:
        """One task per instance, unless an identical one is queued."""
        for instance in self._instances(None).values():
            customdata = json.dumps(
                {
                    "cmid": instance["cmid"],
                    "courseid": instance["course"],
                    "duration": instance["duration"],
                    "emaildelay": instance["emaildelay"],
                    "rid": instance["id"],
                }
            )
            if not self.rows(
                "SELECT id FROM {task_adhoc} WHERE classname = %s AND customdata = %s",
                ADHOC_CLASS,
                customdata,
            ):
                now = int(self.now())
                self.execute(
                    "INSERT INTO {task_adhoc} (component, classname, nextruntime, faildelay, customdata,"
                    " timecreated)"
                    " VALUES ('mod_reengagement', %s, %s, 0, %s, %s)",
                    ADHOC_CLASS,
                    now,
                    customdata,
                    now,
                )

    # --- the phases (facts §2.3–§2.6) ---

    def _phases(self, only: int | None) -> None:
        """A, B and C for all instances, or for one; the clock is read once (facts §2.2)."""
        timenow = int(self.now())
        if self.start_users:
            self._start_users(timenow, only)
        instances = self._instances(only)
        self._complete(timenow, instances, only)
        self._remind(timenow, instances, only)

    def _instances(self, only: int | None) -> dict[int, Row]:
        """Every instance that has a course module, with its texts as they are now (facts §2.4)."""
        found = self.rows(
            "SELECT r.*, cm.id AS cmid, cm.deletioninprogress FROM {reengagement} r"
            " JOIN {course_modules} cm ON cm.instance = r.id JOIN {modules} m ON m.id = cm.module"
            " JOIN {course} c ON c.id = cm.course WHERE m.name = 'reengagement' AND (%s IS NULL OR r.id ="
            " %s)",
            only,
            only,
        )
        return {row["id"]: row for row in found}

    def _start_users(self, timenow: int, only: int | None) -> None:
        """Phase A, as far as a sample site needs it."""
        for instance in self._instances(only).values():
            if instance["deletioninprogress"]:
                continue
            users = self.rows(
                "SELECT DISTINCT u.id FROM {enrol} e JOIN {user_enrolments} ue ON ue.enrolid = e.id"
                " JOIN {user} u ON u.id = ue.userid"
                " LEFT JOIN {course_modules_completion} cmc ON cmc.userid = u.id AND cmc.coursemoduleid = %s"
                " LEFT JOIN {reengagement_inprogress} ip ON ip.userid = u.id AND ip.reengagement = %s"
                " WHERE e.courseid = %s AND u.deleted = 0 AND u.confirmed = 1 AND cmc.id IS NULL AND"
                " ip.id IS NULL",
                instance["cmid"],
                instance["id"],
                instance["course"],
            )
            for user in users:
                if self.enrolled(instance["cmid"], user["id"]):
                    self._start_user(timenow, instance, user["id"])

    def _start_user(self, timenow: int, instance: Row, user_id: int) -> None:
        self.execute(
            "INSERT INTO {reengagement_inprogress} (reengagement, userid, completiontime, emailtime,"
            " emailsent,"
            " completed) VALUES (%s, %s, %s, %s, 0, 0)",
            instance["id"],
            user_id,
            timenow + instance["duration"],
            timenow + instance["emaildelay"],
        )
        self.execute(
            "INSERT INTO {course_modules_completion} (coursemoduleid, userid, completionstate, timemodified)"
            " VALUES (%s, %s, 0, %s)",
            instance["cmid"],
            user_id,
            timenow,
        )
        self._run.started += 1

    def _complete(self, timenow: int, instances: dict[int, Row], only: int | None) -> None:
        """Phase B (facts §2.5): all rows whose completion time has passed, whatever the mode."""
        rows = self.rows(
            "SELECT ip.* FROM {reengagement_inprogress} ip JOIN {user} u ON u.id = ip.userid"
            " JOIN {reengagement} r ON r.id = ip.reengagement"
            " WHERE u.deleted = 0 AND ip.completiontime < %s AND ip.completed = 0"
            " AND (%s IS NULL OR ip.reengagement = %s)",
            timenow,
            only,
            only,
        )
        for row in rows:
            instance = _instance_of(row, instances)
            if not self.enrolled(instance["cmid"], row["userid"]):
                self._delete(row)
                continue
            self._set_complete(instance["cmid"], row["userid"], timenow)
            mode = instance["emailuser"]
            if mode in (COMPLETION, NEVER) or (mode == AFTER_DELAY and row["emailsent"] != 0):
                self._delete(row)
            else:
                self.execute("UPDATE {reengagement_inprogress} SET completed = 1 WHERE id = %s", row["id"])
            self._run.completed += 1
            if mode == COMPLETION:
                self._email_user(row, instance, row["completiontime"])

    def _remind(self, timenow: int, instances: dict[int, Row], only: int | None) -> None:
        """Phase C (facts §2.6): the whole result is read first; each row is then overwritten unseen."""
        rows = self.rows(
            "SELECT ip.* FROM {reengagement_inprogress} ip JOIN {reengagement} r ON r.id = ip.reengagement"
            " JOIN {user} u ON u.id = ip.userid"
            " WHERE ip.emailtime < %s AND r.emailuser = 2 AND ip.emailsent < r.remindercount AND"
            " u.deleted = 0"
            " AND (%s IS NULL OR ip.reengagement = %s) ORDER BY r.id",
            timenow,
            only,
            only,
        )
        for row in rows:
            instance = _instance_of(row, instances)
            if not self.enrolled(instance["cmid"], row["userid"]):
                self._delete(row)
                continue
            if row["completed"] == 1:
                self._delete(row)
            else:
                self.execute(
                    "UPDATE {reengagement_inprogress} SET emailtime = %s, emailsent = %s WHERE id = %s",
                    timenow + instance["emaildelay"],
                    row["emailsent"] + 1,
                    row["id"],
                )
            self._run.reminded += 1
            self._email_user(row, instance, row["emailtime"])

    def _delete(self, row: Row) -> None:
        self.execute("DELETE FROM {reengagement_inprogress} WHERE id = %s", row["id"])
        self._run.deleted += 1

    def _set_complete(self, cmid: int, user_id: int, timenow: int) -> None:
        changed = self.execute(
            "UPDATE {course_modules_completion} SET completionstate = 2, timemodified = %s"
            " WHERE coursemoduleid = %s AND userid = %s",
            timenow,
            cmid,
            user_id,
        )
        known = changed or self.rows(
            "SELECT id FROM {course_modules_completion} WHERE coursemoduleid = %s AND userid = %s",
            cmid,
            user_id,
        )
        if not known:
            self.execute(
                "INSERT INTO {course_modules_completion} (coursemoduleid, userid, completionstate,"
                " timemodified)"
                " VALUES (%s, %s, 2, %s)",
                cmid,
                user_id,
                timenow,
            )

    # --- the mails (facts §2.7, §2.8) ---

    def _email_user(self, row: Row, instance: Row, due: int) -> None:
        user = self.rows("SELECT * FROM {user} WHERE id = %s", row["userid"])[0]
        if user["deleted"]:
            return
        target = instance["suppresstarget"]
        if target and self.rows(
            "SELECT id FROM {course_modules_completion} WHERE userid = %s AND coursemoduleid = %s"
            " AND completionstate IN (1, 2, 3)",
            user["id"],
            target,
        ):
            return
        if due + TWO_DAYS < int(self.now()):
            return
        if instance["emailrecipient"] == 2:
            raise RunAborted(f"activity {instance['id']} mails managers, which only Totara can")
        mail = {
            "row_id": row["id"],
            "activity_id": instance["id"],
            "cmid": instance["cmid"],
            "user_id": user["id"],
            "due": due,
            "ordinal": row["emailsent"] + 1,
        }
        if instance["emailrecipient"] == 0 and self._reachable(user):
            self._send({**mail, "role": "user", "address": user["email"]})
        for address in (instance["thirdpartyemails"] or "").split(","):
            if "@" in address.strip():
                self._send({**mail, "role": "thirdparty", "address": address.strip()})

    def _reachable(self, user: Row) -> bool:
        """Whether Moodle mails this person at all; the commonest of the reasons of facts §5.2 and §5.3."""
        if user["suspended"] or user["auth"] == "nologin" or user["emailstop"]:
            return False
        if "@" not in user["email"] or user["email"].endswith(".invalid"):
            return False
        chosen = self.rows(
            "SELECT value FROM {user_preferences} WHERE userid = %s AND name = %s",
            user["id"],
            "message_provider_mod_reengagement_mod_reengagement_enabled",
        )
        return not chosen or not chosen[0]["value"] or "email" in chosen[0]["value"].split(",")

    def _send(self, mail: Row) -> None:
        if self.mail_seconds > 0:
            time.sleep(self.mail_seconds)
        self.mail({**mail, "timesent": int(self.now())})
        self._run.mails += 1


def _instance_of(row: Row, instances: dict[int, Row]) -> Row:
    """The row's instance; one without a course module stops the whole run (facts §2.4)."""
    try:
        return instances[row["reengagement"]]
    except KeyError:
        raise RunAborted(f"activity {row['reengagement']} has no course module") from None
