"""What arrives is stored once, finds its mail, and moves it; what is no event is kept and blocks nothing."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from django.utils import timezone
from hypothesis import strategies as st

from emailoffload.feedback import inbox, queue, reputation, suppression
from emailoffload.feedback.models import Event, EventProblem, ReputationHour, Suppression
from emailoffload.feedback.parse import parse
from emailoffload.outbox import content, transitions
from emailoffload.outbox.models import Attempt, Claim, Content, Email
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.worker.recover_intents import finish_releases
from tests.feedback import samples
from tests.outbox.factory import queue_email, queue_emails
from tests.processes import on_sqlite

S = EmailState
pytestmark = pytest.mark.django_db


def message(shape: Any) -> inbox.Message:
    return inbox.Message(shape if isinstance(shape, bytes) else samples.body(shape))


def about(email: Email, type_: str, **values: Any) -> inbox.Message:
    """An event about this mail, with our id and an id of SES's that we may know or not."""
    values = {
        "ref": email.ref.hex,
        "to": email.address,
        "message_id": email.message_id or f"ses-{email.pk}",
    } | values
    return message(samples.event(type_, **values))


def in_state(state: EmailState, **values: Any) -> Email:
    return queue_email(email={"state": state, "attempts": 1} | values)


def test_an_event_is_stored_once_and_moves_its_mail() -> None:
    email = in_state(S.ACCEPTED, message_id="m-1", accepted_at=samples.AT)
    delivery = about(email, "Delivery", at=samples.AT + timedelta(seconds=3))
    first = inbox.receive([delivery, delivery])
    again = inbox.receive([delivery])
    assert (first.events, first.repeated, first.changed) == (1, 1, 1)
    assert (again.events, again.repeated, again.changed) == (0, 1, 0)
    email.refresh_from_db()
    assert (email.state, email.delivered_at) == ("delivered", samples.AT + timedelta(seconds=3))
    assert Event.objects.get().email_id == email.pk


def test_an_event_of_our_id_finds_its_mail_before_the_answer_is_recorded() -> None:
    email = sending()
    inbox.receive([about(email, "Send", message_id="m-9")])
    email.refresh_from_db()
    assert (email.state, email.message_id, email.lease) == ("accepted", "m-9", "")
    assert email.accepted_at == samples.AT


@pytest.mark.parametrize("type_", ["Send", "Delivery", "Bounce", "Complaint"])
def test_what_becomes_of_a_copy_that_somebody_forwarded_with_our_header_says_nothing_of_our_mail(
    type_: str,
) -> None:
    email = in_state(S.ACCEPTED, message_id="m-1", accepted_at=samples.AT)
    copy = about(email, type_, message_id="m-2", to="elsewhere@example.net")
    assert inbox.receive([copy]).unmatched == 1
    assert inbox.look_again(now=timezone.now() + timedelta(hours=1)).unmatched == 1
    email.refresh_from_db()
    assert (email.state, email.reason, email.message_id) == ("accepted", "", "m-1")
    assert not email.events.exists()


def test_an_event_of_our_id_finds_its_mail_however_the_address_is_written() -> None:
    email = in_state(S.UNCERTAIN, address="Anna@Bücher.example")
    inbox.receive([about(email, "Delivery", to="anna@xn--bcher-kva.example")])
    email.refresh_from_db()
    assert email.state == "delivered"


def sending(lease: str = "a") -> Email:
    """A mail that a dispatcher has marked `sending`, with its attempt."""
    now = timezone.now()
    email = queue_email(due=now - timedelta(seconds=1))
    transitions.lease_due(1, lease, now=now, until=now + timedelta(minutes=1))
    transitions.mark_sending([(email.pk, 1)], lease, "h", now=now, until=now + timedelta(minutes=1))
    return email


@pytest.mark.parametrize(
    ("end", "outcome"), [(S.ACCEPTED, "accepted"), (S.UNCERTAIN, "unknown"), (S.QUEUED, "throttled")]
)
def test_the_answer_that_is_recorded_after_the_event_keeps_its_record_and_pulls_nothing_back(
    end: EmailState, outcome: str
) -> None:
    email = sending()
    inbox.receive([about(email, "Send", message_id="m-9"), about(email, "Delivery", message_id="m-9")])
    assert Attempt.objects.get().outcome == "unknown"
    now = timezone.now()
    message_id = "m-9" if end == S.ACCEPTED else ""
    ended = transitions.Ended(
        email.pk, end, outcome, now, now, code="why", message_id=message_id, request_id="r", http_status=200
    )
    transitions.record([ended], "a", "h", now=now)
    email.refresh_from_db()
    assert (email.state, email.message_id, email.accepted_at) == ("delivered", "m-9", samples.AT)
    attempt = Attempt.objects.get()
    assert (attempt.outcome, attempt.request_id, attempt.error_code) == (outcome, "r", "why")


def test_the_order_of_answer_and_events_does_not_matter() -> None:
    rows = []
    for events_first in (True, False):
        email = sending()
        now = timezone.now()
        ended = transitions.Ended(email.pk, S.ACCEPTED, "accepted", now, now, message_id=f"m-{email.pk}")
        messages = [about(email, type_, message_id=f"m-{email.pk}") for type_ in ("Send", "DeliveryDelay")]
        if events_first:
            inbox.receive(messages)
        transitions.record([ended], "a", "h", now=now)
        inbox.receive(messages)
        email.refresh_from_db()
        assert email.message_id == f"m-{email.pk}"
        rows.append((email.state, email.state_at, email.accepted_at, email.reason, email.lease))
    assert rows[0] == rows[1]


def test_a_mail_that_was_queued_again_after_an_unanswered_send_is_not_sent_again_once_an_event_comes() -> (
    None
):
    email = in_state(S.QUEUED)
    now = timezone.now()
    transitions.lease_due(1, "b", now=now + timedelta(seconds=1), until=now + timedelta(minutes=1))
    inbox.receive([about(email, "Delivery")])
    assert transitions.mark_sending([(email.pk, 2)], "b", "h", now=now, until=now) == set()
    email.refresh_from_db()
    assert email.state == "delivered"
    assert transitions.due(9, now=now + timedelta(days=1)) == 0


def test_a_late_acceptance_of_a_mail_that_was_queued_again_keeps_it_from_being_sent_again() -> None:
    email = sending()
    transitions.interrupted(timezone.now() + timedelta(minutes=5))
    transitions.move([email.pk], S.QUEUED, now=timezone.now())
    now = timezone.now()
    ended = transitions.Ended(email.pk, S.ACCEPTED, "accepted", now, now, message_id="m-9")
    transitions.record([ended], "a", "h", now=now)
    email.refresh_from_db()
    assert (email.state, email.message_id) == ("accepted", "m-9")


def test_an_event_during_a_handing_back_waits_for_its_end_and_then_shows_the_double() -> None:
    email = in_state(S.FAILED, reason="deadline")
    Claim.objects.filter(pk=email.claim_id).update(state=ClaimState.RELEASING)
    now = timezone.now()
    inbox.receive([about(email, "Delivery")], now=now)
    email.refresh_from_db()
    assert email.state == "failed"
    finish_releases([email.claim_id], [], "")
    assert inbox.look_again(now=now + timedelta(seconds=30)).events == 0
    assert inbox.look_again(now=now + timedelta(seconds=61)).doubles == 1
    email.refresh_from_db()
    assert (email.state, email.reason, email.detail) == ("released", "also_by_ses", "deadline")
    assert email.delivered_at == samples.AT
    assert Event.objects.get().match_again_at is None


def test_an_event_without_a_mail_is_looked_for_again_with_growing_pauses_and_then_kept() -> None:
    now = timezone.now()
    assert inbox.receive([message(samples.event("Delivery"))], now=now).unmatched == 1
    pauses = []
    while (at := Event.objects.get().match_again_at) is not None:
        assert inbox.look_again(now=at - timedelta(seconds=1)).events == 0
        pauses.append(at - now)
        now = at
        assert inbox.look_again(now=now).unmatched == 1
    assert pauses == sorted(pauses) and pauses[0] == timedelta(seconds=30)
    assert timedelta(days=3) < sum(pauses, timedelta()) < timedelta(days=4)
    assert Event.objects.get().email_id is None


def test_an_event_finds_its_mail_once_the_answer_is_recorded() -> None:
    email = in_state(S.SENDING)
    now = timezone.now()
    feedback = samples.identity_feedback("Bounce", with_headers=False, message_id="m-77", to=email.address)
    assert inbox.receive([message(feedback)], now=now).unmatched == 1
    Email.objects.filter(pk=email.pk).update(state=S.ACCEPTED, message_id="m-77")
    assert inbox.look_again(now=now + timedelta(minutes=1)).changed == 1
    email.refresh_from_db()
    assert (email.state, email.reason) == ("bounced", "bounced_permanent")
    assert (email.detail, email.bounced_at) == ("smtp; 550 5.1.1 <[address]>: user unknown", samples.AT)


def test_the_mail_of_another_sender_is_kept_and_never_looked_for() -> None:
    assert inbox.receive([message(samples.event("Delivery", ref=None))]).unmatched == 1
    assert Event.objects.get().match_again_at is None


def test_delivery_erases_credentials_at_once_and_acceptance_does_not() -> None:
    email, other = (in_state(S.ACCEPTED, sensitive=True, message_id=f"m-{n}") for n in range(2))
    inbox.receive([about(email, "Send"), about(email, "Delivery"), about(other, "Send")])
    assert list(Content.objects.values_list("pk", flat=True)) == [other.pk]
    email.refresh_from_db()
    assert email.erased_at is not None


def test_what_is_no_event_is_kept_sealed_counted_and_blocks_nothing() -> None:
    email = in_state(S.ACCEPTED, message_id="m-1")
    poison = inbox.Message(b"Dear anna.ahlberg@example.org, \xff" + b"x" * 100_000)
    counts = inbox.receive([poison, about(email, "Delivery"), poison])
    assert (counts.problems, counts.events) == (2, 1)
    assert inbox.receive([poison]).problems == 1
    problem = EventProblem.objects.get()
    assert (problem.reason, problem.times, problem.size) == ("encoding", 3, len(poison.body))
    kept = bytes(problem.body or b"")
    assert b"ahlberg" not in kept
    assert content.open_bytes(problem.key_id, kept) == poison.body[:65536]
    email.refresh_from_db()
    assert email.state == "delivered"


def test_one_message_that_cannot_be_stored_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    emails = [in_state(S.ACCEPTED, message_id=f"m-{n}") for n in range(9)]
    consider = suppression.consider

    def stumble(events: Any) -> Any:
        if any(event.message_id == "m-4" for event in events):
            raise KeyError("anna@example.org")
        return consider(events)

    monkeypatch.setattr(suppression, "consider", stumble)
    counts = inbox.receive([about(email, "Delivery") for email in emails])
    assert (counts.events, counts.problems, counts.messages) == (8, 1, 9)
    problem = EventProblem.objects.get()
    assert (problem.reason, problem.detail) == ("error", "It could not be stored (KeyError).")
    assert Email.objects.filter(state=S.DELIVERED).count() == 8


def test_a_database_that_is_away_makes_the_whole_call_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    email = in_state(S.ACCEPTED, message_id="m-1")

    def away(events: Any) -> None:
        raise OperationalError(2006, "Server has gone away")

    monkeypatch.setattr(reputation, "count", away)
    with pytest.raises(OperationalError):
        inbox.receive([about(email, "Delivery"), inbox.Message(b"poison")])
    assert not Event.objects.exists() and not EventProblem.objects.exists()


def test_hundreds_of_events_take_few_queries(django_assert_max_num_queries: Any) -> None:
    emails = queue_emails(200, email={"state": S.ACCEPTED, "attempts": 1})
    messages = [about(email, type_) for email in emails for type_ in ("Send", "Delivery")]
    with django_assert_max_num_queries(40):
        counts = inbox.receive(messages)
    assert (counts.events, counts.changed) == (400, 200)
    assert set(Email.objects.values_list("state", "delivered_at")) == {("delivered", samples.AT)}


def test_a_mail_that_is_opened_without_end_costs_no_more_than_one_that_is_opened_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    email = in_state(S.ACCEPTED, message_id="m-1", accepted_at=samples.AT)
    looked_at: list[int] = []
    fold = inbox.fold

    def count(sent: Any, facts: Any) -> Any:
        looked_at.append(len(facts))
        return fold(sent, facts)

    monkeypatch.setattr(inbox, "fold", count)
    for start in (60, 0, 30):
        times = [samples.AT + timedelta(seconds=start + number) for number in range(1, 30)]
        inbox.receive([about(email, type_, at=at) for at in times for type_ in ("Open", "Click")])
    inbox.receive([about(email, "Delivery")])
    email.refresh_from_db()
    assert looked_at == [2, 2, 2, 3]
    assert email.opened_at == email.clicked_at == samples.AT + timedelta(seconds=1)
    assert (email.state, email.events.count()) == ("clicked", 175)


HISTORY = ("Send", "DeliveryDelay", "Bounce", "Transient", "Delivery", "Open", "Click", "Complaint", "Reject")


def event_of(email: Email, name: str, seconds: int) -> inbox.Message:
    at = samples.AT + timedelta(seconds=seconds)
    if name == "Transient":
        return about(email, "Bounce", at=at, detail={"bounceType": "Transient", "bounceSubType": "General"})
    return about(email, name, at=at)


COLUMNS = ("state", "state_at", "reason", "detail", "message_id", "accepted_at", "delivered_at", "opened_at",
           "clicked_at", "bounced_at", "complained_at")  # fmt: skip


def outcome(email: Email) -> Any:
    """All that may depend on the order: the mail's row, what is noted of its events, counters, suppressions."""
    row = Email.objects.filter(pk=email.pk).values_list(*COLUMNS).get()
    events = sorted(email.events.values_list("type", "at", "noted", "address"))
    hours = sorted(
        ReputationHour.objects.values_list(
            "hour", "identity", "company_id", "sends", "deliveries", "permanent_bounces", "transient_bounces",
            "complaints", "rejects",
        )
    )  # fmt: skip
    suppressed = set(Suppression.objects.exclude(active_key=None).values_list("active_key", flat=True))
    return row, events, hours, suppressed


@hypothesis.settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)
@hypothesis.given(
    st.data(),
    st.lists(st.tuples(st.sampled_from(HISTORY), st.integers(0, 9)), min_size=1, max_size=7, unique=True),
    st.sampled_from([S.QUEUED, S.UNCERTAIN, S.SENDING, S.ACCEPTED, S.FAILED, S.RELEASED]),
)
def test_any_order_repetition_and_batching_ends_in_the_same_rows_and_counters(
    data: st.DataObject, history: list[tuple[str, int]], state: EmailState
) -> None:
    found = []
    shuffled = data.draw(st.permutations(history + data.draw(st.lists(st.sampled_from(history), max_size=3))))
    start = timezone.now()
    for arrivals in (list(history), shuffled):
        with transaction.atomic():
            email = in_state(state, reason="interrupted", state_at=start, address="learner@example.org")
            while arrivals:
                size = data.draw(st.integers(1, len(arrivals)))
                batch, arrivals = arrivals[:size], arrivals[size:]
                inbox.receive([event_of(email, *each) for each in batch], now=start)
            row, *rest = outcome(email)
            found.append((row[:4], row[5:], *rest))
            transaction.set_rollback(True)
    assert found[0] == found[1]


def test_an_event_of_a_mail_that_smtp_is_taking_waits_for_its_answer() -> None:
    email = in_state(S.SENDING, route="smtp", lease="s")
    now = timezone.now()
    inbox.receive([about(email, "Send")], now=now)
    email.refresh_from_db()
    assert (email.state, email.lease) == ("sending", "s")
    transitions.move([email.pk], S.SENT_SMTP, now=now)
    inbox.look_again(now=now + timedelta(minutes=2))
    email.refresh_from_db()
    assert (email.state, email.reason, email.accepted_at) == ("sent_smtp", "also_by_ses", samples.AT)


def test_a_mail_whose_two_sends_both_left_says_so_and_keeps_our_answers_id() -> None:
    email = in_state(S.ACCEPTED, message_id="m-2", attempts=2)
    now = timezone.now()
    Attempt.objects.create(email=email, number=1, started_at=now, outcome="unknown")
    Attempt.objects.create(email=email, number=2, started_at=now, outcome="accepted", message_id="m-2")
    counts = inbox.receive(
        [about(email, "Delivery", message_id="m-1"), about(email, "Send", message_id="m-2")]
    )
    email.refresh_from_db()
    assert (email.state, email.reason, email.message_id, counts.doubles) == (
        "delivered",
        "sent_twice",
        "m-2",
        1,
    )


@pytest.mark.django_db(transaction=True)
def test_the_same_event_from_queue_and_webhook_at_once_is_stored_once() -> None:
    emails = queue_emails(20, email={"state": S.ACCEPTED, "attempts": 1})
    messages = [about(email, type_) for email in emails for type_ in ("Send", "Delivery")]
    together = threading.Barrier(3)

    def take(mine: list[inbox.Message]) -> inbox.Received:
        try:
            together.wait(20)
            return inbox.receive(mine)
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as pool:
        counts = list(pool.map(take, [messages, messages[::-1], messages[20:] + messages[:20]]))
    assert sum(each.events for each in counts) == Event.objects.count() == 40
    assert sum(each.repeated for each in counts) == 80
    assert set(Email.objects.values_list("state", flat=True)) == {"delivered"}


ON_SQLITE = """
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from emailoffload.feedback import inbox
from emailoffload.feedback.models import Event, EventProblem
from emailoffload.outbox.models import Email
from emailoffload.outbox.states import EmailState
from tests.feedback import samples
from tests.outbox.factory import queue_emails

emails = queue_emails(12, email={"state": EmailState.ACCEPTED, "attempts": 1, "sensitive": True})
messages = [
    inbox.Message(samples.body(samples.event(type_, ref=email.ref.hex, message_id=f"m-{email.pk}", to=email.address)))
    for email in emails
    for type_ in ("Bounce", "Open", "Send")
]
for _ in range(2):
    done = inbox.receive([*messages, inbox.Message(b"?")])
assert (done.events, done.repeated, done.problems) == (0, 36, 1), done
assert Event.objects.count() == 36 and EventProblem.objects.get().times == 2
assert set(Email.objects.values_list("state", "accepted_at")) == {("opened", samples.AT)}
assert not Email.objects.filter(erased_at=None).exists()
inbox.receive([inbox.Message(samples.body(samples.event("Send", ref="f" * 32)))])
assert inbox.look_again().events == 0
"""


def test_it_works_on_sqlite(tmp_path: Path) -> None:
    on_sqlite(ON_SQLITE, tmp_path)


def test_no_address_is_in_what_an_error_report_would_show() -> None:
    shown = message(samples.event("Bounce"))
    (parsed,) = parse(shown.body)
    taken = queue.Taken(shown.body, "handle-of-anna.ahlberg")
    assert "ahlberg" not in f"{shown!r} {parsed!r} {taken!r}"
    assert parsed.address == samples.ADDRESS


@pytest.mark.parametrize("times", [1, inbox.COLLISIONS - 1, inbox.COLLISIONS])
def test_an_event_that_another_process_stores_just_then_is_looked_at_again_but_not_for_ever(
    times: int,
) -> None:
    tries: list[int] = []

    def work() -> inbox.Received:
        tries.append(1)
        if len(tries) <= times:
            raise IntegrityError(1062, "Duplicate entry")
        return inbox.Received()

    if times < inbox.COLLISIONS:
        assert inbox._collide(work) == inbox.Received()
    else:
        with pytest.raises(IntegrityError):
            inbox._collide(work)
    assert len(tries) == min(times + 1, inbox.COLLISIONS)
