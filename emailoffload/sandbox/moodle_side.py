"""What the simulated cron needs of a Moodle beside its tables: tasks and their lock, and who is enrolled.

Worked out here a second time, apart from the product's own code, so that a common mistake cannot hide.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

Row = dict[str, Any]

Lock = Callable[[str], AbstractContextManager[bool]]
"""Takes a lock by the name of its resource without waiting; yields whether it was obtained."""


def mysql_lock(connect: Callable[[], Any], *, dbname: str, prefix: str) -> Lock:
    """Moodle's native MySQL lock factory (facts §3.5): GET_LOCK without waiting, on a connection of its
    own."""

    @contextmanager
    def take(resource: str) -> Iterator[bool]:
        key = hashlib.sha1(f"{dbname}:{prefix}_cron_{resource}".encode(), usedforsecurity=False).hexdigest()
        connection = connect()
        try:
            cursor = connection.cursor()
            cursor.execute("SELECT GET_LOCK(%s, 0)", (key,))
            obtained = cursor.fetchone()[0] == 1
            yield obtained
            if obtained:
                cursor.execute("SELECT RELEASE_LOCK(%s)", (key,))
        finally:
            connection.close()  # the server drops the lock with its connection

    return take


def enrolled_by_sql(
    connect: Callable[[], Any], *, prefix: str, paramstyle: str, now: Callable[[], float] = time.time
) -> Callable[[int, int], bool]:
    """is_enrolled(module context, user, startreengagement, active only) by one query a pair (facts §6.1).

    Covers what sites normally have: an active enrolment, and a role assigned on the way to the module that
    is allowed the capability at system level. Overrides, admins and locked contexts are not looked at.
    """
    connection = connect()
    sql = (
        "SELECT 1 FROM {p}course_modules cm JOIN {p}context x ON x.contextlevel = 70 AND x.instanceid = cm.id"
        " JOIN {p}enrol e ON e.courseid = cm.course AND e.status = 0"
        " JOIN {p}user_enrolments ue ON ue.enrolid = e.id AND ue.status = 0 AND ue.userid = %s"
        " JOIN {p}user u ON u.id = ue.userid AND u.deleted = 0"
        " JOIN {p}role_assignments ra ON ra.userid = u.id"
        " JOIN {p}context y ON y.id = ra.contextid"
        " JOIN {p}role_capabilities rc ON rc.roleid = ra.roleid AND rc.contextid = 1 AND rc.permission = 1"
        " WHERE cm.id = %s AND rc.capability = 'mod/reengagement:startreengagement'"
        " AND ue.timestart <= %s AND (ue.timeend = 0 OR ue.timeend > %s)"
        " AND (x.id = y.id OR substr(x.path, 1, length(y.path) + 1) = {slashed}) LIMIT 1"
    )
    sql = sql.format(p=prefix, slashed="y.path || '/'" if paramstyle == "qmark" else "concat(y.path, '/')")
    sql = sql.replace("%s", "?") if paramstyle == "qmark" else sql

    def enrolled(cmid: int, user_id: int) -> bool:
        moment = int(now())
        cursor = connection.cursor()
        cursor.execute(sql, (user_id, cmid, moment, moment))
        found = cursor.fetchone() is not None
        cursor.close()
        return found

    return enrolled


class ScheduledTask:
    """A scheduled task of Moodle on any DB-API connection (`paramstyle` "qmark" or "format", autocommit on).

    `classname` is as stored, with its leading backslash; `lock` takes Moodle's lock of a resource (None: none
    is taken); `period` is that of the schedule in seconds. What happens to the task's row of `task_scheduled`
    follows facts §3.5 and §3.6.
    """

    def __init__(
        self,
        classname: str,
        connect: Callable[[], Any],
        *,
        prefix: str,
        paramstyle: str,
        lock: Lock | None,
        now: Callable[[], float],
        period: int,
    ) -> None:
        self.classname = classname
        self.connection = connect()
        self.prefix = prefix
        self.mark = "?" if paramstyle == "qmark" else "%s"
        self.lock = lock
        self.now = now
        self.period = period

    def due(self) -> bool:
        """Whether Moodle's cron would choose the task now: enabled, and its next run time has passed."""
        now = int(self.now())
        return bool(
            self.rows(
                "SELECT id FROM {task_scheduled} WHERE classname = %s AND disabled = 0"
                " AND (lastruntime IS NULL OR lastruntime < %s) AND (nextruntime IS NULL OR nextruntime < %s)",
                self.classname,
                now,
                now,
            )
        )

    def locked(self, resource: str) -> AbstractContextManager[bool]:
        """Moodle's lock of a resource; yields whether it was obtained, without waiting."""
        return nullcontext(True) if self.lock is None else self.lock(resource)

    def starting(self, started: int) -> None:
        """Mark the task as running."""
        self.execute(
            "UPDATE {task_scheduled} SET timestarted = %s, hostname = %s, pid = %s WHERE classname = %s",
            started,
            socket.gethostname(),
            os.getpid(),
            self.classname,
        )

    def finished(self, started: int) -> None:
        """Mark the task as done, and when it runs next."""
        now = int(self.now())
        self.execute(
            "UPDATE {task_scheduled} SET timestarted = NULL, hostname = NULL, pid = NULL, faildelay = 0,"
            " lastruntime = %s, nextruntime = %s WHERE classname = %s",
            started,
            now - now % self.period + self.period,
            self.classname,
        )

    def failed(self) -> None:
        """Mark the task as failed: it runs again after a delay that doubles each time."""
        rows = self.rows("SELECT faildelay FROM {task_scheduled} WHERE classname = %s", self.classname)
        delay = min(86400, 2 * (rows[0]["faildelay"] or 30)) if rows else 60
        self.execute(
            "UPDATE {task_scheduled} SET timestarted = NULL, hostname = NULL, pid = NULL, faildelay = %s,"
            " nextruntime = %s WHERE classname = %s",
            delay,
            int(self.now()) + delay,
            self.classname,
        )

    def rows(self, sql: str, *args: object) -> list[Row]:
        """The whole result of a query, in memory; `{name}` stands for a table of Moodle's, %s for a value."""
        cursor = self.connection.cursor()
        cursor.execute(self._sql(sql), args)
        names = [column[0] for column in cursor.description]
        found = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        cursor.close()
        return found

    def execute(self, sql: str, *args: object) -> int:
        """Run a statement and return how many rows it affected."""
        cursor = self.connection.cursor()
        cursor.execute(self._sql(sql), args)
        count = int(cursor.rowcount)
        cursor.close()
        return count

    def _sql(self, sql: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda found: self.prefix + found[1], sql).replace("%s", self.mark)
