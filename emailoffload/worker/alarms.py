"""One pass over alarms, each minute: look at every condition, raise and end alarms, tell people.

A condition must hold for as long as it says before it is an alarm, and must be gone for GONE before the alarm ends:
what flickers is told of once. A condition that cannot be looked at leaves its alarms as they are.

The worker runs this pass, and cannot tell of its own silence. `manage.py alarms` is the same pass, for a timer of
the operating system (docs/reputation.md); where both run, a lease keeps them apart.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import DatabaseError
from django.utils import timezone

from emailoffload import logs
from emailoffload.feedback import alarms, reputation
from emailoffload.feedback.models import Alarm
from emailoffload.outbox import shared
from emailoffload.outbox.models import State
from emailoffload.worker import alarm_conditions, alarm_telling, lease
from emailoffload.worker.alarm_conditions import Condition, Seen

log = logging.getLogger(__name__)
MEMORY = "alarms"
"""The row of State with what is seen but not an alarm yet: key → since."""
GONE = timedelta(minutes=5)
BUDGET_SECONDS = 45.0


@dataclass
class AlarmsResult:
    """What one pass did."""

    open: int = 0
    raised: int = 0
    ended: int = 0
    told: int = 0
    untold: int = 0
    """Tellings that failed; they are tried again."""
    unknown: list[str] = field(default_factory=list)
    """Conditions that could not be looked at."""
    busy: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The counts under stable keys."""
        return {
            "open": self.open,
            "raised": self.raised,
            "ended": self.ended,
            "told": self.told,
            "untold": self.untold,
            "unknown": self.unknown,
            "busy": self.busy,
        }


def run(conditions: Sequence[Condition] = alarm_conditions.CONDITIONS) -> AlarmsResult:
    """One pass; `busy` when another is at work. Raises database errors; the next pass goes on then."""
    result = AlarmsResult()
    until = time.monotonic() + BUDGET_SECONDS
    with lease.hold(alarms.LEASE) as held:
        if held is None:
            result.busy = True
            return result
        now = timezone.now()
        reputation.prune(now)
        evaluate(conditions, now, result)
        told = alarm_telling.tell(now, lambda: held.beat() and time.monotonic() < until)
        result.told, result.untold = told.told, told.failed
        result.open = Alarm.objects.filter(ended_at=None).count()
    return result


def evaluate(conditions: Iterable[Condition], now: datetime, result: AlarmsResult) -> None:
    """Look at every condition, and raise and end alarms; counted into `result`."""
    row = State.objects.filter(name=MEMORY).values_list("value", flat=True).first() or {}
    since: dict[str, str] = row.get("since", {})
    known: dict[str, str] = {}
    codes: set[str] = set()
    for condition in conditions:
        codes |= condition.codes
        try:
            seen = condition.look(now)
        except DatabaseError:
            raise
        except Exception as error:
            # Broad on purpose: one condition that cannot be looked at must not hide all others.
            log.error(
                "The alarm condition “%s” could not be looked at (%s): open alarms of it stay open, new ones are not "
                "raised. This is an error of ours; the other conditions were looked at.",
                condition.name,
                logs.named(error),
            )
            result.unknown.append(condition.name)
            # Whatever was seen stays seen.
            known |= {key: at for key, at in since.items() if key.partition(":")[0] in condition.codes}
            Alarm.objects.filter(ended_at=None, code__in=condition.codes).update(seen_at=now)
            continue
        for each in seen:
            known[each.key] = _raise(each, condition, since.get(each.key), now, result)
    if known != since or not row:
        shared.put(MEMORY, {"since": known})
    gone = Alarm.objects.filter(ended_at=None)
    # What was seen by a clock far ahead of ours says nothing about now; nor does it below.
    unseen = gone.exclude(seen_at__gt=now - GONE, seen_at__lte=now + GONE)
    for code, subject in unseen.values_list("code", "subject"):
        result.ended += alarms.end_alarm(code, subject, now=now)
    # Alarms of conditions that this version does not have any more: nobody would see them again, or end them.
    for code, subject in gone.exclude(code__in=codes).values_list("code", "subject"):
        result.ended += alarms.end_alarm(code, subject, now=now)


def _raise(each: Seen, condition: Condition, since: str | None, now: datetime, result: AlarmsResult) -> str:
    """Raise what has been seen for long enough, and refresh what is raised; returns since when it is seen."""
    first = min(now, datetime.fromisoformat(since)) if since else now
    open_now = Alarm.objects.filter(active_key=alarms.key_of(each.code, each.subject)).exists()
    if open_now or now - first >= condition.holds():
        _, new = alarms.raise_alarm(
            each.code, each.subject, each.level, each.text, each.cure, each.details, now=now
        )
        result.raised += new
    return first.isoformat()
