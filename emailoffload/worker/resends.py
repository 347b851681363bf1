"""Resends just before they leave: which may not, although a person asked for them.

A person decided that this mail goes out again, so the rules for automatic mails (the two-day rule, the row in
Moodle, enrolment, the user's message preferences) do not stop it. One thing does: nobody whose account was
deleted, or who is not in Moodle any more, is written to.
"""

from __future__ import annotations

from collections.abc import Sequence

from emailoffload.moodle import models as moodle
from emailoffload.outbox.models import Email
from emailoffload.sources import reasons
from emailoffload.worker.senders import Job


def gone(jobs: Sequence[Job]) -> dict[int, str]:
    """Reason codes by email id, for resends whose recipient is gone; two queries.

    An address without a user of Moodle (a fixed copy, a third party) cannot be gone. Raises database errors.
    """
    rows = Email.objects.filter(pk__in=[job.email_id for job in jobs]).values_list(
        "pk", "role", "user_id", "recipient_id"
    )
    people = {
        pk: recipient_id or user_id
        for pk, role, user_id, recipient_id in rows
        if recipient_id or role == "user"
    }
    deleted = dict(moodle.User.objects.filter(pk__in=set(people.values())).values_list("pk", "deleted"))
    found = {}
    for pk, person in people.items():
        if person not in deleted:
            found[pk] = reasons.USER_MISSING
        elif deleted[person]:
            found[pk] = reasons.USER_DELETED
    return found
