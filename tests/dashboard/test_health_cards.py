"""Each thing that can be wrong has words and a cure, and the one line names the worst of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from emailoffload.dashboard import health_cards, health_ses, needs
from emailoffload.dashboard.health_cards import Health
from emailoffload.delivery import rate
from emailoffload.feedback import alarms, claimstop, queuestate
from emailoffload.outbox import shared
from emailoffload.outbox.models import Email, Lease, State
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.outbox.switches import Pause, set_pause
from tests.dashboard.conftest import SignIn, make_user
from tests.dashboard.factories import (
    make_attempt,
    make_claim,
    make_email,
    make_finding,
    make_row_error,
    make_run,
)
from tests.dashboard.reported import make_problem

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])
ACCOUNT = {
    "sending_enabled": True, "max_send_rate": 14.0, "max_24h": 50_000, "sent_24h": 1200, "production": True,
}  # fmt: skip
MINUTE = timedelta(minutes=1)


def ago(minutes: float) -> Any:
    return timezone.now() - minutes * MINUTE


def alive() -> None:
    """A site on which all is well."""
    Lease.objects.create(name="dispatch", beat_at=timezone.now())
    for kind in health_cards.KINDS:
        make_run(kind)
    shared.put(rate.ACCOUNT, {"account": ACCOUNT, "read_at": timezone.now().timestamp()})


def no_worker() -> None:
    Lease.objects.all().delete()
    for kind in health_cards.KINDS:
        make_run(kind, started_at=ago(60), finished_at=ago(60))


def late(minutes: float) -> Callable[[], object]:
    return lambda: make_email(EmailState.QUEUED, due_at=ago(minutes))


def queue(**values: Any) -> Callable[[], None]:
    return lambda: queuestate.save(queuestate.QueueState(**{
        name: ago(value) if name.endswith("_at") else value for name, value in values.items()
    }))  # fmt: skip


def account(**changes: Any) -> Callable[[], None]:
    return lambda: shared.put(rate.ACCOUNT, {"account": ACCOUNT | changes})


def stopped() -> None:
    shared.put(claimstop.NAME, {"at": timezone.now().isoformat(), "stopped": [["account", ""]]})


def breaker() -> None:
    shared.put("ses_breaker", {
        "code": "SendingPausedException", "why": "Resume sending in the SES console.", "open_until": 1, "times": 1,
        "since": ago(7).timestamp(),
    })  # fmt: skip


WRONG: dict[str, tuple[Callable[[], object], str, str, str]] = {
    "silent worker": (no_worker, "bad", "Worker: Silent. Its last sign of life:", "manage.py qcluster"),
    "both paused": (
        lambda: set_pause(Pause(True, True, "ada", "Upgrade")), "bad", "Pause: Claiming and sending are paused.",
        "By ada: Upgrade",
    ),
    "claims paused": (
        lambda: set_pause(Pause(True, False, "ada", "Upgrade")), "warn", "Pause: Claiming is paused.",
        "By ada: Upgrade",
    ),
    "breaker": (breaker, "bad", "Sending has stopped (SendingPausedException)", "Resume sending in the SES console."),
    "sending off": (account(sending_enabled=False), "bad", "Sending is switched off", "SES console"),
    "quota used up": (account(sent_24h=50_000), "warn", "50,000 of 50,000", "ask AWS for a higher quota"),
    "SES sandbox": (account(production=False), "warn", "1,200 of 50,000", "only verified addresses"),
    "late mail": (late(5), "warn", "is 5 minutes late", "cards Sending and Amazon SES"),
    "very late mail": (late(50), "bad", "is 50 minutes late", "cards Sending and Amazon SES"),
    "no claiming": (
        lambda: make_run(started_at=ago(30), finished_at=ago(30)), "warn",
        "No claiming pass begins. The last one began", "Restart the worker",
    ),
    "refused": (
        lambda: make_run(outcome="refused", message="The grants do not fit: run moodlegrants."), "bad",
        "Claiming: The last pass refused to work", "run moodlegrants",
    ),
    "failed": (lambda: make_run("dispatch", outcome="failed"), "bad", "Sending: The last pass failed", "doctor"),
    "row errors": (lambda: make_run(outcome="errors"), "warn", "could not handle some rows", "doctor"),
    "reputation": (stopped, "bad", "Only mails with credentials are claimed", "The page Reputation"),
    "alarm": (
        lambda: alarms.raise_alarm("fallbacks", "", "critical", "60 mails.", "See Fallbacks."), "bad",
        "One alarm is open: many mails do not go by the cloud", "See Fallbacks.",
    ),
    "queue cannot be read": (
        queue(error="The queue does not exist.", error_at=3, cure="Create it."), "bad",
        "The queue cannot be read: The queue does not exist.", "Create it.",
    ),
    "queue not read": (
        queue(polled_at=30), "warn", "The queue is not being read. The last time was", "Start the worker",
    ),
    "backlog": (
        queue(polled_at=0.5, event_at=1, drained_at=90, waiting=52_000), "warn", "52,000 events wait",
        "the database is too slow",
    ),
}  # fmt: skip


def line(client: Client) -> str:
    """What the one line says, as text."""
    html = client.get("/").content.decode()
    start = html.index('<div id="verdict"')
    text = re.sub(r"<[^>]*>", " ", html[start : html.index('<div id="live"')])
    return " ".join(text.replace("&#x27;", "'").split())


@pytest.fixture
def admin(sign_in: SignIn, settings: Any) -> Client:
    settings.SES_EVENTS_QUEUE_URL = "https://sqs.eu-west-1.amazonaws.com/1/events"
    settings.DEBUG = False
    alive()
    return sign_in("Offload administrators")


def test_all_is_well_is_said_where_all_is(admin: Client) -> None:
    assert line(admin) == "All is well."


@pytest.mark.parametrize("case", list(WRONG))
def test_what_is_wrong_is_named_in_the_line_with_its_cure(admin: Client, case: str) -> None:
    make, tone, words, cure = WRONG[case]
    make()
    said = line(admin)
    assert words in said and cure in said
    assert f'class="verdict {tone}"' in admin.get("/").content.decode()


def test_the_line_names_the_worst_thing_and_how_many_others_there_are(admin: Client) -> None:
    make_run("recover", outcome="interrupted")
    assert "more" not in line(admin)
    late(5)()
    assert "1 more thing is not well." in line(admin)
    no_worker()
    breaker()
    said = line(admin)
    assert said.startswith("Worker: Silent") and "2 more things are not well." in said
    assert '<details id="health-cards" open>' in admin.get("/").content.decode()


def test_every_card_has_a_place_in_the_order_and_every_bad_one_a_cure(admin: Client) -> None:
    for make, *_words in WRONG.values():
        Email.objects.all().delete()
        State.objects.exclude(name=rate.ACCOUNT).delete()
        make()
        html = admin.get("/").content.decode()
        for card in re.findall(r'<li class="card health (?:bad|warn)">(.*?)</li>', html, re.S):
            assert 'class="cure"' in card, card


def test_where_all_runs_but_mails_failed_the_line_does_not_say_that_all_is_well(admin: Client) -> None:
    make_email(EmailState.FAILED)
    assert line(admin).startswith("All runs well, but something needs a person: 1 failed")
    make_row_error()
    assert line(admin).startswith("All runs well, but 2 things need a person. The first: 1 failed")


def test_the_line_is_the_same_while_nothing_changes_and_another_when_something_does(admin: Client) -> None:
    cards = [Health("Worker", "bad", "Silent since", ago(5), "Start it.", "worker")]
    first = health_cards.verdict(cards, 0, "")
    assert first.key == health_cards.verdict([replace(cards[0], at=ago(4))], 0, "").key
    assert first.key != health_cards.verdict([replace(cards[0], tone="warn")], 0, "").key
    assert first.key != health_cards.verdict([*cards, replace(cards[0], code="ses")], 0, "").key


def test_a_cure_leads_only_where_the_reader_may_go(admin: Client, support: Client) -> None:
    set_pause(Pause(True, True, "ada", "Upgrade"))
    assert 'href="/pause/">Open Pause' in admin.get("/").content.decode()
    assert 'href="/pause/"' not in support.get("/").content.decode()


@pytest.mark.parametrize(
    ("queue_url", "topics", "words"),
    [
        ("", [], "Not set up"),
        ("", ["arn:aws:sns:eu-west-1:1:events"], "by the webhook"),
        ("x", [], "not been read yet"),
    ],
)
def test_how_events_come_is_said(settings: Any, queue_url: str, topics: list[str], words: str) -> None:
    settings.SES_EVENTS_QUEUE_URL, settings.SNS_TOPICS = queue_url, topics
    card = health_ses.events(timezone.now())
    assert words in card.text and card.tone in {"quiet", "good"}


def test_a_queue_that_is_read_says_when_the_last_event_came(settings: Any) -> None:
    settings.SES_EVENTS_QUEUE_URL = "x"
    queue(polled_at=0.5, event_at=2, drained_at=0.5)()
    card = health_ses.events(timezone.now())
    assert (card.tone, card.text) == ("good", "0 events wait. The last one came")
    assert abs(card.at - ago(2)) < MINUTE  # type: ignore[operator]


# --- what needs a person ---


def test_what_needs_a_person_is_in_the_order_of_urgency_each_with_a_cure() -> None:
    from emailoffload.outbox.models import RowError

    make_row_error()
    make_finding()
    make_problem()
    make_claim(state=ClaimState.RELEASING, settled_at=ago(120))
    make_email(EmailState.UNCERTAIN)
    make_email(EmailState.QUEUED, due_at=ago(10))
    make_email(EmailState.FAILED)
    found = needs.collect(make_user("superuser", "ada"), RowError.objects.all(), timezone.now())
    assert [task.text.split(" ")[0] for task in found] == [
        "failed:", "should", "uncertain:", "claim", "claim", "row", "message",
    ]  # fmt: skip
    assert all(task.cure and task.count.value == 1 for task in found)


def test_mails_that_are_late_are_listed_as_exactly_those(support: Client) -> None:
    make_email(EmailState.QUEUED, due_at=ago(10))
    make_email(EmailState.QUEUED)
    html = support.get("/").content.decode()
    match = re.search(r'<a href="([^"]+)"><strong>1</strong> should have left', html)
    assert match
    assert "1 email found" in support.get(match[1].replace("&amp;", "&")).content.decode()


# --- quota and rate ---


def gauge(**changes: Any) -> health_ses.Gauge:
    read = {"account": ACCOUNT | changes, "read_at": timezone.now().timestamp(), "granted": 0}
    shared.put(rate.ACCOUNT, read)
    found = health_ses.gauge(timezone.now())
    assert found
    return found


def test_no_gauge_is_drawn_of_an_account_that_was_never_read(support: Client) -> None:
    assert health_ses.gauge(timezone.now()) is None
    assert "has not read the SES account yet" in support.get("/").content.decode()


@pytest.mark.parametrize(
    ("sent", "tone", "free", "used"),
    [(0, "good", 50_000, "0.00"), (1200, "good", 48_800, "2.40"), (47_500, "warn", 2500, "95.00"),
     (50_000, "bad", 0, "100.00"), (60_000, "bad", 0, "100.00")],
)  # fmt: skip
def test_the_gauge_tells_how_much_of_the_quota_is_left(
    settings: Any, sent: int, tone: str, free: int, used: str
) -> None:
    settings.SENSITIVE_QUOTA_RESERVE = 5
    found = gauge(sent_24h=sent)
    assert (found.tone, found.free, found.used_percent, found.reserve, found.reserve_from) == (
        tone, free, used, 2500, "95.00",
    )  # fmt: skip


def test_mails_that_left_since_the_account_was_read_count_as_used() -> None:
    shared.put(rate.BUCKET, {"spent_until": 0, "granted": 300})
    assert gauge().used == 1500


def test_an_account_without_a_limit_has_no_bar(support: Client) -> None:
    assert gauge(max_24h=None).quota is None
    assert "the account has no daily limit" in support.get("/").content.decode()


def test_the_sending_rate_is_that_of_the_last_minute_and_of_amazon_only() -> None:
    email = make_email(EmailState.QUEUED)
    for number in range(30):
        make_attempt(email, number=number + 1, started_at=ago(0.1), route="ses")
    make_attempt(email, number=40, started_at=ago(0.1), route="smtp")
    make_attempt(email, number=41, started_at=ago(5), route="ses")
    assert health_ses.sending(timezone.now()) == 0.5


def test_a_rate_that_was_lowered_is_said(support: Client, settings: Any) -> None:
    settings.SES_MAX_SEND_RATE = 2
    assert gauge().throttled
    assert "At present we send at most 2" in support.get("/").content.decode()
