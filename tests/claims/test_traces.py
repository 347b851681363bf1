"""Claims and hand-backs that were cut off, on rows that Moodle has gone on with meanwhile (promises P1, P2, P6)."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import replace
from typing import Any

import pytest
from django.utils import timezone

from emailoffload.moodle import claims, cronlock
from emailoffload.outbox import intents
from emailoffload.outbox.models import Claim, Email
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.sources import reasons
from emailoffload.sources.protocol import Candidate
from emailoffload.worker import handback, overdue, traces
from emailoffload.worker.recover_intents import UNCLEAR, recover_intents
from emailoffload.worker.traces import Trace
from tests.claims.candidates import candidate, some
from tests.conftest import Moodle

NOW = 1_800_000_000
HOUR, DAY = 3600, 86400
REMINDERS = 3
TASK = r"\mod_reengagement\task\cron_task"


@pytest.mark.parametrize(
    ("before", "after", "due", "completes", "row", "trace"),
    [
        # a reminder like any other
        ((1, 0), (2, DAY), HOUR, DAY, (2, DAY, 0), Trace.OURS),
        ((1, 0), (2, DAY), HOUR, DAY, (1, 0, 0), Trace.UNTOUCHED),
        ((1, 0), (2, DAY), HOUR, DAY, (1, 0, 1), Trace.UNTOUCHED),
        ((1, 0), (2, DAY), -HOUR, DAY, (2, DAY + 60, 0), Trace.MOODLES),
        ((1, 0), (2, DAY), -HOUR, DAY, (3, 9 * DAY, 0), Trace.OPEN),
        ((1, 0), (2, DAY), HOUR, DAY, None, Trace.MOODLES),
        ((1, 0), (2, DAY), HOUR, -HOUR, None, Trace.MOODLES),
        # the first one: Moodle deletes it at completion once it has our values
        ((0, 0), (1, DAY), HOUR, -HOUR, None, Trace.OURS),
        ((0, 0), (1, DAY), HOUR, DAY, None, Trace.MOODLES),
        ((0, 0), (1, DAY), -HOUR, -HOUR, None, Trace.OPEN),
        ((0, 0), (1, DAY), 10, -HOUR, None, Trace.OPEN),
        # the last one owed
        ((0, 0), (REMINDERS, 0), HOUR, -HOUR, (REMINDERS, 0, 1), Trace.OURS),
        ((0, 0), (REMINDERS, 0), HOUR, -HOUR, None, Trace.OURS),
        ((0, 0), (REMINDERS, 0), -HOUR, DAY, (1, DAY, 0), Trace.MOODLES),
        # completed when it was read: only a run that mails it deletes it
        ((0, 1), (REMINDERS, 0), -HOUR, -DAY, None, Trace.MOODLES),
    ],
)
def test_a_row_tells_whose_it_was_or_that_nobody_can_tell(
    before: tuple[int, int],
    after: tuple[int, int],
    due: int,
    completes: int,
    row: claims.Values | None,
    trace: Trace,
) -> None:
    sent, completed = before
    claim = Claim(
        source="reengagement",
        before={"emailsent": sent, "emailtime": 0, "completed": completed},
        after={"emailsent": after[0], "emailtime": after[1], "completed": completed},
        due_at=intents.moment(NOW + due),
        completiontime=NOW + completes,
    )
    assert traces.read(claim, row, intents.moment(NOW)) is trace


@pytest.mark.parametrize(
    ("row", "trace"),
    [
        ((50, 50), Trace.OURS), ((None, 7), Trace.UNTOUCHED), ((90, 90), Trace.MOODLES), (None, Trace.MOODLES),
    ],
)  # fmt: skip
def test_a_row_of_the_queue_tells_it_always(row: claims.Values | None, trace: Trace) -> None:
    claim = Claim(
        source="iomad_queue",
        before={"sent": None, "modifiedtime": 7},
        after={"sent": 50, "modifiedtime": 50},
    )
    assert traces.read(claim, row, intents.moment(NOW)) is trace


on_databases = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)


def last(moodle: Moodle, *, due: int, completed: int = 0) -> Candidate:
    """The last mail owed of a learner who completed an hour ago; `due` in seconds from now."""
    (found,) = some(moodle, 1)
    now = int(time.time())
    moodle.execute(
        "UPDATE mdl_reengagement_inprogress SET emailsent = 0, emailtime = %s, completed = %s, completiontime = %s"
        " WHERE id = %s",
        [now + due, completed, now - HOUR, found.row_id],
    )
    return replace(
        candidate((found.row_id, 0, now + due, completed)),
        after={"emailsent": REMINDERS, "emailtime": now + due, "completed": completed},
        is_last=True,
        completiontime=now - HOUR,
    )


def claim(found: Candidate) -> None:
    """Claim it in Moodle, and say nothing about it."""
    swap = claims.swap_of(found.source, found.row_id, found.before, found.after)
    assert claims.apply(found.source, [swap]) == {found.row_id}


def delete(moodle: Moodle) -> None:
    """What Moodle's completion phase does to rows of which a reminder was counted."""
    moodle.execute(
        "DELETE FROM mdl_reengagement_inprogress WHERE emailsent <> 0 AND completiontime < %s", [time.time()]
    )


def later() -> dt.datetime:
    return timezone.now() + dt.timedelta(minutes=10)


def ends() -> tuple[str, str, str]:
    """State of the one claim that is there; state and reason of its one mail."""
    mail = Email.objects.get()
    return mail.claim.state, mail.state, mail.reason


@on_databases
def test_a_mail_claimed_by_a_killed_process_is_sent_though_moodle_has_deleted_the_completed_row(
    moodle: Moodle,
) -> None:
    found = last(moodle, due=HOUR)
    intents.intend([found], None)
    claim(found)
    delete(moodle)
    assert recover_intents(later())["claimed"] == 1
    assert ends() == (ClaimState.CLAIMED, EmailState.QUEUED, "")


@on_databases
def test_once_it_was_due_nobody_can_tell_and_a_person_decides(moodle: Moodle) -> None:
    found = last(moodle, due=-60)
    intents.intend([found], None)
    claim(found)
    delete(moodle)
    assert recover_intents(later())["unclear"] == 1
    assert ends() == (ClaimState.CLAIMED, EmailState.FAILED, UNCLEAR)


@on_databases
def test_a_sleeper_and_its_successor_send_one_mail_though_moodle_marked_the_row_in_between(
    moodle: Moodle,
) -> None:
    sleeper = last(moodle, due=HOUR)
    intents.intend([sleeper], None)
    assert recover_intents(later())["dropped"] == 1
    moodle.execute("UPDATE mdl_reengagement_inprogress SET completed = 1 WHERE id = %s", [sleeper.row_id])
    successor = replace(
        sleeper, before={**sleeper.before, "completed": 1}, after={**sleeper.after, "completed": 1}
    )
    stored = intents.intend([successor], None)
    claim(successor)
    intents.settle([stored.claims[successor.row_id].pk], [])
    recover_intents()
    assert Claim.objects.filter(state=ClaimState.CLAIMED).count() == 1
    assert Email.objects.filter(state=EmailState.QUEUED).count() == 1


@on_databases
def test_a_row_that_was_handed_back_stays_moodles_when_moodle_marks_it_as_completed(moodle: Moodle) -> None:
    found = last(moodle, due=HOUR)
    intents.intend([found], None)
    Claim.objects.update(state=ClaimState.RELEASED, intent_key=None)
    marked = replace(found, before={**found.before, "completed": 1}, after={**found.after, "completed": 1})
    assert intents.intend([marked], None).left == {found.row_id: reasons.HANDED_BACK}


@on_databases
@pytest.mark.parametrize(
    ("due", "completed", "state", "mail"),
    [
        (HOUR, 0, ClaimState.CLAIMED, EmailState.QUEUED),
        (-60, 0, ClaimState.CLAIMED, EmailState.FAILED),
        (-60, 1, ClaimState.RELEASED, EmailState.RELEASED),
    ],
    ids=["Moodle cannot have mailed it", "nobody can tell", "Moodle has mailed it"],
)
def test_a_hand_back_that_was_cut_off_never_sends_what_moodle_may_have_sent(
    moodle: Moodle, due: int, completed: int, state: str, mail: str
) -> None:
    found = last(moodle, due=due, completed=completed)
    stored = intents.intend([found], None)
    intents.settle([claim.pk for claim in stored.claims.values()], [])
    Claim.objects.update(state=ClaimState.RELEASING, settled_at=timezone.now())
    Email.objects.update(lease="r1", leased_until=timezone.now() + dt.timedelta(days=3650))
    moodle.execute("DELETE FROM mdl_reengagement_inprogress WHERE id = %s", [found.row_id])
    recover_intents(later())
    assert ends()[:2] == (state, mail)
    assert Email.objects.get().lease == ""


@on_databases
def test_a_mail_that_had_failed_before_such_a_hand_back_goes_no_other_way_either(moodle: Moodle) -> None:
    found = last(moodle, due=-60)
    stored = intents.intend([found], None)
    intents.settle([claim.pk for claim in stored.claims.values()], [])
    Email.objects.update(state=EmailState.FAILED, reason="deadline")
    Claim.objects.update(state=ClaimState.RELEASING, settled_at=timezone.now())
    moodle.execute("DELETE FROM mdl_reengagement_inprogress WHERE id = %s", [found.row_id])
    assert overdue.find(later(), overdue.situation())[0] == []
    recover_intents(later())
    assert ends() == (ClaimState.CLAIMED, EmailState.FAILED, UNCLEAR)
    assert overdue.find(later(), overdue.situation())[0] == [], "no route is tried"


@on_databases
def test_a_hand_back_that_was_cut_off_after_which_moodle_counted_the_reminder_is_done(moodle: Moodle) -> None:
    (found,) = some(moodle, 1)
    stored = intents.intend([found], None)
    intents.settle([claim.pk for claim in stored.claims.values()], [])
    Claim.objects.update(state=ClaimState.RELEASING, settled_at=timezone.now())
    moodle.execute(
        "UPDATE mdl_reengagement_inprogress SET emailsent = emailsent + 1, emailtime = emailtime + 86999 WHERE id = %s",
        [found.row_id],
    )
    recover_intents(later())
    assert ends()[:2] == (ClaimState.RELEASED, EmailState.RELEASED)


@on_databases
@pytest.mark.parametrize("left", [False, True], ids=["nothing has left", "the mail has left"])
def test_a_hand_back_that_slept_while_its_claim_was_given_to_the_dispatcher_leaves_one_sender(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch, left: bool
) -> None:
    (found,) = some(moodle, 1)
    stored = intents.intend([found], None)
    claim(found)
    (pk,) = [claim.pk for claim in stored.claims.values()]
    intents.settle([pk], [])

    def sleep(name: str) -> None:
        if name == "release_reserved":
            assert recover_intents(later())["unreleased"] == 1
            if left:
                Email.objects.update(state=EmailState.ACCEPTED)

    monkeypatch.setattr(handback.killpoints, "reached", sleep)
    (outcome,) = handback.hand_back([pk], actor="tester", reason="")
    assert outcome.released is not left
    held = claims.values(found.source, [found.row_id])[found.row_id]
    assert held == claims.values_of(found.source, found.after if left else found.before)
    ours, moodles = (ClaimState.CLAIMED, EmailState.ACCEPTED), (ClaimState.RELEASED, EmailState.RELEASED)
    assert ends()[:2] == (ours if left else moodles)


def in_reach_of_a_run(moodle: Moodle) -> int:
    """A claim whose next reminder is due, so that its row may be restored only under the lock; returns its id."""
    (row,) = some(moodle, 1)
    now = int(time.time())
    moodle.execute(
        "UPDATE mdl_reengagement_inprogress SET emailsent = 0, emailtime = %s WHERE id = %s",
        [now - 900, row.row_id],
    )
    found = candidate((row.row_id, 0, now - 900, 0), delay=300)
    stored = intents.intend([found], None)
    claim(found)
    (pk,) = [claim.pk for claim in stored.claims.values()]
    intents.settle([pk], [])
    return pk


def row_is_ours(pk: int) -> bool:
    """Whether Moodle's row has our values."""
    mine = Claim.objects.get(pk=pk)
    return claims.holds(mine.source, claims.values(mine.source, [mine.row_id])[mine.row_id], mine.after)


@on_databases
def test_a_mail_that_fails_while_claims_are_looked_through_is_not_handed_back_without_the_lock(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch
) -> None:
    pk = in_reach_of_a_run(moodle)
    Email.objects.update(state=EmailState.SENDING)
    reserve = handback._reserve

    def just_failed(*args: Any) -> Any:
        Email.objects.update(state=EmailState.FAILED)
        return reserve(*args)

    monkeypatch.setattr(handback, "_reserve", just_failed)
    (outcome,) = handback.hand_back([pk], actor="tester", reason="")
    assert (outcome.released, outcome.code) == (False, handback.CRON_RUNNING)
    assert row_is_ours(pk)
    monkeypatch.setattr(handback, "_reserve", reserve)
    assert handback.hand_back([pk], actor="tester", reason="")[0].released


@on_databases
def test_a_row_that_was_restored_when_the_lock_was_lost_is_claimed_again(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch
) -> None:
    pk = in_reach_of_a_run(moodle)

    def cut(name: str) -> None:
        if name == "release_reserved":
            holder = moodle.value("SELECT IS_USED_LOCK(%s)", [cronlock.CronLock(TASK).name])
            moodle.execute(f"KILL CONNECTION {holder}")

    monkeypatch.setattr(handback.killpoints, "reached", cut)
    (outcome,) = handback.hand_back([pk], actor="tester", reason="")
    assert (outcome.released, outcome.code) == (False, handback.CRON_RUNNING)
    assert row_is_ours(pk)
    assert ends()[:2] == (ClaimState.CLAIMED, EmailState.QUEUED)
    assert Email.objects.get().lease == ""
