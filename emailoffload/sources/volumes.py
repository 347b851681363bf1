"""How much mail is waiting: learners and mails owed by activity, waiting rows by kind of IOMAD mail.

Neither table has an index that would help (facts §1.1, §1.3), so each is read once, in windows of ids, and the
server adds up: what comes back is one row for each activity, or for each company and kind of mail, of a window.
For the hourly count of the page *Coverage* only. Times are whole UNIX seconds. All raise database errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.db import connections

from emailoffload.moodle.iomad import SHOP_ADMIN
from emailoffload.moodle.types import EMAILUSER_COMPLETION, EMAILUSER_TIME
from emailoffload.sources.reengagement.timing import TWO_DAYS

DAY, WEEK = 86400, 7 * 86400
REMINDER_WINDOW: Final = 100_000
"""Ids of `reengagement_inprogress` per statement."""
QUEUE_WINDOW: Final = 200_000
"""Ids of `email` per statement: its rows carry bodies."""

FAR: Final = 10**12
"""Seconds: a time or a delay beyond counts as this one, since one damaged row would end the whole count otherwise."""

Kind = tuple[int, str]
"""(company id, template), the template in lower case: the database compares names without case."""


@dataclass(slots=True)
class Waiting:
    """Of one activity. Mails are counted one to each reminder, as if every learner stays and nobody is stopped."""

    learners: int = 0
    """Rows of learners on the way."""
    day: int = 0
    """Mails owed within 24 hours."""
    week: int = 0
    """Mails owed within 7 days."""

    def __iadd__(self, other: Waiting) -> Waiting:
        self.learners += other.learners
        self.day += other.day
        self.week += other.week
        return self


@dataclass(slots=True)
class Queued:
    """Of one kind of mail of a company."""

    waiting: int = 0
    """Rows that nobody has sent."""
    day: int = 0
    """Of these, due within 24 hours."""
    recent: int = 0
    """Rows queued or sent in the last 7 days, by whomever."""
    shop: int = 0
    """Of these, to the shop's administrator."""

    def __iadd__(self, other: Queued) -> Queued:
        self.waiting += other.waiting
        self.day += other.day
        self.recent += other.recent
        self.shop += other.shop
        return self


def reminders(now: int) -> Iterator[dict[int, Waiting]]:
    """Learners on the way and mails owed by activity id, one window of ids after the other."""
    inprogress, activity = _table("reengagement_inprogress"), _table("reengagement")
    columns = f"i.reengagement, COUNT(*), SUM({_owed(now, now + DAY)}), SUM({_owed(now, now + WEEK)})"
    for after, last in _windows(inprogress, REMINDER_WINDOW):
        rows = _rows(
            f"SELECT {columns} FROM {inprogress} i JOIN {activity} r ON r.id = i.reengagement"  # noqa: S608
            f" WHERE i.id > {after} AND i.id <= {last} GROUP BY i.reengagement"
        )
        yield {row[0]: Waiting(*(int(number) for number in row[1:])) for row in rows}


def queued(now: int) -> Iterator[dict[Kind, Queued]]:
    """Waiting and recent rows of IOMAD's queue by company and kind of mail, one window of ids after the other."""
    table, since = _table("email"), now - WEEK
    recent = f"modifiedtime >= {since}"
    columns = (
        "companyid, COALESCE(templatename, ''), SUM(sent IS NULL),"
        f" SUM(sent IS NULL AND due < {now + DAY}), SUM({recent}), SUM({recent} AND userid = {SHOP_ADMIN})"
    )
    for after, last in _windows(table, QUEUE_WINDOW):
        found: dict[Kind, Queued] = {}
        for company, name, *numbers in _rows(
            f"SELECT {columns} FROM {table} WHERE id > {after} AND id <= {last}"  # noqa: S608
            f" AND (sent IS NULL OR {recent}) GROUP BY companyid, COALESCE(templatename, '')"
        ):
            found.setdefault((company, name.lower()), Queued()).__iadd__(Queued(*map(int, numbers)))
        yield found


def _owed(now: int, until: int) -> str:
    """SQL: how many mails Moodle owes for a row from `now` to `until`, by facts §2.5, §2.6, §2.7 and §2.9.

    What is overdue goes out at once, or is dropped and counted where it is overdue for more than two days; each
    further mail follows a delay later, until enough are sent or the activity completes. With completion the one
    mail goes out that a learner is owed who has had none.
    """
    least, greatest, whole = ("MIN", "MAX", "/") if _is_sqlite() else ("LEAST", "GREATEST", "DIV")
    at, completion, delay = (
        f"{greatest}({least}({column}, {FAR}), 0)"
        for column in ("i.emailtime", "i.completiontime", "r.emaildelay")
    )
    late = f"({at} + {TWO_DAYS} < {now})"
    base = f"(CASE WHEN {late} THEN {now} + {delay} ELSE {greatest}({at}, {now}) END)"
    rest = f"(r.remindercount - i.emailsent - {late})"
    series = f"1 + ({least}({until}, {completion}) - 1 - {base}) {whole} {greatest}({delay}, 1)"
    after_delay = (
        "CASE WHEN i.emailsent >= r.remindercount THEN 0"
        f" WHEN i.completed <> 0 OR ({completion} <= {base} AND i.emailsent + {late} = 0)"
        f" THEN (CASE WHEN {late} THEN 0 ELSE {base} < {until} END)"
        f" WHEN {completion} <= {base} OR {base} >= {until} OR {rest} <= 0 THEN 0"
        f" ELSE {least}({rest}, {series}) END"
    )
    at_completion = f"i.completed = 0 AND {completion} < {until} AND {completion} + {TWO_DAYS} >= {now}"
    return (
        f"CASE r.emailuser WHEN {EMAILUSER_TIME} THEN {after_delay}"
        f" WHEN {EMAILUSER_COMPLETION} THEN ({at_completion}) ELSE 0 END"
    )


def _is_sqlite() -> bool:
    return connections["moodle"].vendor == "sqlite"


def _table(name: str) -> str:
    return connections["moodle"].ops.quote_name(f"{settings.MOODLE_DB_PREFIX}{name}")


def _windows(table: str, size: int) -> Iterator[tuple[int, int]]:
    """The table's ids as (after, last), `size` at a time; nothing for an empty table."""
    low, high = _rows(f"SELECT MIN(id), MAX(id) FROM {table}")[0]  # noqa: S608
    if low is not None:
        for after in range(low - 1, high, size):
            yield after, after + size


def _rows(sql: str) -> list[tuple[Any, ...]]:
    with connections["moodle"].cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())
