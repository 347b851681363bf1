"""No mail leaves to a suppressed address: not when it is claimed, not when it is due, not by SMTP, not sent again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from emailoffload.actions.release import release
from emailoffload.actions.resend import resend, why_not
from emailoffload.feedback import suppression
from emailoffload.outbox import intents
from emailoffload.outbox.models import Claim, Content, Email
from emailoffload.outbox.states import ADDRESS_SUPPRESSED, ClaimState, EmailState
from emailoffload.policy.models import CopyRule
from emailoffload.policy.routing import RoutingRules
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.sources import reasons
from emailoffload.worker import dispatch, fallback, intercept
from emailoffload.worker.recover_intents import recover_intents
from tests.claims.queue import queued
from tests.conftest import Moodle
from tests.delivery.conftest import ses as fake_ses
from tests.fake_ses import FakeSes
from tests.fallback.conftest import sink
from tests.outbox.factory import queue_email, queue_emails
from tests.reengagement.test_decisions import soon
from tests.routing.site import rule
from tests.worker.conftest import Source, source

__all__ = ["fake_ses", "sink", "source"]
pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
S = EmailState
ROWS = "SELECT * FROM mdl_reengagement_inprogress ORDER BY id"


def bar(address: str) -> None:
    suppression.add(address, actor="ann", reason="left")


def address_of(moodle: Moodle, user: int) -> str:
    return str(moodle.value("SELECT email FROM mdl_user WHERE id = %s", [user]))


def state_of(address: str) -> tuple[str, str]:
    return Email.objects.values_list("state", "reason").get(address=address)


def test_a_mail_to_a_suppressed_address_is_claimed_and_recorded_and_never_queued(
    moodle: Moodle, ses: SandboxSES
) -> None:
    (_row, user), *_ = soon(moodle, 3)
    address = address_of(moodle, user)
    bar(address.upper())
    result = intercept.run()
    assert (result.claimed, result.left) == (3, {})
    assert state_of(address) == ("suppressed", ADDRESS_SUPPRESSED)
    assert Email.objects.filter(state="queued").count() == 2
    assert set(Claim.objects.values_list("state", flat=True)) == {"claimed"}
    assert moodle.value("SELECT COUNT(*) FROM mdl_reengagement_inprogress WHERE emailsent = 0") == 0


def test_by_rule_the_row_is_left_to_moodle_and_counted(moodle: Moodle, ses: SandboxSES) -> None:
    (row, user), *_ = soon(moodle, 3)
    before = moodle.rows(ROWS)[0]
    bar(address_of(moodle, user))
    rule(suppressed="moodle")
    result = intercept.run()
    assert (result.claimed, result.left) == (2, {reasons.SUPPRESSED_LEFT: 1})
    assert moodle.rows(ROWS)[0] == before
    assert not Claim.objects.filter(row_id=row).exists()


def test_the_rule_that_decides_about_the_mail_decides_about_suppressed_addresses_too(
    moodle: Moodle, ses: SandboxSES
) -> None:
    (_row, user), *_ = soon(moodle, 1)
    bar(address_of(moodle, user))
    rule("site", suppressed="moodle")
    rule("reminders", source="reengagement", suppressed="record")
    assert intercept.run().claimed == 1
    effective = RoutingRules.load().decide(_subject())
    assert "claim, do not send" in effective.explanation[-1]


def _subject() -> Any:
    from emailoffload.policy.copies import Subject

    return Subject(0, "reengagement", 0)


def test_a_copy_to_a_suppressed_address_keeps_no_row_from_being_claimed(
    moodle: Moodle, ses: SandboxSES
) -> None:
    CopyRule.objects.create(name="HR", kind="fixed", value="hr@example.org, boss@example.org")
    soon(moodle, 1)
    bar("hr@example.org")
    rule(suppressed="moodle")
    assert intercept.run().claimed == 1
    assert state_of("hr@example.org") == ("suppressed", ADDRESS_SUPPRESSED)
    assert state_of("boss@example.org")[0] == "queued"
    assert Email.objects.get(role="user").state == "queued"


def test_mails_with_credentials_are_no_exception(moodle: Moodle, ses: SandboxSES) -> None:
    ids = queued(moodle, 2, template="user_create")
    user = moodle.value("SELECT userid FROM mdl_email WHERE id = %s", [ids[0]])
    address = address_of(moodle, user)
    bar(address)
    assert intercept.run(source="iomad_queue").claimed == 2
    mails = Email.objects.filter(address=address)
    assert {(mail.state, mail.sensitive) for mail in mails} == {("suppressed", True)}


def test_whoever_settles_the_claim_what_was_marked_is_never_queued(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch
) -> None:
    (_row, user), *_ = soon(moodle, 1)
    bar(address_of(moodle, user))
    with monkeypatch.context() as patch:
        patch.setattr(intents, "settle", lambda won, lost: 0)
        intercept.run()
    assert Email.objects.get().state == "prepared"
    recover_intents(timezone.now() + timedelta(minutes=10))
    assert Claim.objects.get().state == ClaimState.CLAIMED
    assert state_of(address_of(moodle, user)) == ("suppressed", ADDRESS_SUPPRESSED)


def test_what_is_suppressed_after_the_claim_does_not_leave(fake_ses: FakeSes, source: Source) -> None:
    barred, other = queue_emails(2)
    bar(barred.address)
    result = dispatch.run(until_empty=True)
    assert (result.sent, result.suppressed) == (1, 1)
    assert state_of(barred.address) == ("suppressed", ADDRESS_SUPPRESSED)
    assert state_of(other.address)[0] == "accepted"
    assert [request.body["Destination"]["ToAddresses"] for request in fake_ses.sent] != []
    assert source.seen and len(source.seen) == 1


def test_what_waits_for_smtp_does_not_leave_either(sink: Any, source: Source) -> None:
    barred, _other = queue_emails(2, due=timezone.now() - timedelta(hours=1))
    Claim.objects.update(fallback="smtp")
    bar(barred.address)
    done = fallback.run()
    assert (done.counts["smtp"], done.counts["suppressed"]) == (1, 1)
    assert state_of(barred.address) == ("suppressed", ADDRESS_SUPPRESSED)
    assert len(sink.taken) == 1


def test_a_claim_of_which_a_mail_was_suppressed_is_not_handed_back_to_moodle(
    moodle: Moodle, ses: SandboxSES
) -> None:
    CopyRule.objects.create(name="HR", kind="fixed", value="hr@example.org")
    (_row, user), *_ = soon(moodle, 1)
    bar(address_of(moodle, user))
    intercept.run()
    before = moodle.rows(ROWS)
    (outcome,) = release([Claim.objects.get().pk], actor="sam", reason="tried")
    assert not outcome.released
    assert moodle.rows(ROWS) == before


def test_a_mail_to_a_suppressed_address_is_not_sent_again_until_somebody_lifts_it() -> None:
    email = queue_email(email={"state": S.BOUNCED})
    bar(email.address)
    assert "lift the suppression" in why_not(email)
    (outcome,) = resend([email.pk], actor="sam", reason="asked for it")
    assert outcome.new_id is None and "suppressed" in outcome.why_not
    suppression.lift(suppression.suppressed([email.address])[email.address].pk, actor="sam", reason="works")
    (outcome,) = resend([email.pk], actor="sam", reason="asked for it")
    assert outcome.new_id is not None
    assert Content.objects.filter(pk=outcome.new_id).exists()


def test_a_resend_that_was_asked_for_before_is_stopped_too(fake_ses: FakeSes, source: Source) -> None:
    email = queue_email(email={"state": S.BOUNCED})
    (outcome,) = resend([email.pk], actor="sam", reason="asked for it")
    bar(email.address)
    assert dispatch.run(until_empty=True).suppressed == 1
    assert outcome.new_id is not None
    again = Email.objects.get(pk=outcome.new_id)
    assert (again.state, again.reason) == ("suppressed", ADDRESS_SUPPRESSED)
    connections["moodle"].close()
