"""Addresses that get no mail, and how events lead to that."""

from __future__ import annotations

from collections.abc import Sequence

from emailoffload.feedback.models import Event, EventType, Suppression

PERMANENT = "permanent"
NOT_SPAM = "not-spam"


def consider(events: Sequence[Event]) -> int:
    """Suppress the addresses of new permanent bounces and complaints; returns how many were new.

    `events` are newly stored, `.email` loaded or None. Call it in the transaction that stored them.
    """
    wanted: dict[str, tuple[Event, str]] = {}
    for event in events:
        if event.type == EventType.BOUNCE and event.kind == PERMANENT:
            wanted.setdefault(event.address, (event, Suppression.Reason.BOUNCE))
        elif event.type == EventType.COMPLAINT and event.kind != NOT_SPAM:
            wanted.setdefault(event.address, (event, Suppression.Reason.COMPLAINT))
    wanted.pop("", None)
    known = Suppression.objects.filter(active_key__in=wanted).values_list("active_key", flat=True)
    for address in known:
        wanted.pop(address or "", None)
    Suppression.objects.bulk_create(
        Suppression(
            address=address, active_key=address, reason=reason, origin="event", event=event, email=event.email,
            detail=event.diagnostic, since=event.at,
        )
        for address, (event, reason) in wanted.items()
    )  # fmt: skip
    return len(wanted)
