"""What has to exist in AWS for SES's events to reach us, with the fewest rights that do.

Pure: nothing here asks AWS. `docs/ses-events.template.yaml` is the same as a CloudFormation template; a test compares
them. Documents are those of the IAM, SNS, SQS and SES developer guides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from emailoffload.feedback.topics import SUFFIXES

Document = dict[str, Any]

EVENTS = (
    "SEND", "REJECT", "BOUNCE", "COMPLAINT", "DELIVERY", "RENDERING_FAILURE", "DELIVERY_DELAY", "SUBSCRIPTION",
)  # fmt: skip
WATCHING = ("OPEN", "CLICK")
"""These need a hidden picture and changed links in every mail, and tell of people what they did: by request only."""
KEPT_SECONDS = 14 * 24 * 3600
"""The longest that SQS keeps a message: so long may we be away without losing an event."""
HIDDEN_SECONDS = 120
"""After which a message that was received and not deleted comes again."""
RECEIVED_AT_MOST = 50
"""Then SQS moves it to the dead letter queue. We acknowledge what cannot be read, so only an error of ours, or a
database that was away for hours, brings a message there."""
SES_SID, TOPIC_SID = "SesPublishesEvents", "OnlyTheTopicSends"


class Unusable(ValueError):
    """A choice that AWS would not take; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a site decides. `account` is the AWS account's twelve digits, or a placeholder for printing."""

    region: str
    account: str
    configuration_set: str = "email-offload"
    name: str = "email-offload-events"
    """Of the topic, the queue and the event destination."""
    webhook: str = ""
    """The https address that SNS posts to, instead of a queue."""
    watch: bool = False
    """Whether opens and clicks are reported."""
    identities: tuple[str, ...] = ()
    """Senders' domains and addresses that the product may send from; none: all of the account's."""

    def __post_init__(self) -> None:
        if self.webhook:
            parts = urlsplit(self.webhook)
            if parts.scheme != "https" or not parts.hostname or not parts.path.endswith("/events/sns/"):
                raise Unusable("The webhook's address must start with https:// and end with /events/sns/.")

    @property
    def partition(self) -> str:
        """The part of AWS that the region belongs to."""
        if self.region.startswith("cn-"):
            return "aws-cn"
        return "aws-us-gov" if self.region.startswith("us-gov-") else "aws"

    def arn(self, service: str, resource: str) -> str:
        """The ARN of something in this account and region."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"

    @property
    def set_arn(self) -> str:
        """The configuration set's ARN."""
        return self.arn("ses", f"configuration-set/{self.configuration_set}")

    @property
    def topic_arn(self) -> str:
        """The topic's ARN."""
        return self.arn("sns", self.name)

    @property
    def queue_arn(self) -> str:
        """The queue's ARN."""
        return self.arn("sqs", self.name)

    @property
    def dead_name(self) -> str:
        """The dead letter queue's name."""
        return f"{self.name}-dead"

    @property
    def dead_arn(self) -> str:
        """The dead letter queue's ARN."""
        return self.arn("sqs", self.dead_name)

    @property
    def queue_url(self) -> str:
        """The queue's address."""
        return f"https://sqs.{self.region}.{SUFFIXES[self.partition]}/{self.account}/{self.name}"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the AWS SDK: the service as the SDK names it, the operation, its parameters."""

    service: str
    operation: str
    parameters: Mapping[str, Any]


def document(statements: list[Document]) -> Document:
    """A policy of these statements."""
    return {"Version": "2012-10-17", "Statement": statements}


def topic_policy(choice: Choice) -> Document:
    """Only SES may publish, and only what it does for our configuration set."""
    return document(
        [
            {
                "Sid": SES_SID,
                "Effect": "Allow",
                "Principal": {"Service": "ses.amazonaws.com"},
                "Action": "sns:Publish",
                "Resource": choice.topic_arn,
                "Condition": {
                    "StringEquals": {
                        "AWS:SourceAccount": choice.account,
                        "AWS:SourceArn": choice.set_arn,
                    }
                },
            }
        ]
    )


def queue_policy(choice: Choice) -> Document:
    """Only SNS may send, and only for our topic."""
    return document(
        [
            {
                "Sid": TOPIC_SID,
                "Effect": "Allow",
                "Principal": {"Service": "sns.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": choice.queue_arn,
                "Condition": {"ArnEquals": {"aws:SourceArn": choice.topic_arn}},
            }
        ]
    )


def topic_attributes(choice: Choice) -> dict[str, str]:
    """The topic's attributes that matter."""
    return {"SignatureVersion": "2", "Policy": json.dumps(topic_policy(choice))}


def dead_attributes(choice: Choice) -> dict[str, str]:
    """The dead letter queue's attributes that matter."""
    return {"MessageRetentionPeriod": str(KEPT_SECONDS), "SqsManagedSseEnabled": "true"}


def queue_attributes(choice: Choice) -> dict[str, str]:
    """The queue's attributes that matter."""
    return {
        "MessageRetentionPeriod": str(KEPT_SECONDS),
        "VisibilityTimeout": str(HIDDEN_SECONDS),
        "ReceiveMessageWaitTimeSeconds": "20",
        "SqsManagedSseEnabled": "true",
        "RedrivePolicy": json.dumps(
            {"deadLetterTargetArn": choice.dead_arn, "maxReceiveCount": RECEIVED_AT_MOST}
        ),
        "Policy": json.dumps(queue_policy(choice)),
    }


def subscription(choice: Choice) -> Document:
    """What `Subscribe` is asked for."""
    if choice.webhook:
        # Posts are signed only in SNS's own envelope.
        return {"TopicArn": choice.topic_arn, "Protocol": "https", "Endpoint": choice.webhook}
    return {
        "TopicArn": choice.topic_arn,
        "Protocol": "sqs",
        "Endpoint": choice.queue_arn,
        "Attributes": {"RawMessageDelivery": "true"},
    }


def event_destination(choice: Choice) -> Document:
    """The configuration set's event destination, without its name."""
    return {
        "Enabled": True,
        "MatchingEventTypes": [*EVENTS, *(WATCHING if choice.watch else ())],
        "SnsDestination": {"TopicArn": choice.topic_arn},
    }


def calls(choice: Choice) -> list[Call]:
    """All calls that set it up where nothing exists, in an order in which each finds what it needs.

    The topic's policy comes before the event destination: SES publishes a test to a topic before it takes it.
    """
    sets = {"ConfigurationSetName": choice.configuration_set}
    queues = [
        Call("sqs", "CreateQueue", {"QueueName": choice.dead_name, "Attributes": dead_attributes(choice)}),
        Call("sqs", "CreateQueue", {"QueueName": choice.name, "Attributes": queue_attributes(choice)}),
    ]
    destination = {
        **sets,
        "EventDestinationName": choice.name,
        "EventDestination": event_destination(choice),
    }
    return [
        Call("sesv2", "CreateConfigurationSet", sets),
        Call("sns", "CreateTopic", {"Name": choice.name, "Attributes": topic_attributes(choice)}),
        *([] if choice.webhook else queues),
        Call("sns", "Subscribe", subscription(choice)),
        Call("sesv2", "CreateConfigurationSetEventDestination", destination),
    ]


def rights(choice: Choice) -> Document:
    """The IAM policy of the product's own credentials: what it does, and nothing else."""
    identities = [choice.arn("ses", f"identity/{name}") for name in choice.identities or ("*",)]
    statements = [
        _allow("SendMails", ["ses:SendEmail"], [*identities, choice.set_arn]),
        _allow(
            "AccountAndSuppressionList",
            [
                "ses:GetAccount",
                "ses:ListSuppressedDestinations",
                "ses:GetSuppressedDestination",
                "ses:PutSuppressedDestination",
                "ses:DeleteSuppressedDestination",
            ],
            "*",
        ),
        _allow("DoctorLooksAtIdentities", ["ses:GetEmailIdentity"], choice.arn("ses", "identity/*")),
        _allow(
            "DoctorLooksAtEvents",
            ["ses:GetConfigurationSet", "ses:GetConfigurationSetEventDestinations"],
            choice.set_arn,
        ),
    ]
    if choice.webhook:
        statements.append(_allow("ConfirmSubscription", ["sns:ConfirmSubscription"], choice.topic_arn))
    else:
        statements += [
            _allow(
                "ReceiveEvents",
                [
                    "sqs:ReceiveMessage",
                    "sqs:DeleteMessage",
                    "sqs:ChangeMessageVisibility",
                    "sqs:GetQueueAttributes",
                ],
                choice.queue_arn,
            ),
            _allow("DoctorLooksAtDeadLetters", ["sqs:GetQueueAttributes"], choice.dead_arn),
        ]
    return document(statements)


def _allow(sid: str, actions: list[str], resource: str | list[str]) -> Document:
    return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resource}


def settings_of(choice: Choice) -> dict[str, str]:
    """What to put into the environment."""
    values = {"AWS_REGION": choice.region, "SES_CONFIGURATION_SET": choice.configuration_set}
    if choice.webhook:
        return {**values, "SNS_TOPICS": choice.topic_arn}
    return {**values, "SES_EVENTS_QUEUE_URL": choice.queue_url}
