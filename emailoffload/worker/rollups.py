"""The pass that keeps the dashboard's hourly counts, each minute: it counts anew what has changed, newest hours first.

Which hours have changed is told by notes that every change leaves in its own transaction (`outbox.hourchanges`); how
one is counted is in `outbox.counting`. A pass works for BUDGET_SECONDS at most. What it leaves over stays noted, and
the next pass begins with the newest hours of all kinds and then goes on where this one stopped, so that a few very
large hours never keep the others waiting for ever.

Each pass also *walks*: it compares one hour more with its rows, from the newest back to WALKED ago and then anew. So
whatever a person or a restore did to the tables without a note is repaired within a day, and said in the pass's record.
The first walk goes back to the very first row, as fast as the budget lets it: that is how a site that had emails
before it had counts, or one that says `rollups --rebuild`, gets them.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _

from emailoffload.outbox import counting, hourchanges, rollups, shared
from emailoffload.outbox.counting import HOUR, Hour
from emailoffload.outbox.figures import CLAIMS, EMAILS, KINDS, HourCount, LeftRow
from emailoffload.outbox.models import Claim, Email, State
from emailoffload.outbox.states import ClaimState
from emailoffload.worker import lease, runs, stopping

log = logging.getLogger(__name__)
LEASE = counting.LEASE
BUDGET_SECONDS = 20.0
WALKED = timedelta(days=35)
"""How far back hours are compared with their rows again and again: at most 840, one a minute, in fourteen hours."""
SLOW_SECONDS, REST = 1.0, 10
"""An hour whose count took that long rests for ten times as long, so that a peak costs a tenth of one core at most."""
EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)
"""No record is older."""
RECENT = timedelta(hours=2)
"""Hours that begin later than this ago are counted first in every pass."""


@dataclass
class RollupsResult:
    """What one pass did, in hours of a kind."""

    counted: int = 0
    walked: int = 0
    repaired: int = 0
    """Hours without a note whose counts were not those of their rows, and are now."""
    frozen: int = 0
    """Hours with a note that are too old to be counted again."""
    left: int = 0
    """Hours that wait for the next pass."""
    resting: int = 0
    """Large hours that have changed again, and are counted by one of the next passes."""
    building: bool = False
    """Whether the first walk has not come to its end."""
    seconds: float = 0.0
    busy: bool = False

    @property
    def more(self) -> bool:
        """Whether another pass should follow at once."""
        return bool(self.left) or self.building

    def after(self, earlier: RollupsResult) -> RollupsResult:
        """This pass and an earlier one together; how it stands is as this one left it."""
        return replace(
            self,
            counted=self.counted + earlier.counted,
            walked=self.walked + earlier.walked,
            repaired=self.repaired + earlier.repaired,
            frozen=self.frozen + earlier.frozen,
            seconds=self.seconds + earlier.seconds,
        )

    def numbers(self) -> dict[str, int]:
        """What it counted, under stable keys."""
        return {
            "counted": self.counted,
            "walked": self.walked,
            "repaired": self.repaired,
            "frozen": self.frozen,
            "resting": self.resting,
            "left_over": self.left,
        }

    def as_dict(self) -> dict[str, Any]:
        """The whole result under stable keys."""
        return {
            **self.numbers(),
            "building": self.building,
            "seconds": round(self.seconds, 3),
            "busy": self.busy,
        }


def run(*, rebuild: bool = False, budget: float | None = None) -> RollupsResult:
    """One pass; `busy` when another is at work. `rebuild` begins the walk anew, back to the first row;
    `budget`: other seconds than BUDGET_SECONDS.

    Raises database errors; what is counted stays counted, and the next pass goes on.
    """
    result = RollupsResult()
    with lease.hold(LEASE) as held:
        if held is None:
            result.busy = True
            return result
        with runs.record(LEASE, held.holder) as recording:
            begun = time.monotonic()
            work = _Work(held, begun + (BUDGET_SECONDS if budget is None else budget), result)
            try:
                work.do(rebuild)
            finally:
                result.seconds = time.monotonic() - begun
                recording.counts = result.numbers()
            if result.repaired:
                # No error of the pass: somebody has changed rows past the product.
                recording.message = _(
                    "The counts of %(repaired)s hours were not those of their rows, and now are."
                ) % {"repaired": result.repaired}
                log.warning(
                    "Rows were changed past the product, by hand or by a restore. %s Nothing is to be done.",
                    recording.message,
                )
    return result


def differences(now: datetime | None = None) -> Iterator[tuple[Hour, counting.Figures, counting.Figures]]:
    """The hours whose counts are not those of their rows, newest first, with both: (hour, counted, recounted).

    An hour that waits to be counted is no difference, nor is one whose counts are frozen.
    """
    now = now or timezone.now()
    memory = _memory()
    walked = datetime.fromisoformat(memory["from"]) if memory.get("from") else None
    for begins in _hours_back(hourchanges.hour_of(now) + HOUR, _oldest(now)):
        for kind in KINDS:
            hour = Hour(begins, kind)
            if hour.frozen(now) or (walked is not None and begins < walked):
                continue
            found, rows = counting.stored(hour), counting.count(hour)
            # In this order: a change between the two readings has a note by now, or was counted since.
            wrong = found != rows or not counting.summed(hour)
            if wrong and not counting.noted(hour) and counting.stored(hour) == found:
                yield hour, found, rows


class _Work:
    """One pass under its lease. What is remembered from pass to pass is in `rollups.STATE`.

    `until`: all that changed before is counted. `from`: the first walk has come down to this hour. `walk`: the next
    hour to be compared lies before this one. `stopped`: where the last pass had to leave noted hours over. `slow`: when
    large hours were counted, and until when they rest. `before`: how many there were before a day.
    """

    def __init__(self, held: lease.Held, until: float, result: RollupsResult) -> None:
        self._held = held
        self._until = until
        self.result = result
        self._memory = _memory()
        now = timezone.now().isoformat()
        # What rests no more need not be remembered.
        self._slow = {hour: times for hour, times in self._memory.get("slow", {}).items() if times[1] > now}

    def do(self, rebuild: bool) -> None:
        """Count what is noted, then walk."""
        now = timezone.now()
        newest = hourchanges.hour_of(now) + HOUR
        if rebuild or "walk" not in self._memory:
            self._memory |= {"walk": newest.isoformat(), "from": newest.isoformat()}
            self._memory.pop("before", None)
        self._count(now)
        if not self.result.left:
            self._walk(now, newest)
        self.result.building = "from" in self._memory
        self._add_up(now)
        shared.put(rollups.STATE, self._memory)

    def _go_on(self) -> bool:
        return time.monotonic() < self._until and self._held.beat() and not stopping.requested()

    def _count(self, now: datetime) -> None:
        hours = self._in_turn(counting.waiting(), now)
        until = now
        for number, hour in enumerate(hours):
            # At least one, so that every pass comes further.
            if number and not self._go_on():
                self.result.left = len(hours) - number
                self._memory["stopped"] = hour.begins.isoformat()
                return
            if hour.frozen(now):
                counting.forget(hour)
                self.result.frozen += 1
            elif (at := self._rests_since(hour, now)) is not None:
                self.result.resting += 1
                until = min(until, at)
            else:
                self._count_one(hour)
        self._memory.pop("stopped", None)
        self._memory["until"] = until.isoformat()
        self._memory["slow"] = self._slow

    def _count_one(self, hour: Hour) -> None:
        at, begun = timezone.now(), time.monotonic()
        self.result.counted += counting.recount(hour)
        took = time.monotonic() - begun
        self._slow.pop(str(hour), None)
        if took > SLOW_SECONDS:
            self._slow[str(hour)] = [at.isoformat(), (at + timedelta(seconds=took * REST)).isoformat()]

    def _rests_since(self, hour: Hour, now: datetime) -> datetime | None:
        """When a large hour was last counted, if that is too short a time ago to count it again."""
        at, until = self._slow.get(str(hour), (None, None))
        return datetime.fromisoformat(at) if at and until and now < datetime.fromisoformat(until) else None

    def _in_turn(self, hours: list[Hour], now: datetime) -> list[Hour]:
        """The newest first; then those that the last pass left over, and those that it had counted."""
        stopped = self._memory.get("stopped")
        if not stopped:
            return hours
        recent = [hour for hour in hours if hour.begins > now - RECENT]
        older = hours[len(recent) :]
        left = datetime.fromisoformat(stopped)
        return (
            recent
            + [hour for hour in older if hour.begins <= left]
            + [hour for hour in older if hour.begins > left]
        )

    def _walk(self, now: datetime, newest: datetime) -> None:
        building = "from" in self._memory
        first = _oldest(now) if building else now - WALKED
        at = datetime.fromisoformat(self._memory["walk"])
        for begins in _hours_back(at, first):
            if not self._go_on():
                break
            for kind in KINDS:
                self._compare(Hour(begins, kind), now, building)
            at = begins
            if not building:
                break
            self._memory["from"] = begins.isoformat()
        else:
            self._memory.pop("from", None)
            at = newest
        self._memory["walk"] = at.isoformat()

    def _add_up(self, now: datetime) -> None:
        """Remember how many there were before yesterday, when nothing begins any more: nobody adds up years again."""
        if self.result.building:
            return
        day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
        if datetime.fromisoformat(self._memory.get("until", EARLIEST.isoformat())) < day + HOUR:
            return  # hours before that day wait to be counted still
        known = None if self.result.repaired else self._memory.get("before")
        if known and datetime.fromisoformat(known["day"]) == day:
            return
        first = datetime.fromisoformat(known["day"]) if known else EARLIEST
        if first > day:  # a clock was set back
            known, first = None, EARLIEST
        added: dict[str, Any] = {"day": day.isoformat()}
        for kind in (EMAILS, CLAIMS):
            numbers = Counter(known[kind] if known else {})
            numbers.update(rollups.numbers(kind, first, day))
            added[kind] = dict(numbers)
        self._memory["before"] = added

    def _compare(self, hour: Hour, now: datetime, building: bool) -> None:
        if hour.frozen(now):
            return
        self.result.walked += 1
        if counting.stored(hour) == counting.count(hour) and counting.summed(hour):
            return
        # It may have changed this very moment: then it is noted, and counted in its turn.
        self.result.repaired += not (building or counting.noted(hour))
        hourchanges.began(hour.kind, [hour.begins])
        counting.recount(hour)


def _memory() -> dict[str, Any]:
    return State.objects.filter(name=rollups.STATE).values_list("value", flat=True).first() or {}


def _hours_back(before: datetime, first: datetime) -> Iterator[datetime]:
    """The hours before `before` of which there are rows or counts, backwards, to that of `first`."""
    first = hourchanges.hour_of(first)
    while (found := _last_hour(before)) is not None and found >= first:
        yield found
        before = found


def _last_hour(before: datetime) -> datetime | None:
    """The last hour before `before` of which there is a row or a count: the ends of as many ranges of indexes."""
    emails = Email.objects.filter(created_at__lt=before).order_by("-created_at")
    left = LeftRow.objects.filter(first_seen__lt=before).order_by("-first_seen")
    found = [
        emails.values_list("created_at", flat=True).first(),
        left.values_list("first_seen", flat=True).first(),
    ]
    for state in ClaimState:  # the index begins with it
        claims = Claim.objects.filter(state=state, created_at__lt=before).order_by("-created_at")
        found.append(claims.values_list("created_at", flat=True).first())
    for kind in KINDS:
        counts = HourCount.objects.filter(kind=kind, hour__lt=before).order_by("-hour")
        found.append(counts.values_list("hour", flat=True).first())
    last = max((moment for moment in found if moment is not None), default=None)
    return hourchanges.hour_of(last) if last else None


def _oldest(now: datetime) -> datetime:
    """No hour before this one is counted any more."""
    return now - max(counting.FROZEN_AFTER.values())
