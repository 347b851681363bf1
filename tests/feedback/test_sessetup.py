"""`manage.py sessetup` says what AWS needs, makes it with the fewest rights, and changes nothing the second time."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from django.core.management import CommandError, call_command
from moto.sns.exceptions import SNSException
from moto.sns.responses import SNSResponse

from emailoffload.actions.sessetup import plan, steps
from emailoffload.actions.sessetup.plan import Choice
from emailoffload.feedback import queue
from emailoffload.sandbox.ses_server import SandboxSES
from tests.feedback.cloudformation import Template

ACCOUNT, REGION = "123456789012", "eu-west-1"
TEMPLATE = Path(__file__).resolve().parents[2] / "docs" / "ses-events.template.yaml"
WEBHOOK = "https://offload.example.org/events/sns/"


@dataclass
class Site:
    """An AWS account of its own: SES is our sandbox, SQS, SNS and STS are moto's."""

    ses: SandboxSES
    name: str

    def client(self, service: str) -> Any:
        """The SDK's client, as anybody would make it."""
        return boto3.client(service, region_name=REGION)  # type: ignore[call-overload]

    def run(self, *options: str, fails: bool = False) -> dict[str, Any]:
        """The command's result as JSON, and that it ends with the right status."""
        out = StringIO()
        arguments = ["--json", "--region", REGION, "--name", self.name, *options]
        if fails:
            with pytest.raises(SystemExit) as stopped:
                call_command("sessetup", *arguments, stdout=out)
            assert stopped.value.code == 1
        else:
            call_command("sessetup", *arguments, stdout=out)
        return dict(json.loads(out.getvalue()))

    def states(self, *options: str, fails: bool = False) -> list[str]:
        """How each thing stands after the command."""
        return [step["state"] for step in self.run(*options, fails=fails)["steps"]]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, aws_server: str) -> Iterator[Site]:
    """An account in which nothing of ours exists yet."""
    for service in ("SQS", "SNS", "STS"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", aws_server)
    tell: Any = SNSResponse.get_topic_attributes

    def with_signature_version(self: Any) -> Any:
        """moto keeps the signature version and does not tell it; SNS does, and it is 1 unless told otherwise."""
        answer = tell(self)
        topic = self.backend.get_topic(self._get_param("TopicArn"))
        answer.result["Attributes"]["SignatureVersion"] = getattr(topic, "signature_version", "1")
        return answer

    monkeypatch.setattr(SNSResponse, "get_topic_attributes", with_signature_version)
    with SandboxSES() as ses:
        ses.api.configuration_sets.clear()
        monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", ses.url)
        yield Site(ses, f"offload-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers: whoever asks fails."""
    for service in ("SQS", "SNS", "STS", "SESV2"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", "http://127.0.0.1:1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)


def choice(site: Site, **changes: Any) -> Choice:
    """What the command is told."""
    return Choice(**{"region": REGION, "account": ACCOUNT, "name": site.name, **changes})


# --- Printing ---


def test_printing_asks_aws_nothing_and_needs_no_credentials(no_network: None) -> None:
    out = StringIO()
    call_command("sessetup", "--region", REGION, stdout=out)
    text = out.getvalue()
    for operation in ("CreateConfigurationSet", "CreateTopic", "CreateQueue", "Subscribe"):
        assert operation in text
    assert f"SES_EVENTS_QUEUE_URL=https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/email-offload-events" in text


def test_what_is_printed_is_what_is_made(site: Site) -> None:
    printed = site.run("--account", ACCOUNT)
    assert site.run("--apply")["calls"] == printed["calls"]


def test_the_settings_name_the_set_that_the_site_uses_already(no_network: None, settings: Any) -> None:
    settings.SES_CONFIGURATION_SET = "ours"
    out = StringIO()
    call_command("sessetup", "--json", "--region", REGION, stdout=out)
    assert json.loads(out.getvalue())["settings"]["SES_CONFIGURATION_SET"] == "ours"


@pytest.mark.parametrize(
    "url",
    [
        "http://offload.example.org/events/sns/",
        "https://offload.example.org/",
        "https:///events/sns/",
        "offload.example.org/events/sns/",
    ],
)
def test_a_webhook_that_sns_could_not_post_to_is_refused(no_network: None, url: str) -> None:
    with pytest.raises(CommandError) as refused:
        call_command("sessetup", "--region", REGION, "--webhook", url)
    assert refused.value.returncode == 2


# --- Making ---


def test_it_is_made_once_and_the_second_time_nothing_changes(site: Site) -> None:
    assert site.states("--check", fails=True) == ["missing"] * 6
    assert site.states("--apply") == ["made"] * 6
    assert site.states("--apply") == ["exists"] * 6
    assert site.states("--check") == ["exists"] * 6


def test_checking_makes_nothing(site: Site) -> None:
    site.run("--check", fails=True)
    assert site.ses.api.configuration_sets == {}
    assert site.states("--check", fails=True) == ["missing"] * 6


def test_an_event_that_ses_publishes_arrives_in_the_queue_as_it_was(site: Site, settings: Any) -> None:
    site.run("--apply")
    site.client("sns").publish(TopicArn=choice(site).topic_arn, Message='{"eventType": "Send"}')
    url = site.client("sqs").get_queue_url(QueueName=site.name)["QueueUrl"]
    settings.SES_EVENTS_QUEUE_URL = url
    queue.forget_client()
    assert [taken.body for taken in queue.take(0)] == [b'{"eventType": "Send"}']
    queue.forget_client()


def test_opens_and_clicks_are_asked_for_only_on_request(site: Site) -> None:
    site.run("--apply")
    made = site.ses.api.event_destinations["email-offload"][site.name]
    assert {"OPEN", "CLICK"}.isdisjoint(made["MatchingEventTypes"])
    assert site.states("--apply", "--opens-and-clicks")[-1] == "changed"
    made = site.ses.api.event_destinations["email-offload"][site.name]
    assert {"OPEN", "CLICK", "BOUNCE"} <= set(made["MatchingEventTypes"])


def test_what_differs_is_named_and_put_right(site: Site) -> None:
    site.run("--apply")
    url = site.client("sqs").get_queue_url(QueueName=site.name)["QueueUrl"]
    site.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "5", "Policy": ""})
    site.client("sns").set_topic_attributes(
        TopicArn=choice(site).topic_arn, AttributeName="SignatureVersion", AttributeValue="1"
    )
    found = {
        (step["what"], step["name"]): step["differing"] for step in site.run("--check", fails=True)["steps"]
    }
    assert found["queue", site.name] == ["Policy", "VisibilityTimeout"]
    assert found["topic", site.name] == ["SignatureVersion"]
    assert sorted(site.states("--apply")) == ["changed"] * 2 + ["exists"] * 4
    assert site.states("--check") == ["exists"] * 6


def test_rights_that_somebody_else_gave_stay_and_are_named(site: Site) -> None:
    site.run("--apply")
    topic = choice(site).topic_arn
    foreign = {
        "Sid": "Billing",
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": "sns:Publish",
        "Resource": topic,
    }
    site.client("sns").set_topic_attributes(
        TopicArn=topic,
        AttributeName="Policy",
        AttributeValue=json.dumps({"Version": "2012-10-17", "Statement": [foreign]}),
    )
    step = site.run("--apply")["steps"][1]
    assert (step["state"], step["note"]) == ("changed", "its policy also has: Billing")
    held = json.loads(site.client("sns").get_topic_attributes(TopicArn=topic)["Attributes"]["Policy"])
    assert held["Statement"] == [foreign, *plan.topic_policy(choice(site))["Statement"]]
    assert site.states("--apply") == ["exists"] * 6


def test_a_policy_that_aws_writes_in_another_way_is_the_same_policy(site: Site) -> None:
    ours = plan.topic_policy(choice(site))
    statement = {**ours["Statement"][0], "Action": ["sns:Publish"]}
    assert steps._merged(json.dumps({**ours, "Statement": statement}), ours) == (None, [])


def test_a_webhook_is_subscribed_in_place_of_a_queue(site: Site) -> None:
    result = site.run("--apply", "--webhook", WEBHOOK)
    assert [step["what"] for step in result["steps"]] == [
        "configuration set",
        "topic",
        "subscription",
        "event destination",
    ]
    assert result["settings"]["SNS_TOPICS"] == choice(site).topic_arn
    page = site.client("sns").list_subscriptions_by_topic(TopicArn=choice(site).topic_arn)
    assert [(each["Protocol"], each["Endpoint"]) for each in page["Subscriptions"]] == [("https", WEBHOOK)]
    with pytest.raises(ClientError):
        site.client("sqs").get_queue_url(QueueName=site.name)


def test_a_right_that_is_missing_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    class Denied(SNSException):
        code = "AuthorizationError"

    def denied(self: Any) -> Any:
        raise Denied("User arn:aws:iam::1:user/x is not authorized")

    monkeypatch.setattr(SNSResponse, "create_topic", denied)
    result = site.run("--apply", fails=True)
    assert result["refused"] == "The AWS credentials lack the right sns:CreateTopic."
    assert result["cure"]
    assert [step["state"] for step in result["steps"]] == ["made"]


def test_credentials_that_are_missing_are_one_finding(no_network: None) -> None:
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("sessetup", "--check", "--region", REGION, stdout=out)
    assert "credentials" in out.getvalue()


# --- The fewest rights ---


def test_only_ses_may_publish_and_only_for_our_configuration_set() -> None:
    (statement,) = plan.topic_policy(Choice(REGION, ACCOUNT))["Statement"]
    assert statement["Principal"] == {"Service": "ses.amazonaws.com"}
    assert statement["Condition"]["StringEquals"] == {
        "AWS:SourceAccount": ACCOUNT,
        "AWS:SourceArn": f"arn:aws:ses:{REGION}:{ACCOUNT}:configuration-set/email-offload",
    }


def test_only_the_topic_may_send_to_the_queue() -> None:
    (statement,) = plan.queue_policy(Choice(REGION, ACCOUNT))["Statement"]
    assert (statement["Principal"], statement["Action"]) == (
        {"Service": "sns.amazonaws.com"},
        "sqs:SendMessage",
    )
    assert statement["Condition"] == {
        "ArnEquals": {"aws:SourceArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:email-offload-events"}
    }


@pytest.mark.parametrize("webhook", ["", WEBHOOK])
def test_the_products_own_rights_are_listed_one_by_one(webhook: str) -> None:
    statements = plan.rights(Choice(REGION, ACCOUNT, webhook=webhook, identities=("example.org",)))[
        "Statement"
    ]
    actions = [action for each in statements for action in each["Action"]]
    assert all("*" not in action for action in actions)
    assert not any(action.startswith("sqs:" if webhook else "sns:") for action in actions)
    # Of the account as a whole only what has no resource in IAM.
    assert [each["Sid"] for each in statements if each["Resource"] == "*"] == ["AccountAndSuppressionList"]
    (send,) = [each for each in statements if "ses:SendEmail" in each["Action"]]
    assert send["Resource"][0] == f"arn:aws:ses:{REGION}:{ACCOUNT}:identity/example.org"


@pytest.mark.parametrize(
    ("region", "arn", "host"),
    [
        ("cn-north-1", "arn:aws-cn:sns:cn-north-1", "sqs.cn-north-1.amazonaws.com.cn"),
        ("us-gov-west-1", "arn:aws-us-gov:sns:us-gov-west-1", "sqs.us-gov-west-1.amazonaws.com"),
    ],
)
def test_other_partitions_have_names_of_their_own(region: str, arn: str, host: str) -> None:
    found = Choice(region, ACCOUNT)
    assert found.topic_arn.startswith(arn)
    assert host in found.queue_url


# --- The CloudFormation template ---


def made_by_template(template: Template) -> dict[str, Any]:
    """What a template makes, in the words of the SDK's calls, by operation and name."""
    made: dict[str, Any] = {}
    resources = template.resources()
    policies = {
        name: each["Properties"]["PolicyDocument"]
        for each in resources.values()
        if each["Type"].endswith("Policy")
        for name in each["Properties"].get("Topics", each["Properties"].get("Queues", ["rights"]))
    }
    account = template.values["AWS::AccountId"]
    for resource in resources.values():
        values = resource["Properties"]
        match resource["Type"]:
            case "AWS::SES::ConfigurationSet":
                made["CreateConfigurationSet"] = {"ConfigurationSetName": values["Name"]}
            case "AWS::SNS::Topic":
                arn = f"arn:aws:sns:{REGION}:{account}:{values['TopicName']}"
                made["CreateTopic"] = {
                    "Name": values["TopicName"],
                    "Attributes": {"SignatureVersion": values["SignatureVersion"], "Policy": policies[arn]},
                }
            case "AWS::SQS::Queue":
                url = f"https://sqs.{REGION}.amazonaws.com/{account}/{values['QueueName']}"
                attributes = {name: text(value) for name, value in values.items() if name != "QueueName"} | (
                    {"Policy": policies[url]} if url in policies else {}
                )
                made[f"CreateQueue {values['QueueName']}"] = {
                    "QueueName": values["QueueName"],
                    "Attributes": attributes,
                }
            case "AWS::SNS::Subscription":
                raw = values.pop("RawMessageDelivery", None)
                made["Subscribe"] = values | (
                    {"Attributes": {"RawMessageDelivery": text(raw)}} if raw is not None else {}
                )
            case "AWS::SES::ConfigurationSetEventDestination":
                destination = values["EventDestination"]
                made["CreateConfigurationSetEventDestination"] = {
                    "ConfigurationSetName": values["ConfigurationSetName"],
                    "EventDestinationName": destination["Name"],
                    "EventDestination": {
                        "Enabled": destination["Enabled"],
                        "MatchingEventTypes": [
                            in_capitals(name) for name in destination["MatchingEventTypes"]
                        ],
                        "SnsDestination": {"TopicArn": destination["SnsDestination"]["TopicARN"]},
                    },
                }
    return {**made, "rights": policies["rights"]}


def in_capitals(name: str) -> str:
    """CloudFormation's name of an event type as the SDK has it: renderingFailure is RENDERING_FAILURE."""
    return "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in name)


def text(value: Any) -> Any:
    """A value as the SDK's attributes have it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else value


def made_by_command(wanted: Choice) -> dict[str, Any]:
    """What the command makes, by operation and name, documents as documents."""
    made: dict[str, Any] = {}
    for call in plan.calls(wanted):
        parameters = dict(call.parameters)
        if call.service in {"sns", "sqs"} and "Attributes" in parameters:
            parameters["Attributes"] = {
                name: json.loads(value) if value.startswith("{") else value
                for name, value in parameters["Attributes"].items()
            }
        made[f"{call.operation} {parameters.get('QueueName', '')}".strip()] = parameters
    return {**made, "rights": plan.rights(wanted)}


@pytest.mark.parametrize("webhook", ["", WEBHOOK], ids=["queue", "webhook"])
@pytest.mark.parametrize("watch", [False, True], ids=["plain", "opens and clicks"])
def test_the_cloudformation_template_makes_the_same(webhook: str, watch: bool) -> None:
    template = Template(
        TEMPLATE,
        account="210987654321",
        region=REGION,
        Webhook=webhook,
        OpensAndClicks="yes" if watch else "no",
        Name="mails",
        ConfigurationSetName="ours",
    )
    wanted = Choice(
        REGION, "210987654321", configuration_set="ours", name="mails", webhook=webhook, watch=watch
    )
    assert made_by_template(template) == made_by_command(wanted)
    reported = template.outputs()
    for name, value in plan.settings_of(wanted).items():
        assert name == "AWS_REGION" or reported[name] == value


def test_the_template_can_use_a_configuration_set_that_exists() -> None:
    template = Template(TEMPLATE, account=ACCOUNT, region=REGION, MakeConfigurationSet="no")
    kinds = {each["Type"] for each in template.resources().values()}
    assert "AWS::SES::ConfigurationSet" not in kinds
    assert made_by_template(template)["CreateConfigurationSetEventDestination"]["ConfigurationSetName"] == (
        "email-offload"
    )
