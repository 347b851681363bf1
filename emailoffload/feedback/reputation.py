"""How many of the mails bounced or were complained of, by hour, sender's domain and company."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from django.db.models import F

from emailoffload.feedback.models import Event, EventType, ReputationHour

_COLUMNS = {
    EventType.SEND.value: "sends",
    EventType.DELIVERY.value: "deliveries",
    EventType.COMPLAINT.value: "complaints",
    EventType.REJECT.value: "rejects",
}


def count(events: Sequence[Event]) -> None:
    """Add newly stored events to their hours. Call it in the transaction that stored them."""
    counts: Counter[tuple[datetime, str, int, str]] = Counter()
    for event in events:
        column = _COLUMNS.get(event.type)
        if event.type == EventType.BOUNCE:
            column = "permanent_bounces" if event.kind == "permanent" else "transient_bounces"
        if column:
            hour = event.at.replace(minute=0, second=0, microsecond=0)
            company = (event.email.company_id if event.email else None) or 0
            counts[hour, event.identity, company, column] += 1
    keys = {(hour, identity, company) for hour, identity, company, _ in counts}
    ReputationHour.objects.bulk_create(
        (
            ReputationHour(hour=hour, identity=identity, company_id=company)
            for hour, identity, company in sorted(keys)
        ),
        ignore_conflicts=True,
    )
    for (hour, identity, company, column), number in sorted(counts.items()):
        rows = ReputationHour.objects.filter(hour=hour, identity=identity, company_id=company)
        rows.update(**{column: F(column) + number})
