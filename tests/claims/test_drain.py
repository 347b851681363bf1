"""Before planned downtime: nothing more is claimed, what Moodle can send is handed back, the rest is sent."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from emailoffload.actions import drain
from emailoffload.outbox import intents, switches
from emailoffload.outbox.models import Claim, Email
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.sources import reasons
from emailoffload.worker import intercept, lease, stopping
from tests.conftest import Moodle
from tests.reengagement.test_decisions import ACTIVITY, soon

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
ROWS = "SELECT * FROM mdl_reengagement_inprogress ORDER BY id"


def test_a_drain_hands_back_all_that_has_not_left_and_nothing_is_claimed_until_it_is_over(
    moodle: Moodle, ses: SandboxSES
) -> None:
    soon(moodle, 4)
    before = moodle.rows(ROWS)
    assert intercept.run().claimed == 4
    result = drain.drain(actor="tester")
    assert (result.released, result.sent, result.waiting) == (4, 0, {})
    assert moodle.rows(ROWS) == before
    assert intercept.run().left == {reasons.CLAIMS_PAUSED: 4}
    drain.resume(actor="tester")
    assert intercept.run().left == {reasons.HANDED_BACK: 4}
    moodle.execute("UPDATE mdl_reengagement_inprogress SET emailtime = emailtime + 1")
    assert intercept.run().claimed == 4


def test_reminders_of_one_row_are_all_handed_back_by_a_drain(moodle: Moodle, ses: SandboxSES) -> None:
    soon(moodle, 2, due=200)
    moodle.execute(
        "UPDATE mdl_reengagement SET emaildelay = 300, remindercount = 3 WHERE id = %s", [ACTIVITY]
    )
    before = moodle.rows(ROWS)
    for _ in range(3):
        intercept.run()
    assert drain.drain(actor="tester").released == 6
    assert moodle.rows(ROWS) == before


def test_what_cannot_be_handed_back_is_sent_or_reported(moodle: Moodle, ses: SandboxSES) -> None:
    soon(moodle, 3)
    intercept.run()
    due, uncertain, _ = Email.objects.order_by("pk")
    moodle.execute("DELETE FROM mdl_reengagement_inprogress WHERE id = %s", [due.claim.row_id])
    Claim.objects.filter(pk=due.claim_id).update(completiontime=1)
    Email.objects.filter(pk=due.pk).update(next_try_at=timezone.now())
    Email.objects.filter(pk=uncertain.pk).update(state="uncertain")
    result = drain.drain(actor="tester")
    assert (result.released, result.sent, result.waiting) == (1, 1, {"uncertain": 1})
    assert sum(result.not_released.values()) == 1


def test_a_drain_leaves_sending_paused_where_a_person_paused_it(moodle: Moodle, ses: SandboxSES) -> None:
    soon(moodle, 1)
    intercept.run()
    moodle.execute("DELETE FROM mdl_reengagement_inprogress")
    Email.objects.update(next_try_at=timezone.now())
    switches.set_pause(switches.Pause(sends=True, by="anna"))
    result = drain.drain(actor="tester")
    assert switches.pause().sends
    assert (result.sent, result.waiting) == (0, {"queued": 1})


def test_who_pauses_sending_while_a_drain_begins_is_not_overruled(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, people = switches.set_pause, []

    def pause_sends() -> None:
        switches.change(claims=None, sends=True, by="anna", reason="")
        connection.close()

    def at_the_same_time(new: switches.Pause) -> None:
        if not people:
            people.append(threading.Thread(target=pause_sends))
            people[0].start()
            people[0].join(0.3)
        write(new)

    monkeypatch.setattr(switches, "set_pause", at_the_same_time)
    drain.drain(actor="tester")
    people[0].join()
    assert (switches.pause().claims, switches.pause().sends) == (True, True)


def test_a_running_pass_claims_no_further_batch_once_claiming_is_paused(
    moodle: Moodle, ses: SandboxSES, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CLAIM_BATCH_SIZE = 2
    soon(moodle, 6)
    settle = intents.settle

    def settle_and_pause(*args: Any) -> int:
        if args[0]:
            switches.set_pause(switches.Pause(claims=True))
        return settle(*args)

    monkeypatch.setattr(intents, "settle", settle_and_pause)
    result = intercept.run()
    assert (result.claimed, result.left) == (2, {reasons.CLAIMS_PAUSED: 4})


def test_a_drain_waits_for_the_pass_that_is_claiming(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon(moodle, 2)
    held = lease.take("intercept-reengagement")
    assert held is not None

    def the_pass_ends(seconds: float) -> None:
        # It was in the middle of a batch, which it claims; then it sees the pause.
        switches.set_pause(switches.Pause())
        held.release()
        assert intercept.run().claimed == 2
        switches.set_pause(switches.Pause(claims=True))

    monkeypatch.setattr(stopping, "wait", the_pass_ends)
    assert drain.drain(actor="tester").released == 2
