"""Pause and resume claiming, sending or both, for all processes, on record."""

from __future__ import annotations

from typing import Final, Literal

from django.db import transaction

from emailoffload.outbox import switches
from emailoffload.outbox.models import AuditEntry

Parts = Literal["claims", "sends", "both"]
PARTS: Final[tuple[Parts, ...]] = ("claims", "sends", "both")


def pause(parts: Parts, *, actor: str, reason: str) -> switches.Pause:
    """Stop claiming (Moodle sends), sending (what is claimed waits) or both; returns what is paused now.

    It takes effect before the next batch of every running pass, and lasts until somebody resumes.
    """
    return _switch(parts, True, actor=actor, reason=reason)


def resume(parts: Parts, *, actor: str, reason: str) -> switches.Pause:
    """Go on with claiming, sending or both from the next pass on; returns what is still paused."""
    return _switch(parts, False, actor=actor, reason=reason)


def _switch(parts: Parts, value: bool, *, actor: str, reason: str) -> switches.Pause:
    with transaction.atomic():
        before, after = switches.change(
            claims=value if parts != "sends" else None,
            sends=value if parts != "claims" else None,
            by=actor,
            reason=reason[:500],
        )
        AuditEntry.objects.create(
            actor=actor,
            action="pause" if value else "resume",
            object_type="pause",
            object_id=parts,
            reason=reason[:500],
            details={
                "before": {"claims": before.claims, "sends": before.sends},
                "after": {"claims": after.claims, "sends": after.sends},
            },
        )
    return after
