"""The dashboard's figures, read from hourly counts and their sums, never from ten million rows.

Kinds: `email` (hour of `Email.created_at`, key: state), `claim` (hour of `Claim.created_at`, key: state), `left`
(hour of `LeftRow.first_seen`, key: reason). How the counts are kept is in `outbox.counting` and `worker.rollups`.

Every period is half-open and made of whole hours of UTC: **an hour belongs to the period in which it begins**, so that
periods that follow each other count nothing twice and forget nothing. `whole_hours` says which moments a period really
covers; links to the rows behind a number use those. In zones that are half an hour off UTC a day therefore begins with
the first hour of UTC that begins in it: at 0:30.

`companies` is what `scope.companies_of` returned: None reads all, an empty set nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any, Literal

from django.db.models import QuerySet, Sum
from django.utils import timezone

from emailoffload.outbox.figures import CountSum, HourCount
from emailoffload.outbox.models import State

STATE = "rollups"
"""The name of the shared fact that the pass leaves: how far it came."""
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
Rows = QuerySet[CountSum] | QuerySet[HourCount]


def whole_hours(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """The moments (UTC, half-open) that the counts of the period from `start` to `end` cover."""
    return _first_hour(start), _first_hour(end)


def totals(
    kind: str,
    start: datetime,
    end: datetime,
    *,
    companies: Collection[int] | None = None,
    source: str = "",
) -> dict[str, int]:
    """How many of `kind` began in the period, by key (state or reason); keys that count nothing are absent."""
    rows = _rows(kind, start, end, companies, source)
    return dict(rows.values_list("key").annotate(Sum("number")))


def series(
    kind: str,
    start: datetime,
    end: datetime,
    *,
    by: Literal["hour", "day"] = "hour",
    companies: Collection[int] | None = None,
    source: str = "",
) -> list[tuple[datetime, dict[str, int]]]:
    """The same for each step of the period, in order, also for steps in which nothing began.

    A step is named by its beginning in the current time zone: a whole hour of UTC, or a day's midnight. Days are those
    of the zone's calendar, so that one has 23 or 25 hours where clocks change. The first and the last day may be cut.
    """
    first, last = whole_hours(start, end)
    zone = timezone.get_current_timezone()
    steps = list(_hours(first, last) if by == "hour" else _days(first, last, zone))
    found: list[dict[str, int]] = [{} for _ in steps]
    at = 0
    rows = _rows(kind, first, last, companies, source)
    hour_of = "hour" if rows.model is HourCount else "begins"
    for hour, key, number in rows.values_list(hour_of, "key").annotate(Sum("number")).order_by(hour_of):
        while at + 1 < len(steps) and steps[at + 1] <= hour:
            at += 1
        found[at][key] = found[at].get(key, 0) + number
    return [(step.astimezone(zone), counts) for step, counts in zip(steps, found, strict=True)]


def by_source(
    kind: str, start: datetime, end: datetime, *, companies: Collection[int] | None = None
) -> dict[str, dict[str, int]]:
    """How many of `kind` began in the period, by source and key."""
    found: dict[str, dict[str, int]] = {}
    rows = _rows(kind, start, end, companies, "")
    for source, key, number in rows.values_list("source", "key").annotate(Sum("number")).order_by("source"):
        found.setdefault(source, {})[key] = number
    return found


def by_company(
    kind: str,
    start: datetime,
    end: datetime,
    *,
    companies: Collection[int] | None = None,
    source: str = "",
    most: int = 20,
) -> list[tuple[int, dict[str, int]]]:
    """How many of `kind` began in the period, by company and key: the `most` largest companies, largest first.

    Company 0 is that of records of no company, or of none that is known.
    """
    found: dict[int, Counter[str]] = defaultdict(Counter)
    for rows in _by_company(kind, *whole_hours(start, end), companies, source):
        for company, key, number in rows.values_list("company_id", "key").annotate(Sum("number")):
            found[company][key] += number
    largest = sorted(found.items(), key=lambda item: (-item[1].total(), item[0]))[:most]
    return [(company, dict(counts)) for company, counts in largest]


def counted_until() -> datetime | None:
    """How fresh the counts are: every change made before this moment is in them. None: nothing is counted yet."""
    return _fact("until")


def counted_from() -> datetime | None:
    """While the hours of a site that was there before its counts are being counted, newest first: the oldest hour done.

    None: every hour is counted.
    """
    return _fact("from")


def ever(kind: str, now: datetime) -> dict[str, int] | None:
    """How many of `kind` (email, claim) there ever were, by source; it costs the same after ten years.

    None: not known, since hours of the past are still being counted.
    """
    added = _state().get("before")
    if added is None:
        return None
    found = Counter(added[kind])
    found.update(numbers(kind, datetime.fromisoformat(added["day"]), now + HOUR))
    return dict(found)


def numbers(kind: str, start: datetime, end: datetime) -> dict[str, int]:
    """How many of `kind` began in the period, by source."""
    return {source: sum(by_key.values()) for source, by_key in by_source(kind, start, end).items()}


def _state() -> dict[str, Any]:
    return State.objects.filter(name=STATE).values_list("value", flat=True).first() or {}


def _fact(name: str) -> datetime | None:
    value = _state()
    return datetime.fromisoformat(value[name]) if value.get(name) else None


def _rows(kind: str, start: datetime, end: datetime, companies: Collection[int] | None, source: str) -> Rows:
    """Hourly numbers of the period: the sums of all companies, or the counts of some."""
    first, last = whole_hours(start, end)
    if companies is None:
        sums = CountSum.objects.filter(kind=kind, unit="hour", begins__gte=first, begins__lt=last)
        return _of(sums, None, source)
    return _of(HourCount.objects.filter(kind=kind, hour__gte=first, hour__lt=last), companies, source)


def _by_company(
    kind: str, first: datetime, last: datetime, companies: Collection[int] | None, source: str
) -> Iterator[Rows]:
    """Numbers by company: whole days of UTC from their sums, the hours before and after them from the counts."""
    days = first.replace(hour=0) + (DAY if first.hour else timedelta(0)), last.replace(hour=0)
    edges = [(first, last)]
    if days[0] < days[1]:
        edges = [(first, days[0]), (days[1], last)]
        sums = CountSum.objects.filter(kind=kind, unit="day", begins__gte=days[0], begins__lt=days[1])
        yield _of(sums, companies, source)
    for begins, ends in edges:
        if begins < ends:
            yield _of(HourCount.objects.filter(kind=kind, hour__gte=begins, hour__lt=ends), companies, source)


def _of(rows: Rows, companies: Collection[int] | None, source: str) -> Rows:
    if companies is not None:
        rows = rows.filter(company_id__in=sorted(companies))
    return rows.filter(source=source) if source else rows


def _first_hour(moment: datetime) -> datetime:
    """The first whole hour of UTC that is not before `moment`."""
    utc = moment.astimezone(UTC)
    hour = utc.replace(minute=0, second=0, microsecond=0)
    return hour if hour == utc else hour + HOUR


def _hours(first: datetime, last: datetime) -> Iterator[datetime]:
    while first < last:
        yield first
        first += HOUR


def _days(first: datetime, last: datetime, zone: tzinfo) -> Iterator[datetime]:
    """The beginnings of the days of `zone` that hold hours of the period, in UTC."""
    day = first.astimezone(zone).date()
    while first < last and _first_hour(begins := _midnight(day, zone)) < last:
        yield begins
        day += timedelta(days=1)


def _midnight(day: date, zone: tzinfo) -> datetime:
    """When a day begins: at the first of two midnights, and where there is none, when clocks jump over it."""
    return datetime.combine(day, time.min, zone).astimezone(UTC)
