"""`manage.py rollups`: one pass, everything anew, or a check that changes nothing."""

from __future__ import annotations

import io
import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from emailoffload.outbox import hourchanges
from emailoffload.outbox.figures import EMAILS, HourChange, HourCount
from emailoffload.worker import lease, rollups
from tests.rollups.rows import in_the_counts, in_the_rows, store_emails

pytestmark = pytest.mark.django_db


def told(*args: str) -> tuple[int, str]:
    """Exit status and output of the command."""
    out = io.StringIO()
    try:
        call_command("rollups", *args, stdout=out)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue()
    return 0, out.getvalue()


def result(*args: str) -> tuple[int, dict[str, Any]]:
    """Exit status and the JSON that it prints."""
    status, text = told(*args, "--json")
    return status, json.loads(text)


@pytest.fixture
def hour() -> datetime:
    """An hour of yesterday with three mails, counted."""
    hour = hourchanges.hour_of(timezone.now()) - timedelta(days=1)
    store_emails(3, hour)
    rollups.run()
    return hour


def test_a_pass_says_what_it_counted(hour: datetime) -> None:
    store_emails(1, hour)
    status, said = result()
    assert (status, said["counted"], said["left_over"], said["building"]) == (0, 2, 0, False)
    assert said["counted_until"]
    assert told()[1].startswith("0 hours counted anew, ")


def test_a_check_of_counts_that_are_right_is_fine(hour: datetime) -> None:
    store_emails(1, hour)  # it waits to be counted: no difference
    assert told("--check") == (0, "Every count is that of its rows.\n")
    assert HourChange.objects.exists()


def test_a_check_finds_a_wrong_count_changes_nothing_and_names_the_cure(hour: datetime) -> None:
    HourCount.objects.filter(kind=EMAILS).update(number=99)
    status, text = told("--check")
    assert status == 1
    assert text == (
        f"{hour:%Y-%m-%d %H:%M} UTC, email: 99 counted, 3 in the rows\n"
        "Where the numbers are equal, states, companies or sums differ. Cure: manage.py rollups --rebuild\n"
    )
    assert result("--check")[1]["differences"][0]["counted"] == 99
    assert HourCount.objects.get(kind=EMAILS).number == 99


def test_a_rebuild_makes_every_count_right_however_many_passes_it_takes(
    hour: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    for days in range(1, 4):
        store_emails(1, hour - timedelta(days=days))
    rollups.run()
    HourCount.objects.update(number=99)
    moments = iter(range(10**6))
    monkeypatch.setattr("emailoffload.worker.rollups.time.monotonic", lambda: float(next(moments)))
    monkeypatch.setattr(rollups, "BUDGET_SECONDS", 4.0)
    status, said = result("--rebuild")
    assert (status, said["building"]) == (0, False)
    assert in_the_counts() == in_the_rows()
    assert told("--check")[0] == 0


def test_a_rebuild_beside_another_pass_says_that_it_did_not_happen(hour: datetime) -> None:
    with lease.hold(rollups.LEASE):
        assert told("--rebuild") == (1, "Another pass is counting; nothing was done.\n")
        assert told()[0] == 0


def test_both_at_once_are_wrong_usage() -> None:
    with pytest.raises(CommandError, match="not allowed with") as problem:
        call_command("rollups", "--rebuild", "--check")
    assert problem.value.returncode in (1, 2)
