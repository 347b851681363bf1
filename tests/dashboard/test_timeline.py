"""The timeline shows each event with its evidence, what does not count and why, and what settled a doubt."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from emailoffload.dashboard.known import Known
from emailoffload.dashboard.timeline import EVENTS_SHOWN, SIGHTS_SHOWN, Entry, entries, reports
from emailoffload.feedback import fold
from emailoffload.feedback.evidence import NotTaken
from emailoffload.feedback.models import Event
from emailoffload.feedback.models import EventType as T
from emailoffload.outbox.models import Attempt, Email
from emailoffload.outbox.states import EmailState as S
from tests.dashboard.factories import make_attempt, make_email
from tests.dashboard.reported import make_event, no_mailbox
from tests.queries import counted

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])


def shown(email: Email, known: Known | None = None) -> list[Entry]:
    """The timeline as the page shows it."""
    told = reports(email)
    return entries(email, list(email.tries.order_by("number")), told, known or Known())


def named(found: list[Entry], title: str) -> Entry:
    """The one entry of that title."""
    (entry,) = [entry for entry in found if entry.title == title]
    return entry


def test_an_event_is_an_entry_with_all_its_evidence() -> None:
    email = make_email(S.BOUNCED)
    event = no_mailbox(email, received_at=timezone.now() + timedelta(hours=2))
    entry = named(shown(email), "Came back for good")
    assert (entry.at, entry.tone, entry.noted) == (event.at, "bad", False)
    assert entry.text == "The mailbox does not exist."
    details = dict(entry.details)
    assert details["Status code"] == "5.1.1"
    assert details["Kind"] == "permanent, NoEmail"
    assert "550 5.1.1" in details["Words of the mail server"]
    assert details["SES message id"] == email.message_id
    assert details["Came"].endswith("min later")


@pytest.mark.parametrize("type_", list(T))
def test_every_kind_of_event_has_a_title_in_words(type_: T) -> None:
    email = make_email(S.ACCEPTED)
    make_event(type_, email)
    titles = [entry.title for entry in shown(email) if ("Reported by", "Amazon SES") in entry.details]
    assert len(titles) == 1
    assert titles[0][0].isupper() and "_" not in titles[0]


def test_what_an_event_tells_is_not_told_twice() -> None:
    email = make_email(S.CLICKED)
    for type_ in (T.SEND, T.DELIVERY, T.OPEN, T.CLICK):
        make_event(type_, email)
    titles = [entry.title for entry in shown(email)]
    assert len(titles) == len(set(titles))
    assert titles.count("Opened") == 1
    assert "Accepted" not in titles


def test_without_events_the_columns_tell_it() -> None:
    titles = [entry.title for entry in shown(make_email(S.CLICKED))]
    for title in ("Accepted", "Delivered: the recipient's mail server took it", "Opened"):
        assert title in titles


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"type_": T.BOUNCE, "kind": "transient", "subkind": "General"}, "automatic reply"),
        ({"type_": T.COMPLAINT, "kind": "not-spam"}, "opposite of a complaint"),
        ({"type_": T.SUBSCRIPTION}, "says nothing about whether the mail arrived"),
        ({"type_": T.DELIVERY, "ref": "0" * 32}, "test mail of the doctor's"),
    ],
)
def test_a_noted_event_is_grey_and_says_why_it_does_not_count(values: dict[str, str], why: str) -> None:
    email = make_email(S.DELIVERED)
    make_event(email=email, noted=True, **values)
    (entry,) = [entry for entry in shown(email) if entry.noted]
    assert entry.tone == "quiet"
    assert why in entry.text


def test_an_event_that_settled_an_unanswered_try_says_so() -> None:
    email = make_email(S.DELIVERED, attempts=0)
    make_attempt(email, outcome="unknown", error_code="ReadTimeoutError", message_id="", http_status=None)
    late = make_event(T.SEND, email, received_at=timezone.now() + timedelta(minutes=9))
    make_event(T.DELIVERY, email, received_at=late.received_at + timedelta(minutes=1))
    found = shown(email)
    assert "It settled a try that had got no answer" in named(found, "Amazon SES took it").text
    assert "settled" not in named(found, "Delivered: the recipient's mail server took it").text


def test_an_answered_try_needs_no_settling() -> None:
    email = make_email(S.DELIVERED)
    make_event(T.SEND, email)
    assert all("settled" not in entry.text for entry in shown(email))


def test_a_silence_that_tells_something_is_an_entry() -> None:
    email = make_email(S.UNCERTAIN)
    now = timezone.now()
    found = shown(email, Known(not_taken=NotTaken(now - timedelta(hours=1), now, now)))
    assert (
        "The queue of reports was read to its end" in named(found, "No report that Amazon SES took it").text
    )


def test_the_reason_from_before_a_double_is_told_in_words() -> None:
    email = make_email(S.SENT_SMTP, reason=fold.ALSO_BY_SES, detail="deadline: no answer")
    text = named(shown(email), "Sent by SMTP").text
    assert "before its deadline" in text and "deadline:" not in text


def test_openings_without_end_are_bounded_and_counted() -> None:
    email = make_email(S.OPENED)
    for number in range(SIGHTS_SHOWN + 3):
        make_event(T.OPEN, email, at=email.due_at + timedelta(minutes=number))
    found = shown(email)
    assert sum(entry.title == "Opened" for entry in found) == SIGHTS_SHOWN
    assert "At least 3 more" in named(found, "Opened again").text
    Event.objects.bulk_create(
        Event(key=f"o{number}", type=T.OPEN, at=email.due_at, received_at=email.due_at, email=email)
        for number in range(2 * EVENTS_SHOWN)
    )
    assert len(reports(email).events) == SIGHTS_SHOWN


def test_the_page_of_a_mail_costs_the_same_with_many_events_and_shows_them(support: Client) -> None:
    email = make_email(S.BOUNCED)
    no_mailbox(email)
    support.get("/")
    with counted() as few:
        page = support.get(f"/emails/{email.pk}/").content.decode()
    assert "<dt>Bounced</dt>" in page and "<dt>Delivered</dt>" in page
    assert f"/events/?q={email.message_id}" in page
    assert "The mailbox does not exist." in page
    for minutes in range(30):
        make_event(
            T.DELIVERY_DELAY, email, at=email.due_at + timedelta(minutes=minutes), subkind="MailboxFull"
        )
        Attempt.objects.create(email=email, number=minutes + 2, started_at=email.due_at)
    with counted() as many:
        support.get(f"/emails/{email.pk}/")
    assert few["default"] == many["default"] <= 16
