"""What the simulated cron needs of a Moodle beside its tables: the cron's lock, and who is enrolled.

Worked out here a second time, apart from the product's own code, so that a common mistake cannot hide.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

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
