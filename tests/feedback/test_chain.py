"""The doctor follows the way of SES's events, link by link, and sends test mails only when asked to."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import boto3
import pytest
from django.core.management import call_command
from django.utils import timezone

from emailoffload.actions.diagnosis import events, simulator
from emailoffload.actions.diagnosis.finding import Finding, Found
from emailoffload.actions.sessetup import plan
from emailoffload.actions.sessetup.plan import Choice
from emailoffload.delivery import message, ses
from emailoffload.feedback import inbox, queue, queuestate, testmail
from emailoffload.feedback.inbox import Message
from emailoffload.feedback.models import Event, ReputationHour, Suppression
from emailoffload.feedback.queuestate import QueueState
from emailoffload.outbox.models import State
from emailoffload.sandbox.ses_server import SandboxSES
from tests.conftest import Moodle
from tests.outbox import factory

pytestmark = [pytest.mark.mariadb, pytest.mark.django_db(databases=["default", "moodle"])]
REGION, ACCOUNT = "eu-west-1", "123456789012"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:email-offload-events"


@dataclass
class Chain:
    """All of it set up by `sessetup`, and well."""

    ses: SandboxSES
    choice: Choice
    sqs: Any
    settings: Any

    def url(self, name: str = "") -> str:
        """The address of the queue, or of another one."""
        return str(self.sqs.get_queue_url(QueueName=name or self.choice.name)["QueueUrl"])

    def change_queue(self, **attributes: str) -> None:
        """Give the queue other attributes. (The emulator drops a policy that is not named.)"""
        kept = {"Policy": json.dumps(plan.queue_policy(self.choice))}
        self.sqs.set_queue_attributes(QueueUrl=self.url(), Attributes={**kept, **attributes})

    def publish(self, **changes: Any) -> None:
        """The configuration set has one event destination, this one."""
        wanted = {**plan.event_destination(self.choice), **changes}
        self.ses.api.event_destinations[self.choice.configuration_set] = {self.choice.name: wanted}


@pytest.fixture
def chain(aws_server: str, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[Chain]:
    """Configuration set, topic, queue and dead letter queue as `sessetup --apply` makes them."""
    for service in ("SQS", "SNS", "STS"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", aws_server)
    name = f"chain-{uuid.uuid4().hex[:12]}"
    with SandboxSES() as sandbox:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", sandbox.url)
        ses.forget_client()
        queue.forget_client()
        call_command("sessetup", "--apply", "--region", REGION, "--name", name, stdout=StringIO())
        choice = Choice(REGION, ACCOUNT, name=name)
        found = Chain(sandbox, choice, boto3.client("sqs", region_name=REGION), settings)
        settings.SES_CONFIGURATION_SET = "email-offload"
        settings.SES_EVENTS_QUEUE_URL = found.url()
        settings.SNS_TOPICS = []
        yield found
    ses.forget_client()
    queue.forget_client()


@pytest.fixture
def ways(settings: Any) -> Any:
    """Settings with a queue and a topic; nothing answers there, and nothing is asked."""
    settings.SES_CONFIGURATION_SET = "email-offload"
    settings.SES_EVENTS_QUEUE_URL = "http://127.0.0.1:9/123456789012/events"
    settings.SNS_TOPICS = [TOPIC]
    return settings


@pytest.fixture
def hook(chain: Chain) -> Chain:
    """The same site with the webhook in place of the queue."""
    chain.settings.SES_EVENTS_QUEUE_URL = None
    chain.settings.SNS_TOPICS = [chain.choice.topic_arn]
    return chain


def standing(arn: str, state: str, detail: str = "") -> None:
    """How the subscription of a topic stands."""
    since = timezone.now().isoformat()
    value = {arn: {"state": state, "since": since, "detail": detail}}
    State.objects.update_or_create(name="webhook", defaults={"value": value})


def verdicts() -> dict[str, Found]:
    """What each look finds, by its id."""
    return {look.id: look.take() for look in events.LOOKS}


# --- The chain as it is ---


@pytest.mark.parametrize("way", ["chain", "hook"])
def test_a_chain_that_is_well_has_no_finding(way: str, request: pytest.FixtureRequest) -> None:
    site = request.getfixturevalue(way)
    queuestate.save(QueueState(polled_at=timezone.now(), drained_at=timezone.now()))
    standing(site.choice.topic_arn, "active")
    assert {name: found for name, found in verdicts().items() if found[0] != "ok"} == {}


def test_a_site_without_events_is_warned_once(ways: Any) -> None:
    ways.SES_EVENTS_QUEUE_URL, ways.SNS_TOPICS = None, []
    found = verdicts()
    assert [name for name, each in found.items() if each[0] != "ok"] == ["events.configured"]
    assert "sessetup" in found["events.configured"][2]


def test_without_a_configuration_set_no_event_can_come(ways: Any) -> None:
    ways.SES_CONFIGURATION_SET = ""
    assert events.configured()[0] == "problem"


def test_a_topic_that_is_none_is_named(ways: Any) -> None:
    ways.SNS_TOPICS = ["email-offload-events"]
    verdict, text, _ = events.configured()
    assert (verdict, "email-offload-events" in text) == ("problem", True)


def test_a_configuration_set_that_publishes_nowhere_is_a_problem(chain: Chain) -> None:
    chain.ses.api.event_destinations.clear()
    assert events.destination()[0] == "problem"
    chain.publish(Enabled=False)
    assert events.destination()[0] == "problem"


def test_a_kind_of_event_that_is_not_published_is_named(chain: Chain) -> None:
    chain.publish(MatchingEventTypes=["SEND", "DELIVERY", "BOUNCE", "COMPLAINT", "REJECT"])
    verdict, text, _ = events.destination()
    assert verdict == "warning"
    assert "DELIVERY_DELAY, RENDERING_FAILURE" in text


def test_a_topic_that_the_webhook_does_not_take_is_a_problem(hook: Chain) -> None:
    hook.publish(SnsDestination={"TopicArn": f"{hook.choice.topic_arn}-other"})
    assert events.destination()[0] == "problem"


def test_eventbridge_is_a_way_to_the_queue_too(chain: Chain) -> None:
    bus = f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default"
    chain.publish(SnsDestination={}, EventBridgeDestination={"EventBusArn": bus})
    assert events.destination()[0] == "ok"
    assert events.queue_reachable()[0] == "ok"


def test_a_set_that_does_not_exist_is_a_problem_with_its_cure(chain: Chain) -> None:
    chain.settings.SES_CONFIGURATION_SET = "other"
    verdict, text, cure = events.destination()
    assert (verdict, "other" in text, "sessetup" in cure) == ("problem", True, True)


def test_a_right_that_is_missing_is_unknown_and_named(chain: Chain) -> None:
    chain.ses.fault(mode="denied", operation="GetConfigurationSetEventDestinations")
    verdict, _, cure = events.destination()
    assert (verdict, "ses:GetConfigurationSetEventDestinations" in cure) == ("unknown", True)


def test_a_queue_that_does_not_exist_is_a_problem(chain: Chain) -> None:
    chain.settings.SES_EVENTS_QUEUE_URL = f"{chain.url()}-gone"
    assert events.queue_reachable()[0] == "problem"


def test_a_queue_whose_policy_does_not_let_the_topic_send_is_named(chain: Chain) -> None:
    other = plan.queue_policy(Choice(REGION, ACCOUNT, name="other"))
    chain.change_queue(Policy=json.dumps(other))
    assert events.queue_reachable()[0] == "warning"


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        (lambda now: QueueState(), "warning"),
        (lambda now: QueueState(polled_at=now - timedelta(hours=1)), "problem"),
        (lambda now: QueueState(polled_at=now, error="It may not be read.", cure="Allow it."), "problem"),
        (lambda now: QueueState(polled_at=now, waiting=7), "warning"),
        (lambda now: QueueState(polled_at=now, waiting=7, drained_at=now - timedelta(minutes=20)), "warning"),
        (lambda now: QueueState(polled_at=now, waiting=7, drained_at=now - timedelta(minutes=2)), "ok"),
    ],
    ids=["never read", "not read any more", "unreadable", "never empty", "long not empty", "just behind"],
)
def test_events_that_nobody_reads_or_that_pile_up_are_a_finding(
    ways: Any, state: Callable[[datetime], QueueState], verdict: str
) -> None:
    queuestate.save(state(timezone.now()))
    assert events.backlog()[0] == verdict


def test_a_dead_letter_is_a_finding(chain: Chain) -> None:
    assert events.dead_letters()[0] == "ok"
    chain.sqs.send_message(QueueUrl=chain.url(chain.choice.dead_name), MessageBody="{}")
    verdict, text, _ = events.dead_letters()
    assert (verdict, chain.choice.dead_name in text) == ("warning", True)


@pytest.mark.parametrize(
    ("state", "verdict"), [("active", "ok"), ("ended", "problem"), ("refused", "problem"), ("", "warning")]
)
def test_a_subscription_that_is_not_there_is_a_finding(ways: Any, state: str, verdict: str) -> None:
    if state:
        standing(TOPIC, state)
    assert events.webhook()[0] == verdict


def test_mails_without_events_are_a_finding_after_an_hour(ways: Any) -> None:
    (email,) = factory.queue_emails(1)
    email.accepted_at = timezone.now() - timedelta(minutes=30)
    email.save()
    assert events.last_event()[0] == "ok"
    email.accepted_at = timezone.now() - timedelta(hours=2)
    email.save()
    assert events.last_event()[0] == "warning"
    event(testmail.new_ref(), "delivery")
    assert events.last_event()[0] == "ok"


def event(ref: str, kind: str, at: str = "2026-05-03T10:00:02.000Z") -> None:
    """An event of SES's about a mail with this reference arrives."""
    address = "bounce@simulator.amazonses.com"
    details: dict[str, Any] = {
        "delivery": ("Delivery", {"recipients": [address]}),
        "bounce": (
            "Bounce",
            {
                "bounceType": "Permanent",
                "bounceSubType": "General",
                "bouncedRecipients": [{"emailAddress": address}],
            },
        ),
        "complaint": ("Complaint", {"complainedRecipients": [{"emailAddress": address}]}),
    }
    name, detail = details[kind]
    mail = {
        "messageId": f"0102-{ref}",
        "timestamp": at,
        "source": "moodle@example.org",
        "destination": [address],
        "tags": {message.TAG: [ref]},
    }
    body = {"eventType": name, "mail": mail, kind: {"timestamp": at, **detail}}
    inbox.receive([Message(json.dumps(body).encode())])


# --- Test mails ---


def run(arrive: Any, wait: float = 5.0) -> dict[str, Finding]:
    """The findings by the part that they are about; `arrive` is what happens while the doctor waits."""
    found = list(simulator.send_and_watch(wait, pause=lambda seconds: arrive()))
    return {each.id.removeprefix("send_test."): each for each in found}


def refs(chain: Chain) -> dict[str, str]:
    """The reference of each test mail that SES has taken, by the part of its address before the @."""
    return {each.recipients[0].partition("@")[0]: each.tags[message.TAG] for each in chain.ses.messages}


def test_the_events_of_all_test_mails_are_waited_for(moodle: Moodle, chain: Chain) -> None:
    def arrive() -> None:
        for part, ref in refs(chain).items():
            event(ref, testmail.EXPECTED[f"{part}@simulator.amazonses.com"].value)

    found = run(arrive)
    assert list(found) == ["accepted", "success", "bounce", "complaint", "suppressionlist"]
    assert {each.verdict for each in found.values()} == {"ok"}


def test_each_link_that_is_broken_is_told_from_the_others(moodle: Moodle, chain: Chain) -> None:
    def arrive() -> None:
        event(refs(chain)["success"], "delivery")

    found = run(arrive, wait=0.01)
    assert {part: each.verdict for part, each in found.items()} == {
        "accepted": "ok",
        "success": "ok",
        "bounce": "problem",
        "complaint": "problem",
        "suppressionlist": "problem",
    }
    assert "Others came" in found["bounce"].cure
    nothing = run(lambda: None, wait=0.01)
    assert "No event came at all" in nothing["success"].cure


def test_what_ses_refuses_ends_the_test(moodle: Moodle, chain: Chain) -> None:
    chain.ses.api.sending_enabled = False
    found = run(lambda: None)
    assert list(found) == ["accepted"]
    assert found["accepted"].verdict == "problem"


def test_without_a_way_for_events_nothing_is_waited_for(moodle: Moodle, chain: Chain) -> None:
    chain.settings.SES_EVENTS_QUEUE_URL = None
    assert [each.verdict for each in run(lambda: None).values()] == ["ok", "warning"]


def test_the_test_mails_count_for_nothing() -> None:
    for kind in ("bounce", "complaint", "delivery"):
        event(testmail.new_ref(), kind)
    assert Event.objects.filter(noted=True, match_again_at=None).count() == 3
    assert not Suppression.objects.exists()
    assert not ReputationHour.objects.exists()


def test_no_mails_reference_looks_like_a_test_mails() -> None:
    assert not any(testmail.is_test(uuid.uuid4().hex) for _ in range(100))
    assert testmail.is_test(testmail.new_ref())
    assert uuid.UUID(testmail.new_ref())


def test_nothing_is_sent_unless_it_is_asked_for(moodle: Moodle, chain: Chain) -> None:
    for options in ((), ("--send-test", "--wait", "0")):
        with pytest.raises(SystemExit):
            call_command("doctor", "--json", *options, stdout=StringIO())
        assert len(chain.ses.messages) == (len(testmail.EXPECTED) if options else 0)
