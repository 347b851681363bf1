"""What people do about suppressed addresses: add one, lift one. SES's list follows at once, or when it can be asked."""

from __future__ import annotations

from emailoffload.feedback import suppression
from emailoffload.feedback.models import Suppression
from emailoffload.worker import tasks

Refused = suppression.Refused


def add(address: str, *, actor: str, reason: str) -> Suppression:
    """Suppress an address. Raises Refused, which says why, for people; and database errors."""
    row = suppression.add(address, actor=actor, reason=reason)
    tasks.suppressions_soon()
    return row


def lift(row_id: int, *, actor: str, reason: str) -> Suppression:
    """Let a suppressed address get mail again. Raises Refused, which says why, for people; and database errors."""
    row = suppression.lift(row_id, actor=actor, reason=reason)
    tasks.suppressions_soon()
    return row
