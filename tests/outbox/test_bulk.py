"""Many rows at once: what is stored is what was given, defaults included, and each row's key is its own."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from emailoffload.outbox import bulk, deadlocks
from emailoffload.outbox.models import Claim, Email, RowError


def claims(count: int) -> list[dict[str, Any]]:
    now = timezone.now()
    return [
        {
            "ref": uuid.uuid4(), "source": "it's", "row_id": number, "state": "intended", "user_id": number,
            "after": {},
            "before": {"text": "ü % \\ ' \"", "none": None}, "activity_id": 1, "course_id": 2, "due_at": now,
            "created_at": now, "user_name": f"O'Brien % {number} \\",
        }
        for number in range(count)
    ]  # fmt: skip


@pytest.mark.django_db
@pytest.mark.parametrize("returning", [True, False])
def test_rows_come_back_as_they_were_given_each_under_its_own_key(
    monkeypatch: pytest.MonkeyPatch, returning: bool
) -> None:
    if not returning:
        monkeypatch.setattr(type(connection.features), "can_return_rows_from_bulk_insert", False)
    monkeypatch.setattr(bulk, "MAX_ROWS", 3)
    rows = claims(8)
    ids = bulk.insert_with_ids(Claim, rows)
    for row, pk in zip(rows, ids, strict=True):
        stored = Claim.objects.get(pk=pk)
        assert {name: getattr(stored, name) for name in row} == row
        assert (stored.ordinal, stored.claimed_at, stored.note, stored.is_last) == (1, None, "", False)


@pytest.mark.django_db
def test_what_has_no_plain_default_must_be_given() -> None:
    (row,) = claims(1)
    del row["after"]
    with pytest.raises(KeyError):
        bulk.insert(Claim, [row])


@pytest.mark.django_db
def test_a_name_that_the_model_does_not_have_is_refused_rather_than_left_at_a_default() -> None:
    (row,) = claims(1)
    with pytest.raises(KeyError, match="Claim has no states"):
        bulk.insert(Claim, [{**row, "states": "intended"}])


@pytest.mark.django_db
def test_values_that_all_rows_share_are_stored_like_any_other() -> None:
    now = timezone.now()
    common = {"source": "a b", "reason": "x", "detail": "", "activity_id": None, "user_id": 0, "times": 1}
    rows = [common | {"row_id": n, "first_seen": now, "last_seen": now} for n in (1, 2)]
    bulk.insert(RowError, rows)
    assert list(RowError.objects.order_by("row_id").values(*rows[0])) == rows


@pytest.mark.django_db
def test_no_rows_cost_no_statement(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        bulk.insert(Email, [])
        assert bulk.insert_with_ids(Email, []) == []


def fails(times: int, code: int = deadlocks.DEADLOCK) -> Any:
    calls: list[int] = []

    def work() -> int:
        calls.append(1)
        if len(calls) <= times:
            raise OperationalError(code, "Deadlock found")
        return len(calls)

    return work


@pytest.mark.django_db(transaction=True)
def test_the_victim_of_a_deadlock_is_run_again() -> None:
    assert deadlocks.survive(fails(2)) == 3
    with pytest.raises(OperationalError):
        deadlocks.survive(fails(1, code=2006))
    with pytest.raises(OperationalError):
        deadlocks.survive(fails(deadlocks.TRIES))


@pytest.mark.django_db(transaction=True)
def test_within_a_larger_transaction_nothing_is_run_again() -> None:
    with pytest.raises(OperationalError), transaction.atomic():
        deadlocks.survive(fails(1))
