"""Erase what sensitive mails said, once it is due; and make sensitive what administrators have declared to be.

The search for mails of sensitive templates goes on from where the last pass ended, which a row of `State`
remembers, and looks a little further back than that: rows that other transactions were just writing are seen
by the next pass.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from emailoffload.outbox import erasure, shared
from emailoffload.outbox.models import Email, State
from emailoffload.policy.credentials import sensitive_templates

MEMORY = "erasure"
BACK = timedelta(minutes=10)
"""No transaction of ours, and no difference of clocks, lasts so long."""
BUDGET_SECONDS = 5.0
"""How long a pass does each of the two; the next one goes on."""
IDS = 20_000
"""Emails looked at by one query for those of a sensitive template."""


@dataclass
class Memory:
    """The templates looked for, and the email id up to which all of theirs are marked."""

    names: list[str] = field(default_factory=list)
    seen: int = 0


def erase_due(now: datetime | None = None) -> dict[str, int]:
    """One pass; returns how many emails became sensitive and how many contents were erased.

    Raises database errors; what was erased until then stays so.
    """
    now = now or timezone.now()
    row = State.objects.filter(name=MEMORY).first()
    memory = Memory(row.value["names"], row.value["seen"]) if row else Memory()
    marked, erased = _mark(memory, now)
    erased += _erase(now)
    value: dict[str, Any] = {"names": memory.names, "seen": memory.seen}
    if not row or row.value != value:
        shared.put(MEMORY, value)
    erasure.clean_log()
    return {"marked_sensitive": marked, "erased": erased}


def _mark(memory: Memory, now: datetime) -> tuple[int, int]:
    """Make stored mails of sensitive templates sensitive, and erase those for which it is time.

    Returns (marked, erased). A name that is new sends the search back to the first email.
    """
    names = sorted(sensitive_templates())
    if set(names) - set(memory.names):
        memory.seen = 0
    memory.names = names
    newest = Email.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    # A pass that read the names before the last change may still be storing mails.
    old = Email.objects.filter(created_at__lte=now - BACK).order_by("-created_at")
    settled = old.values_list("pk", flat=True).first() or 0
    seen, marked, erased = memory.seen, 0, 0
    until = time.monotonic() + BUDGET_SECONDS
    while seen < newest and time.monotonic() < until:
        part = Email.objects.filter(pk__gt=seen, pk__lte=seen + IDS, sensitive=False, template__in=names)
        ids = list(part.order_by("pk").values_list("pk", flat=True)[: erasure.BATCH])
        marked += Email.objects.filter(pk__in=ids).update(sensitive=True)
        due = Email.objects.filter(erasure.due(now), pk__in=ids)
        erased += erasure.erase(due.values_list("pk", flat=True), now=now)
        seen = ids[-1] if len(ids) == erasure.BATCH else min(seen + IDS, newest)
    memory.seen = max(memory.seen, min(seen, settled))
    return marked, erased


def _erase(now: datetime) -> int:
    """Erase what is due; returns how many."""
    erased = 0
    until = time.monotonic() + BUDGET_SECONDS
    while (ids := erasure.find(now)) and time.monotonic() < until:
        done = erasure.erase(ids, now=now)
        erased += done
        if not done:
            break  # others are at them: the next pass looks again
    return erased
