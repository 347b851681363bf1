"""SIGKILL at each named point of a claim, then recovery: nothing lost, nothing twice (design §3.4)."""

from __future__ import annotations

import datetime as dt
import signal
import time
from collections import Counter

import pytest
from django.utils import timezone

from emailoffload.outbox.models import Claim, Email
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.worker import dispatch, intercept
from emailoffload.worker.recover_intents import recover_intents
from tests.claims.queue import queued
from tests.conftest import Moodle
from tests.processes import spawn, start

pytestmark = [
    pytest.mark.django_db(databases=["default", "moodle"], transaction=True),
    pytest.mark.kill,
]


def two_batches(moodle: Moodle, *, ahead: bool) -> None:
    """120 reminders that are owed: two batches of 60 and less."""
    moodle.execute("DELETE FROM mdl_reengagement_inprogress WHERE reengagement <> 13 OR id % 4 <> 0")
    due = int(time.time()) + (300 if ahead else -60)
    moodle.execute("UPDATE mdl_reengagement_inprogress SET emailtime = %s", [due])


def kill_at(point: str, source: str = "reengagement") -> None:
    process = spawn("intercept", "", 0, "none", source, env={"OFFLOAD_KILL_AT": point}, CLAIM_BATCH_SIZE=60)
    start([process])
    assert process.wait(60) == -signal.SIGKILL, process.communicate()


UNCLAIMED = {
    "reengagement": "SELECT id FROM mdl_reengagement_inprogress WHERE emailsent = 0",
    "iomad_queue": "SELECT id FROM mdl_email WHERE sent IS NULL",
}


@pytest.mark.parametrize(
    ("source", "ahead"),
    [("reengagement", True), ("reengagement", False), ("iomad_queue", False), ("iomad_queue", True)],
    ids=["ahead", "under the lock", "queue", "queue with a delay"],
)
@pytest.mark.parametrize(
    "point", ["after_intent", "after_intent:2", "after_claim", "after_claim:2", "after_marking"]
)
def test_killed_while_claiming_every_mail_is_still_sent_once(
    moodle: Moodle, ses: SandboxSES, point: str, source: str, ahead: bool
) -> None:
    if source == "reengagement":
        two_batches(moodle, ahead=ahead)
    else:
        queued(moodle, 120, due=300 if ahead else -60)
    rows = {row[0] for row in moodle.rows(UNCLAIMED[source])}
    assert len(rows) > 60
    kill_at(point, source)
    untouched = {row[0] for row in moodle.rows(UNCLAIMED[source])}
    # Before recovery: what is claimed in Moodle is on record here, promised or intended.
    on_record = set(
        Claim.objects.filter(state__in=[ClaimState.INTENDED, ClaimState.CLAIMED]).values_list(
            "row_id", flat=True
        )
    )
    assert rows - untouched <= on_record
    recover_intents(timezone.now() + dt.timedelta(minutes=5))
    waiting = Email.objects.filter(state=EmailState.QUEUED)
    assert Counter(waiting.values_list("claim__row_id", flat=True)) == Counter(rows - untouched), (
        "exactly the claimed rows have their mail in the outbox"
    )
    result = intercept.run(source=source, lane="-next")
    assert not result.refused
    Email.objects.update(next_try_at=timezone.now())
    sent = dispatch.run(until_empty=True)
    assert sent.sent == len(rows)
    accepted = Email.objects.filter(state="accepted", source=source)
    assert Counter(accepted.values_list("claim__row_id", flat=True)) == Counter(rows)
    assert len(ses.messages) == len(rows)


def test_a_killed_interceptor_leaves_moodles_lock_free(moodle: Moodle, ses: SandboxSES) -> None:
    two_batches(moodle, ahead=False)
    kill_at("after_claim")
    from emailoffload.moodle import cronlock

    until = time.monotonic() + 10
    while not cronlock.is_free(cronlock.reengagement_lock_target()):
        assert time.monotonic() < until, "the server must drop the lock with the connection"
        time.sleep(0.02)


@pytest.mark.parametrize("source", ["reengagement", "iomad_queue"])
@pytest.mark.parametrize("point", ["release_reserved", "release_written"])
def test_killed_while_handing_back_each_row_is_moodles_or_ours_and_never_both(
    moodle: Moodle, ses: SandboxSES, point: str, source: str
) -> None:
    if source == "reengagement":
        two_batches(moodle, ahead=True)
    else:
        queued(moodle, 70)
    claimed = intercept.run(source=source).claimed
    assert claimed >= 70
    process = spawn("release", env={"OFFLOAD_KILL_AT": point})
    start([process])
    assert process.wait(60) == -signal.SIGKILL, process.communicate()
    assert dispatch.run(until_empty=True).sent == 0, (
        "what is being handed back is out of the dispatcher's reach"
    )
    recover_intents(timezone.now() + dt.timedelta(minutes=5))
    states = set(Claim.objects.values_list("state", flat=True))
    back = len(moodle.rows(UNCLAIMED[source]))
    if point == "release_written":
        assert (states, back) == ({"released"}, claimed)
        assert set(Email.objects.values_list("state", flat=True)) == {"released"}
    else:
        assert (states, back) == ({"claimed"}, 0)
        assert set(Email.objects.values_list("state", "lease")) == {("queued", "")}
