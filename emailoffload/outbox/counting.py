"""How the hourly counts come about: an hour is counted from its rows, whole, whenever a note says that it changed.

`recount` reads the ids of the hour's notes, then counts, then writes the counts and takes those notes away in one
transaction, but only if all of them were still there. A change that is committed after the ids were read has a note
of its own, which stays. Two processes that count the same hour at once have a note in common: whoever is second finds
it gone and writes nothing, so that an older count never replaces a newer one. A process that dies has changed nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import models, transaction
from django.db.models import Count

from emailoffload.outbox import bulk, hourchanges
from emailoffload.outbox.deadlocks import survive
from emailoffload.outbox.figures import CLAIMS, EMAILS, KINDS, LEFT, HourChange, HourCount, LeftRow
from emailoffload.outbox.models import Claim, Email
from emailoffload.outbox.states import ClaimState

HOUR = timedelta(hours=1)
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

    def frozen(self, now: datetime) -> bool:
        """Whether its counts stay as they are."""
        return self.begins < hourchanges.hour_of(now - FROZEN_AFTER[self.kind])


def rows_of(hour: Hour) -> models.QuerySet[models.Model]:
    """The rows that began in an hour; by an index on the time."""
    until = hour.begins + HOUR
    if hour.kind == EMAILS:
        return Email.objects.filter(created_at__gte=hour.begins, created_at__lt=until).order_by()
    if hour.kind == CLAIMS:
        # All states are named because the index begins with the state.
        return Claim.objects.filter(
            state__in=ClaimState.values, created_at__gte=hour.begins, created_at__lt=until
        ).order_by()
    return LeftRow.objects.filter(first_seen__gte=hour.begins, first_seen__lt=until).order_by()


def count(hour: Hour) -> Figures:
    """What the rows of an hour come to, in one query over these rows."""
    key = "reason" if hour.kind == LEFT else "state"
    found: Figures = Counter()
    rows = rows_of(hour).values_list("source", "company_id", key).annotate(Count("pk"))
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
        if _take_away(notes) != len(notes):
            transaction.set_rollback(True)
            return False
        if stored(hour) != figures:
            HourCount.objects.filter(kind=hour.kind, hour=hour.begins).delete()
            rows = [
                {
                    "kind": hour.kind, "hour": hour.begins, "source": source, "company_id": company,
                    "key": key, "number": number,
                }
                for (source, company, key), number in sorted(figures.items())
            ]  # fmt: skip
            bulk.insert(HourCount, rows)
    return True
