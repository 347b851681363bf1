"""One record per damaged row and cause, for a person to look at; seen again, its counter grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from django.utils import timezone

from emailoffload.outbox.models import RowError
from emailoffload.sources.protocol import Decision, Row


def record(source: str, decisions: Sequence[Decision], rows: Mapping[int, Row]) -> None:
    """Keep that these rows of a source could not be handled; `rows` has them by id. A few queries."""
    if not decisions:
        return
    now = timezone.now()
    known = {
        (error.row_id, error.reason): error
        for error in RowError.objects.filter(source=source, row_id__in=[d.row_id for d in decisions])
    }
    fresh = []
    for decision in decisions:
        error = known.get((decision.row_id, decision.reason))
        if error is None:
            row = rows[decision.row_id]
            fresh.append(
                RowError(
                    source=source,
                    row_id=row.id,
                    activity_id=row.activity_id,
                    user_id=row.userid,
                    reason=decision.reason,
                    detail=decision.detail,
                    first_seen=now,
                    last_seen=now,
                )
            )
        else:
            error.last_seen, error.times, error.detail = now, error.times + 1, decision.detail
    RowError.objects.bulk_create(fresh, ignore_conflicts=True)
    RowError.objects.bulk_update(known.values(), ["last_seen", "times", "detail"], batch_size=200)
