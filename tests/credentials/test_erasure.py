"""When what sensitive mails said is erased, and when not."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.test import Client
from django.utils import timezone

from emailoffload.outbox import erasure
from emailoffload.outbox.models import Content, Email, Run, State
from emailoffload.outbox.states import EmailState
from emailoffload.policy.credentials import sensitive_templates
from emailoffload.policy.models import SensitiveTemplate
from emailoffload.worker import dispatch, erase, recover
from tests.dashboard.conftest import SignIn
from tests.fake_ses import FakeSes
from tests.outbox.factory import queue_emails

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])
S = EmailState
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
KEPT = {
    **dict.fromkeys((S.DELIVERED, S.OPENED, S.CLICKED, S.COMPLAINED, S.RELEASED), timedelta(0)),
    **dict.fromkeys((S.ACCEPTED, S.SENT_SMTP, S.DELAYED, S.BOUNCED, S.REJECTED), 15 * MINUTE),
    **dict.fromkeys((S.FAILED, S.UNCERTAIN, S.SUPPRESSED, S.CANCELLED), 72 * HOUR),
}


def emails(count: int, state: str, age: timedelta, now: datetime, **columns: Any) -> list[Email]:
    """Sensitive emails that came to a state some time ago."""
    values: dict[str, Any] = {"sensitive": True, "state": state, "state_at": now - age}
    if state in erasure.AFTER_ACCEPTANCE:
        values["accepted_at"] = now - age
    return queue_emails(count, email=values | columns)


def stored() -> int:
    return Content.objects.count()


def begin_at(first: Email) -> None:
    """Let the search begin there: ids of other tests' mails went before, and going through them takes queries."""
    State.objects.create(
        name=erase.MEMORY, value={"names": sorted(sensitive_templates()), "seen": first.pk - 1}
    )


@pytest.mark.parametrize("state", list(KEPT))
def test_each_state_keeps_the_content_for_its_time_and_no_longer(state: EmailState) -> None:
    now = timezone.now()
    emails(1, state, KEPT[state] - MINUTE, now)
    emails(1, state, KEPT[state] + MINUTE, now)
    assert erase.erase_due(now)["erased"] == 1
    assert stored() == 1
    assert Email.objects.get(erased_at__isnull=False).state_at == now - KEPT[state] - MINUTE
    assert erase.erase_due(now + 2 * MINUTE)["erased"] == 1
    assert stored() == 0


@pytest.mark.parametrize("state", [S.PREPARED, S.QUEUED, S.SENDING])
def test_what_is_on_its_way_is_never_erased(state: EmailState) -> None:
    now = timezone.now()
    found = emails(3, state, 1000 * HOUR, now)
    assert erase.erase_due(now)["erased"] == 0
    assert erasure.erase([email.pk for email in found]) == 0
    assert stored() == 3


def test_what_a_dispatcher_has_leased_is_never_erased() -> None:
    now = timezone.now()
    found = emails(2, S.FAILED, 1000 * HOUR, now, lease="somebody")
    assert erase.erase_due(now)["erased"] == erasure.erase([email.pk for email in found]) == 0
    assert stored() == 2


def test_ordinary_mails_are_not_erased() -> None:
    now = timezone.now()
    found = emails(2, S.DELIVERED, 1000 * HOUR, now, sensitive=False)
    assert erase.erase_due(now)["erased"] == erasure.erase([email.pk for email in found]) == 0
    assert stored() == 2


def test_a_mail_that_bounces_late_is_erased_by_its_acceptance() -> None:
    now = timezone.now()
    emails(1, S.BOUNCED, MINUTE, now, accepted_at=now - 16 * MINUTE)
    emails(1, S.DELAYED, MINUTE, now, accepted_at=now - 14 * MINUTE)
    assert erase.erase_due(now)["erased"] == 1
    assert erase.erase_due(now + 2 * MINUTE)["erased"] == 1


def test_the_times_are_settings(settings: Any) -> None:
    now = timezone.now()
    settings.SENSITIVE_GRACE_SECONDS, settings.SENSITIVE_UNSENT_HOURS = 60, 1
    emails(1, S.ACCEPTED, 2 * MINUTE, now)
    emails(1, S.FAILED, 61 * MINUTE, now)
    assert erase.erase_due(now)["erased"] == 2


def test_a_state_that_is_reached_after_a_pass_is_found_by_the_next_one() -> None:
    now = timezone.now()
    (email,) = emails(1, S.ACCEPTED, 5 * MINUTE, now)
    assert erase.erase_due(now)["erased"] == 0
    Email.objects.update(state=S.DELIVERED, state_at=now + MINUTE)
    assert erase.erase_due(now + MINUTE)["erased"] == 1
    email.refresh_from_db()
    assert email.erased_at == now + MINUTE


def test_an_event_can_erase_at_once_in_its_own_transaction_and_twice_does_nothing_more() -> None:
    now = timezone.now()
    found = emails(3, S.DELIVERED, timedelta(0), now)
    ids = [email.pk for email in found]
    with transaction.atomic():
        assert erasure.erase(ids, now=now) == 3
    assert erasure.erase(ids) == 0
    assert stored() == 0
    assert set(Email.objects.values_list("erased_at", flat=True)) == {now}


def test_a_body_is_overwritten_before_its_row_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    (email,) = emails(1, S.DELIVERED, timedelta(0), timezone.now())
    before = bytes(Content.objects.get().body)
    erasure._overwrite([email.pk])
    assert bytes(Content.objects.get().body) == bytes(len(before))


def test_what_a_dispatcher_leases_between_the_look_and_the_lock_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (mail,) = queue_emails(1, email={"sensitive": True, "state": "failed"})
    looks: list[int] = []
    look = erasure._erasable

    def leased_after_the_first(emails: Any) -> list[int]:
        found = look(emails)
        looks.append(len(found))
        Email.objects.filter(pk=mail.pk).update(lease="theirs")
        return found

    monkeypatch.setattr(erasure, "_erasable", leased_after_the_first)
    assert erasure.erase([mail.pk]) == 0
    assert looks == [1, 0]
    assert stored() == 1


def test_a_large_backlog_is_erased_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "BATCH", 3)
    now = timezone.now()
    emails(8, S.FAILED, 80 * HOUR, now)
    emails(9, S.FAILED, 79 * HOUR, now)
    emails(4, S.FAILED, HOUR, now)
    assert erase.erase_due(now)["erased"] == 17
    assert stored() == 4


def test_a_pass_without_time_leaves_all_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    now = timezone.now()
    emails(4, S.RELEASED, HOUR, now)
    with monkeypatch.context() as patch:
        patch.setattr(erase, "BUDGET_SECONDS", -1.0)
        assert erase.erase_due(now)["erased"] == 0
    assert erase.erase_due(now)["erased"] == 4
    assert stored() == 0


def test_a_pass_looks_at_nothing_but_sensitive_mails_that_are_not_erased(
    django_assert_max_num_queries: Any,
) -> None:
    now = timezone.now()
    first, *_ = emails(3, S.DELIVERED, 100 * HOUR, now, sensitive=False)
    emails(3, S.DELIVERED, 100 * HOUR, now)
    begin_at(first)
    assert erase.erase_due(now)["erased"] == 3
    with django_assert_max_num_queries(12):
        assert erase.erase_due(now + MINUTE)["erased"] == 0


def test_a_template_declared_sensitive_covers_mails_that_are_stored_already() -> None:
    now = timezone.now()
    emails(2, S.DELIVERED, 100 * HOUR, now, sensitive=False, template="license_allocated")
    emails(1, S.QUEUED, HOUR, now, sensitive=False, template="license_allocated")
    emails(1, S.DELIVERED, HOUR, now, sensitive=False, template="expiry_warn_user")
    assert erase.erase_due(now) == {"marked_sensitive": 0, "erased": 0}
    SensitiveTemplate.objects.create(name="license_allocated")
    assert erase.erase_due(now) == {"marked_sensitive": 3, "erased": 2}
    assert stored() == 2
    assert erase.erase_due(now) == {"marked_sensitive": 0, "erased": 0}


def test_many_stored_mails_are_marked_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "BATCH", 3)
    monkeypatch.setattr(erase, "IDS", 4)
    now = timezone.now()
    first, *_ = emails(11, S.ACCEPTED, HOUR, now, sensitive=False, template="user_reset")
    begin_at(first)
    assert erase.erase_due(now) == {"marked_sensitive": 11, "erased": 11}


def test_a_mail_stored_by_a_pass_that_did_not_know_the_new_template_is_marked_by_the_next() -> None:
    now = timezone.now()
    SensitiveTemplate.objects.create(name="license_allocated")
    emails(1, S.QUEUED, timedelta(0), now, sensitive=False)
    erase.erase_due(now)
    emails(1, S.QUEUED, timedelta(0), now, sensitive=False, template="license_allocated")
    assert erase.erase_due(now + MINUTE)["marked_sensitive"] == 1


@pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
def test_recovery_erases_and_says_how_many() -> None:
    emails(2, S.DELIVERED, HOUR, timezone.now())
    assert recover.run().counts["erased"] == 2
    assert Run.objects.get(kind="recover").counts["erased"] == 2


@pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
def test_where_erasing_fails_recovery_goes_on_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> dict[str, int]:
        raise OperationalError(1213, "Deadlock found")

    monkeypatch.setattr(recover, "erase_due", broken)
    assert "claimed" in recover.run().counts
    run = Run.objects.get(kind="recover")
    assert (run.outcome, run.message) == ("errors", "Credentials could not be erased now (OperationalError).")


@pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
def test_erasing_beside_a_dispatcher_costs_no_mail(ses: FakeSes, source: Any) -> None:
    queue_emails(300, email={"sensitive": True})
    ids = list(Email.objects.values_list("pk", flat=True))
    stop = threading.Event()

    def eraser() -> None:
        while not stop.wait(0.005):
            erasure.erase(ids)
        connection.close()

    thread = threading.Thread(target=eraser)
    thread.start()
    try:
        sent = dispatch.run(until_empty=True).sent
    finally:
        stop.set()
        thread.join()
    assert sent == 300
    assert len(ses.accepted) == 300
    erasure.erase(ids)
    assert stored() == 0


def test_the_page_of_an_erased_mail_says_when_it_was_erased(sign_in: SignIn) -> None:
    now = timezone.now()
    (email,) = emails(1, S.FAILED, 73 * HOUR, now)
    erase.erase_due(now)
    client: Client = sign_in("Support staff")
    page = client.get(f"/emails/{email.pk}/").content.decode()
    assert "What it said was erased" in page
    assert "It carried credentials, and what it said is erased." in page
    assert "Give the user a new password in Moodle instead" in page
