"""The record of passes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from emailoffload.outbox.models import Run
from emailoffload.worker import lease, runs

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.mariadb]


def test_a_pass_is_on_record_while_it_runs_and_with_its_counts_afterwards() -> None:
    with runs.record("dispatch") as recording:
        assert Run.objects.get().outcome == "running"
        recording.counts["sent"] = 3
    row = Run.objects.get()
    assert (row.kind, row.outcome, row.counts, row.message) == ("dispatch", "ok", {"sent": 3}, "")
    assert row.finished_at is not None and row.finished_at >= row.started_at


def test_a_failed_pass_names_the_class_of_its_error_and_not_its_text() -> None:
    with pytest.raises(ValueError), runs.record("dispatch"):
        raise ValueError("anna@example.org")
    row = Run.objects.get()
    assert (row.outcome, row.message) == ("failed", "builtins.ValueError")


def test_a_pass_that_is_told_to_end_is_interrupted() -> None:
    with pytest.raises(KeyboardInterrupt), runs.record("dispatch"):
        raise KeyboardInterrupt
    assert Run.objects.get().outcome == "interrupted"


def test_refusals_and_errors_keep_their_message() -> None:
    with runs.record("intercept") as recording:
        recording.refused("no region")
    with runs.record("intercept") as recording:
        recording.errors("two rows")
    assert list(Run.objects.order_by("id").values_list("outcome", "message")) == [
        ("refused", "no region"),
        ("errors", "two rows"),
    ]


def test_routine_passes_are_pruned_to_a_bound_and_those_that_say_something_stay(monkeypatch: Any) -> None:
    monkeypatch.setattr(runs, "KEEP_ROUTINE", 10)
    now = timezone.now()
    Run.objects.bulk_create(Run(kind="dispatch", started_at=now, outcome="ok") for _ in range(30))
    refused = Run.objects.create(kind="dispatch", started_at=now - timedelta(days=1), outcome="refused")
    Run.objects.create(kind="dispatch", started_at=now - timedelta(days=31), outcome="refused")
    other = Run.objects.create(kind="recover", started_at=now, outcome="ok")
    Run.objects.bulk_create(Run(kind="dispatch", started_at=now, outcome="ok") for _ in range(5))
    runs.prune("dispatch")
    assert Run.objects.filter(kind="dispatch", outcome="ok").count() <= 10
    assert set(Run.objects.exclude(kind="dispatch", outcome="ok")) == {refused, other}


def test_pruning_names_few_passes_per_statement_so_that_the_claims_index_is_used(monkeypatch: Any) -> None:
    monkeypatch.setattr(runs, "KEEP_ROUTINE", 1)
    now = timezone.now()
    Run.objects.bulk_create(Run(kind="dispatch", started_at=now, outcome="ok") for _ in range(251))
    with CaptureQueriesContext(connection) as queries:
        assert runs.prune("dispatch") == 250
    updates = [q["sql"] for q in queries.captured_queries if q["sql"].startswith("UPDATE")]
    assert [sql.count(", ") + 1 for sql in updates] == [100, 100, 50]


def test_a_pass_whose_process_died_is_settled_and_a_living_one_is_not() -> None:
    old = timezone.now() - timedelta(minutes=5)
    dead = Run.objects.create(kind="dispatch", started_at=old, holder="host:1:dead")
    with lease.hold("dispatch-1") as held:
        assert held is not None
        living = Run.objects.create(kind="dispatch", started_at=old, holder=held.holder)
        assert runs.settle_interrupted() == 1
    dead.refresh_from_db()
    living.refresh_from_db()
    assert (dead.outcome, living.outcome) == ("interrupted", "running")
