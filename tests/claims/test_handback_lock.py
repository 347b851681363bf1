"""Handing back where a run of Moodle's may have the row in memory: only under its own lock, and what is said else."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from emailoffload.moodle import claims, cronlock
from emailoffload.moodle.errors import MoodleProblem
from emailoffload.outbox import intents
from emailoffload.outbox.models import Attempt, Claim, Email
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.worker import handback, late_claims
from emailoffload.worker.handback import CRON_RUNNING, LOCK_UNAVAILABLE
from tests.claims.candidates import some
from tests.claims.test_release import claimed
from tests.claims.test_traces import TASK, in_reach_of_a_run, row_is_ours
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


def hand_back(*ids: int) -> list[tuple[bool, str]]:
    """(handed back, code) of each."""
    return [(o.released, o.code) for o in handback.hand_back(ids, actor="tester", reason="test")]


def further(moodle: Moodle) -> list[int]:
    """Two claims of other rows, whose next reminders are far away."""
    found = some(moodle, 3)[1:]
    stored = intents.intend(found, None)
    claims.apply("reengagement", [claims.swap_of(c.source, c.row_id, c.before, c.after) for c in found])
    ids = [claim.pk for claim in stored.claims.values()]
    intents.settle(ids, [])
    return ids


@pytest.fixture
def crons_lock(moodle: Moodle) -> Iterator[None]:
    """Moodle's cron is at work."""
    name = cronlock.CronLock(TASK).name
    assert moodle.value("SELECT GET_LOCK(%s, 0)", [name]) == 1
    yield
    moodle.execute("SELECT RELEASE_LOCK(%s)", [name])


@on_databases
def test_while_moodles_cron_is_at_work_only_what_it_cannot_have_in_memory_goes_back(
    moodle: Moodle, crons_lock: None
) -> None:
    near = in_reach_of_a_run(moodle)
    far = further(moodle)
    assert hand_back(near, *far) == [(False, CRON_RUNNING), (True, ""), (True, "")]
    assert row_is_ours(near)
    assert Email.objects.get(claim=near).lease == ""
    assert Claim.objects.get(pk=near).state == ClaimState.CLAIMED


@on_databases
def test_while_an_ad_hoc_task_of_the_plugins_waits_a_row_that_it_may_have_is_not_handed_back(
    moodle: Moodle,
) -> None:
    pk = in_reach_of_a_run(moodle)
    task = r"\mod_reengagement\task\reengagement_adhoc_task"
    moodle.insert("mdl_task_adhoc", component="mod_reengagement", classname=task, nextruntime=0)
    assert hand_back(pk) == [(False, CRON_RUNNING)]
    assert row_is_ours(pk)
    moodle.execute("DELETE FROM mdl_task_adhoc")
    assert hand_back(pk) == [(True, "")]
    assert not row_is_ours(pk)


@on_databases
@pytest.mark.parametrize("why", ["factory", "task"])
def test_where_the_lock_cannot_be_had_at_all_that_is_said(moodle: Moodle, settings: Any, why: str) -> None:
    pk = in_reach_of_a_run(moodle)
    if why == "factory":
        settings.MOODLE_LOCK_FACTORY = "file"
    else:
        moodle.execute("DELETE FROM mdl_task_scheduled WHERE component = 'mod_reengagement'")
    assert hand_back(pk) == [(False, LOCK_UNAVAILABLE)]
    assert row_is_ours(pk)


@on_databases
def test_each_id_gets_its_answer_in_the_order_asked_whatever_it_is(moodle: Moodle) -> None:
    first, second, third = (claim.pk for claim in claimed(moodle, 3))
    assert hand_back(second) == [(True, "")]
    unknown = third + 1000
    assert hand_back(third, unknown, second, first) == [
        (True, ""), (False, handback.NO_CLAIM), (False, handback.NOT_CLAIMED), (True, "")
    ]  # fmt: skip
    (answer,) = handback.hand_back([unknown], actor="tester", reason="")
    assert (answer.claim_id, answer.why_not) == (unknown, f"There is no claim {unknown}.")


@on_databases
def test_many_are_handed_back_in_batches_each_once(moodle: Moodle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handback, "BATCH", 2)
    batches: list[int] = []
    batch = handback._hand_back_batch

    def counted(ids: Sequence[int], actor: str, reason: str) -> Any:
        batches.append(len(ids))
        return batch(ids, actor, reason)

    monkeypatch.setattr(handback, "_hand_back_batch", counted)
    ids = [claim.pk for claim in claimed(moodle, 5)]
    with CaptureQueriesContext(connection) as queries:
        assert hand_back(*ids, ids[0]) == [(True, "")] * 6
    assert batches == [2, 2, 1]
    # However many claims there are, no statement reads others, or more at once.
    reads = [q["sql"] for q in queries if re.match(r"SELECT .* FROM `emailoffload_(claim|email)`", q["sql"])]
    asked = [re.search(r"(?:`id`|`claim_id`) IN \(([^)]*)\)", sql) for sql in reads]
    assert {len(found[1].split(",")) for found in asked if found} == {1, 2}
    assert all(found or "LIMIT" in sql for found, sql in zip(asked, reads, strict=True))


@on_databases
def test_while_moodles_database_cannot_be_relied_on_nothing_is_handed_back(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def older() -> None:
        raise MoodleProblem("It is older than what we wrote.", "Wait.")

    ids = [claim.pk for claim in claimed(moodle, 2)]
    monkeypatch.setattr(handback.trust, "require", older)
    assert handback.hand_back(ids, actor="tester", reason="") == [
        handback.Released(pk, False, "It is older than what we wrote.", handback.MOODLE_AWAY) for pk in ids
    ]
    assert set(Claim.objects.values_list("state", flat=True)) == {"claimed"}


@on_databases
def test_of_two_claims_of_a_row_the_newer_goes_back_first_whichever_is_named_first(moodle: Moodle) -> None:
    (older,) = claimed(moodle, 1)
    newer = Claim.objects.get(pk=older.pk)
    newer.pk, newer.intent_key, newer.before = None, "next", older.after
    newer.after = {**older.after, "emailsent": 2, "emailtime": older.after["emailtime"] + 86400}
    newer.ref = uuid.uuid4()
    newer.save()
    email = Email.objects.get()
    email.pk, email.claim, email.ref = None, newer, uuid.uuid4()
    email.save()
    moodle.execute(
        "UPDATE mdl_reengagement_inprogress SET emailsent = 2, emailtime = %s WHERE id = %s",
        [newer.after["emailtime"], newer.row_id],
    )
    # Not the newer one: the row does not hold what the older one wrote.
    assert hand_back(older.pk) == [(False, handback.CHANGED)]
    assert hand_back(older.pk, newer.pk) == [(True, ""), (True, "")]
    assert moodle.rows(
        "SELECT emailsent, emailtime FROM mdl_reengagement_inprogress WHERE id = %s", [older.row_id]
    ) == [(older.before["emailsent"], older.before["emailtime"])]


@on_databases
def test_what_failed_goes_back_and_what_may_have_left_in_an_earlier_try_does_not(moodle: Moodle) -> None:
    first, second = claimed(moodle, 2)
    Email.objects.update(state=EmailState.FAILED)
    Attempt.objects.create(
        email=second.emails.get(),
        number=1,
        route="ses",
        started_at=timezone.now(),
        outcome="unknown",
        holder="h",
    )
    assert hand_back(first.pk, second.pk) == [(True, ""), (False, handback.LEFT)]


@on_databases
def test_a_reminder_goes_back_while_moodles_next_run_is_still_in_time_for_it(
    moodle: Moodle, settings: Any
) -> None:
    settings.MOODLE_CRON_PERIOD_SECONDS = 60
    first, second = claimed(moodle, 2)
    now = timezone.now()
    edge = dt.timedelta(days=2) - dt.timedelta(seconds=60)
    assert handback.too_late(Claim(source="reengagement", due_at=now - edge - dt.timedelta(seconds=1)), now)
    assert not handback.too_late(Claim(source="reengagement", due_at=now - edge), now)
    assert not handback.too_late(Claim(source="iomad_queue", due_at=now - 9 * edge), now)
    Claim.objects.filter(pk=first.pk).update(due_at=now - edge - dt.timedelta(seconds=1))
    Claim.objects.filter(pk=second.pk).update(due_at=now - edge + dt.timedelta(seconds=60))
    assert hand_back(first.pk, second.pk) == [(False, handback.TOO_LATE), (True, "")]
