"""Rows of IOMAD's mail queue, as a site has them that is about to mail its users."""

from __future__ import annotations

import time

from emailoffload.sources.protocol import Candidate
from tests.claims.candidates import MAIL
from tests.conftest import Moodle

USERS = "SELECT id FROM mdl_user WHERE deleted = 0 AND suspended = 0 AND id > 2 ORDER BY id"


def queued(
    moodle: Moodle, count: int, *, template: str = "completion_warn_user", due: int = -60, age: int = 60
) -> list[int]:
    """Queue `count` mails, each to its user only; returns their ids.

    They are due in `due` seconds and were queued `age` seconds ago, each a second apart from the next.
    """
    now = int(time.time())
    users = [row[0] for row in moodle.rows(USERS)]
    (headers,) = moodle.rows("SELECT headers FROM mdl_email WHERE id = 3")[0] if count else ("",)
    first = moodle.value("SELECT COALESCE(MAX(id), 0) + 1 FROM mdl_email")
    with moodle.connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO mdl_email (templatename, modifiedtime, sent, subject, body, varsreplaced, companyid,"
            " courseid, userid, senderid, headers, due)"
            " VALUES (%s, %s, NULL, %s, '<p>Hello</p>', 1, 1, 4, %s, -20, %s, %s)",
            [
                (template, now - age - n % 7, f"Mail {n}", users[n % len(users)], headers, now + due)
                for n in range(count)
            ],
        )
    return [row[0] for row in moodle.rows("SELECT id FROM mdl_email WHERE id >= %s ORDER BY id", [first])]


def rows(moodle: Moodle, ids: list[int]) -> list[tuple[int, int | None, int]]:
    """(id, sent, modifiedtime) of these rows."""
    marks = ",".join(map(str, ids))
    return moodle.rows(f"SELECT id, sent, modifiedtime FROM mdl_email WHERE id IN ({marks}) ORDER BY id")


def candidate(row: tuple[int, int | None, int], *, at: int, due: int = 0) -> Candidate:
    """A candidate for a row given as (id, sent, modifiedtime) that is claimed `at` a time."""
    row_id, sent, modifiedtime = row
    return Candidate(
        source="iomad_queue",
        row_id=row_id,
        before={"sent": sent, "modifiedtime": modifiedtime},
        after={"sent": at, "modifiedtime": at},
        under_lock=True,
        due=due or modifiedtime,
        user_id=15,
        user_name="A Learner",
        user_email="learner@school.example",
        activity_id=0,
        activity_name="",
        cmid=0,
        course_id=4,
        course_name="Course",
        ordinal=1,
        is_last=True,
        completiontime=0,
        company_id=1,
        company_name="Company",
        template="completion_warn_user",
        mails=(MAIL,),
    )


def some(moodle: Moodle, count: int) -> list[Candidate]:
    """Candidates for rows that are queued now."""
    at = int(time.time()) - 1
    return [candidate(row, at=at) for row in rows(moodle, queued(moodle, count))]


def queue_again(moodle: Moodle, ids: list[int]) -> None:
    """What IOMAD's report does when a person asks for a mail to be sent again (facts §7.6)."""
    marks = ",".join(map(str, ids))
    moodle.execute(f"UPDATE mdl_email SET sent = NULL WHERE id IN ({marks})")
