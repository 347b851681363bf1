"""Whom Moodle has deleted is erased here too, after the days that the setting gives, and nobody else is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from emailoffload.moodle import models
from emailoffload.outbox.models import AuditEntry, Claim, Email, Run
from emailoffload.outbox.persons import ErasedPerson
from emailoffload.outbox.states import EmailState
from emailoffload.worker.privacy import deleted, retention
from tests.dashboard.factories import make_claim, make_email
from tests.privacy.rows import ADDRESS, DAY, NAME, ago

S = EmailState
pytestmark = pytest.mark.django_db(databases=["default", "moodle"])
ADA, BOB = 15093, 15094


@pytest.fixture(autouse=True)
def flags(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Whom Moodle calls deleted; `test_it_reads_moodles_own_flag` asks the real table."""
    found: set[int] = set()
    monkeypatch.setattr(deleted, "deleted_among", lambda ids: found & set(ids))
    return found


def go() -> dict[str, int]:
    return deleted.follow(timezone.now(), lambda: True)


def seen(days: float, user_id: int = ADA) -> None:
    """Let the flag have been seen so many days ago."""
    ErasedPerson.objects.filter(user_id=user_id).update(deleted_seen_at=ago(days))


def test_a_deleted_user_is_erased_after_30_days_and_not_before(flags: set[int]) -> None:
    mail = make_email(S.DELIVERED, user_id=ADA, address=ADDRESS, name=NAME)
    other = make_email(S.DELIVERED, user_id=BOB, address="bob@example.org", name="Bob")
    flags.add(ADA)
    assert go()["deleted_seen"] == 1
    seen(29)
    assert go()["deleted_erased"] == 0
    seen(31)
    assert go()["deleted_erased"] == 1
    mail.refresh_from_db()
    other.refresh_from_db()
    assert mail.address == "" and mail.forgotten_because == "moodle" and other.address
    assert Claim.objects.get(pk=mail.claim_id).user_name == ""
    entry = AuditEntry.objects.get(action="erase_person")
    assert (entry.actor, entry.object_id) == ("worker", str(ADA))
    assert ErasedPerson.objects.get().because == "moodle"


def test_who_is_restored_before_that_stays(flags: set[int]) -> None:
    mail = make_email(S.DELIVERED, user_id=ADA, address=ADDRESS)
    flags.add(ADA)
    go()
    seen(31)
    flags.clear()
    assert go()["deleted_erased"] == 0
    mail.refresh_from_db()
    assert mail.address and ErasedPerson.objects.get().deleted_seen_at is None


def test_who_was_only_written_to_about_others_is_found_along_the_mails(flags: set[int]) -> None:
    claim = make_claim(user_id=BOB)
    to_ada = make_email(S.DELIVERED, claim, role="manager", recipient_id=ADA, address=ADDRESS)
    flags.add(ADA)
    go()
    seen(31)
    go()
    go()
    to_ada.refresh_from_db()
    assert to_ada.address == "" and Claim.objects.get(pk=claim.pk).user_name


def test_what_failed_is_stopped_and_what_is_uncertain_waits_for_its_decision(flags: set[int]) -> None:
    failed = make_email(S.FAILED, user_id=ADA, address=ADDRESS)
    uncertain = make_email(S.UNCERTAIN, user_id=ADA, address=ADDRESS)
    flags.add(ADA)
    go()
    seen(31)
    assert go() == {"deleted_seen": 0, "deleted_erased": 0, "deleted_waiting": 1}
    failed.refresh_from_db()
    assert (failed.state, failed.reason, failed.address) == (S.CANCELLED, "user_deleted", "")
    Email.objects.filter(pk=uncertain.pk).update(state=S.ACCEPTED)
    assert go()["deleted_erased"] == 1


def test_mails_that_are_made_after_an_erasure_are_erased_as_well(flags: set[int]) -> None:
    make_email(S.DELIVERED, user_id=ADA, address=ADDRESS)
    flags.add(ADA)
    go()
    seen(31)
    go()
    late = make_email(S.SUPPRESSED, user_id=ADA, address=ADDRESS)
    go()
    late.refresh_from_db()
    assert late.address == ""


def test_with_0_days_nobody_is_followed(flags: set[int], settings: Any) -> None:
    settings.RETAIN_DELETED_USER_DAYS = 0
    make_email(S.DELIVERED, user_id=ADA, address=ADDRESS)
    flags.add(ADA)
    assert not any(go().values()) and not ErasedPerson.objects.exists()


def test_both_walks_come_round(flags: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deleted, "PAGE", 2)
    monkeypatch.setattr(deleted, "PAGES", 1)
    for user_id in range(100, 107):
        make_email(S.DELIVERED, user_id=user_id)
        make_email(S.DELIVERED, make_claim(user_id=user_id), role="manager", recipient_id=user_id + 1000)
    flags |= {106, 1106}
    for _ in range(9):
        go()
    assert set(ErasedPerson.objects.values_list("user_id", flat=True)) == {106, 1106}


def test_without_moodles_database_the_rest_of_the_pass_goes_on(
    flags: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: object) -> None:
        raise OperationalError(2003, "Can't connect")

    monkeypatch.setattr(deleted, "follow", away)
    old = make_email(S.DELIVERED, created_at=ago(100), body={"text": "x", "html": None})
    result = retention.run()
    assert result.counts["contents"] == 1 and "cannot be" in result.refused and result.cure
    old.refresh_from_db()
    assert old.erased_at and Run.objects.get(kind="retention").outcome == "refused"


@pytest.mark.usefixtures("moodle")
def test_it_reads_moodles_own_flag(moodle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    there = models.User.objects.filter(deleted=0).order_by("-pk").values_list("pk", flat=True).first()
    mail = make_email(S.DELIVERED, user_id=there, address=ADDRESS)
    missing = make_email(S.DELIVERED, user_id=987654321, address="nobody@example.org")
    moodle.execute("UPDATE mdl_user SET deleted = 1 WHERE id = %s", (there,))
    retention.run()
    assert list(ErasedPerson.objects.values_list("user_id", flat=True)) == [there]
    later = timezone.now() + 31 * DAY + timedelta(minutes=1)
    retention.run(now=later)
    mail.refresh_from_db()
    missing.refresh_from_db()
    assert mail.address == "" and missing.address


def test_a_failed_mail_to_a_deleted_manager_is_stopped_once_no_fallback_deals_with_it(
    flags: set[int],
) -> None:
    def failed(days: float) -> Email:
        return make_email(
            S.FAILED,
            make_claim(user_id=BOB),
            role="manager",
            recipient_id=ADA,
            address=ADDRESS,
            state_at=ago(days),
        )

    young, old = failed(1), failed(3)
    flags.add(ADA)
    ErasedPerson.objects.create(user_id=ADA, deleted_seen_at=ago(31), erased_at=ago(1))
    go()
    young.refresh_from_db()
    old.refresh_from_db()
    assert (young.state, young.address) == (S.FAILED, ADDRESS)
    assert (old.state, old.reason, old.address) == (S.CANCELLED, "user_deleted", "")
