"""`/events/sns/`: what SNS posts is taken; all else is answered shortly and changes nothing."""

from __future__ import annotations

import datetime as dt
import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from emailoffload.dashboard import health_ses
from emailoffload.feedback import inbox, subscription
from emailoffload.feedback.models import Event, EventProblem
from emailoffload.outbox.models import State
from tests.feedback import attacks, pki
from tests.feedback.attacks import ATTACKS, LENGTHS, Attack, Sent
from tests.feedback.pki import TOPIC
from tests.feedback.site import Aws, aws_on_loopback

pytestmark = [pytest.mark.mariadb, pytest.mark.django_db]
URL = "/events/sns/"
DELIVERY = (
    '{"eventType": "Delivery", "mail": {"messageId": "0102-abc", "timestamp": "2026-05-03T10:00:00.000Z",'
    ' "source": "moodle@example.org", "destination": ["ada@example.org"]},'
    ' "delivery": {"timestamp": "2026-05-03T10:00:02.000Z", "recipients": ["ada@example.org"]}}'
)


@pytest.fixture
def amazon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Any) -> Iterator[Aws]:
    """SNS's host on loopback, two topics of ours."""
    settings.SNS_TOPICS = [TOPIC, attacks.OTHER_TOPIC]
    with aws_on_loopback(monkeypatch, tmp_path) as found:
        yield found


@pytest.fixture
def sns_api(monkeypatch: pytest.MonkeyPatch, aws_server: str) -> Any:
    """SNS's API, with a topic of ours."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SNS", aws_server)
    client = boto3.client("sns", region_name=pki.REGION)
    client.create_topic(Name=TOPIC.rpartition(":")[2])
    return client


def post(sent: Sent, **extra: Any) -> Any:
    """Post it as SNS would: no cookie, no token of ours."""
    named = {**sent.all_headers}
    content_type = named.pop("Content-Type", "")
    extra["CONTENT_LENGTH"] = str(len(sent.body)) if sent.declared is None else sent.declared
    extra["CONTENT_TYPE"] = content_type
    # As a web server gives it: a stream that ends, whatever length was declared.
    extra["wsgi.input"] = io.BytesIO(sent.body)
    client = Client(enforce_csrf_checks=True)
    return client.generic("POST", URL, sent.body, content_type, headers=named, **extra)


@contextmanager
def nothing_written() -> Iterator[None]:
    """Within the block the database is not even asked."""
    with CaptureQueriesContext(connection) as queries:
        yield
    assert [query["sql"] for query in queries] == []


# --- What is taken ---


def test_an_event_is_stored_with_the_way_it_came(amazon: Aws) -> None:
    answer = post(Sent(amazon.sns.notification(DELIVERY)))
    assert (answer.status_code, answer.content) == (200, b"OK\n")
    (event,) = Event.objects.all()
    assert (event.type, event.address, event.origin) == ("delivery", "ada@example.org", "webhook")


def test_a_post_that_comes_again_is_answered_well_and_changes_nothing(amazon: Aws) -> None:
    sent = Sent(amazon.sns.notification(DELIVERY))
    assert [post(sent).status_code for _ in range(3)] == [200, 200, 200]
    assert Event.objects.count() == 1
    assert not EventProblem.objects.exists()


def test_a_verified_post_that_is_no_event_is_kept_as_a_problem_and_acknowledged(amazon: Aws) -> None:
    assert post(Sent(amazon.sns.notification("hello"))).status_code == 200
    (problem,) = EventProblem.objects.all()
    assert (problem.origin, problem.times) == ("webhook", 1)
    assert not Event.objects.exists()


def test_sns_posts_again_what_the_database_did_not_take(amazon: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(messages: Any) -> None:
        raise OperationalError(2006, "secret@example.org has gone away")

    monkeypatch.setattr(inbox, "receive", away)
    answer = post(Sent(amazon.sns.notification(DELIVERY)))
    assert (answer.status_code, answer.content) == (503, b"Try again.\n")


def test_sns_posts_again_what_could_not_be_checked(amazon: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    amazon.pages.clear()
    amazon.pages[amazon.certificate_url.partition(".com")[2]] = pki.Answer(b"", "503 Slow Down")
    with nothing_written():
        assert post(Sent(amazon.sns.notification(DELIVERY))).status_code == 503


# --- What is not ---


@pytest.mark.parametrize("attack", [*ATTACKS, *LENGTHS], ids=lambda attack: attack.name)
def test_an_attack_is_refused_with_one_line_in_the_log_and_changes_nothing(
    amazon: Aws, attack: Attack, caplog: pytest.LogCaptureFixture
) -> None:
    sent = attack.make(amazon)
    with nothing_written(), caplog.at_level(logging.INFO, logger="emailoffload"):
        answer = post(sent)
    assert (answer.status_code, answer.content) == (403, b"Refused.\n")
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("emailoffload")]
    assert len(ours) == 1 and f"refused ({attack.code})" in ours[0]
    assert not answer.cookies


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_posts_are_looked_at(amazon: Aws, method: str) -> None:
    answer = Client().generic(method, URL, pki.body(amazon.sns.notification(DELIVERY)), "text/plain")
    assert (answer.status_code, answer["Allow"]) == (405, "POST")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_without_a_topic_the_page_does_not_exist(amazon: Aws, settings: Any, method: str) -> None:
    settings.SNS_TOPICS = []
    sent = Sent(amazon.sns.notification(DELIVERY))
    with nothing_written():
        answer = Client().generic(method, URL, sent.body, "text/plain", headers=sent.all_headers)
    assert answer.status_code == 404
    assert amazon.looked_up == []


# --- Subscriptions ---


def test_a_subscription_is_confirmed_through_the_api_and_no_posted_address_is_fetched(
    amazon: Aws, sns_api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    record_calls(monkeypatch, asked)
    internal = "http://169.254.169.254/latest/meta-data/iam/security-credentials/"
    sent = Sent(amazon.sns.confirmation(SubscribeURL=internal, Token="abc"))
    assert post(sent).status_code == 200
    assert asked == [{"TopicArn": TOPIC, "Token": "abc", "AuthenticateOnUnsubscribe": "true"}]
    assert amazon.looked_up == [f"{pki.HOST}:443"]
    standing = subscription.standings()[TOPIC]
    assert standing.state == "active"
    assert standing.detail.startswith(f"{TOPIC}:")


def record_calls(monkeypatch: pytest.MonkeyPatch, into: list[dict[str, Any]]) -> None:
    """Note what is asked of ConfirmSubscription; it is asked all the same."""
    make: Callable[..., Any] = boto3.session.Session.client

    def client(self: Any, *args: Any, **kwargs: Any) -> Any:
        made = make(self, *args, **kwargs)
        made.meta.events.register(
            "provide-client-params.sns.ConfirmSubscription",
            lambda params, **event: into.append(dict(params)),
        )
        return made

    monkeypatch.setattr(boto3.session.Session, "client", client)


def test_a_subscription_that_aws_does_not_let_us_confirm_is_put_on_record_and_asked_for_again(
    amazon: Aws, monkeypatch: pytest.MonkeyPatch, aws_server: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SNS", aws_server)
    unknown = attacks.OTHER_TOPIC
    answer = post(Sent(amazon.sns.confirmation(TopicArn=unknown)))
    assert answer.status_code == 503
    standing = subscription.standings()[unknown]
    assert (standing.state, standing.detail) == ("refused", "NotFound")


def test_the_end_of_a_subscription_is_put_on_record_and_nothing_is_subscribed_again(
    amazon: Aws, sns_api: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[dict[str, Any]] = []
    record_calls(monkeypatch, asked)
    assert post(Sent(amazon.sns.confirmation("UnsubscribeConfirmation"))).status_code == 200
    assert subscription.standings()[TOPIC].state == "ended"
    assert asked == []
    assert "has ended" in caplog.text


def test_an_old_word_about_a_subscription_that_comes_again_says_nothing_new(
    amazon: Aws, sns_api: Any
) -> None:
    earlier = pki.timestamp(-dt.timedelta(minutes=20))
    ended = Sent(amazon.sns.confirmation("UnsubscribeConfirmation", Timestamp=earlier))
    post(ended)
    post(Sent(amazon.sns.confirmation()))
    before = State.objects.get(name="webhook").value
    assert post(ended).status_code == 200
    assert State.objects.get(name="webhook").value == before
    assert subscription.standings()[TOPIC].state == "active"


def test_each_topic_has_a_standing_of_its_own(amazon: Aws, sns_api: Any) -> None:
    post(Sent(amazon.sns.confirmation()))
    post(Sent(amazon.sns.confirmation("UnsubscribeConfirmation", TopicArn=attacks.OTHER_TOPIC)))
    found = subscription.standings()
    assert {arn: standing.state for arn, standing in found.items()} == {
        TOPIC: "active",
        attacks.OTHER_TOPIC: "ended",
    }
    assert all(abs(timezone.now() - each.since) < dt.timedelta(minutes=1) for each in found.values())


def test_the_overview_says_which_subscription_has_ended(amazon: Aws, settings: Any) -> None:
    assert health_ses.webhook() == []
    post(Sent(amazon.sns.confirmation("UnsubscribeConfirmation")))
    (line,) = health_ses.webhook()
    assert (line.tone, "email-offload-events has ended" in line.text) == ("bad", True)
    settings.SNS_TOPICS = [attacks.OTHER_TOPIC]
    assert health_ses.webhook() == []
