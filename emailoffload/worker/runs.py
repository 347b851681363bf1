"""The record of passes: one row per pass, with what it saw, what it did and how it ended."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any, Final

from django.db import Error
from django.db.models.functions import Now
from django.utils import timezone

from emailoffload import logs
from emailoffload.outbox.models import Lease, Run
from emailoffload.worker.lease import holder_name

log = logging.getLogger(__name__)
KINDS: Final = (
    "intercept", "dispatch", "recover", "fallback", "feedback", "suppressions", "reconcile", "coverage", "rollups",
    "retention",
)  # fmt: skip
"""Every kind of pass that the worker does by itself; `/metrics` tells of each."""
KEEP_ROUTINE = 1000
"""Passes of a kind that ended well and claimed nothing: this many stay, older ones go."""
KEEP_DAYS = 30
"""Every pass that no claim refers to goes after this many days."""
PRUNE_EVERY = 50
DELETE_AT_ONCE = 100


class Recording:
    """A pass in progress: what it counts, and how it ends unless an exception says otherwise."""

    def __init__(self, row: Run) -> None:
        self.row = row
        self.counts: dict[str, Any] = {}
        self.outcome = "ok"
        self.message = ""

    def refused(self, message: str) -> None:
        """The pass did nothing, and why: something is misconfigured or not available."""
        self.outcome, self.message = "refused", message

    def errors(self, message: str) -> None:
        """The pass did its work, but some rows could not be handled."""
        self.outcome, self.message = "errors", message

    def interrupted(self, message: str) -> None:
        """The pass stopped early because it was asked to."""
        self.outcome, self.message = "interrupted", message


@cache
def _tame_garbage_collector() -> None:
    """Once per process: what is loaded by now stays for good, and collections are rarer.

    The SDK's models are some hundred thousand objects; looking through them again and again took a
    twentieth of a pass's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


@contextmanager
def record(kind: str, holder: str = "") -> Iterator[Recording]:
    """Record a pass of `kind` ("intercept", "dispatch", "recover", "feedback"); `holder` is that of its lease.

    The block fills `counts` (numbers and maps of numbers, never addresses) and may set the outcome. An
    exception is recorded by its class only, because its text may hold an address, and goes on. What is logged in
    the block carries the run's number, and the pass's end is logged.
    """
    _tame_garbage_collector()
    row = Run.objects.create(kind=kind, started_at=timezone.now(), holder=holder or holder_name())
    recording = Recording(row)
    began = time.monotonic()
    failure: Exception | None = None
    try:
        with logs.bound(run=row.pk, kind=kind):
            yield recording
    except Exception as error:
        failure = error
        recording.outcome = "failed"
        recording.message = f"{type(error).__module__}.{type(error).__qualname__}"
        raise
    except BaseException:
        recording.interrupted("")
        raise
    finally:
        row.finished_at = timezone.now()
        row.outcome, row.message, row.counts = recording.outcome, recording.message, recording.counts
        _tell(row, time.monotonic() - began, failure)
        row.save(update_fields=["finished_at", "outcome", "message", "counts"])
    if row.pk % PRUNE_EVERY == 0:
        prune(kind)


_LEVELS = {"refused": logging.WARNING, "errors": logging.WARNING, "failed": logging.ERROR}


def _tell(row: Run, seconds: float, failure: Exception | None) -> None:
    """One line about a pass that has ended: what it did, or why it did not. Routine is for those who look closely.

    An error of a database is told by its number, any other by its place in the code.
    """
    did = _did(row.counts)
    routine = logging.INFO if did else logging.DEBUG
    log.log(
        _LEVELS.get(row.outcome, routine),
        "The %s pass %d ended in %.1f s: %s%s%s%s",
        row.kind,
        row.pk,
        seconds,
        row.outcome,
        f" ({did})" if did else "",
        f". {row.message}" if row.message else "",
        _why(failure) if failure else "",
        extra={"run": row.pk, "pass": row.kind, "outcome": row.outcome, "ms": round(1000 * seconds)},
    )


def _why(failure: Exception) -> str:
    """What a failure may say in any log: never its text, which no handler of a site's own shall see either."""
    more = "" if isinstance(failure, Error) else "\n" + "\n".join(logs.where(failure))
    return f" ({logs.named(failure)}). The next pass tries again.{more}"


def _did(counts: dict[str, Any]) -> str:
    """What was counted, without zeros, times and maps: "claimed 14, lost 1"."""
    numbers = {name: n for name, n in counts.items() if isinstance(n, int) and not isinstance(n, bool) and n}
    return ", ".join(f"{name} {n}" for name, n in numbers.items())


def prune(kind: str) -> int:
    """Delete old passes of `kind` that nothing refers to; returns how many. Keeps the table bounded."""
    unused = Run.objects.filter(kind=kind, claims__isnull=True).exclude(outcome="running")
    newest = Run.objects.filter(kind=kind).order_by("-id").values_list("id", flat=True)
    oldest_kept = newest[KEEP_ROUTINE - 1 : KEEP_ROUTINE].first()
    gone = unused.filter(started_at__lt=timezone.now() - timedelta(days=KEEP_DAYS))
    if oldest_kept is not None:
        gone = gone | unused.filter(outcome="ok", id__lt=oldest_kept)
    # Ids first: MariaDB cannot delete from a table that the same statement reads. Few at a time: with a long
    # list the server reads every claim to find those that refer to them, instead of using the index.
    ids = list(gone.values_list("id", flat=True)[:5000])
    parts = (ids[start : start + DELETE_AT_ONCE] for start in range(0, len(ids), DELETE_AT_ONCE))
    return sum(Run.objects.filter(pk__in=part).delete()[0] for part in parts)


def settle_interrupted() -> int:
    """Mark passes whose process died as interrupted; returns how many.

    A pass is alive while a lease with its holder's name is; one that has just started may not have it yet.
    """
    living = Lease.objects.filter(expires_at__gt=Now()).values_list("holder", flat=True)
    recent = timezone.now() - timedelta(seconds=60)
    ids = list(
        Run.objects.filter(outcome="running", started_at__lt=recent)
        .exclude(holder__in=list(living))
        .values_list("id", flat=True)[:1000]
    )
    return Run.objects.filter(pk__in=ids, outcome="running").update(
        outcome="interrupted", finished_at=timezone.now(), message="the process ended without a word"
    )
