"""Sending a mail again: when it may be done, that it is done once, and that it reaches the recipient."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from threading import Barrier
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from emailoffload.actions import resend as action
from emailoffload.actions.release import release
from emailoffload.actions.resend import Resent, resend
from emailoffload.outbox import content, erasure
from emailoffload.outbox.models import AuditEntry, Claim, Content, Email
from emailoffload.outbox.states import OPEN, ClaimState, EmailState
from emailoffload.sources.protocol import Recheck
from emailoffload.worker import dispatch
from tests.conftest import Moodle
from tests.credentials import secret
from tests.dashboard.conftest import SignIn, make_user
from tests.fake_ses import FakeSes
from tests.outbox.factory import queue_email, queue_emails

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])
S = EmailState
REFUSED = {S.PREPARED, S.QUEUED, S.SENDING, S.RELEASED}
LEARNER = 3
"""A user of the real site."""


def stored(state: str = S.ACCEPTED, **columns: Any) -> Email:
    """An email in a state, with its content, about a user whom Moodle has."""
    email = queue_email(email={"state": state, "recipient_id": LEARNER, **columns})
    Claim.objects.filter(pk=email.claim_id).update(user_id=LEARNER)
    return email


def again(email: Email) -> Resent:
    (outcome,) = resend([email.pk], actor="sam", reason="it did not arrive")
    return outcome


def copy_of(email: Email) -> Email:
    """The resend that was just made of an email."""
    return Email.objects.filter(resend_of=email).latest("pk")


# --- Which may be sent again ---


@pytest.mark.parametrize("state", sorted(set(EmailState) - REFUSED))
def test_a_copy_of_the_same_claim_and_content_is_queued(state: EmailState) -> None:
    email = stored(state, origin="template Cc", template="license_allocated", company_id=3)
    outcome = again(email)
    assert outcome.why_not == ""
    copy = copy_of(email)
    assert copy.ref != email.ref
    assert (copy.state, copy.attempts, copy.message_id, copy.lease) == (S.QUEUED, 0, "", "")
    for column in ("claim_id", "source", "template", "role", "origin", "user_id", "recipient_id", "activity_id",
                   "course_id", "company_id", "address", "name", "subject", "sensitive"):  # fmt: skip
        assert getattr(copy, column) == getattr(email, column), column
    assert copy.resend_of_id == email.pk
    assert copy.next_try_at <= timezone.now() < copy.deadline_at
    assert content.open_(copy.content) == content.open_(email.content)
    email.refresh_from_db()
    assert email.state == state
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.action, entry.object_id, entry.reason) == (
        "sam", "resend", str(email.pk), "it did not arrive"
    )  # fmt: skip
    assert entry.details == {"new_email": copy.pk}


@pytest.mark.parametrize("state", sorted(REFUSED))
def test_what_is_on_its_way_or_with_moodle_is_not_sent_again(state: EmailState) -> None:
    email = stored(state)
    outcome = again(email)
    assert outcome.new_id is None
    assert ("Moodle" if state == S.RELEASED else "on its way") in outcome.why_not
    assert (Email.objects.count(), AuditEntry.objects.count()) == (1, 0)


@pytest.mark.parametrize("state", sorted(set(ClaimState) - {ClaimState.CLAIMED}))
def test_a_mail_whose_claim_is_not_ours_is_not_sent_again(state: ClaimState) -> None:
    email = stored(S.FAILED)
    Claim.objects.update(state=state)
    assert again(email).new_id is None


def test_erased_credentials_are_not_sent_again_and_the_cure_is_told() -> None:
    email = stored(S.DELIVERED, sensitive=True)
    erasure.erase([email.pk])
    outcome = again(email)
    assert outcome.new_id is None
    assert "Give the user a new password in Moodle instead" in outcome.why_not
    assert "Reset password" in outcome.why_not


def test_an_ordinary_mail_whose_content_is_gone_says_so_and_nothing_of_passwords() -> None:
    email = stored(S.FAILED)
    Content.objects.all().delete()
    assert again(email).why_not == "What it said is no longer stored."


def test_a_content_that_cannot_be_opened_is_not_queued(settings: Any) -> None:
    email = stored(S.FAILED)
    Content.objects.update(key_id="0" * 12)
    assert "CONTENT_KEYS" in again(email).why_not
    assert Email.objects.count() == 1


def test_many_are_sent_again_with_few_queries(django_assert_max_num_queries: Any) -> None:
    emails = queue_emails(20, email={"state": S.FAILED})
    ids = [email.pk for email in emails]
    with django_assert_max_num_queries(24):
        outcomes = resend([*ids, ids[0], 999_999], actor="sam", reason="SES was down")
    assert [outcome.email_id for outcome in outcomes] == [*ids, ids[0], 999_999]
    assert sum(outcome.new_id is not None for outcome in outcomes[:20]) == 20
    assert outcomes[20] == outcomes[0]
    assert outcomes[21].why_not == "There is no email 999999."
    assert Email.objects.count() == 40 and AuditEntry.objects.count() == 20


def test_a_reason_is_needed() -> None:
    with pytest.raises(ValueError, match="reason"):
        resend([stored().pk], actor="sam", reason=" ")


# --- Once for each request ---


@pytest.mark.parametrize("state", sorted(OPEN))
def test_while_a_resend_is_open_there_is_no_second_one(state: EmailState) -> None:
    email = stored()
    first = again(email)
    Email.objects.filter(resend_of=email).update(state=state, created_at=timezone.now() - timedelta(hours=1))
    assert f"as email {first.new_id}" in again(email).why_not


def test_a_double_click_makes_one_resend_even_where_the_first_has_left_already() -> None:
    email = stored()
    again(email)
    Email.objects.filter(resend_of=email).update(state=S.DELIVERED)
    assert again(email).new_id is None
    Email.objects.filter(resend_of=email).update(created_at=timezone.now() - timedelta(minutes=2))
    assert again(email).new_id is not None


@pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
def test_requests_at_the_same_moment_make_one_resend() -> None:
    emails = [stored() for _ in range(5)]
    barrier = Barrier(4)

    def ask(_number: int) -> list[Resent]:
        barrier.wait()
        try:
            return resend([email.pk for email in emails], actor="sam", reason="twice")
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        outcomes = [outcome for found in pool.map(ask, range(4)) for outcome in found]
    assert sum(outcome.new_id is not None for outcome in outcomes) == 5
    assert Email.objects.filter(resend_of__isnull=False).count() == 5
    assert AuditEntry.objects.count() == 5


@pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
def test_a_resend_and_an_erasure_at_the_same_time_leave_a_copy_or_a_refusal() -> None:
    emails = [stored(S.DELIVERED, sensitive=True) for _ in range(20)]
    ids = [email.pk for email in emails]
    barrier = Barrier(2)

    def run(work: Callable[[], Any]) -> Any:
        barrier.wait()
        try:
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        erasing = pool.submit(run, lambda: erasure.erase(ids))
        sending = pool.submit(run, lambda: [again(email) for email in emails])
        assert erasing.result() == 20
        outcomes = sending.result()
    for outcome in outcomes:
        if outcome.new_id is None:
            assert "password" in outcome.why_not
        else:
            assert Content.objects.filter(pk=outcome.new_id).exists()
    assert not Content.objects.filter(pk__in=ids).exists()


# --- What leaves ---


def test_the_copy_reaches_the_recipient_under_its_own_reference(
    ses: FakeSes, source: Any, moodle: Moodle
) -> None:
    email = secret.store()
    dispatch.run(until_empty=True)
    again(email)
    dispatch.run(until_empty=True)
    copy = copy_of(email)
    assert copy.state == S.ACCEPTED
    first, second = ses.sent
    assert (first.ref, second.ref) == (email.ref.hex, copy.ref.hex)
    assert secret.found_in(json.dumps(second.body)) == secret.found_in(json.dumps(first.body)) != []


def test_rules_for_automatic_mails_do_not_stop_a_resend(ses: FakeSes, source: Any, moodle: Moodle) -> None:
    email = stored(S.SUPPRESSED, reason="too_late")
    source.bar = lambda views: [Recheck(view.claim_id, "too_late") for view in views]
    again(email)
    assert dispatch.run(until_empty=True).sent == 1
    assert not source.seen


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE mdl_user SET deleted = 1 WHERE id = 3", "user_deleted"),
        ("DELETE FROM mdl_user WHERE id = 3", "user_missing"),
    ],
)
def test_nobody_who_is_gone_gets_a_resend(
    ses: FakeSes, source: Any, moodle: Moodle, change: str, reason: str
) -> None:
    email = stored()
    again(email)
    moodle.execute(change)
    assert dispatch.run(until_empty=True).suppressed == 1
    copy = copy_of(email)
    assert (copy.state, copy.reason) == (S.SUPPRESSED, reason)
    assert ses.sent == []


def test_a_copy_to_an_address_without_an_account_is_sent_again(
    ses: FakeSes, source: Any, moodle: Moodle
) -> None:
    again(stored(role="copy", recipient_id=None, address="hr@example.org"))
    moodle.execute("UPDATE mdl_user SET deleted = 1 WHERE id = 3")
    assert dispatch.run(until_empty=True).sent == 1


@pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
def test_while_moodle_cannot_be_asked_a_resend_waits_even_beyond_its_deadline(
    ses: FakeSes, source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    email = stored()
    again(email)
    Email.objects.filter(resend_of=email).update(deadline_at=timezone.now() - timedelta(hours=1))

    def silent(*args: object) -> None:
        raise TimeoutError

    monkeypatch.setattr("emailoffload.worker.resends.gone", silent)
    monkeypatch.setattr(dispatch, "SOON", timedelta(0))
    assert dispatch.run(until_empty=True).retried == 1
    copy = copy_of(email)
    assert (copy.state, copy.reason) == (S.QUEUED, "recheck_failed")
    assert ses.sent == []


def test_a_claim_with_a_resend_that_left_cannot_be_handed_back(source: Any) -> None:
    email = stored(S.FAILED)
    again(email)
    Email.objects.filter(resend_of=email).update(state=S.ACCEPTED)
    (released,) = release([email.claim_id], actor="sam", reason="test")
    assert not released.released


# --- The command ---


def run_command(*args: str) -> tuple[Any, int]:
    """What `manage.py resend … --json` printed, and its exit status."""
    out, status = StringIO(), 0
    try:
        call_command("resend", *args, "--json", stdout=out)
    except SystemExit as stop:
        status = int(stop.code or 0)
    return json.loads(out.getvalue()), status


def test_the_command_sends_again_and_says_what_it_could_not() -> None:
    good, bad = stored(), stored(S.QUEUED)
    answer, status = run_command(str(good.pk), str(bad.pk), "--reason", "asked by phone")
    assert status == 1
    assert list(answer["resent"]) == [str(good.pk)]
    assert answer["not_resent"] == {str(bad.pk): "It is on its way already."}
    assert AuditEntry.objects.get().actor.startswith("command line (")
    assert run_command(str(stored().pk), "--reason", "asked")[1] == 0


def test_the_command_wants_a_reason() -> None:
    with pytest.raises(CommandError) as refused:
        call_command("resend", str(stored().pk), "--reason", " ")
    assert refused.value.returncode == 2


# --- The page ---


@pytest.mark.parametrize(
    ("role", "status"), [("nobody", 403), ("Auditors", 403), ("Support staff", 200), ("superuser", 200)]
)
def test_the_page_is_for_those_who_may_resend(sign_in: SignIn, role: str, status: int) -> None:
    email, client = stored(), sign_in(role)
    address = f"/emails/{email.pk}/resend/"
    assert client.get(address).status_code == status
    posted = client.post(address, {"reason": "asked"})
    assert posted.status_code == (302 if status == 200 else 403)
    assert Email.objects.count() == (2 if status == 200 else 1)


def test_the_page_sends_again_and_leads_to_the_copy_and_both_know_each_other(sign_in: SignIn) -> None:
    email, client = stored(), sign_in("Support staff")
    page = client.get(f"/emails/{email.pk}/").content.decode()
    assert f'href="/emails/{email.pk}/resend/"' in page
    form = client.get(f"/emails/{email.pk}/resend/").content.decode()
    assert email.address in form
    assert 'method="post"' in form and "csrfmiddlewaretoken" in form
    answer = client.post(f"/emails/{email.pk}/resend/", {"reason": " asked by phone "})
    copy = Email.objects.get(resend_of=email)
    assert (answer.status_code, answer.headers["Location"]) == (302, f"/emails/{copy.pk}/")
    assert AuditEntry.objects.get().reason == "asked by phone"
    assert (
        f'This is a resend of <a href="/emails/{email.pk}/">'
        in client.get(f"/emails/{copy.pk}/").content.decode()
    )
    assert (
        f'It was sent again as <a href="/emails/{copy.pk}/">'
        in client.get(f"/emails/{email.pk}/").content.decode()
    )
    assert "Sent again, as a person asked" in client.get(f"/emails/{copy.pk}/").content.decode()


def test_without_a_reason_nothing_is_sent_and_the_page_says_what_is_missing(sign_in: SignIn) -> None:
    email = stored()
    answer = sign_in("Support staff").post(f"/emails/{email.pk}/resend/", {"reason": "  "})
    page = answer.content.decode()
    assert answer.status_code == 400
    assert "This field is required." in page and 'role="alert"' in page
    assert Email.objects.count() == 1


def test_a_second_click_is_told_that_the_mail_is_being_sent_again(sign_in: SignIn) -> None:
    email, client = stored(), sign_in("Support staff")
    client.post(f"/emails/{email.pk}/resend/", {"reason": "asked"})
    answer = client.post(f"/emails/{email.pk}/resend/", {"reason": "asked"})
    assert answer.status_code == 409
    assert "It is being sent again already" in answer.content.decode()
    assert Email.objects.count() == 2


@pytest.mark.parametrize("state", sorted(action.WARNINGS))
def test_the_page_warns_of_what_the_state_means(sign_in: SignIn, state: str) -> None:
    page = sign_in("Support staff").get(f"/emails/{stored(state).pk}/resend/").content.decode()
    assert str(action.WARNINGS[state]) in page


def test_a_form_without_its_token_is_refused() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user("Support staff"))
    email = stored()
    assert client.post(f"/emails/{email.pk}/resend/", {"reason": "asked"}).status_code == 403
    assert Email.objects.count() == 1


def test_looking_at_the_page_sends_nothing(sign_in: SignIn) -> None:
    email, client = stored(), sign_in("Support staff")
    client.get(f"/emails/{email.pk}/resend/?reason=asked")
    client.head(f"/emails/{email.pk}/resend/")
    assert client.put(f"/emails/{email.pk}/resend/").status_code == 405
    assert Email.objects.count() == 1


def test_a_mail_that_does_not_exist_is_not_found(sign_in: SignIn) -> None:
    client = sign_in("Support staff")
    for number in (999_999, 10**30):
        assert client.post(f"/emails/{number}/resend/", {"reason": "asked"}).status_code == 404
