"""Claims of IOMAD's queue through the whole interceptor: who wins a row, when, and whose it is afterwards."""

from __future__ import annotations

import datetime as dt
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from django.utils import timezone

from emailoffload.actions import drain
from emailoffload.actions.release import release
from emailoffload.moodle import claims, cronlock
from emailoffload.outbox import intents
from emailoffload.outbox.models import Claim, Email, Run
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.sources import reasons
from emailoffload.worker import claiming, dispatch, intercept
from emailoffload.worker.intercept_result import InterceptResult
from emailoffload.worker.recover_intents import recover_intents
from tests.claims.queue import candidate, queue_again, queued, rows, some
from tests.conftest import Moodle
from tests.reengagement.test_decisions import soon

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
SOURCE = "iomad_queue"
TASK = r"\local_email\task\cron_task"


def later(seconds: int = 3600) -> dt.datetime:
    return timezone.now() + dt.timedelta(seconds=seconds)


def run(**options: Any) -> InterceptResult:
    result = intercept.run(source=SOURCE, **options)
    assert not result.refused
    return result


def apply(stored: intents.Intended) -> set[int]:
    swaps = [claims.swap_of(SOURCE, c.row_id, c.before, c.after) for c in stored.claims.values()]
    return claims.apply(SOURCE, swaps)


# --- a pass ---


def test_waiting_mails_are_claimed_as_sent_a_moment_ago_and_leave(moodle: Moodle, ses: SandboxSES) -> None:
    ids = queued(moodle, 3)
    before = int(time.time())
    result = run()
    assert (result.claimed, result.lost, dict(result.left)) == (3, 0, {})
    assert result.highest_id == ids[-1]
    for _, sent, modifiedtime in rows(moodle, ids):
        assert sent == modifiedtime
        assert sent is not None
        assert before - 2 <= sent < int(time.time())
    claim = Claim.objects.first()
    assert claim is not None
    assert (claim.source, claim.template, claim.company_id) == (SOURCE, "completion_warn_user", 1)
    assert dispatch.run(until_empty=True).sent == len(ses.messages) == 3


def test_a_row_queued_a_second_ago_never_keeps_its_own_time(moodle: Moodle, ses: SandboxSES) -> None:
    ids = queued(moodle, 40, age=-3)  # times around now, so that some are the second before the claim
    modified = {row[0]: row[2] for row in rows(moodle, ids)}
    assert run().claimed == 40
    assert all(modified[row_id] != now for row_id, _, now in rows(moodle, ids))


def test_while_iomads_cron_runs_its_rows_stay_with_it(moodle: Moodle, ses: SandboxSES) -> None:
    ids = queued(moodle, 4)
    before = rows(moodle, ids)
    with cronlock.CronLock(TASK):
        assert run().left == {reasons.CRON_RUNNING: 4}
    assert rows(moodle, ids) == before
    assert run().claimed == 4


@pytest.mark.parametrize("claimed_ahead", [True, False])
def test_without_a_lock_due_rows_stay_with_iomad_and_rows_of_the_future_are_claimed_ahead(
    moodle: Moodle, ses: SandboxSES, settings: Any, claimed_ahead: bool
) -> None:
    settings.MOODLE_LOCK_FACTORY = "db_record"
    ids = queued(moodle, 4, due=300 if claimed_ahead else -60)
    before = rows(moodle, ids)
    result = run()
    if claimed_ahead:
        assert (result.claimed, result.reasons) == (4, {reasons.CLAIMED_AHEAD: 4})
        assert set(Claim.objects.values_list("under_lock", flat=True)) == {False}
        assert dispatch.run(until_empty=True).sent == 0, "they leave when they are due"
    else:
        assert result.left == {reasons.LOCK_UNAVAILABLE: 4}
        assert rows(moodle, ids) == before


def test_a_claim_ahead_that_was_committed_after_its_due_time_is_undone(
    moodle: Moodle, ses: SandboxSES, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.LEASE_SECONDS = 3600
    ids = queued(moodle, 3, due=300)
    before = rows(moodle, ids)
    offset = [0]
    whole = claims.apply

    def slow(source: str, swaps: Any) -> set[int]:
        won = whole(source, swaps)
        offset[0] = 400
        return won

    monkeypatch.setattr(claims, "apply", slow)
    clock = SimpleNamespace(time=lambda: time.time() + offset[0], monotonic=time.monotonic)
    monkeypatch.setattr(claiming, "time", clock)
    assert run().left == {reasons.COMMITTED_LATE: 3}
    assert rows(moodle, ids) == before
    assert not Email.objects.exists()


def test_a_row_that_iomad_sent_between_our_look_and_our_lock_is_lost_not_doubled(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = queued(moodle, 3)
    whole = claiming.Claimer._claim

    def after_iomads_run(self: Any, candidates: Any, sealed: Any, *, under_lock: bool) -> set[int]:
        moodle.execute(
            "UPDATE mdl_email SET sent = 1800000000, modifiedtime = 1800000000 WHERE id = %s", ids[:1]
        )
        return whole(self, candidates, sealed, under_lock=under_lock)

    monkeypatch.setattr(claiming.Claimer, "_claim", after_iomads_run)
    result = run()
    assert (result.claimed, result.lost) == (2, 1)
    assert rows(moodle, ids[:1]) == [(ids[0], 1800000000, 1800000000)]


def test_a_pass_under_the_callers_lock_uses_it_and_does_not_give_it_back(
    moodle: Moodle, ses: SandboxSES
) -> None:
    queued(moodle, 3)
    with cronlock.CronLock(TASK) as lock:
        assert run(lock=lock).claimed == 3
        assert lock.still_held()


def test_a_pass_under_a_lock_that_was_lost_claims_nothing(moodle: Moodle, ses: SandboxSES) -> None:
    queued(moodle, 3)
    with cronlock.CronLock(TASK) as lock:
        moodle.execute(f"KILL {moodle.value('SELECT IS_USED_LOCK(%s)', [lock.name])}")
        assert run(lock=lock).left == {reasons.CRON_RUNNING: 3}


def test_the_lock_of_another_task_is_refused(moodle: Moodle, ses: SandboxSES) -> None:
    queued(moodle, 1)
    with (
        cronlock.CronLock(cronlock.reengagement_lock_target()) as lock,
        pytest.raises(ValueError, match="guards no rows of iomad_queue"),
    ):
        intercept.run(source=SOURCE, lock=lock)


def test_a_quiet_pass_that_sees_nothing_leaves_no_record_and_asks_little(
    moodle: Moodle, ses: SandboxSES, django_assert_max_num_queries: Any
) -> None:
    from django.db import connections

    with (
        django_assert_max_num_queries(0),
        django_assert_max_num_queries(3, connection=connections["moodle"]),
    ):
        assert run(quiet=True).seen == 0
    assert not Run.objects.exists()
    queued(moodle, 1)
    assert run(quiet=True).claimed == 1
    assert Run.objects.count() == 1


def test_a_pass_above_an_id_looks_only_at_what_came_later(moodle: Moodle, ses: SandboxSES) -> None:
    ids = queued(moodle, 4)
    result = run(above=ids[1])
    assert (result.seen, result.claimed, result.highest_id) == (2, 2, ids[3])
    assert run(above=ids[3], quiet=True).seen == 0
    assert run().claimed == 2


def test_what_keeps_a_quiet_pass_from_looking_is_said(moodle: Moodle, settings: Any) -> None:
    settings.MOODLE_DB_PREFIX = "xyz_"
    result = intercept.run(source=SOURCE, quiet=True)
    assert "lacks a privilege" in result.refused
    assert "moodlegrants" in result.cure
    assert not Run.objects.exists()


def test_two_passes_at_once_claim_each_row_once(moodle: Moodle, ses: SandboxSES) -> None:
    from django.db import connections

    queued(moodle, 60)
    start = threading.Barrier(2)
    claimed: list[int] = []

    def one(lane: str) -> None:
        start.wait()
        try:
            claimed.append(run(lane=lane).claimed)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=one, args=(lane,)) for lane in ("-a", "-b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run()
    assert Claim.objects.filter(state=ClaimState.CLAIMED).count() == 60
    assert Email.objects.filter(state=EmailState.QUEUED).count() == 60


def test_mails_with_credentials_are_claimed_first_and_from_the_reserve(
    moodle: Moodle, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emailoffload.delivery import ses as product

    settings.SENSITIVE_QUOTA_RESERVE = 40
    queued(moodle, 6)
    secret = queued(moodle, 3, template="user_create")
    with SandboxSES(max_24h=10) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", server.url)
        product.forget_client()
        result = run()
        queued(moodle, 2)
        more = queued(moodle, 2, template="user_reset")
        second = run()
    product.forget_client()
    assert (result.claimed, result.left) == (6, {reasons.NO_CAPACITY: 3})
    assert Claim.objects.filter(row_id__in=secret, state=ClaimState.CLAIMED).count() == 3
    assert (second.claimed, second.left) == (2, {reasons.NO_CAPACITY: 5})
    assert set(Claim.objects.order_by("-pk")[:2].values_list("row_id", flat=True)) == set(more)


# --- a person has a mail sent again ---


def test_a_mail_that_is_queued_again_is_a_new_claim_of_the_same_row(moodle: Moodle, ses: SandboxSES) -> None:
    (row,) = queued(moodle, 1)
    for times in (1, 2, 3):
        assert run().claimed == 1
        Email.objects.update(next_try_at=timezone.now())
        dispatch.run(until_empty=True)
        assert len(ses.messages) == times
        queue_again(moodle, [row])
    assert Claim.objects.filter(row_id=row, state=ClaimState.CLAIMED).count() == 3
    befores = [claim.before["modifiedtime"] for claim in Claim.objects.order_by("pk")]
    assert len(set(befores)) == 3
    assert befores[1:] == [claim.after["modifiedtime"] for claim in Claim.objects.order_by("pk")][:2]


def test_a_mail_that_iomad_sent_and_is_queued_again_is_claimed(moodle: Moodle, ses: SandboxSES) -> None:
    (row,) = queued(moodle, 1)
    moodle.execute("UPDATE mdl_email SET sent = 1790000000, modifiedtime = 1790000000 WHERE id = %s", [row])
    assert run().seen == 0
    queue_again(moodle, [row])
    # It was sent long ago, which IOMAD cleans away; queued again it is waiting all the same.
    moodle.execute("UPDATE mdl_email SET modifiedtime = %s WHERE id = %s", [int(time.time()) - 999, row])
    assert run().claimed == 1


def test_a_row_that_was_handed_back_stays_with_iomad_until_it_was_sent_and_is_queued_again(
    moodle: Moodle, ses: SandboxSES
) -> None:
    (row,) = queued(moodle, 1)
    before = rows(moodle, [row])
    run()
    assert release([Claim.objects.get().pk], actor="tester", reason="")[0].released
    assert rows(moodle, [row]) == before
    assert run().left == {reasons.HANDED_BACK: 1}
    now = int(time.time())
    moodle.execute("UPDATE mdl_email SET sent = %s, modifiedtime = %s WHERE id = %s", [now, now, row])
    queue_again(moodle, [row])
    assert run().claimed == 1


# --- intents and recovery ---


def test_two_processes_cannot_intend_the_same_mail(moodle: Moodle) -> None:
    found = some(moodle, 3)
    intents.intend(found[:2], None)
    assert set(intents.intend(found, None).left.values()) == {reasons.CLAIM_IN_PROGRESS}


def test_recovery_tells_a_claim_that_was_made_from_one_that_was_not_and_from_iomads_own_run(
    moodle: Moodle,
) -> None:
    found = some(moodle, 4)
    stored = intents.intend(found, None)
    made, untouched, sent, removed = (c.row_id for c in found)
    only = intents.Intended({made: stored.claims[made]}, {})
    assert apply(only) == {made}
    moodle.execute("UPDATE mdl_email SET sent = 1900000000, modifiedtime = 1900000000 WHERE id = %s", [sent])
    moodle.execute("DELETE FROM mdl_email WHERE id = %s", [removed])
    counts = recover_intents(later())
    assert (counts["claimed"], counts["dropped"], counts["lost"]) == (1, 1, 2)
    assert Email.objects.get(state=EmailState.QUEUED).claim.row_id == made
    assert set(intents.intend([found[1]], None).claims) == {untouched}


def test_recovery_settles_claims_of_both_sources_at_once(moodle: Moodle) -> None:
    from tests.claims.candidates import some as reminders

    queue = intents.intend(some(moodle, 2), None)
    other = intents.intend(reminders(moodle, 2), None)
    apply(queue)
    swaps = [claims.swap_of(c.source, c.row_id, c.before, c.after) for c in other.claims.values()]
    claims.apply("reengagement", swaps)
    assert recover_intents(later())["claimed"] == 4


def test_a_process_that_wakes_up_after_its_intent_was_dropped_still_gets_its_mail_out(
    moodle: Moodle,
) -> None:
    stored = intents.intend(some(moodle, 3), None)
    assert recover_intents(later())["dropped"] == 3
    apply(stored)  # … and is killed again before it settles
    assert recover_intents()["woken"] == 3
    assert Email.objects.filter(state=EmailState.QUEUED).count() == 3


def test_of_a_sleeper_and_its_successor_exactly_one_holds_the_row(moodle: Moodle) -> None:
    (row_id,) = queued(moodle, 1)
    (row,) = rows(moodle, [row_id])
    now = int(time.time())
    sleeper = intents.intend([candidate(row, at=now - 1)], None)
    recover_intents(later())
    successor = intents.intend([candidate(row, at=now + 90)], None)
    assert apply(sleeper) == {row_id}
    assert apply(successor) == set()
    intents.settle([], [successor.claims[row_id].pk])
    intents.settle([sleeper.claims[row_id].pk], [])
    assert Claim.objects.get(state=ClaimState.CLAIMED).pk == sleeper.claims[row_id].pk
    assert Email.objects.filter(state=EmailState.QUEUED).count() == 1


def test_an_interrupted_claim_of_a_row_that_is_queued_again_is_not_taken_for_a_new_one(
    moodle: Moodle,
) -> None:
    (first,) = some(moodle, 1)
    stored = intents.intend([first], None)
    assert apply(stored) == {first.row_id}
    queue_again(moodle, [first.row_id])
    (row,) = rows(moodle, [first.row_id])
    again = candidate(row, at=int(time.time()) + 5)
    assert intents.intend([again], None).left == {first.row_id: reasons.CLAIM_IN_PROGRESS}
    assert recover_intents(later())["lost"] == 1
    assert set(intents.intend([again], None).claims) == {first.row_id}


# --- handing back ---


def test_a_queue_row_may_go_back_however_late_it_is_and_a_reminder_may_not(
    moodle: Moodle, ses: SandboxSES
) -> None:
    soon(moodle, 1)
    queued(moodle, 1)
    intercept.run()
    run()
    Claim.objects.update(due_at=timezone.now() - dt.timedelta(days=30))
    outcomes = release(list(Claim.objects.order_by("pk").values_list("pk", flat=True)), actor="t", reason="")
    assert [outcome.released for outcome in outcomes] == [False, True]
    assert "two days" in outcomes[0].why_not


def test_a_row_that_was_queued_again_is_not_handed_back_for_its_earlier_claim(
    moodle: Moodle, ses: SandboxSES
) -> None:
    (row,) = queued(moodle, 1)
    run()
    queue_again(moodle, [row])
    before = rows(moodle, [row])
    (outcome,) = release([Claim.objects.get().pk], actor="tester", reason="")
    assert "does not hold our values" in outcome.why_not
    assert rows(moodle, [row]) == before


def test_a_drain_hands_back_the_claims_of_both_sources(moodle: Moodle, ses: SandboxSES) -> None:
    soon(moodle, 2)
    ids = queued(moodle, 3)
    before = rows(moodle, ids), moodle.rows("SELECT * FROM mdl_reengagement_inprogress ORDER BY id")
    assert intercept.run().claimed == 2
    assert run().claimed == 3
    result = drain.drain(actor="tester")
    assert (result.released, result.sent, result.waiting) == (5, 0, {})
    assert before == (rows(moodle, ids), moodle.rows("SELECT * FROM mdl_reengagement_inprogress ORDER BY id"))
    assert run().left == {reasons.CLAIMS_PAUSED: 3}
