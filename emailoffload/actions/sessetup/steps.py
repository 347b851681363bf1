"""Looks at what exists in AWS, and makes what is missing or changes what differs. Run twice, it changes nothing.

What somebody else put there stays: statements of a policy that are not ours, other event destinations and
subscriptions, other attributes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import boto3
import botocore.session
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from emailoffload.actions.sessetup import plan
from emailoffload.actions.sessetup.plan import Choice, Document
from emailoffload.delivery.errors import classify

State = Literal["exists", "missing", "differs", "made", "changed"]
_ABSENT = frozenset(
    {"NotFound", "NotFoundException", "ResourceNotFoundException", "QueueDoesNotExist",
     "AWS.SimpleQueueService.NonExistentQueue"}
)  # fmt: skip
_DENIED = frozenset(
    {"AccessDenied", "AccessDeniedException", "AuthorizationError", "AuthorizationErrorException",
     "NotAuthorized", "UnauthorizedOperation"}
)  # fmt: skip
_RIGHTS = {"sesv2": "ses"}
"""How IAM names a service where the SDK names it otherwise."""


class Refused(Exception):
    """AWS did not do what was asked; the text says what, `cure` what to do."""

    def __init__(self, text: str, cure: str) -> None:
        super().__init__(text)
        self.cure = cure


class Absent(Exception):
    """What was asked about does not exist."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing, how it stands now, and what differs or differed."""

    what: str
    name: str
    state: State
    differing: list[str] = field(default_factory=list)
    note: str = ""


class Amazon:
    """AWS's API in one region, through the SDK's own credentials, endpoints and variables."""

    def __init__(self, region: str) -> None:
        self._session = boto3.session.Session(botocore_session=botocore.session.get_session())
        self._region = region
        self._clients: dict[str, Any] = {}

    def ask(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """Call one operation by its name in AWS's reference. Raises Absent and Refused."""
        right = f"{_RIGHTS.get(service, service)}:{operation}"
        try:
            if service not in self._clients:
                config = Config(
                    connect_timeout=5,
                    read_timeout=20,
                    retries={"total_max_attempts": 3, "mode": "standard"},
                    user_agent="email-offload",
                )
                self._clients[service] = self._session.client(
                    service,  # type: ignore[call-overload]
                    region_name=self._region,
                    config=config,
                )
            return dict(getattr(self._clients[service], xform_name(operation))(**parameters))
        except ClientError as error:
            detail = error.response.get("Error", {})
            code = str(detail.get("Code", ""))
            if code in _ABSENT:
                raise Absent(right) from error
            if code in _DENIED:
                raise Refused(
                    f"The AWS credentials lack the right {right}.",
                    "Run this with an administrator's credentials, or have it allowed; the product itself "
                    "needs only the rights that the printed policy lists.",
                ) from error
            raise Refused(f"AWS refused {right} ({code}).", str(detail.get("Message", ""))[:300]) from error
        except BotoCoreError as error:
            outcome = classify(error)
            raise Refused(f"{right} could not be asked ({outcome.code}).", outcome.message) from error


def account(amazon: Amazon) -> str:
    """The account that the credentials belong to: twelve digits. Raises Refused."""
    return str(amazon.ask("sts", "GetCallerIdentity")["Account"])


def carry_out(amazon: Amazon, choice: Choice, *, change: bool) -> Iterator[Step]:
    """Look at each thing, and with `change` make or change it; yields each as soon as it stands. Raises Refused."""
    yield _configuration_set(amazon, choice, change)
    yield _topic(amazon, choice, change)
    if not choice.webhook:
        yield _queue(amazon, choice.dead_name, plan.dead_attributes(choice), change)
        yield _queue(amazon, choice.name, plan.queue_attributes(choice), change)
    yield _subscription(amazon, choice, change)
    yield _destination(amazon, choice, change)


def _configuration_set(amazon: Amazon, choice: Choice, change: bool) -> Step:
    what, name = "configuration set", choice.configuration_set
    try:
        amazon.ask("sesv2", "GetConfigurationSet", ConfigurationSetName=name)
    except Absent:
        return _make(amazon, choice, "CreateConfigurationSet", Step(what, name, "missing"), change)
    return Step(what, name, "exists")


def _make(amazon: Amazon, choice: Choice, operation: str, step: Step, change: bool) -> Step:
    """Make what is missing by the very call that the plan prints for it."""
    if not change:
        return step
    for call in plan.calls(choice):
        if call.operation == operation:
            amazon.ask(call.service, call.operation, **call.parameters)
    return Step(step.what, step.name, "made")


def _topic(amazon: Amazon, choice: Choice, change: bool) -> Step:
    arn = choice.topic_arn
    try:
        found = amazon.ask("sns", "GetTopicAttributes", TopicArn=arn)["Attributes"]
    except Absent:
        return _make(amazon, choice, "CreateTopic", Step("topic", choice.name, "missing"), change)
    # Without the attribute, SNS signs with version 1.
    differing, note = _differing({"SignatureVersion": "1", **found}, plan.topic_attributes(choice))

    def correct() -> None:
        for name, value in differing.items():
            amazon.ask("sns", "SetTopicAttributes", TopicArn=arn, AttributeName=name, AttributeValue=value)

    return _settled("topic", choice.name, differing, note, correct if change else None)


def _queue(amazon: Amazon, name: str, wanted: Mapping[str, str], change: bool) -> Step:
    try:
        url = amazon.ask("sqs", "GetQueueUrl", QueueName=name)["QueueUrl"]
    except Absent:
        if change:
            amazon.ask("sqs", "CreateQueue", QueueName=name, Attributes=dict(wanted))
        return Step("queue", name, "made" if change else "missing")
    found = amazon.ask("sqs", "GetQueueAttributes", QueueUrl=url, AttributeNames=["All"]).get(
        "Attributes", {}
    )
    differing, note = _differing(found, wanted)

    def correct() -> None:
        amazon.ask("sqs", "SetQueueAttributes", QueueUrl=url, Attributes=differing)

    return _settled("queue", name, differing, note, correct if change else None)


def _settled(
    what: str, name: str, differing: Mapping[str, Any], note: str, correct: Callable[[], None] | None
) -> Step:
    if not differing:
        return Step(what, name, "exists", note=note)
    if correct is None:
        return Step(what, name, "differs", sorted(differing), note)
    correct()
    return Step(what, name, "changed", sorted(differing), note)


def _differing(found: Mapping[str, str], wanted: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """The attributes to set, and what others have allowed in the policy."""
    differing, note = {}, ""
    for name, value in wanted.items():
        if name == "Policy":
            policy, others = _merged(found.get(name, ""), json.loads(value))
            if others:
                note = f"its policy also has: {', '.join(others)}"
            if policy:
                differing[name] = json.dumps(policy)
        elif name == "RedrivePolicy":
            if _redrive(found.get(name, "{}")) != _redrive(value):
                differing[name] = value
        elif found.get(name) != value:
            differing[name] = value
    return differing, note


def _redrive(text: str) -> tuple[str, str]:
    policy = json.loads(text)
    return str(policy.get("deadLetterTargetArn")), str(policy.get("maxReceiveCount"))


def _merged(found: str, ours: Document) -> tuple[Document | None, list[str]]:
    """A policy with our statements in place of those of the same name, or None where they stand there already;
    and the names of the other statements, which stay."""
    policy: Document = json.loads(found) if found else plan.document([])
    statements = policy.get("Statement", [])
    statements = statements if isinstance(statements, list) else [statements]
    wanted = {each["Sid"]: each for each in ours["Statement"]}
    others = [each for each in statements if each.get("Sid") not in wanted]
    names = [str(each.get("Sid") or "a statement without a name") for each in others]
    held = {each.get("Sid"): each for each in statements}
    if all(_same(held.get(sid), each) for sid, each in wanted.items()):
        return None, names
    return {**policy, "Statement": [*others, *wanted.values()]}, names


def _same(left: Any, right: Any) -> bool:
    """Whether two parts of a policy mean the same: AWS may write a single value as a list, and the other way."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    return _listed(left) == _listed(right)


def _listed(value: Any) -> list[str]:
    return sorted(map(str, value)) if isinstance(value, list) else [str(value)]


def _subscription(amazon: Amazon, choice: Choice, change: bool) -> Step:
    wanted = plan.subscription(choice)
    what, name = "subscription", str(wanted["Endpoint"])
    arn = _subscribed(amazon, choice, wanted)
    if arn is None:
        step = _make(amazon, choice, "Subscribe", Step(what, name, "missing"), change)
        if choice.webhook and change:
            return Step(what, name, "made", note="SNS now posts to the webhook, which confirms it")
        return step
    if not arn.startswith("arn:"):
        # Asking again has SNS post its question again; nothing else changes.
        if change:
            amazon.ask("sns", "Subscribe", **wanted)
        return Step(what, name, "exists", note="waits to be confirmed by the webhook")
    raw = wanted.get("Attributes", {}).get("RawMessageDelivery", "false")
    found = amazon.ask("sns", "GetSubscriptionAttributes", SubscriptionArn=arn)["Attributes"]
    differing = {} if found.get("RawMessageDelivery", "false") == raw else {"RawMessageDelivery": raw}

    def correct() -> None:
        amazon.ask(
            "sns",
            "SetSubscriptionAttributes",
            SubscriptionArn=arn,
            AttributeName="RawMessageDelivery",
            AttributeValue=raw,
        )

    return _settled(what, name, differing, "", correct if change else None)


def _subscribed(amazon: Amazon, choice: Choice, wanted: Document) -> str | None:
    """The subscription's ARN, or a word in its place while it waits to be confirmed; None where there is none."""
    token: dict[str, str] = {}
    while True:
        try:
            page = amazon.ask("sns", "ListSubscriptionsByTopic", TopicArn=choice.topic_arn, **token)
        except Absent:
            return None
        for each in page.get("Subscriptions", []):
            if (each["Protocol"], each["Endpoint"]) == (wanted["Protocol"], wanted["Endpoint"]):
                return str(each["SubscriptionArn"])
        if not page.get("NextToken"):
            return None
        token = {"NextToken": page["NextToken"]}


def _destination(amazon: Amazon, choice: Choice, change: bool) -> Step:
    what, name = "event destination", choice.name
    missing = Step(what, name, "missing")
    named = {"ConfigurationSetName": choice.configuration_set}
    try:
        held = amazon.ask("sesv2", "GetConfigurationSetEventDestinations", **named)
    except Absent:
        return missing
    found = {each["Name"]: each for each in held.get("EventDestinations", [])}
    if name not in found:
        return _make(amazon, choice, "CreateConfigurationSetEventDestination", missing, change)
    wanted = plan.event_destination(choice)
    differing = {key: value for key, value in wanted.items() if not _same(found[name].get(key), value)}

    def correct() -> None:
        amazon.ask(
            "sesv2",
            "UpdateConfigurationSetEventDestination",
            **named,
            EventDestinationName=name,
            EventDestination=wanted,
        )

    return _settled(what, name, differing, "", correct if change else None)
