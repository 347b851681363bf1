"""Compare our claims of the last days with what Moodle's rows say now, and record where they do not agree.

A *sweep* goes through the claims of RECONCILE_DAYS once, by id, some hundred at a time. A pass does as much of it as
its time allows and the next one goes on from there; a row of `State` remembers the place. Nothing is changed but our
own findings: what a verdict asks for is a person's to do. `reconcile_verdicts` has the rules, `reconcile_words` what
they are called.
"""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from django.conf import settings
from django.utils import timezone

from emailoffload.moodle.errors import MoodleProblem, check_reachable, translated
from emailoffload.moodle.targets import TARGETS
from emailoffload.outbox import shared
from emailoffload.outbox.models import Claim, State
from emailoffload.worker import lease, reconcile_findings, runs, stopping
from emailoffload.worker import reconcile_words as words
from emailoffload.worker.reconcile_reading import JUDGED, Site, read, read_site
from emailoffload.worker.reconcile_verdicts import judge

BATCH = 500
BUDGET_SECONDS = 50.0
"""How long a scheduled pass goes on; the next one continues."""
MEMORY = "reconcile"
_NEAR = 1000
"""Of claims that are stored at the same time a later one may have a smaller id: so many are looked at."""


@dataclass
class Sweep:
    """One way through the claims: where it is, and what it has counted."""

    days: int
    since: str
    """Claims made at this time (ISO 8601) or later are compared."""
    until: int
    """The newest claim when it began."""
    at: int
    """The claim up to which it has come."""
    claims: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    """Claims by verdict."""


@dataclass
class ReconcileResult:
    """What one pass found."""

    counts: Counter[str] = field(default_factory=Counter)
    """Claims by verdict, of the whole sweep so far."""
    claims: int = 0
    opened: int = 0
    closed: int = 0
    complete: bool = False
    """The sweep has come to its end."""
    evidence: dict[str, bool] = field(default_factory=dict)
    """Which evidence of Moodle's own mails could be read."""
    days: int = 0
    seconds: float = 0.0
    busy: bool = False
    refused: str = ""
    cure: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The result under stable keys."""
        return {
            "claims": self.claims,
            **{verdict: self.counts[verdict] for verdict in words.VERDICTS},
            "opened": self.opened,
            "closed": self.closed,
            "complete": self.complete,
            "evidence": self.evidence,
            "days": self.days,
            "seconds": round(self.seconds, 3),
            "busy": self.busy,
            "refused": self.refused,
            "cure": self.cure,
        }


def run(days: int | None = None, *, whole: bool = False) -> ReconcileResult:
    """One pass: the sweep that was begun goes on, or a new one begins.

    `whole` makes a sweep of its own from beginning to end, over `days` (default RECONCILE_DAYS). Raises errors of
    our own database; what was stored until then stays, and the next pass goes on.
    """
    started = time.monotonic()
    result = ReconcileResult(days=days or settings.RECONCILE_DAYS)
    with lease.hold("reconcile") as held:
        if held is None:
            result.busy = True
            return result
        with runs.record("reconcile", held.holder) as recording:
            try:
                check_reachable()
                with translated():
                    _run(result, held, None if whole else started + BUDGET_SECONDS)
            except MoodleProblem as problem:
                result.refused, result.cure = str(problem), problem.cure
                recording.refused(f"{problem} {problem.cure}")
            result.seconds = time.monotonic() - started
            recording.counts = result.as_dict()
    return result


def _run(result: ReconcileResult, held: lease.Held, until: float | None) -> None:
    sweep = (_begun() if until is not None else None) or _new(result.days)
    result.days = sweep.days
    since = dt.datetime.fromisoformat(sweep.since)
    site = read_site(TARGETS, since)
    result.evidence = asdict(site.readable)
    while not result.complete and held.beat() and not stopping.requested():
        result.complete = _step(sweep, site, since, result)
        if until is not None:
            _remember(sweep, result)
            if time.monotonic() > until:
                break
    if result.complete:
        result.closed += reconcile_findings.close_old(timezone.now())
        if until is None and sweep.days == settings.RECONCILE_DAYS:
            _remember(sweep, result)
    result.claims, result.counts = sweep.claims, Counter(sweep.counts)


def _step(sweep: Sweep, site: Site, since: dt.datetime, result: ReconcileResult) -> bool:
    """Compare the next claims; returns whether they were the last."""
    found = list(
        Claim.objects.filter(pk__gt=sweep.at, pk__lte=sweep.until, state__in=JUDGED).order_by("pk")[:BATCH]
    )
    recent = [claim for claim in found if claim.created_at >= since]
    judged = [(item.claim, item.row, judge(item.held, item.row, item.side)) for item in read(recent, site)]
    changes = reconcile_findings.store(judged, timezone.now())
    result.opened += changes["opened"]
    result.closed += changes["closed"]
    sweep.counts = dict(Counter(sweep.counts) + Counter(judgement.verdict for _, _, judgement in judged))
    sweep.claims += len(judged)
    sweep.at = found[-1].pk if found else sweep.until
    return len(found) < BATCH


def _new(days: int) -> Sweep:
    since = timezone.now() - dt.timedelta(days=days)
    newest = Claim.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    first = newest + 1
    for state in JUDGED:
        # By the index on state and time; ids follow the time but for claims that were stored side by side.
        near = Claim.objects.filter(state=state, created_at__gte=since).order_by("created_at")
        first = min([first, *near.values_list("pk", flat=True)[:_NEAR]])
    return Sweep(days=days, since=since.isoformat(), until=newest, at=first - 1)


def _begun() -> Sweep | None:
    row = State.objects.filter(name=MEMORY).first()
    begun = row.value.get("sweep") if row else None
    return Sweep(**begun) if begun and begun["days"] == settings.RECONCILE_DAYS else None


def _remember(sweep: Sweep, result: ReconcileResult) -> None:
    """Store where the sweep is, or what it found if it has come to its end."""
    value = summary()
    if result.complete:
        value = {
            "sweep": None,
            "last": {
                "finished_at": timezone.now().isoformat(),
                "days": sweep.days,
                "claims": sweep.claims,
                "counts": sweep.counts,
                "evidence": result.evidence,
            },
        }
    else:
        value["sweep"] = asdict(sweep)
    shared.put(MEMORY, value)


def summary() -> dict[str, Any]:
    """What is remembered: `sweep`, the one that is under way, and `last`, what the last complete one found.

    `last` has finished_at (ISO 8601), days, claims, counts by verdict, and evidence; both may be None.
    """
    row = State.objects.filter(name=MEMORY).first()
    value: Mapping[str, Any] = row.value if row else {}
    return {"sweep": value.get("sweep"), "last": value.get("last")}
