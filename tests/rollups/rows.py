"""Rows of the past, stored as the product stores them, and what they come to, counted without the product."""

from __future__ import annotations

import itertools
import uuid
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from django.db import transaction

from emailoffload.outbox import bulk, hourchanges, intents
from emailoffload.outbox.figures import CLAIMS, EMAILS, LEFT, CountSum, HourCount, LeftRow
from emailoffload.outbox.models import Claim, Email
from emailoffload.outbox.states import ClaimState, EmailState

_numbers = itertools.count(1)
Counts = Counter[tuple[str, datetime, str, int, str]]
"""Numbers by kind, hour, source, company and key."""


def store_claims(count: int, at: datetime, **changes: Any) -> list[int]:
    """`count` claims that were intended at a moment; returns their ids."""
    values: dict[str, Any] = {
        "source": "reengagement", "template": "", "state": ClaimState.CLAIMED, "user_id": 1, "activity_id": 1,
        "course_id": 2, "company_id": 3, "due_at": at, "created_at": at, "before": {}, "after": {},
    }  # fmt: skip
    rows = [values | {"row_id": next(_numbers), "ref": uuid.uuid4()} | changes for _ in range(count)]
    with transaction.atomic():
        ids = bulk.insert_with_ids(Claim, rows)
        hourchanges.began(CLAIMS, [at])
    return ids


def store_emails(count: int, at: datetime, claim_id: int | None = None, **changes: Any) -> list[int]:
    """`count` mails of one claim that were rendered at a moment; returns their ids."""
    claim_id = claim_id or store_claims(1, at)[0]
    values: dict[str, Any] = {
        "claim_id": claim_id, "source": "reengagement", "role": "user", "user_id": 1, "activity_id": 1,
        "course_id": 2, "company_id": 3, "address": "anna@example.org", "name": "Anna", "subject": "First aid",
        "sensitive": False, "state": EmailState.QUEUED, "state_at": at, "created_at": at, "due_at": at,
        "next_try_at": at, "deadline_at": at,
    }  # fmt: skip
    rows = [values | {"ref": uuid.uuid4()} | changes for _ in range(count)]
    with transaction.atomic():
        return intents.store_emails(rows, [("0", b"sealed")] * count)


def store_left(count: int, at: datetime, **changes: Any) -> list[int]:
    """`count` rows that were left to Moodle at a moment; returns their ids."""
    values: dict[str, Any] = {"source": "reengagement", "reason": "not_enrolled", "company_id": None}
    numbers = [next(_numbers) for _ in range(count)]
    with transaction.atomic():
        LeftRow.objects.bulk_create(
            LeftRow(**values | {"row_id": number, "due_at": at, "first_seen": at, "last_seen": at} | changes)
            for number in numbers
        )
        hourchanges.began(LEFT, [at])
    return list(LeftRow.objects.filter(row_id__in=numbers).order_by("pk").values_list("pk", flat=True))


def in_the_rows() -> Counts:
    """What all rows come to: one by one, in Python."""
    found: Counts = Counter()
    for kind, rows in (
        (EMAILS, Email.objects.values_list("created_at", "source", "company_id", "state")),
        (CLAIMS, Claim.objects.values_list("created_at", "source", "company_id", "state")),
        (LEFT, LeftRow.objects.values_list("first_seen", "source", "company_id", "reason")),
    ):
        for at, source, company, key in rows:
            hour = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
            found[(kind, hour, source, company or 0, key)] += 1
    return found


def in_the_counts() -> Counts:
    """What the hourly counts say."""
    rows = HourCount.objects.values_list("kind", "hour", "source", "company_id", "key", "number")
    found: Counts = Counter()
    for *key, number in rows:
        found[tuple(key)] += number  # type: ignore[index]
    return found


def sums_in_the_rows() -> Counter[tuple[str, str, datetime, str, int, str]]:
    """What the sums have to be, by kind, unit, beginning, source, company and key."""
    found: Counter[tuple[str, str, datetime, str, int, str]] = Counter()
    for (kind, hour, source, company, key), number in in_the_rows().items():
        found[(kind, "hour", hour, source, 0, key)] += number
        found[(kind, "day", hour.replace(hour=0), source, company, key)] += number
    return found


def sums_in_the_counts() -> Counter[tuple[str, str, datetime, str, int, str]]:
    """What the sums are."""
    rows = CountSum.objects.values_list("kind", "unit", "begins", "source", "company_id", "key", "number")
    return Counter({tuple(key): number for *key, number in rows})  # type: ignore[misc]
