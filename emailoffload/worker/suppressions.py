"""One pass that makes our list of suppressed addresses and that of the SES account the same, in both directions.

1. What ended by itself ends (`suppression.expire`).
2. What people lifted here is taken off SES's list.
3. SES's list is read: what is new once an hour, all of it once a day. An address that we do not have is taken over,
   unless somebody lifted it here after SES put it there: then SES's entry is the old one, and goes.
4. What was on both lists and is not on SES's any more was removed there by somebody: it is lifted here. SES is asked
   about each one before. If most of the list is gone at once, nobody decided that about each address (it is another
   account, another region, or SES dropped the list): then ours is put there again.
5. What is new here is put on SES's list.

Of two decisions about an address the later one holds, and each is carried over once, so nothing goes to and fro.
Every change is a guarded UPDATE; the lease only saves work. SES allows about one such call a second.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import timezone

from emailoffload.feedback import liststate, seslist, suppression
from emailoffload.feedback.models import Suppression
from emailoffload.feedback.seslist import Entry, ListProblem
from emailoffload.worker import lease, runs, stopping

BUDGET_SECONDS = 50.0
PER_SECOND = 1.0
"""Calls: SES answers more with TooManyRequestsException."""
LIST_EVERY = timedelta(hours=1)
COMPARE_EVERY = timedelta(days=1)
OVERLAP = timedelta(hours=1)
"""How much of what was read before is read again: the list takes a while to show what was put there."""
AGAIN = timedelta(hours=1)
"""After a problem that does not go away by itself."""
AT_ONCE = 500
FEW = 20
"""So many may be gone from SES's list at once, whatever its length, and count as decisions."""
Agreement = Suppression.Agreement


@dataclass
class ListResult:
    """What one pass did, in addresses. `refused` and `cure` say why SES's list could not be used."""

    added: int = 0
    """Put on SES's list."""
    removed: int = 0
    """Taken off SES's list."""
    imported: int = 0
    """Taken over from SES's list."""
    lifted: int = 0
    """Lifted here, because somebody removed them from SES's list."""
    put_back: int = 0
    """Gone from SES's list together with most of it: to be put there again."""
    expired: int = 0
    waiting: int = 0
    """Still to be put on SES's list, or taken off it."""
    seconds: float = 0.0
    busy: bool = False
    soon: bool = False
    """There is more to do, and nothing stands in the way."""
    refused: str = ""
    cure: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The counts under stable keys, for the run's record and django-q's result."""
        names = ("added", "removed", "imported", "lifted", "put_back", "expired", "waiting")
        return {name: getattr(self, name) for name in names} | {
            "seconds": round(self.seconds, 3),
            "busy": self.busy,
            "refused": self.refused,
            "cure": self.cure,
        }


def to_add() -> QuerySet[Suppression]:
    """What is to be put on SES's list."""
    return Suppression.objects.filter(active_key__isnull=False, agreement=Agreement.TO_ADD)


def to_remove() -> QuerySet[Suppression]:
    """What is to be taken off SES's list."""
    return Suppression.objects.filter(active_key__isnull=True, agreement=Agreement.TO_REMOVE)


def run(*, at_once: bool = False, budget: float = BUDGET_SECONDS) -> ListResult:
    """One pass; leaves a record if there was anything to ask SES.

    `at_once`: somebody has just changed something, so a former problem does not put it off. With
    SES_SUPPRESSION_SYNC off only step 1 is done. Raises database errors of ours.
    """
    started = time.monotonic()
    now = timezone.now()
    result = ListResult(expired=suppression.expire(now))
    if not settings.SES_SUPPRESSION_SYNC or not _due(liststate.load(), now, at_once=at_once):
        return result
    with lease.hold("suppressions") as held:
        if held is None:
            result.busy = True
            return result
        with runs.record("suppressions", held.holder) as recording:
            _Pass(held, result, started + budget).go()
            result.seconds = time.monotonic() - started
            recording.counts = result.as_dict()
            if result.refused:
                recording.refused(f"{result.refused} {result.cure}".strip())
            elif stopping.requested():
                recording.interrupted("the pass was asked to stop")
    return result


def _due(state: liststate.ListState, now: datetime, *, at_once: bool) -> bool:
    if state.error and not state.soon and not at_once and not _stale(state.asked_at, AGAIN, now):
        return False
    unread = state.begun_at is not None or _stale(state.listed_at, LIST_EVERY, now)
    return unread or to_remove().exists() or to_add().exists()


def _stale(at: datetime | None, every: timedelta, now: datetime) -> bool:
    # A time ahead of now was noted by a wrong clock.
    return at is None or not -every < now - at < every


class _Over(Exception):
    """The pass must end now; what is left is done by the next one."""


class _Pass:
    """The state of one pass."""

    def __init__(self, held: lease.Held, result: ListResult, deadline: float) -> None:
        self.held = held
        self.result = result
        self.deadline = deadline
        self.next_call = 0.0
        self.state = liststate.load()
        self.state.asked_at = timezone.now()

    def go(self) -> None:
        """Run the pass; a problem with SES ends it, and is remembered."""
        try:
            self._take_off()
            self._read()
            self._ask_about_gone()
            self._put()
            self.state.error = self.state.error_code = self.state.cure = ""
            self.state.error_at = None
        except ListProblem as problem:
            self.state.error, self.state.error_code = str(problem), problem.code
            self.state.cure, self.state.soon = problem.cure, problem.soon
            self.state.error_at = self.state.error_at or timezone.now()
            self.result.refused, self.result.cure = str(problem), problem.cure
        except _Over:
            self.result.soon = not stopping.requested()
        self.result.waiting = to_add().count() + to_remove().count()
        liststate.save(self.state)

    def _call(self) -> None:
        """Wait until SES may be asked again. Raises _Over when there is no time left."""
        wait = self.next_call - time.monotonic()
        if wait > 0 and time.monotonic() + wait < self.deadline:
            stopping.wait(wait)
        if stopping.requested() or time.monotonic() >= self.deadline or not self.held.beat():
            raise _Over
        self.next_call = time.monotonic() + 1 / PER_SECOND

    def _take_off(self) -> None:
        for row in to_remove().order_by("pk")[:AT_ONCE]:
            mine = to_remove().filter(pk=row.pk)
            if Suppression.objects.filter(active_key=row.address).exists():
                # Suppressed anew on new evidence: SES's list is right to have it.
                mine.update(agreement=Agreement.AGREED)
                continue
            self._call()
            seslist.delete(row.address)
            mine.update(agreement=Agreement.AGREED, checked_at=timezone.now())
            # If it was suppressed anew in this moment, it is to be there after all.
            again = Suppression.objects.filter(active_key=row.address, agreement=Agreement.AGREED)
            again.update(agreement=Agreement.TO_ADD)
            self.result.removed += 1

    def _read(self) -> None:
        """Read SES's list, or what is new of it, if it is time to."""
        state = self.state
        if state.begun_at is None:
            now = timezone.now()
            state.whole = _stale(state.compared_at, COMPARE_EVERY, now)
            if not state.whole and not _stale(state.listed_at, LIST_EVERY, now):
                return
            state.begun_at, state.token = now, ""
        since = None if state.whole or state.listed_at is None else state.listed_at - OVERLAP
        while True:
            self._call()
            try:
                page, state.token = seslist.page(since, state.token)
            except ListProblem:
                state.begun_at, state.token = None, ""  # the token may have grown too old
                raise
            for start in range(0, len(page), AT_ONCE):
                self._compare(page[start : start + AT_ONCE])
            if not state.token:
                break
        state.listed_at = state.begun_at
        if state.whole:
            state.compared_at = state.begun_at
        state.begun_at = None

    def _compare(self, page: Sequence[Entry]) -> None:
        """Bring our rows into line with entries of SES's list."""
        now = timezone.now()
        entries = {entry.address: entry for entry in page if _storable(entry.address)}
        rows = Suppression.objects.filter(active_key__in=entries)
        ours = {row.address: row for row in rows}
        for row in ours.values():
            if row.agreement == Agreement.OURS:
                self._made_final(row, entries[row.address], now)
        here = Suppression.objects.filter(pk__in=[row.pk for row in ours.values()], active_key__isnull=False)
        here.exclude(agreement=Agreement.OURS).update(agreement=Agreement.AGREED, checked_at=now)
        others = {address: entry for address, entry in entries.items() if address not in ours}
        lifted = self._lifted(others)
        new = [entry for address, entry in others.items() if address not in lifted]
        # What an event suppresses at this moment is passed over.
        Suppression.objects.bulk_create([_imported(entry, now) for entry in new], ignore_conflicts=True)
        self.result.imported += len(new)

    def _made_final(self, row: Suppression, entry: Entry, now: datetime) -> None:
        """SES's list has an address that is suppressed here for a while: it gets no mail at all."""
        Suppression.objects.filter(pk=row.pk, active_key=row.address, agreement=Agreement.OURS).update(
            reason=entry.reason if row.until else row.reason,
            until=None,
            agreement=Agreement.AGREED,
            checked_at=now,
        )

    def _lifted(self, entries: dict[str, Entry]) -> set[str]:
        """Which of these addresses somebody lifted after SES put them on its list; they are to go from there."""
        found: set[str] = set()
        again: set[int] = set()
        rows = Suppression.objects.filter(address__in=entries, active_key__isnull=True).exclude(removed_by="")
        for row in rows:
            entry = entries.get(row.address)
            over = max(filter(None, (row.removed_at, row.checked_at)), default=None)
            if entry is None or over is None:
                continue
            if row.agreement == Agreement.TO_REMOVE or entry.at <= over:
                found.add(row.address)
                again.add(row.pk)
        Suppression.objects.filter(pk__in=again).update(agreement=Agreement.TO_REMOVE)
        return found

    def _ask_about_gone(self) -> None:
        """Lift what somebody removed from SES's list, as far as the last comparison of all did not find it there."""
        if self.state.compared_at is None:
            return
        agreed = Suppression.objects.filter(active_key__isnull=False, agreement=Agreement.AGREED)
        unseen = Q(checked_at__lt=self.state.compared_at) | Q(checked_at__isnull=True)
        gone = agreed.filter(unseen)
        count = gone.count()
        if count > FEW and 2 * count > agreed.count():
            self.result.put_back += gone.update(agreement=Agreement.TO_ADD)
            return
        for row in gone.order_by("pk")[:AT_ONCE]:
            self._call()
            mine = agreed.filter(pk=row.pk)
            if seslist.find(row.address):
                mine.update(checked_at=timezone.now())
                continue
            now = timezone.now()
            self.result.lifted += mine.update(
                active_key=None,
                removed_at=now,
                removed_by=suppression.SES,
                removal_reason=suppression.GONE_AT_SES,
                checked_at=now,
            )

    def _put(self) -> None:
        for row in to_add().order_by("pk")[:AT_ONCE]:
            self._call()
            try:
                seslist.put(row.address, row.reason)
            except ListProblem as problem:
                if problem.code != "BadRequestException":
                    raise
                # SES does not take this one; the others must not wait for it.
                to_add().filter(pk=row.pk).update(agreement=Agreement.OURS)
                continue
            to_add().filter(pk=row.pk).update(agreement=Agreement.AGREED, checked_at=timezone.now())
            self.result.added += 1


def _storable(address: str) -> bool:
    """Whether it is an address as our rows have them; mail to any other is never sent."""
    return address.isascii() and len(address) <= 254


def _imported(entry: Entry, now: datetime) -> Suppression:
    return Suppression(
        address=entry.address,
        active_key=entry.address,
        reason=entry.reason,
        origin=suppression.FROM_SES,
        added_by=suppression.SES,
        since=entry.at,
        agreement=Agreement.AGREED,
        checked_at=now,
    )
