"""Handing back where a run of Moodle's may have the row in memory: only under its own lock, and what is said else."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from emailoffload.moodle import claims, cronlock
from emailoffload.moodle.errors import MoodleProblem
from emailoffload.outbox import intents
from emailoffload.outbox.figures import CLAIMS, HourChange
from emailoffload.outbox.models import Attempt, AuditEntry, Claim, Email
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.worker import handback
from emailoffload.worker.handback import CRON_RUNNING, LOCK_UNAVAILABLE
from tests.claims.candidates import some
from tests.claims.queue import queued
from tests.claims.test_release import claimed
from tests.claims.test_traces import TASK, in_reach_of_a_run, row_is_ours
from tests.conftest import Moodle

on_databases = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)


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
    answers = handback.hand_back([near, *far], actor="tester", reason="test")
    assert [(answer.released, answer.code) for answer in answers] == [
        (False, CRON_RUNNING),
        (True, ""),
        (True, ""),
    ]
    assert "try again in a few minutes" in answers[0].why_not
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
    (answer,) = handback.hand_back([pk], actor="tester", reason="test")
    assert (answer.released, answer.code) == (False, LOCK_UNAVAILABLE)
    assert "cannot be shared here" in answer.why_not
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
    assert all(found or re.search(r"LIMIT \d+$", sql) for found, sql in zip(asked, reads, strict=True))
    # Claims and mails are out of everybody's reach from the look on.
    locked = {table for sql in reads if "FOR UPDATE" in sql for table in re.findall(r" FROM `(\w+)`", sql)}
    assert locked >= {"emailoffload_claim", "emailoffload_email"}


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
    for claim, outcome in ((first, "permanent"), (second, "unknown")):
        Attempt.objects.create(
            email=claim.emails.get(),
            number=1,
            route="ses",
            started_at=timezone.now(),
            outcome=outcome,
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


@on_databases
@pytest.mark.parametrize("state", [EmailState.ACCEPTED, EmailState.SENDING, EmailState.UNCERTAIN])
def test_one_mail_that_may_have_left_keeps_its_claim_though_others_wait(
    moodle: Moodle, state: EmailState
) -> None:
    (claim,) = claimed(moodle, 1)
    mail = Email.objects.get()
    mail.pk, mail.ref, mail.state = None, uuid.uuid4(), state
    mail.save()
    assert hand_back(claim.pk) == [(False, handback.LEFT)]
    assert row_is_ours(claim.pk)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The sources whose cron locks were wanted, hand-back for hand-back."""
    wanted: list[set[str]] = []
    locks = handback._locks

    def noted(sources: set[str]) -> Any:
        wanted.append(sources)
        return locks(sources)

    monkeypatch.setattr(handback, "_locks", noted)
    return wanted


@on_databases
def test_moodles_lock_is_taken_only_for_what_needs_it_and_can_go_back(
    moodle: Moodle, taken: list[set[str]]
) -> None:
    near = in_reach_of_a_run(moodle)
    far = further(moodle)
    hand_back(*far)  # another claim, which is not asked for, would need it
    Email.objects.filter(claim=near).update(state=EmailState.ACCEPTED)
    hand_back(near)  # it has left
    Email.objects.filter(claim=near).update(state=EmailState.QUEUED)
    hand_back(near)
    hand_back(near)  # it is Moodle's
    assert taken == [set(), set(), {"reengagement"}, set()]


def cut_the_lock(moodle: Moodle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the connection that holds Moodle's lock break once claims are reserved."""

    def cut(name: str) -> None:
        if name == "release_reserved":
            moodle.execute(
                f"KILL CONNECTION {moodle.value('SELECT IS_USED_LOCK(%s)', [cronlock.CronLock(TASK).name])}"
            )

    monkeypatch.setattr(handback.killpoints, "reached", cut)


@on_databases
def test_a_lock_that_was_lost_keeps_only_what_needed_it(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = in_reach_of_a_run(moodle), further(moodle)
    cut_the_lock(moodle, monkeypatch)
    assert hand_back(near, *far) == [(False, CRON_RUNNING), (True, ""), (True, "")]
    assert [row_is_ours(pk) for pk in (near, *far)] == [True, False, False]


@on_databases
def test_a_row_that_somebody_changed_is_told_as_that_though_the_lock_was_lost_too(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = in_reach_of_a_run(moodle)
    moodle.execute(
        "UPDATE mdl_reengagement_inprogress SET emailsent = 9 WHERE id = %s",
        [Claim.objects.get(pk=near).row_id],
    )
    cut_the_lock(moodle, monkeypatch)
    assert hand_back(near) == [(False, handback.CHANGED)]


@on_databases
def test_who_slept_gives_back_what_is_still_to_be_had_and_leaves_every_other_claim_as_it_is(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, waiting, plain, changed = claimed(moodle, 4)
    moodle.execute("UPDATE mdl_reengagement_inprogress SET emailsent = 9 WHERE id = %s", [changed.row_id])

    def sleep(name: str) -> None:
        if name == "release_written":  # recovery gave two of them up meanwhile
            given_up = Claim.objects.filter(pk__in=[gone.pk, waiting.pk])
            given_up.update(state=ClaimState.CLAIMED)
            Email.objects.filter(claim__in=given_up).update(lease="", leased_until=None)
            Email.objects.filter(claim=gone).update(state=EmailState.ACCEPTED)

    monkeypatch.setattr(handback.killpoints, "reached", sleep)
    assert hand_back(gone.pk, waiting.pk, plain.pk, changed.pk) == [
        (False, handback.LEFT), (True, ""), (True, ""), (False, handback.CHANGED)
    ]  # fmt: skip
    assert row_is_ours(gone.pk)
    for back in (waiting, plain):
        (held,) = claims.values(back.source, [back.row_id]).values()
        assert held == claims.values_of(back.source, back.before)
    states = dict(Claim.objects.values_list("pk", "state"))
    assert states == {gone.pk: "claimed", waiting.pk: "released", plain.pk: "released", changed.pk: "claimed"}


@on_databases
def test_the_end_of_a_hand_back_is_on_record_as_a_whole_or_not_at_all(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch
) -> None:
    (claim,) = claimed(moodle, 1)

    def away(*args: object) -> int:
        raise OperationalError(2006, "gone")

    with monkeypatch.context() as patch:
        patch.setattr(handback, "finish_releases", away)
        with pytest.raises(OperationalError):
            hand_back(claim.pk)
    assert not AuditEntry.objects.exists()
    assert Claim.objects.get().state == ClaimState.RELEASING


@on_databases
def test_each_hand_back_and_each_refusal_is_on_record_with_its_claim_and_reason(moodle: Moodle) -> None:
    first, second = claimed(moodle, 2)
    moodle.execute("UPDATE mdl_reengagement_inprogress SET emailsent = 9 WHERE id = %s", [second.row_id])
    handback.hand_back([first.pk, second.pk], actor="anna", reason="planned")
    told = AuditEntry.objects.order_by("pk").values_list(
        "actor", "action", "object_type", "object_id", "reason"
    )
    assert list(told) == [
        ("anna", "release", "claim", str(first.pk), "planned"),
        ("anna", "release_refused", "claim", str(second.pk), "planned"),
    ]


@on_databases
def test_rows_of_both_kinds_are_claimed_again_each_with_its_own_values(moodle: Moodle) -> None:
    (reminder,) = claimed(moodle, 1)
    (row,) = queued(moodle, 1)
    (old,) = claims.values("iomad_queue", [row]).values()
    mail = Claim(
        source="iomad_queue", row_id=row, before={"sent": None, "modifiedtime": old[1]},
        after={"sent": 1_800_000_000, "modifiedtime": 1_800_000_000},
    )  # fmt: skip
    claims.apply(
        "reengagement",
        [claims.swap_of("reengagement", reminder.row_id, reminder.before, reminder.after).reversed()],
    )
    handback._claim_again([reminder, mail])
    assert row_is_ours(reminder.pk)
    assert list(claims.values("iomad_queue", [row]).values()) == [(1_800_000_000, 1_800_000_000)]


@on_databases
def test_between_look_and_restored_row_no_dispatcher_can_take_a_mail_and_the_hour_is_counted_anew(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = claimed(moodle, 2)
    Email.objects.filter(claim=second).update(state=EmailState.FAILED)
    HourChange.objects.all().delete()
    seen: list[tuple[str, bool]] = []

    def look(name: str) -> None:
        if name == "release_reserved":
            far = timezone.now() + dt.timedelta(days=365)
            for mail in Email.objects.order_by("claim_id"):
                seen.append((mail.lease[:1], bool(mail.leased_until and mail.leased_until > far)))
            assert HourChange.objects.filter(kind=CLAIMS).exists()

    monkeypatch.setattr(handback.killpoints, "reached", look)
    assert hand_back(first.pk, second.pk) == [(True, ""), (True, "")]
    assert seen == [("r", True), ("", False)]


@on_databases
def test_a_claim_without_a_mail_is_not_handed_back_as_if_it_had_one(moodle: Moodle) -> None:
    (claim,) = claimed(moodle, 1)
    Email.objects.all().delete()
    assert hand_back(claim.pk) == [(False, handback.LEFT)]
