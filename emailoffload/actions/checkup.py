"""The doctor's findings, kept for the page *Settings*: the worker looks every hour, and when a person asks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.utils import timezone
from django_q.tasks import async_task

from emailoffload.actions import doctor
from emailoffload.actions.diagnosis.finding import Finding
from emailoffload.outbox import shared
from emailoffload.outbox.models import AuditEntry, State

NAME: Final = "checkup"
ASKED: Final = "checkup-asked"
PATIENCE: Final = timedelta(minutes=5)
"""A look that was asked for and did not come within this time was lost: it may be asked for again."""


@dataclass(frozen=True, slots=True)
class Checkup:
    """What the last look found (`at` None: there was none), and since when another one is waited for."""

    at: datetime | None = None
    seconds: float = 0.0
    findings: Sequence[Finding] = ()
    asked_at: datetime | None = None

    @property
    def fine(self) -> bool:
        """Whether nothing needs a person."""
        return doctor.is_fine(list(self.findings))


def take() -> dict[str, Any]:
    """Look at everything and keep what was found; returns the number of findings by verdict."""
    began = time.monotonic()
    findings = list(doctor.run())
    counts: dict[str, int] = {}
    for finding in findings:
        counts[finding.verdict] = counts.get(finding.verdict, 0) + 1
    value = {
        "at": timezone.now().isoformat(),
        "seconds": round(time.monotonic() - began, 1),
        "findings": [finding.as_dict() for finding in findings],
    }
    shared.put(NAME, value)
    return counts


def known() -> Checkup:
    """What the last look found, and whether another one is waited for; one query."""
    rows = {row.name: row.value for row in State.objects.filter(name__in=(NAME, ASKED))}
    kept = rows.get(NAME) or {}
    at = datetime.fromisoformat(kept["at"]) if kept else None
    asked = datetime.fromisoformat(rows[ASKED]["at"]) if rows.get(ASKED) else None
    if asked and ((at and at >= asked) or timezone.now() - asked > PATIENCE):
        asked = None
    return Checkup(
        at=at,
        seconds=kept.get("seconds", 0.0),
        findings=[Finding(**each) for each in kept.get("findings", ())],
        asked_at=asked,
    )


def ask(actor: str) -> bool:
    """Have the worker look now; False where a look is waited for already. Leaves an audit entry."""
    if known().asked_at:
        return False
    shared.put(ASKED, {"at": timezone.now().isoformat()})
    AuditEntry.objects.create(actor=actor[:150], action="checkup", object_type="site")
    async_task(f"{__name__}.take")
    return True
