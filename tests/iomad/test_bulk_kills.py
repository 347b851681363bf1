"""SIGKILL again and again in the middle of an upload of two thousand users: nothing is lost, nothing doubled.

The ledger: each row of IOMAD's queue waits with IOMAD, or has its mails here, each of which SES took once, or
is uncertain for all to see, or waits to be sent.
"""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable

import pytest

from emailoffload.outbox.models import Claim, Email
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.worker import recover
from tests.conftest import Moodle
from tests.iomad.upload import Upload, claimed, iomads_cron, manage, report, time_passes, upload

pytestmark = [
    pytest.mark.django_db(databases=["default", "moodle"], transaction=True),
    pytest.mark.kill,
]
CLAIMING = ("after_intent:2", "after_claim:2", "after_marking:2", "", "", "")
SENDING = ("after_marking:2", "before_send:50", "after_send:90", "before_record:2", "", "")
"""The points at which a process is killed; '' is any moment while it is at work."""
BATCH = 150
THREADS = 16


def kill(process: subprocess.Popen[str], done: Callable[[], int], point: str) -> None:
    """Wait until the process is killed at its point, or kill it at some moment after it has done something."""
    if not point:
        wanted, until = done() + random.randint(1, 300), time.monotonic() + 60
        while done() < wanted and process.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        time.sleep(random.uniform(0, 0.02))
        process.kill()
    out, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, (point, out, errors[-2000:])


def check(moodle: Moodle, ses: SandboxSES, made: Upload) -> None:
    """The ledger after recovery."""
    ours = claimed(moodle)
    held = Claim.objects.filter(state=ClaimState.CLAIMED).values_list("row_id", flat=True)
    assert sorted(held) == sorted(ours), "each row that is not with IOMAD is ours once"
    mails = Email.objects.exclude(state=EmailState.PREPARED)
    owed = Counter({who: count for who, count in made.recipients.items() if who[0] in ours})
    assert Counter(mails.values_list("claim__row_id", "address")) == owed
    taken = Counter(message.offload_id for message in ses.messages)
    for ref, state in mails.values_list("ref", "state"):
        allowed = {EmailState.ACCEPTED: {1}, EmailState.UNCERTAIN: {0, 1}, EmailState.QUEUED: {0}}
        assert taken[ref.hex] in allowed[EmailState(state)], state


def test_killed_again_and_again_each_mail_leaves_once_or_stays_with_iomad(
    moodle: Moodle, ses: SandboxSES
) -> None:
    made = upload(moodle, 2000)
    for claiming, sending in zip(CLAIMING, SENDING, strict=True):
        interceptor = manage(
            ses, "intercept", "--source", "iomad_queue", CLAIM_BATCH_SIZE=BATCH, OFFLOAD_KILL_AT=claiming
        )
        kill(interceptor, lambda: len(claimed(moodle)), claiming)
        time_passes()
        assert not recover.run().refused
        check(moodle, ses, made)

        dispatcher = manage(
            ses, "dispatch", "--until-empty", DISPATCH_THREADS=THREADS, OFFLOAD_KILL_AT=sending
        )
        kill(dispatcher, lambda: ses.accepted, sending)
        time_passes()
        assert recover.run().counts["sends_uncertain"] <= 3 * THREADS
        check(moodle, ses, made)

    ours, uncertain = claimed(moodle), Email.objects.filter(state=EmailState.UNCERTAIN).count()
    assert len(CLAIMING) * BATCH < len(ours) < len(made.rows)
    report(manage(ses, "dispatch", "--until-empty", "--json"))
    check(moodle, ses, made)
    ended = Counter(Email.objects.exclude(claim__state=ClaimState.DROPPED).values_list("state", flat=True))
    assert set(ended) == {"accepted", "uncertain"}
    assert ended["uncertain"] == uncertain <= len(SENDING) * 3 * THREADS
    # IOMAD's own cron mails exactly what we do not have.
    theirs = {who: count for who, count in made.recipients.items() if who[0] not in ours}
    assert iomads_cron() == theirs
    assert claimed(moodle) == made.rows
