"""The sample site goes on: reminders and queued mails keep falling due while somebody watches."""

from __future__ import annotations

import random
import sqlite3
import time

from emailoffload.sandbox import sample_data as data
from emailoffload.sandbox import sample_queue
from emailoffload.sandbox.sample_moodle import HORIZON, REENGAGEMENT_MODULE, SPACING
from emailoffload.sandbox.sample_schema import Writer, named

ASLEEP = 1800
"""A reminder overdue for longer was not handled by any cron: nothing ran, the site was asleep."""


def keep_falling_due(
    connection: sqlite3.Connection, *, prefix: str = "mdl_", now: int | None = None, horizon: int = HORIZON
) -> int:
    """Lay out reminders up to `horizon` seconds ahead, one every few seconds; returns how many were added.

    IOMAD's queue gets new mails too, one every half minute, some minutes ahead.

    Learners start an activity again: rows at rest, or whose last mail left over an hour ago, make way for new
    ones, as after a course reset. So do rows that are overdue since the sample site was last running. Rows
    that somebody may just be sending are left alone.
    """
    moment = int(time.time()) if now is None else now
    connection.execute("BEGIN IMMEDIATE")
    try:
        added = _lay_out(connection, prefix, moment, horizon)
        chooser = random.SystemRandom()
        sample_queue.lay_out(sample_queue.Queue(Writer(connection, prefix), chooser), moment)
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
        return named(text, prefix)

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
