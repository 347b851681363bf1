"""A pass that is killed in the middle has let whole batches go or none of them; the next one finishes."""

from __future__ import annotations

import signal

import pytest

from emailoffload.feedback.models import Event
from emailoffload.outbox.models import Attempt, Claim, Content, Email, Lease
from emailoffload.outbox.states import EmailState
from emailoffload.worker.privacy import retention
from tests.privacy.rows import mail
from tests.processes import spawn, start

pytestmark = [pytest.mark.kill, pytest.mark.django_db(transaction=True, databases=["default", "moodle"])]
MAILS, BATCH = 20, 4


def test_a_killed_pass_leaves_no_mail_half_erased_and_the_next_one_erases_the_rest() -> None:
    for _ in range(MAILS):
        mail(500)
    waiting = mail(500, EmailState.UNCERTAIN)
    # In the third batch, when its mails are emptied, their claims are not, and nothing of it is committed.
    process = spawn("retention", BATCH, env={"OFFLOAD_KILL_AT": "mails_emptied:3"})
    start([process])
    assert process.wait(60) == -signal.SIGKILL, process.communicate()
    assert Claim.objects.filter(forgotten_at__isnull=False).count() == 2 * BATCH
    for email in Email.objects.select_related("claim"):
        gone = email.forgotten_at is not None
        assert gone is (email.address == "") is (email.subject == "") is (email.claim.user_name == "")
        assert gone is (email.claim.forgotten_at is not None)
        assert not (gone and Content.objects.filter(pk=email.pk).exists())
        assert not (gone and Attempt.objects.filter(email=email).exclude(error_message="").exists())
        assert not (gone and Event.objects.filter(email=email).exists())
    Lease.objects.filter(name="retention").update(expires_at=None)
    assert not retention.run(budget=60).refused
    assert list(Email.objects.filter(forgotten_at__isnull=True)) == [waiting]
    assert Content.objects.get().pk == waiting.pk
