"""Events and unreadable messages: found by what is known of them, scoped by company, bounded at any size."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from emailoffload.dashboard import event_search, events
from emailoffload.feedback import queuestate
from emailoffload.feedback.inbox import Message, receive
from emailoffload.feedback.models import Event, EventProblem
from emailoffload.feedback.models import EventType as T
from emailoffload.outbox.models import AuditEntry
from emailoffload.outbox.states import EmailState as S
from tests.dashboard.conftest import SignIn
from tests.dashboard.factories import make_email
from tests.dashboard.reported import make_event, no_mailbox
from tests.dashboard.world import FOREIGN, OWN
from tests.queries import counted

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])
HOSTILE = b"<script>alert(1)</script> no JSON for anna@example.org"


@pytest.fixture(autouse=True)
def queue(settings: Any) -> None:
    """Events come to this site, unless a test says otherwise."""
    settings.SES_EVENTS_QUEUE_URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/events"


def rows(client: Client, query: str = "") -> list[str]:
    """The rows of the table of events, as text."""
    page = client.get(f"/events/{query}").content.decode()
    found = re.findall(r'<tr role="row"><td.*?</tr>', page, re.DOTALL)
    return [re.sub(r"<[^>]+>|\s+", " ", row) for row in found]


def unreadable(body: bytes = HOSTILE) -> EventProblem:
    """A message that is no event, as the inbox keeps it."""
    receive([Message(body, "queue")])
    return EventProblem.objects.latest("pk")


def test_an_event_is_shown_with_its_mail_its_cause_and_the_servers_words(support: Client) -> None:
    email = make_email(S.BOUNCED)
    no_mailbox(email)
    (row,) = rows(support)
    for words in (
        "bounce",
        email.address,
        email.subject,
        "The mailbox does not exist.",
        "5.1.1",
        "550",
    ):
        assert words in row
    assert f'href="/emails/{email.pk}/"' in support.get("/events/").content.decode()


def test_an_event_without_a_mail_says_whether_it_is_still_looked_for(support: Client) -> None:
    make_event(T.SEND, at=timezone.now(), match_again_at=timezone.now() + timedelta(hours=1))
    make_event(T.SEND, at=timezone.now() - timedelta(hours=2), received_at=timezone.now(), origin="webhook")
    make_event(T.SEND, at=timezone.now(), ref="0" * 32, noted=True)
    test, given_up, searched = rows(support)
    assert "not found yet; looked for again" in searched
    assert "none of ours" in given_up
    assert "by the webhook" in given_up and "came" in given_up
    assert "webhook" not in searched and " came" not in searched
    assert "a test mail of the doctor's" in test


def test_events_are_found_by_kind_match_address_and_ids(support: Client) -> None:
    bounced = make_email(S.BOUNCED, address="gone@example.org")
    no_mailbox(bounced)
    delivered = make_email(S.DELIVERED)
    make_event(T.DELIVERY, delivered)
    make_event(T.BOUNCE, delivered, kind="transient", noted=True)
    make_event(T.SEND, at=timezone.now(), message_id="0100foreign", match_again_at=timezone.now())
    make_event(T.SEND, at=timezone.now(), message_id="0100given-up")
    for query, number in {
        "": 5,
        "?type=bounce": 2,
        "?match=matched": 2,
        "?match=noted": 1,
        "?match=searched": 1,
        "?match=given_up": 1,
        "?q=GONE@example.org": 1,
        f"?q={delivered.message_id}": 2,
        f"?q=<{delivered.message_id}@eu-west-1.amazonses.com>": 2,
        f"?q={delivered.ref.hex}": 2,
        "?q=0100foreign": 1,
        f"?q={delivered.ref.hex}&type=delivery": 1,
        "?q=nothing": 0,
        "?type=nonsense": 0,
    }.items():
        assert len(rows(support, query)) == number, query
    assert "A filter cannot be used" in support.get("/events/?type=nonsense").content.decode()
    assert "No event fits these filters." in support.get("/events/?q=nothing").content.decode()


def test_an_event_of_a_mail_that_ses_took_twice_is_found_by_its_own_message_id(support: Client) -> None:
    make_event(T.SEND, make_email(S.DELIVERED), message_id="0100second")
    assert len(rows(support, "?q=0100second")) == 1


def test_pages_of_events_lead_to_each_other_by_key(support: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PAGE_SIZE", 2)
    email = make_email(S.DELIVERED)
    keys = [make_event(T.OPEN, email).pk for _ in range(5)]
    page = support.get("/events/?type=open")
    assert page.context["older"] == f"?type=open&before={keys[3]}"
    assert len(rows(support, f"?type=open&before={keys[3]}")) == 2
    assert len(rows(support, f"?before={keys[1]}")) == 1


def test_what_no_index_finds_is_looked_for_among_the_newest_only(
    support: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_search, "WINDOW", 2)
    email = make_email(S.DELIVERED)
    for _ in range(4):
        make_event(T.OPEN, email)
    assert len(rows(support, "?type=open")) == 2
    assert "Among the newest 2 events." in support.get("/events/?type=open").content.decode()
    assert len(rows(support)) == 4
    assert len(rows(support, f"?q={email.message_id}")) == 4


def test_events_of_an_address_are_walked_in_the_order_of_their_times(
    support: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PAGE_SIZE", 2)
    email, now = make_email(S.DELIVERED, address="ada@example.org"), timezone.now()
    kinds = (T.SEND, T.DELIVERY, T.OPEN, T.OPEN, T.CLICK)
    # The later an event was stored, the earlier it happened.
    made = [make_event(kind, email, at=now - timedelta(hours=n)).pk for n, kind in enumerate(kinds)]
    make_event(T.SEND, make_email(S.DELIVERED, address="grace@example.org"))

    def shown(query: str) -> list[int]:
        return [event.pk for event in support.get(f"/events/?q=Ada@example.org{query}").context["page"].rows]

    assert shown("") == made[:2]
    assert shown(f"&before={made[1]}") == made[2:4]
    assert shown(f"&before={made[3]}") == made[4:]
    assert shown(f"&after={made[4]}") == made[2:4]
    assert shown("&type=open") == made[2:4]
    last = support.get(f"/events/?q=ada@example.org&before={made[3]}").context
    assert not last["older"] and last["newer"].endswith(f"after={made[4]}")
    first = support.get(f"/events/?q=ada@example.org&after={made[2]}").context
    assert not first["newer"] and first["older"].endswith(f"before={made[1]}")


def test_of_an_address_with_very_many_events_the_newest_are_asked_for_more(
    support: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_search, "OF_ADDRESS", 3)
    email, now = make_email(S.DELIVERED, address="ada@example.org"), timezone.now()
    for hours in range(5):
        make_event(T.OPEN, email, at=now - timedelta(hours=hours), noted=hours % 2 == 0)
    assert len(rows(support, "?q=ada@example.org&match=noted")) == 2
    page = support.get("/events/?q=ada@example.org&match=noted").content.decode()
    assert "Among the newest 3 of this address." in page


def test_people_of_a_company_find_the_events_of_an_address_by_their_own_mails(bound: Client) -> None:
    own = make_email(S.DELIVERED, company_id=OWN, address="hr@example.org")
    foreign = make_email(S.DELIVERED, company_id=FOREIGN, address="hr@example.org")
    mine = make_event(T.DELIVERY, own)
    make_event(T.DELIVERY, foreign)
    found = bound.get("/events/?q=hr@example.org").context["page"].rows
    assert [event.pk for event in found] == [mine.pk]


def test_a_page_of_many_events_costs_no_more_than_one_of_few(support: Client) -> None:
    no_mailbox(make_email(S.BOUNCED))
    support.get("/events/")
    with counted() as few:
        support.get("/events/")
    for _ in range(20):
        make_event(T.DELIVERY, make_email(S.DELIVERED))
    with counted() as many:
        support.get("/events/")
    assert few["default"] == many["default"] <= 10


def test_a_site_without_events_is_told_how_to_get_them(support: Client, settings: Any) -> None:
    settings.SES_EVENTS_QUEUE_URL, settings.SNS_TOPICS = "", []
    page = support.get("/events/").content.decode()
    assert "This site gets no reports" in page and "docs/events.md" in page
    assert "No event yet." in page


def test_trouble_with_the_queue_is_told_on_the_page(support: Client) -> None:
    state = queuestate.QueueState(
        error="The queue may not be read.", cure="Allow it.", error_at=timezone.now()
    )
    queuestate.save(state)
    page = support.get("/events/").content.decode()
    assert "The queue may not be read. Allow it." in page


def test_staff_of_a_company_see_the_events_of_its_mails_only(bound: Client) -> None:
    own = make_email(S.BOUNCED, company_id=OWN, subject="Own subject")
    foreign = make_email(S.BOUNCED, company_id=FOREIGN, subject="Foreign subject")
    for email in (own, foreign):
        no_mailbox(email)
    make_event(T.SEND, at=timezone.now(), message_id="0100homeless")
    (row,) = rows(bound)
    assert "Own subject" in row
    for query in (f"?q={foreign.message_id}", f"?q={foreign.ref.hex}", "?q=0100homeless", "?match=given_up"):
        assert rows(bound, query) == []
    page = bound.get("/events/").content.decode()
    assert "The newest came" not in page
    assert "/events/problems/" not in page
    for path in ("", "1/", "1/body/"):
        assert bound.get(f"/events/problems/{path}").status_code == 403


# --- Messages that are no events ---


def test_an_unreadable_message_is_listed_with_its_reason_and_never_its_body(sign_in: SignIn) -> None:
    problem = unreadable()
    unreadable()
    client = sign_in("Offload administrators")
    for path in ("/events/problems/", f"/events/problems/{problem.pk}/"):
        page = client.get(path).content.decode()
        assert "No JSON" in page
        assert "anna@example.org" not in page and "alert(1)" not in page
    assert 'data-label="Times" class="number">2<' in client.get("/events/problems/").content.decode()
    assert not AuditEntry.objects.exists()


def test_every_reason_of_the_reader_has_words() -> None:
    from pathlib import Path

    from emailoffload.feedback import inbox, parse

    codes = set()
    for module in (parse, inbox):
        text = Path(str(module.__file__)).read_text()
        codes |= set(re.findall(r'(?:Unreadable|_Problem)\(\s*"(\w+)"', text))
    assert len(codes) > 8
    assert codes == set(events.REASONS)


def test_the_body_is_text_that_runs_nowhere_and_each_look_is_audited(sign_in: SignIn) -> None:
    problem = unreadable()
    client = sign_in("Offload administrators")
    assert "iframe" not in client.get(f"/events/problems/{problem.pk}/").content.decode()
    assert (
        '<iframe class="mail" sandbox'
        in client.get(f"/events/problems/{problem.pk}/?show=1").content.decode()
    )
    response = client.get(f"/events/problems/{problem.pk}/body/")
    assert response.content == HOSTILE
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Content-Security-Policy"] == events.BODY_POLICY
    assert "sandbox" in events.BODY_POLICY and "default-src 'none'" in events.BODY_POLICY
    assert "no-store" in response["Cache-Control"]
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.object_type, entry.object_id) == (
        "view_content",
        "event_problem",
        str(problem.pk),
    )


def test_those_who_may_not_read_contents_do_not_get_the_body(sign_in: SignIn) -> None:
    problem = unreadable()
    auditor = sign_in("Auditors")
    page = auditor.get(f"/events/problems/{problem.pk}/?show=1").content.decode()
    assert "not what it says" in page and "iframe" not in page
    assert auditor.get(f"/events/problems/{problem.pk}/body/").status_code == 403
    assert not AuditEntry.objects.exists()


def test_a_body_that_is_gone_or_cannot_be_opened_says_so(sign_in: SignIn) -> None:
    problem = unreadable()
    client = sign_in("Offload administrators")
    EventProblem.objects.update(key_id="gone")
    assert "not among CONTENT_KEYS" in client.get(f"/events/problems/{problem.pk}/body/").content.decode()
    EventProblem.objects.update(body=None)
    assert "no longer stored" in client.get(f"/events/problems/{problem.pk}/?show=1").content.decode()
    assert "no longer stored" in client.get(f"/events/problems/{problem.pk}/body/").content.decode()
    assert not AuditEntry.objects.exists()


def test_without_unreadable_messages_the_page_says_that_all_is_well(sign_in: SignIn) -> None:
    client = sign_in("Offload administrators")
    assert "Every message so far could be read." in client.get("/events/problems/").content.decode()
    assert client.get(f"/events/problems/{2**70}/").status_code == 404
    assert not Event.objects.exists()
