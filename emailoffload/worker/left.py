"""Which rows a pass left to Moodle, and why: counted at once, and put on record at the end of the pass.

A row is *left* where it was due, or falls due before the next pass can look at it, and was not claimed. It is on
record once for each due time: when it was first seen does not change, reason and last look follow the newest pass;
only that Moodle, too, mails nothing is not overruled by a pass that did not come to look at the row itself.
Who claims it later deletes the record in the transaction that marks the claim (`outbox.intents.settle`).

Rows can be many and stay for long: those of deleted users, say, stay in Moodle's tables for ever. So a row that is
on record is written again only if its reason changed or its last look is REFRESH old, and no more once it is SETTLED;
a pass writes a bounded number of rows, and the next one goes on. Nothing that goes wrong here keeps a row from being
claimed: it happens after the last claim of the pass, and the pass's record says so.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from django.db import Error, connections, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from emailoffload import logs
from emailoffload.moodle import loaders, models
from emailoffload.outbox import deadlocks, hourchanges
from emailoffload.outbox.figures import LEFT, LeftRow
from emailoffload.outbox.intents import moment
from emailoffload.outbox.models import Claim
from emailoffload.outbox.states import ClaimState
from emailoffload.sources import reasons
from emailoffload.sources.protocol import Candidate, Decision, Row
from emailoffload.worker import stopping

log = logging.getLogger(__name__)
SOON = 300
"""Seconds: what falls due before the next pass (each four minutes) may be Moodle's before we look again."""
REFRESH = timedelta(minutes=10)
"""How old the last look of an unchanged row may be on record."""
SETTLED = timedelta(days=2)
"""So long after it was due nothing new is written about a row: Moodle has mailed it, or never will (facts §2.7)."""
OLDEST = timedelta(days=30)
"""A row that was due longer ago and is not on record stays so: it says nothing about what we do."""
KEPT = timedelta(days=90)
"""How long after the last look a record is kept; longer than OLDEST and SETTLED, so that none comes back."""
MOST_NOTED = 200_000
"""Rows of one pass that are looked up at most."""
MOST_FRESH = 20_000
"""Records that one pass makes at most."""
MOST_CHANGED = 5_000
"""Records that one pass changes at most."""
BUDGET_SECONDS = 10.0
"""How long a pass takes for all this at most."""
UNDER_LOCK_SECONDS = 1.0
"""The same while Moodle's cron is kept out: the next pass goes on where this one stopped."""
CHUNK = 1000
FORGOTTEN_AT_ONCE = 5_000
_UNSAID = frozenset({reasons.CLAIM_IN_PROGRESS})
"""Reasons that do not mean that Moodle sends."""
_OURS = (ClaimState.INTENDED, ClaimState.CLAIMED, ClaimState.RELEASING)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Note:
    """A row as it was left. `due` is Moodle's UNIX seconds; what the row does not tell is None or ''."""

    row_id: int
    due: int
    reason: str
    detail: str
    template: str
    user_id: int
    activity_id: int | None
    course_id: int | None
    company_id: int | None
    looked_at: bool
    """The pass looked at the row itself, so that the reason is the row's; else it is the pass's."""

    @property
    def key(self) -> tuple[int, datetime]:
        """What it is on record by, within its source."""
        return self.row_id, moment(self.due)

    @property
    def said(self) -> tuple[str, str]:
        """Reason and detail as the record holds them."""
        return self.reason[:60], self.detail[:255]


class Left:
    """What one pass (or one thread of it) leaves to Moodle; `counts` is its result's, by reason."""

    def __init__(self, source: str, counts: Counter[str], *, recorded: bool = True) -> None:
        self.source = source
        self.counts = counts
        self.recorded = recorded
        """False where the pass only shows what it would do."""
        self._notes: dict[tuple[int, int], _Note] = {}

    def row(self, row: Row, reason: str) -> None:
        """A row that the pass did not come to look at, for a reason that is the pass's or a rule's."""
        self._row(row, reason, "", looked_at=False)

    def decided(self, row: Row, decision: Decision) -> None:
        """A row that was looked at and cannot be claimed."""
        self._row(row, decision.reason, decision.detail, looked_at=True)

    def _row(self, row: Row, reason: str, detail: str, *, looked_at: bool) -> None:
        self.counts[reason] += 1
        if self._counts_as_left(row.due, reason):
            values = row.template, row.userid, row.activity_id or None, row.course_id, row.company_id
            self._add(_Note(row.id, row.due, reason, detail, *values, looked_at))

    def rows(self, rows: Iterable[Row], reason: str) -> None:
        """Several rows, for the same reason."""
        for row in rows:
            self.row(row, reason)

    def candidate(self, found: Candidate, reason: str) -> None:
        """A row that could have been claimed and was not."""
        self.counts[reason] += 1
        if self._counts_as_left(found.due, reason):
            values = found.activity_id or None, found.course_id or None, found.company_id or None
            self._add(
                _Note(found.row_id, found.due, reason, "", found.template, found.user_id, *values, True)
            )

    def candidates(self, found: Iterable[Candidate], reason: str) -> None:
        """Several candidates, for the same reason."""
        for candidate in found:
            self.candidate(candidate, reason)

    def add(self, other: Left) -> None:
        """Take over what another thread of the pass has noted; its counts are its own."""
        for note in other._notes.values():
            self._add(note)

    def store(self, seconds: float = BUDGET_SECONDS) -> str:
        """Put what was noted on record, for so many seconds; returns what went wrong in words, or ''.

        The words hold no value of a row. One query for each thousand rows on record that need no change, a dozen for
        each thousand new ones. Raises nothing: who cannot write this down must claim all the same.
        """
        if not self._notes:
            return ""
        try:
            _store(self.source, [self._notes[key] for key in sorted(self._notes)], seconds)
        except Error as error:
            log.error(
                "What was left to Moodle could not be recorded (%s). Moodle sends these mails all the same; until a "
                "later pass records them the pages do not tell why they were left.",
                logs.named(error),
            )
            return _("What was left to Moodle could not be recorded (%(error)s).") % {
                "error": type(error).__name__
            }
        return ""

    def _counts_as_left(self, due: int, reason: str) -> bool:
        if not self.recorded or reason in _UNSAID:
            return False
        now = time.time()
        return now - OLDEST.total_seconds() < due <= now + SOON

    def _add(self, note: _Note) -> None:
        key = note.row_id, note.due
        if len(self._notes) < MOST_NOTED or key in self._notes:
            self._notes[key] = note


def _store(source: str, notes: Sequence[_Note], seconds: float) -> None:
    fresh, changed = MOST_FRESH, MOST_CHANGED
    until = time.monotonic() + seconds
    for part in _chunks(notes):
        if time.monotonic() > until or stopping.requested():
            return
        now = timezone.now()
        known = {
            (row_id, due_at): (pk, (reason, detail), last_seen)
            for pk, row_id, due_at, reason, detail, last_seen in LeftRow.objects.filter(
                source=source, row_id__in=[note.row_id for note in part]
            ).values_list("pk", "row_id", "due_at", "reason", "detail", "last_seen")
        }
        new = [note for note in part if note.key not in known][:fresh]
        if new:
            fresh -= len(new)
            _insert(source, new, now)
        unchanged: list[int] = []
        other: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for note in part:
            if changed <= 0:
                break
            if note.key in known and moment(note.due) > now - SETTLED:
                pk, said, last_seen = known[note.key]
                # That Moodle mails nothing for it is not taken back by who did not look.
                holds = not note.looked_at and said[0] in reasons.MOODLE_SENDS_NOTHING
                if said != note.said and not holds:
                    other[note.said].append(pk)
                    changed -= 1
                elif last_seen < now - REFRESH:
                    unchanged.append(pk)
                    changed -= 1
        if unchanged:
            rows = LeftRow.objects.filter(pk__in=sorted(unchanged))
            deadlocks.survive(partial(rows.update, last_seen=now))
        for (reason, detail), ids in other.items():
            deadlocks.survive(partial(_change, sorted(ids), reason, detail, now))


def _change(ids: Sequence[int], reason: str, detail: str, now: datetime) -> None:
    with transaction.atomic():
        LeftRow.objects.filter(pk__in=ids).update(reason=reason, detail=detail, last_seen=now)
        hourchanges.left_rows(ids)


def _make(rows: Sequence[LeftRow], now: datetime) -> None:
    with transaction.atomic():
        LeftRow.objects.bulk_create(rows, ignore_conflicts=True)
        hourchanges.began(LEFT, [now])


def _delete(ids: Sequence[int]) -> None:
    with transaction.atomic():
        hourchanges.left_rows(ids)
        LeftRow.objects.filter(pk__in=ids).delete()


def _insert(source: str, notes: Sequence[_Note], now: datetime) -> None:
    """Make records, but none of a row that another pass is claiming or has claimed meanwhile.

    Whoever claims stores an intent before, and deletes the records that there are when it marks the claim. So a
    record that it does not see was made after its intent, and whoever made the record sees that intent afterwards.
    """
    courses, companies = _homes(note for note in notes if note.course_id is None or note.company_id is None)
    rows = [
        LeftRow(
            source=source,
            row_id=note.row_id,
            due_at=moment(note.due),
            reason=note.said[0],
            detail=note.said[1],
            template=note.template[:100],
            user_id=note.user_id,
            activity_id=note.activity_id,
            course_id=note.course_id or courses.get(note.activity_id or 0),
            company_id=note.company_id or companies.get(note.user_id if note.activity_id else 0),
            first_seen=now,
            last_seen=now,
        )
        for note in notes
    ]
    deadlocks.survive(partial(_make, rows, now))
    mine = {note.key for note in notes}
    claimed = Claim.objects.filter(source=source, row_id__in=[n.row_id for n in notes], state__in=_OURS)
    gone = mine.intersection(claimed.values_list("row_id", "due_at"))
    if gone:
        made = LeftRow.objects.filter(source=source, row_id__in=[row_id for row_id, _ in gone])
        ids = [pk for pk, *key in made.values_list("pk", "row_id", "due_at") if (key[0], key[1]) in gone]
        deadlocks.survive(partial(_delete, sorted(ids)))


def _homes(notes: Iterable[_Note]) -> tuple[Mapping[int, int], Mapping[int, int]]:
    """The courses of activities and the companies of users, where the rows themselves do not name them.

    Only reminders are asked for: a row of IOMAD's queue names its own company, and none means none (facts §7.6).
    Where Moodle cannot be asked, the record is made without.
    """
    asked = [note for note in notes if note.activity_id]
    if not asked:
        return {}, {}
    try:
        activities = {note.activity_id for note in asked if note.activity_id}
        found = models.Reengagement.objects.filter(pk__in=activities).values_list("id", "course")
        companies = loaders.load_company_of({note.user_id for note in asked})
        return dict(found), {user: company for user, (company, _name) in companies.items()}
    except Error as error:
        log.warning(
            "Moodle could not be asked for the courses and companies of the rows that were left to it (%s). They are "
            "on record without.",
            logs.named(error),
        )
        connections["moodle"].close_if_unusable_or_obsolete()
        return {}, {}


def forget(now: datetime | None = None) -> int:
    """Delete records that nobody has looked at for KEPT, some thousands at a time; returns how many."""
    now = now or timezone.now()
    old = LeftRow.objects.filter(last_seen__lt=now - KEPT).order_by("last_seen")
    ids = list(old.values_list("pk", flat=True)[:FORGOTTEN_AT_ONCE])
    for part in _chunks(sorted(ids)):
        deadlocks.survive(partial(_delete, part))
    return len(ids)


def _chunks(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]
