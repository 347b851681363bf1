"""Which hours must be counted anew: a note is written in the very transaction that changes what began in the hour.

So a note is seen when the change is seen, never before and never without it: no clock matters, neither that of another
host nor how late a transaction commits. (`Email.state_at` would not tell: for what SES reports it is the event's own
time, which may be days ago.) Notes are only ever added; `counting` takes away those whose hour it has counted.

Whoever inserts or deletes emails, claims or left rows, or changes their `state` or `reason`, calls one of these inside
of the same transaction: after an UPDATE, before a DELETE. Too many ids are harmless: an hour is counted in vain.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime

from django.db import connection

from emailoffload.outbox.figures import CLAIMS, EMAILS, LEFT, HourChange, LeftRow
from emailoffload.outbox.models import Claim, Email

_NOTES = HourChange._meta.db_table
_IDS = 1000
"""Ids per statement."""


def hour_of(moment: datetime) -> datetime:
    """The hour of UTC that a moment is in."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def emails(ids: Collection[int]) -> None:
    """These emails have changed, or are about to be deleted."""
    _note(EMAILS, Email._meta.db_table, "created_at", "id", ids)


def claims(ids: Collection[int]) -> None:
    """These claims have changed."""
    _note(CLAIMS, Claim._meta.db_table, "created_at", "id", ids)


def emails_of(claim_ids: Collection[int]) -> None:
    """Emails of these claims have changed, or are about to be deleted."""
    _note(EMAILS, Email._meta.db_table, "created_at", "claim_id", claim_ids)


def left_rows(ids: Collection[int]) -> None:
    """These rows left to Moodle have another reason, or are about to be deleted."""
    _note(LEFT, LeftRow._meta.db_table, "first_seen", "id", ids)


def began(kind: str, moments: Iterable[datetime]) -> None:
    """Rows of `kind` were inserted that began at these moments."""
    hours = sorted({hour_of(moment) for moment in moments})
    if hours:
        values = [value for hour in hours for value in (kind, f"{hour:%Y-%m-%d %H:00:00}")]
        with connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {_NOTES} (kind, hour) VALUES {', '.join(['(%s, %s)'] * len(hours))}",  # noqa: S608
                values,
            )


_HOUR = {
    "mysql": "DATE_FORMAT({}, '%%Y-%%m-%%d %%H:00:00')",
    "sqlite": "strftime('%%Y-%%m-%%d %%H:00:00', {})",
}
"""The hour of a moment. Our times are stored as UTC."""


def _note(kind: str, table: str, moment: str, key: str, ids: Collection[int]) -> None:
    """One statement, which reads the rows by their key; nothing is locked under READ COMMITTED."""
    hour = _HOUR[connection.vendor].format(moment)
    numbers = [str(int(number)) for number in sorted(ids)]
    with connection.cursor() as cursor:
        for start in range(0, len(numbers), _IDS):
            part = ",".join(numbers[start : start + _IDS])
            cursor.execute(
                f"INSERT INTO {_NOTES} (kind, hour) SELECT DISTINCT %s, {hour} FROM {table}"  # noqa: S608
                f" WHERE {key} IN ({part})",
                [kind],
            )
