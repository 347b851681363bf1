"""How the hourly counts come about: an hour is counted from its rows, whole, whenever a note says that it changed.

`recount` reads the ids of the hour's notes, then counts, then writes the counts, with the sums that they are part of,
and takes those notes away in one transaction, but only if all of them were still there. A change that is committed
after the ids were read has a note of its own, which stays. Two processes that count the same hour at once have a note
in common: whoever is second finds it gone and writes nothing, so that an older count never replaces a newer one. A
process that dies has changed nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import models, transaction
from django.db.models import Count, Sum

from emailoffload.outbox import bulk, hourchanges
from emailoffload.outbox.deadlocks import survive
from emailoffload.outbox.figures import CLAIMS, EMAILS, KINDS, LEFT, CountSum, HourChange, HourCount, LeftRow
from emailoffload.outbox.models import Claim, Email, Lease
from emailoffload.outbox.states import ClaimState

LEASE = "rollups"
"""The lease of the one pass that counts."""
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
LARGE = 50_000
"""Rows of an hour that are counted in one query."""
NOTES_AT_ONCE = 20_000
"""Notes of an hour that one count takes away at most; where there are more, it is counted again."""
_IDS = 1000
FROZEN_AFTER = {EMAILS: timedelta(days=400), CLAIMS: timedelta(days=400), LEFT: timedelta(days=85)}
"""How old an hour of a kind is when its counts stay as they are, whatever becomes of its rows.

So the figures outlive the rows. Who deletes rows for good deletes only older ones: `worker.left` keeps its for 90 days.
"""

Figures = Counter[tuple[str, int, str]]
"""Numbers by (source, company, key); company 0 is none, or none that is known."""


@dataclass(frozen=True, slots=True, order=True)
class Hour:
    """One hour of one kind; the later one is the larger."""

    begins: datetime
    kind: str

    def __str__(self) -> str:
        return f"{self.kind} {self.begins.isoformat()}"

    def frozen(self, now: datetime) -> bool:
        """Whether its counts stay as they are."""
        return self.begins < hourchanges.hour_of(now - FROZEN_AFTER[self.kind])


def _rows(hour: Hour, start: datetime, end: datetime) -> models.QuerySet[models.Model]:
    """The rows of an hour's kind that began from `start` to before `end`; by an index on the time."""
    if hour.kind == EMAILS:
        return Email.objects.filter(created_at__gte=start, created_at__lt=end).order_by()
    if hour.kind == CLAIMS:
        # All states are named because the index begins with the state.
        return Claim.objects.filter(
            state__in=ClaimState.values, created_at__gte=start, created_at__lt=end
        ).order_by()
    return LeftRow.objects.filter(first_seen__gte=start, first_seen__lt=end).order_by()


def _slices(hour: Hour) -> Iterator[tuple[datetime, datetime]]:
    """An hour in one piece, or a large one by the minute.

    Of a good part of a table MariaDB reads all the table, and not its index; a minute is always a small part. Looking
    whether an hour is large reads the index only, and no more of it than that.
    """
    end = hour.begins + HOUR
    large = _rows(hour, hour.begins, end).values("pk")[: LARGE + 1].count() > LARGE
    step = MINUTE if large else HOUR
    at = hour.begins
    while at < end:
        yield at, at + step
        at += step


def count(hour: Hour) -> Figures:
    """What the rows of an hour come to."""
    key = "reason" if hour.kind == LEFT else "state"
    found: Figures = Counter()
    for start, end in _slices(hour):
        rows = _rows(hour, start, end).values_list("source", "company_id", key).annotate(Count("pk"))
        for source, company, what, number in rows:
            found[(source, company or 0, what)] += number
    return found


def stored(hour: Hour) -> Figures:
    """What the counts of an hour say."""
    rows = HourCount.objects.filter(kind=hour.kind, hour=hour.begins)
    found: Figures = Counter()
    for source, company, key, number in rows.values_list("source", "company_id", "key", "number"):
        found[(source, company, key)] = number
    return found


def recount(hour: Hour) -> bool:
    """Count an hour that has notes anew; False where another process has just done so, or it has none.

    Raises database errors; nothing is changed then.
    """
    notes = _notes(hour)
    if not notes:
        return False
    figures = count(hour)
    return survive(lambda: _replace(hour, notes, figures))


def forget(hour: Hour) -> None:
    """Take the notes of an hour away without counting it: its counts are frozen."""
    survive(lambda: _take_away(_notes(hour)))


def noted(hour: Hour) -> bool:
    """Whether an hour waits to be counted anew."""
    return HourChange.objects.filter(kind=hour.kind, hour=hour.begins).exists()


def waiting() -> list[Hour]:
    """The hours that wait to be counted anew, the newest first."""
    # One query per kind: an index on kind and hour yields the hours of a kind without looking at every note.
    found = [
        Hour(begins, kind)
        for kind in KINDS
        for begins in HourChange.objects.filter(kind=kind).values_list("hour", flat=True).distinct()
    ]
    return sorted(found, reverse=True)


def _notes(hour: Hour) -> list[int]:
    notes = HourChange.objects.filter(kind=hour.kind, hour=hour.begins).order_by("pk")
    return list(notes.values_list("pk", flat=True)[:NOTES_AT_ONCE])


def _take_away(notes: list[int]) -> int:
    parts = (notes[start : start + _IDS] for start in range(0, len(notes), _IDS))
    return sum(HourChange.objects.filter(pk__in=part).delete()[0] for part in parts)


def _replace(hour: Hour, notes: list[int], figures: Figures) -> bool:
    with transaction.atomic():
        # Hours of one day share its sum: who counts them at once takes turns. The row is that of the pass's lease.
        list(Lease.objects.select_for_update().filter(name=LEASE))
        if _take_away(notes) != len(notes):
            transaction.set_rollback(True)
            return False
        if stored(hour) != figures:
            HourCount.objects.filter(kind=hour.kind, hour=hour.begins).delete()
            bulk.insert(
                HourCount,
                [
                    {
                        "kind": hour.kind, "hour": hour.begins, "source": source, "company_id": company,
                        "key": key, "number": number,
                    }
                    for (source, company, key), number in sorted(figures.items())
                ],
            )  # fmt: skip
        for unit, begins, sums in _sums(hour):
            if _stored_sums(hour.kind, unit, begins) != sums:
                CountSum.objects.filter(kind=hour.kind, unit=unit, begins=begins).delete()
                bulk.insert(
                    CountSum,
                    [
                        {
                            "kind": hour.kind, "unit": unit, "begins": begins, "source": source,
                            "company_id": company, "key": key, "number": number,
                        }
                        for (source, company, key), number in sorted(sums.items())
                    ],
                )  # fmt: skip
    return True


def summed(hour: Hour) -> bool:
    """Whether the sums that an hour's counts are part of are right."""
    return all(_stored_sums(hour.kind, unit, begins) == sums for unit, begins, sums in _sums(hour))


def _sums(hour: Hour) -> Iterator[tuple[str, datetime, Figures]]:
    """What the sums with an hour's counts come to: (unit, beginning, sums)."""
    rows = HourCount.objects.filter(kind=hour.kind, hour=hour.begins)
    of_all = rows.values_list("source", "key").annotate(Sum("number"))
    yield "hour", hour.begins, Counter({(source, 0, key): number for source, key, number in of_all})
    day = hour.begins.replace(hour=0)
    rows = HourCount.objects.filter(kind=hour.kind, hour__gte=day, hour__lt=day + DAY)
    by_company = rows.values_list("source", "company_id", "key").annotate(Sum("number"))
    yield "day", day, Counter({(source, company, key): number for source, company, key, number in by_company})


def _stored_sums(kind: str, unit: str, begins: datetime) -> Figures:
    rows = CountSum.objects.filter(kind=kind, unit=unit, begins=begins)
    return Counter(
        {
            (source, company, key): number
            for source, company, key, number in rows.values_list("source", "company_id", "key", "number")
        }
    )
