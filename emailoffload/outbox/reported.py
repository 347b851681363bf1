"""What SES reported, written into the rows of emails: many emails, one statement.

The caller holds the rows' locks and has decided what each row says (`feedback.fold`); the table of moves is
obeyed here all the same, so that no report pulls a state back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from operator import attrgetter
from typing import Any

from emailoffload.outbox import erasure, hourchanges
from emailoffload.outbox.figures import EMAILS
from emailoffload.outbox.models import Attempt, Email
from emailoffload.outbox.states import TRANSITIONS, EmailState
from emailoffload.outbox.transitions import INTERRUPTED, sql_time, update_each

BATCH = 250
"""Emails per statement: each value is looked up in a list of that length."""


@dataclass(frozen=True, slots=True)
class Reported:
    """What one email's row says from now on; the fields are columns."""

    state: EmailState
    state_at: datetime
    reason: str
    detail: str
    message_id: str
    accepted_at: datetime | None
    delivered_at: datetime | None
    opened_at: datetime | None
    clicked_at: datetime | None
    bounced_at: datetime | None
    complained_at: datetime | None


COLUMNS = tuple(each.name for each in fields(Reported))
_values = attrgetter(*COLUMNS)


def apply(reports: Sequence[tuple[Email, Reported]], now: datetime) -> list[Email]:
    """Write what was reported about these locked emails; returns those whose rows changed, brought up to date.

    A mail that moves is freed from its lease, so that a dispatcher that was about to send it does not; an attempt
    that was in flight then counts as unanswered until its dispatcher records the answer. Credentials that have
    arrived are erased at once. Call it in the transaction that locked the rows.
    """
    moved: list[Email] = []
    stayed: list[Email] = []
    in_flight: list[int] = []
    for email, report in reports:
        old = EmailState(email.state)
        if report.state is not old and report.state not in TRANSITIONS[old]:
            continue  # only if former events are gone: what they said stays
        if _values(email) == _values(report):
            continue
        for name in COLUMNS:
            setattr(email, name, getattr(report, name))
        if report.state is old:
            stayed.append(email)
            continue
        moved.append(email)
        email.lease, email.leased_until = "", None
        if old is EmailState.SENDING:
            in_flight.append(email.pk)
    _write(moved, "lease = '', leased_until = NULL")
    _write(stayed, "")
    hourchanges.began(EMAILS, [email.created_at for email in moved])
    if in_flight:
        Attempt.objects.filter(email__in=in_flight, outcome="in_flight").update(
            outcome="unknown", error_code=INTERRUPTED, finished_at=now
        )
    arrived = [email.pk for email in moved if email.sensitive and email.state in erasure.AT_ONCE]
    if arrived:
        erasure.erase(arrived, now=now)
    return moved + stayed


def _write(emails: Sequence[Email], constant: str) -> None:
    for start in range(0, len(emails), BATCH):
        part = emails[start : start + BATCH]
        update_each(
            Email._meta.db_table,
            "id",
            [email.pk for email in part],
            {name: [_value(getattr(email, name)) for email in part] for name in COLUMNS},
            constant,
            [],
            "1 = 1",
            [],
        )


def _value(value: Any) -> Any:
    if isinstance(value, datetime):
        return sql_time(value)
    return value.value if isinstance(value, EmailState) else value
