"""Claims of which nobody knows whether they were committed in time: how they are marked, and which are undone."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.db import OperationalError
from django.db.models import QuerySet
from django.utils import timezone

from emailoffload.moodle import claims
from emailoffload.moodle.errors import MoodleProblem
from emailoffload.outbox import intents
from emailoffload.outbox.models import Claim
from emailoffload.worker import late_claims
from tests.claims.candidates import some
from tests.claims.queue import queued
from tests.claims.test_release import claimed
from tests.conftest import Moodle

NOW = 1_800_000_000
MARGIN = 30
on_databases = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)


@pytest.mark.parametrize(
    ("emailtime", "completes", "needed"),
    [
        (NOW + MARGIN + 1, NOW + MARGIN + 1, False),
        (NOW + MARGIN, NOW + 9000, True),
        (NOW + 9000, NOW + MARGIN, True),
        (NOW - 9000, NOW + 9000, True),
        (NOW + 9000, NOW - 9000, True),
    ],
)
def test_a_reminder_needs_the_lock_once_its_next_one_or_its_completion_is_at_hand(
    settings: Any, emailtime: int, completes: int, needed: bool
) -> None:
    settings.CLAIM_MARGIN_SECONDS = MARGIN
    values = {"completiontime": completes, "after": {"emailsent": 1, "emailtime": emailtime}}
    assert (
        late_claims.needs_lock(Claim(source="reengagement", before={"completed": 0}, **values), NOW) == needed
    )
    # No run has these in memory with our values.
    completed = Claim(source="reengagement", before={"completed": 1}, **values)
    assert late_claims.needs_lock(completed, NOW) is False
    assert (
        late_claims.needs_lock(Claim(source="iomad_queue", before={"completed": 0}, **values), NOW) is False
    )


@on_databases
def test_only_intents_that_are_named_are_marked_as_doubtful(moodle: Moodle) -> None:
    first, second, third = (c.pk for c in intents.intend(some(moodle, 3), None).claims.values())
    intents.settle([third], [])
    late_claims.mark([first, third])
    marked = dict(Claim.objects.values_list("pk", "note"))
    assert marked == {first: late_claims.DOUBTFUL, second: "", third: ""}


@on_databases
def test_where_our_database_takes_no_mark_that_is_said_and_nothing_else_fails(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*args: object, **values: object) -> int:
        raise OperationalError(2006, "gone")

    monkeypatch.setattr(QuerySet, "update", away)
    late_claims.mark([7, 8])
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "2 claims may not have reached Moodle" in record.getMessage()


@on_databases
@pytest.mark.parametrize("lock_needed", [False, True])
def test_of_doubtful_claims_only_those_that_are_due_and_need_no_lock_are_undone(
    moodle: Moodle, lock_needed: bool
) -> None:
    doubtful, sure, not_due = claimed(moodle, 3)
    now = timezone.now()
    # The values of the site's rows are of its own time: their next reminders lie in the future here.
    for claim in (doubtful, sure, not_due):
        claim.after["emailtime"] = int(now.timestamp()) + 9000
        claim.completiontime = 0 if lock_needed else 2_000_000_000
        claim.due_at, claim.note = now, late_claims.DOUBTFUL
        moodle.execute(
            "UPDATE mdl_reengagement_inprogress SET emailtime = %s WHERE id = %s",
            [claim.after["emailtime"], claim.row_id],
        )
    sure.note, not_due.due_at = "", now + dt.timedelta(seconds=1)
    undone = late_claims.undo([doubtful, sure, not_due], now)
    assert undone == (set() if lock_needed else {doubtful.pk})
    for claim in (doubtful, sure, not_due):
        expected = claim.before if claim.pk in undone else claim.after
        assert claims.holds(claim.source, claims.values(claim.source, [claim.row_id])[claim.row_id], expected)


@on_databases
def test_doubtful_claims_of_both_kinds_are_undone_each_with_its_own_values(moodle: Moodle) -> None:
    reminder, (row,) = claimed(moodle, 1)[0], queued(moodle, 1)
    now = timezone.now()
    (old,) = claims.values("iomad_queue", [row]).values()
    at = int(now.timestamp()) - 1
    mail = Claim(
        pk=1, source="iomad_queue", row_id=row, due_at=now, note=late_claims.DOUBTFUL,
        before={"sent": None, "modifiedtime": old[1]}, after={"sent": at, "modifiedtime": at},
    )  # fmt: skip
    claims.apply("iomad_queue", [claims.swap_of("iomad_queue", row, mail.before, mail.after)])
    reminder.due_at, reminder.note, reminder.completiontime = now, late_claims.DOUBTFUL, 2_000_000_000
    reminder.after["emailtime"] = int(now.timestamp()) + 9000
    moodle.execute(
        "UPDATE mdl_reengagement_inprogress SET emailtime = %s WHERE id = %s",
        [reminder.after["emailtime"], reminder.row_id],
    )
    assert late_claims.undo([reminder, mail], now) == {reminder.pk, 1}
    assert list(claims.values("iomad_queue", [row]).values()) == [old]


@on_databases
@pytest.mark.parametrize("error", [claims.ClaimUnknown("broke"), claims.RowsLocked("locked")], ids=repr)
def test_where_it_is_open_what_was_undone_moodles_database_is_the_trouble(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*args: object) -> set[int]:
        raise error

    claim = Claim(
        pk=1, source="iomad_queue", row_id=1, due_at=timezone.now(), note=late_claims.DOUBTFUL,
        before={"sent": None, "modifiedtime": 1}, after={"sent": 2, "modifiedtime": 2},
    )  # fmt: skip
    monkeypatch.setattr(claims, "apply", broken)
    with pytest.raises(MoodleProblem, match=str(error)):
        late_claims.undo([claim], timezone.now())
