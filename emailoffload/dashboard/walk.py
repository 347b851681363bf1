"""Emails that fit any combination of filters, newest first, found at any size of the table.

No index fits every combination, and a database that has to guess reads ten million rows (perf-facts). So the way
is chosen here: one index is walked from the newest email back, all other filters are looked at on the way, and the
walk ends after a bounded number of rows, with the place from which the next page goes on.

1. *Window*: a time becomes a range of ids, as ids grow with time (`SKEW`).
2. *Driver*: of the filters that have an index, the one with the fewest emails; without any, the ids themselves. A
   filter with several values (states) becomes several walks, one for each, that are merged.
3. *Floor*: where other filters remain, the id at which so many rows have been looked at (`WALK`, `SWEEP`).

On MariaDB the index is named in the statement: its planner would sometimes sort millions of rows instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import Q, QuerySet

from emailoffload.dashboard.paging import COUNT_CAP, Capped
from emailoffload.outbox.models import Email

WALK = 30_000
"""Entries of an index that one page looks at: each costs a look at its row."""
SWEEP = 100_000
"""Rows that one page looks at without an index: they lie beside each other."""
FEW = 10_000
"""An index with no more entries than this answers everything at once."""
LEGS_MOST = 20
"""Values of one filter that are walked separately; with more, the filter does not drive."""
SKEW = timedelta(hours=1)
"""How far the order of ids and that of `created_at` may differ: clocks of hosts, the length of a pass."""
BEYOND = 1000
"""Emails beyond the end of a time that must agree where its ids end: a clock may have been wrong for a moment."""

INDEXES: Final[Mapping[str, str]] = {
    "ref": "ref",
    "message_id": "message_id",
    "user_id": "email_user",
    "address": "email_address",
    "activity_id": "email_activity",
    "course_id": "email_course",
    "company_id": "email_company",
    "state": "email_state",
}
"""Columns that can drive and their indexes, those with the fewest emails for each value first."""
UNIQUE: Final = frozenset({"ref", "message_id"})
PRIMARY: Final = "PRIMARY"


@dataclass(slots=True)
class Wanted:
    """What is looked for. `equal`: column → values of which any fits; `rest`: what no index can find."""

    equal: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    rest: Q = field(default_factory=Q)
    start: datetime | None = None
    """`created_at` from here on; aware, as `end`."""
    end: datetime | None = None
    """`created_at` before this."""
    private: bool = False
    """The one who asks sees only some companies: how far is looked may not depend on the emails of others."""

    def narrow(self, column: str, values: Sequence[Any]) -> None:
        """Of what is wanted only what has one of these values."""
        old = self.equal.get(column)
        self.equal[column] = tuple(dict.fromkeys(v for v in values if old is None or v in old))

    def since(self, start: datetime) -> None:
        """Only what was rendered at `start` or later."""
        self.start = start if self.start is None else max(self.start, start)

    def until(self, end: datetime) -> None:
        """Only what was rendered before `end`."""
        self.end = end if self.end is None else min(self.end, end)

    @property
    def nothing(self) -> bool:
        """Whether no email can fit."""
        if self.start and self.end and self.start >= self.end:
            return True
        return not all(self.equal.values())

    @property
    def condition(self) -> Q:
        """All of it as one condition, for those who need no speed."""
        return self.others("")

    def others(self, driver: str) -> Q:
        """All of it as one condition, but for the column that drives."""
        found = self.rest
        for column, values in self.equal.items():
            if column != driver:
                found &= Q(**{f"{column}__in": values}) if len(values) != 1 else Q(**{column: values[0]})
        if self.start is not None:
            found &= Q(created_at__gte=self.start)
        if self.end is not None:
            found &= Q(created_at__lt=self.end)
        return found


@dataclass(frozen=True, slots=True)
class Found:
    """Ids of one page, newest first, and the keys of its neighbours (None: there is none)."""

    ids: Sequence[int]
    older_than: int | None = None
    newer_than: int | None = None
    count: Capped | None = None
    """How many there are in all; where `cut`, in what was looked at. None: not known on this page."""
    cut: int | None = None
    """The id at which the walk ended, although there is more to look at."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which index is walked for which conditions, and what else has to fit. Ids run from `low` to `high`."""

    index: str
    legs: Sequence[Q]
    others: Q
    low: int | None
    high: int | None

    def _rows(self, leg: Q, low: int | None, high: int | None) -> QuerySet[Email]:
        rows = Email.objects.filter(leg)
        if low is not None:
            rows = rows.filter(pk__gte=low)
        return rows if high is None else rows.filter(pk__lte=high)

    def ids(self, low: int | None, high: int | None, limit: int, *, up: bool = False) -> list[int]:
        """At most `limit` ids that fit, from `high` down, or from `low` up; one query for each leg."""
        order = "pk" if up else "-pk"
        found: set[int] = set()
        for leg in self.legs:
            rows = self._rows(leg, low, high).filter(self.others)
            found.update(_ids(rows.order_by(order)[:limit], self.index))
        return sorted(found, reverse=not up)[:limit]

    def end(self, low: int | None, high: int | None, *, up: bool = False) -> int | None:
        """The id at which a walk from `high` down (or from `low` up) has looked at enough; None: it sees all.

        The id itself is not looked at any more.
        """
        if not self.others:
            return None
        if self.index == PRIMARY:
            return _sweep_end(low, high, up)
        share = max(1, WALK // len(self.legs))
        ends = []
        for leg in self.legs:
            rows = self._rows(leg, low, high).order_by("pk" if up else "-pk").values("pk")[: share + 1]
            number, end = _extent(rows, self.index, up)
            if number > share:
                ends.append(end)
        if not ends:
            return None
        return min(ends) if up else max(ends)


def _sweep_end(low: int | None, high: int | None, up: bool) -> int | None:
    first = low or Email.objects.order_by("pk").values_list("pk", flat=True).first()
    last = high or Email.objects.order_by("-pk").values_list("pk", flat=True).first()
    if first is None or last is None or last - first < SWEEP:
        return None
    return first + SWEEP if up else last - SWEEP


def newest(column: str, value: str | int, limit: int) -> list[int]:
    """Ids of the newest emails that have a value in one of the columns of `INDEXES`, at most `limit`.

    The index is named to the server: for a few rows in the order of ids it would rather read emails from the last one
    on, and for a value that only old ones have that is all of them.
    """
    rows = Email.objects.filter(**{column: value}).order_by("-pk").values("pk")[:limit]
    return [row[0] for row in _fetch(rows, INDEXES[column])]


def _named(sql: str, index: str) -> str:
    """The statement with the index that it has to use, where the database takes such a word."""
    if connection.vendor != "mysql" or index in UNIQUE:
        return sql
    table = connection.ops.quote_name(Email._meta.db_table)
    return sql.replace(f" FROM {table}", f" FROM {table} FORCE INDEX (`{index}`)", 1)


def _fetch(rows: QuerySet[Any, Any], index: str) -> list[tuple[Any, ...]]:
    try:
        sql, params = rows.query.sql_with_params()
    except EmptyResultSet:  # an id that no column can hold
        return []
    with connection.cursor() as cursor:
        cursor.execute(_named(sql, index), params)
        return list(cursor.fetchall())


def _ids(rows: QuerySet[Email], index: str) -> list[int]:
    return [row[0] for row in _fetch(rows.values_list("pk"), index)]


def _extent(rows: QuerySet[Email, Any], index: str, up: bool) -> tuple[int, int]:
    """How many of `rows` there are, and the id of the last one."""
    try:
        inner, params = rows.query.sql_with_params()
    except EmptyResultSet:
        return 0, 0
    statement = f"SELECT COUNT(*), {'MAX' if up else 'MIN'}(pk) FROM ({_named(inner, index)}) looked_at"  # noqa: S608 - no value is in it
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        number, end = cursor.fetchone()
    return int(number), int(end or 0)


def _window(wanted: Wanted) -> tuple[int | None, int | None]:
    """The ids between which all emails of the wanted time are; None: no bound that is certain."""
    low = high = None
    if wanted.start is not None:
        earlier = Email.objects.filter(created_at__lt=wanted.start - SKEW).order_by("-created_at")
        ids = list(earlier.values_list("pk", flat=True)[:BEYOND])
        low = min(ids) if len(ids) == BEYOND else None
    if wanted.end is not None:
        later = Email.objects.filter(created_at__gte=wanted.end + SKEW).order_by("created_at")
        ids = list(later.values_list("pk", flat=True)[:BEYOND])
        high = max(ids) if len(ids) == BEYOND else None
    return low, high


def _driver(wanted: Wanted, low: int | None, high: int | None) -> str:
    """The column to walk: that with the fewest emails in the window, if these are few, else the most telling one."""
    able = [column for column in INDEXES if 0 < len(wanted.equal.get(column, ())) <= LEGS_MOST]
    if not able:
        return ""
    if len(able) == 1 or able[0] in UNIQUE:
        return able[0]
    sizes = {}
    for column in able:
        rows = Plan(INDEXES[column], [], Q(), low, high)._rows(
            Q(**{f"{column}__in": wanted.equal[column]}), low, high
        )
        sizes[column], _end = _extent(rows.order_by().values("pk")[: FEW + 1], INDEXES[column], False)
    best = min(able, key=lambda column: sizes[column])
    if sizes[best] <= FEW:
        return best
    return "company_id" if wanted.private and "company_id" in able else able[0]


def plan(wanted: Wanted) -> Plan:
    """How to find what is wanted; up to two queries for the time and one for each filter that has an index."""
    low, high = _window(wanted)
    column = _driver(wanted, low, high)
    legs = [Q(**{column: value}) for value in wanted.equal[column]] if column else [Q()]
    return Plan(INDEXES.get(column, PRIMARY), legs, wanted.others(column), low, high)


def find(wanted: Wanted, size: int, before: int | None = None, after: int | None = None) -> Found:
    """One page: at most `size` ids older than `before`, or newer than `after`, or else the newest.

    The first page counts too, up to `COUNT_CAP`; further pages only where an index alone has the answer.
    """
    if wanted.nothing:
        return Found([], count=Capped(0, False))
    way = plan(wanted)
    if after is not None:
        return _newer(way, size, after)
    high = way.high if before is None else min(before - 1, way.high or before - 1)
    floor = way.end(way.low, high)
    low = way.low if floor is None else floor + 1
    ids = way.ids(low, high, size + 1 if before is not None else max(COUNT_CAP, size) + 1)
    shown = ids[:size]
    older = shown[-1] if len(ids) > size else None if floor is None else floor + 1
    newer = None if before is None else (shown[0] if shown else before - 1)
    cut = floor if len(ids) <= (size if before is not None else COUNT_CAP) else None
    return Found(shown, older, newer, _count(way, ids if before is None else None), cut)


def _newer(way: Plan, size: int, after: int) -> Found:
    low = max(after + 1, way.low or 0)
    ceiling = way.end(low, way.high, up=True)
    high = way.high if ceiling is None else ceiling - 1
    ids = way.ids(low, high, size + 1, up=True)
    shown = ids[:size][::-1]
    newer = shown[0] if len(ids) > size else None if ceiling is None else ceiling - 1
    return Found(shown, shown[-1] if shown else after + 1, newer, _count(way, None))


def _count(way: Plan, ids: Sequence[int] | None) -> Capped | None:
    if ids is None:
        if way.others:
            return None
        ids = way.ids(way.low, way.high, COUNT_CAP + 1)
    return Capped(min(len(ids), COUNT_CAP), len(ids) > COUNT_CAP)


def every(wanted: Wanted, size: int) -> Iterator[list[int]]:
    """All ids that fit, newest first, in lists of at most `size`; each is found when it is asked for."""
    if wanted.nothing:
        return
    way = plan(wanted)
    high = way.high
    while True:
        floor = way.end(way.low, high)
        ids = way.ids(way.low if floor is None else floor + 1, high, size)
        if ids:
            yield ids
        if len(ids) == size:
            high = ids[-1] - 1
        elif floor is not None:
            high = floor
        else:
            return


def moment(pk: int) -> datetime | None:
    """When the email at this id, or the next one after it, was rendered."""
    return Email.objects.filter(pk__gte=pk).order_by("pk").values_list("created_at", flat=True).first()
