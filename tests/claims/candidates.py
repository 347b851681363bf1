"""Candidates made of rows of the real site, with a mail each, for tests of what happens around a claim."""

from __future__ import annotations

from emailoffload.sources.protocol import Candidate, RenderedMail
from tests.conftest import Moodle

MAIL = RenderedMail(
    role="user",
    to_address="learner@school.example",
    to_name="A Learner",
    from_address="noreply@school.example",
    from_name="School",
    reply_to_address="noreply@school.example",
    reply_to_name="Do not reply",
    subject="Still there?",
    text="\nStill there?\n",
    html="<p>Still there?</p>",
    recipient_id=3,
)


def candidate(row: tuple[int, int, int, int], *, delay: int = 86400, mails: int = 1) -> Candidate:
    """A candidate for a row given as (id, emailsent, emailtime, completed)."""
    row_id, sent, due, completed = row
    return Candidate(
        source="reengagement",
        row_id=row_id,
        before={"emailsent": sent, "emailtime": due, "completed": completed},
        after={"emailsent": sent + 1, "emailtime": due + delay, "completed": completed},
        under_lock=False,
        due=due,
        user_id=3,
        user_name="A Learner",
        user_email="learner@school.example",
        activity_id=12,
        activity_name="Reminder",
        cmid=13,
        course_id=2,
        course_name="Course",
        ordinal=sent + 1,
        is_last=False,
        completiontime=due + 40 * 86400,
        mails=(MAIL,) * mails,
    )


def some(moodle: Moodle, count: int) -> list[Candidate]:
    """Candidates for the first rows of the site's bulk reminders."""
    found = moodle.rows(
        "SELECT id, emailsent, emailtime, completed FROM mdl_reengagement_inprogress"
        f" WHERE reengagement > 11 ORDER BY id LIMIT {count}"
    )
    return [candidate(row) for row in found]
