"""The count of coverage: what of the site's mail is ours, counted in the background and kept.

It reads the whole table of learners on the way, which has no index that would help, so no page does that: the
worker counts once an hour and when a person asks, and *Coverage* shows what was counted last, with its time. While
Moodle's database does not answer, that stays, and why it is old stands beside it.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import time
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from django.utils import timezone

from emailoffload.moodle.errors import MoodleProblem, translated
from emailoffload.outbox import shared
from emailoffload.outbox.models import State
from emailoffload.worker import lease, runs, stopping
from emailoffload.worker.coverage_count import Counted, Item, count

NAME: Final = "coverage"
TROUBLE: Final = "coverage-trouble"
ASKED: Final = "coverage-asked"
PATIENCE: Final = dt.timedelta(minutes=10)
"""A count that was asked for and did not come within this time was lost: it may be asked for again."""
_DEFAULTS: Final = asdict(Item(""))


class Interrupted(Exception):
    """The count has to stop: the worker stops, or another process took over."""


@dataclass(slots=True)
class CoverageResult:
    """How a count ended."""

    items: int = 0
    with_reason: int = 0
    """Of these, how many stay with Moodle in whole or in part."""
    seconds: float = 0.0
    busy: bool = False
    refused: str = ""
    cure: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The result under stable keys."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


@dataclass(frozen=True, slots=True)
class Known:
    """What was counted last (`at` None: nothing yet), why a later count failed, and whether one is waited for."""

    at: dt.datetime | None = None
    counted: Counted = field(default_factory=Counted)
    failed_at: dt.datetime | None = None
    failure: str = ""
    cure: str = ""
    asked_at: dt.datetime | None = None


def run() -> CoverageResult:
    """Count everything and keep it. Raises errors of our own database; what was kept before stays then."""
    started = time.monotonic()
    result = CoverageResult()
    with lease.hold("coverage") as held:
        if held is None:
            result.busy = True
            return result

        def alive() -> None:
            if stopping.requested() or not held.beat():
                raise Interrupted

        with runs.record("coverage", held.holder) as recording:
            try:
                with translated():
                    found = count(alive)
                _keep(found)
                result.items = len(found.items)
                result.with_reason = sum(bool(item.reason) for item in found.items)
            except Interrupted:
                recording.interrupted("the count was asked to stop")
            except MoodleProblem as problem:
                result.refused, result.cure = str(problem), problem.cure
                recording.refused(f"{problem} {problem.cure}")
                now = timezone.now().isoformat()
                shared.put(TROUBLE, {"at": now, "text": result.refused, "cure": result.cure})
            result.seconds = time.monotonic() - started
            recording.counts = result.as_dict()
    return result


def known() -> Known:
    """What is kept; one query. Unpacking five thousand activities takes some hundredths of a second."""
    rows = {row.name: row.value for row in State.objects.filter(name__in=(NAME, TROUBLE, ASKED))}
    kept, trouble, asked = rows.get(NAME) or {}, rows.get(TROUBLE) or {}, rows.get(ASKED) or {}
    at, failed_at, asked_at = _time(kept), _time(trouble), _time(asked)
    if asked_at and (
        any(done and done >= asked_at for done in (at, failed_at)) or timezone.now() - asked_at > PATIENCE
    ):
        asked_at = None
    if at and failed_at and at >= failed_at:
        failed_at = None
    return Known(
        at,
        _unpacked(kept) if kept else Counted(),
        failed_at,
        trouble.get("text", "") if failed_at else "",
        trouble.get("cure", "") if failed_at else "",
        asked_at,
    )


def is_due() -> bool:
    """Whether nothing was counted in the last hour."""
    row = State.objects.filter(name=NAME).values_list("updated_at", flat=True).first()
    return row is None or timezone.now() - row > dt.timedelta(hours=1)


def _time(value: Mapping[str, Any]) -> dt.datetime | None:
    return dt.datetime.fromisoformat(value["at"]) if value.get("at") else None


def _keep(found: Counted) -> None:
    """Store it, packed: five thousand activities are a megabyte otherwise."""
    told = asdict(found)
    # What is as it is by default need not be said five thousand times.
    told["items"] = [
        {name: value for name, value in item.items() if value != _DEFAULTS[name]} for item in told["items"]
    ]
    packed = base64.b64encode(zlib.compress(json.dumps(told).encode())).decode()
    shared.put(NAME, {"at": timezone.now().isoformat(), "packed": packed})


def _unpacked(kept: Mapping[str, Any]) -> Counted:
    told = json.loads(zlib.decompress(base64.b64decode(kept["packed"])))
    for item in told["items"]:
        if "left" in item:
            item["left"] = [(code, rows) for code, rows in item["left"]]
    told["items"] = [Item(**item) for item in told["items"]]
    return Counted(**told)
