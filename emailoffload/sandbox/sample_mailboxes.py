"""Which mailboxes of the sample's learners are out of order, and who opens mails: by a tag in the address.

The local SES decides by that tag what becomes of a mail (`events.STORIES`). Whoever gets the first reminders has one of
each kind, so that every state is seen within some minutes. Bounces and complaints are as rare as they must be on a site
that SES would not put under review.
"""

from __future__ import annotations

from emailoffload.sandbox.sample_people import COMPANY_MANAGERS, DEPARTMENT_MANAGERS
from emailoffload.sandbox.sample_schema import Writer

TAGS = {
    1: "click", 3: "open", 5: "bounce", 7: "full", 9: "delay", 11: "complaint", 13: "ooto", 15: "stuck",
    17: "suppressionlist", 60: "bounce", 75: "full", 100: "reject", 120: "delay", 140: "ooto", 180: "bounce",
}  # fmt: skip
"""By place in the order of the first reminders."""
OPENS_EVERY = 4
CLICKS_EVERY = 10
_TEACHERS = range(201, 207)
_ORDER = (
    "SELECT u.id FROM {reengagement_inprogress} ip JOIN {reengagement} r ON r.id = ip.reengagement"
    " JOIN {user} u ON u.id = ip.userid JOIN {user_enrolments} ue ON ue.userid = u.id AND ue.enrolid = r.course"
    " WHERE r.emailuser = 2 AND ip.emailsent < r.remindercount AND u.deleted = 0 AND u.suspended = 0"
    " AND u.emailstop = 0 AND u.auth <> 'nologin' AND u.email LIKE '%.example' AND ue.status = 0"
    " GROUP BY u.id ORDER BY min(ip.emailtime)"
)


def write_mailboxes(writer: Writer) -> None:
    """Give learners' addresses their tags. Managers and teachers, who get copies of many mails, have none."""
    others = {*COMPANY_MANAGERS, *DEPARTMENT_MANAGERS, *_TEACHERS}
    learners = [user for (user,) in writer.query(_ORDER) if user not in others]
    tagged = [(f"+{tag}@", user) for place, user in enumerate(learners) if (tag := _tag(place))]
    writer.run("UPDATE {user} SET email = replace(email, '@', ?) WHERE id = ?", tagged)


def _tag(place: int) -> str:
    if place in TAGS:
        return TAGS[place]
    return "click" if place % CLICKS_EVERY == 0 else "open" if place % OPENS_EVERY == 0 else ""
