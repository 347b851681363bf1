"""The SQS queue that SES's events arrive in, through boto3: one client per process.

SQS hands out each message at least once, in any order, and hides it from others for a while; it is gone only
when it is deleted. Nothing is deleted here that `inbox.receive` has not stored.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings
from django.utils.translation import gettext as _

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

LONG_POLL = 20
"""Seconds: the longest that SQS holds a request open for messages to arrive."""
AT_ONCE = 10
"""Messages per request: SQS's own limit."""
HIDDEN_SECONDS = 120
"""How long received messages are ours. A batch is stored within a second or so; after a crash they come again."""
RECEIVERS = 8
"""Threads that receive, at most; as many delete."""
_REGION = re.compile(r"https://(?:sqs\.([a-z0-9-]+)|([a-z0-9-]+)\.queue)\.amazonaws\.com(?:\.cn)?/")
_lock = threading.Lock()
_client: tuple[int, SQSClient] | None = None


class QueueProblem(Exception):
    """The queue cannot be used now. `code` is SQS's or the SDK's; `cure` says what to do.

    `lasting`: it does not go away by itself.
    """

    def __init__(self, code: str, text: str, cure: str, *, lasting: bool) -> None:
        super().__init__(text)
        self.code = code
        self.cure = cure
        self.lasting = lasting


@dataclass(frozen=True, slots=True)
class Taken:
    """One received message, and the handle that deletes it."""

    body: bytes = field(repr=False)
    handle: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Backlog:
    """About how many messages wait, and how many somebody has received and not deleted."""

    waiting: int
    in_flight: int


def client() -> SQSClient:
    """This process's client, made at first use; threads share it, forked processes do not.

    Region: that of the queue's address, else the SDK's own; credentials and endpoint: the SDK's own variables.
    Raises botocore's errors for a missing region or a wrong profile.
    """
    global _client
    made = _client
    if made and made[0] == os.getpid():
        return made[1]
    with _lock:
        if _client is None or _client[0] != os.getpid():
            config = Config(
                connect_timeout=settings.SES_CONNECT_TIMEOUT_SECONDS,
                read_timeout=LONG_POLL + 10,
                max_pool_connections=2 * RECEIVERS,
                retries={"total_max_attempts": 2, "mode": "standard"},
                tcp_keepalive=True,
                user_agent="email-offload",
            )
            session = boto3.session.Session(botocore_session=botocore.session.get_session())
            region = region_of(settings.SES_EVENTS_QUEUE_URL or "")
            _client = (os.getpid(), session.client("sqs", region_name=region, config=config))
        return _client[1]


def region_of(url: str) -> str | None:
    """The region of Amazon's that a queue's address names; None where it names none."""
    found = _REGION.match(url)
    return (found[1] or found[2]) if found else None


def forget_client() -> None:
    """Make a new client next time: settings, credentials or endpoint may have changed."""
    global _client
    with _lock:
        if _client and _client[0] == os.getpid():
            _client[1].close()
        _client = None


def take(wait: int) -> list[Taken]:
    """Up to ten messages; waits up to `wait` seconds (0 to 20) for the first. Raises QueueProblem."""
    try:
        answer = client().receive_message(
            QueueUrl=_url(),
            MaxNumberOfMessages=AT_ONCE,
            WaitTimeSeconds=wait,
            VisibilityTimeout=HIDDEN_SECONDS,
        )
    except (ClientError, BotoCoreError) as error:
        raise _problem(error) from None
    return [
        Taken(message.get("Body", "").encode("utf-8", "surrogatepass"), message.get("ReceiptHandle", ""))
        for message in answer.get("Messages", [])
    ]


def delete(messages: Sequence[Taken]) -> int:
    """Delete messages that were stored; returns how many SQS did not delete.

    Those come again after a while, are found to be stored, and are deleted then. Raises QueueProblem.
    """
    return _each(messages, give_back=False)


def give_back(messages: Sequence[Taken]) -> int:
    """Let others have messages at once that were received and not stored; returns for how many SQS refused."""
    return _each(messages, give_back=True)


def _each(messages: Sequence[Taken], *, give_back: bool) -> int:
    failed = 0
    try:
        for start in range(0, len(messages), AT_ONCE):
            part = messages[start : start + AT_ONCE]
            handles = [(str(number), each.handle) for number, each in enumerate(part)]
            if give_back:
                hidden = client().change_message_visibility_batch(
                    QueueUrl=_url(),
                    Entries=[{"Id": i, "ReceiptHandle": h, "VisibilityTimeout": 0} for i, h in handles],
                )
                failed += len(hidden.get("Failed", []))
            else:
                gone = client().delete_message_batch(
                    QueueUrl=_url(), Entries=[{"Id": i, "ReceiptHandle": h} for i, h in handles]
                )
                failed += len(gone.get("Failed", []))
    except (ClientError, BotoCoreError) as error:
        raise _problem(error) from None
    return failed


def backlog() -> Backlog:
    """What SQS says about the queue; approximate, as SQS says itself. Raises QueueProblem."""
    try:
        answer = client().get_queue_attributes(
            QueueUrl=_url(),
            AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
        )
        values = answer["Attributes"]
        return Backlog(
            int(values["ApproximateNumberOfMessages"]), int(values["ApproximateNumberOfMessagesNotVisible"])
        )
    except (ClientError, BotoCoreError) as error:
        raise _problem(error) from None
    except (KeyError, ValueError):
        raise QueueProblem(
            "NoAttributes",
            _("The endpoint does not answer like SQS."),
            "Check AWS_ENDPOINT_URL_SQS.",
            lasting=True,
        ) from None


def _url() -> str:
    return str(settings.SES_EVENTS_QUEUE_URL)


_MISSING = frozenset({"QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", "InvalidAddress"})
_FORBIDDEN = frozenset(
    {
        "AccessDenied", "AccessDeniedException", "InvalidClientTokenId", "SignatureDoesNotMatch",
        "UnrecognizedClientException", "InvalidSecurity", "MissingAuthenticationToken", "ExpiredToken",
        "ExpiredTokenException", "KmsAccessDenied", "AWS.SimpleQueueService.KmsAccessDenied",
    }
)  # fmt: skip
_SET_UP = frozenset(
    {"NoRegionError", "NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "InvalidEndpoint"}
)


def _problem(error: ClientError | BotoCoreError) -> QueueProblem:
    """What is wrong, in words; SQS's own words may quote account and key, and are left out."""
    if not isinstance(error, ClientError):
        code = type(error).__name__
        if code in _SET_UP:
            cure = _("Set AWS_REGION and the credentials of the SDK, as for SES.")
            return QueueProblem(
                code,
                _("The SDK cannot ask for SES's events (%(code)s).") % {"code": code},
                cure,
                lasting=True,
            )
        cure = _("Check network, proxy and AWS_ENDPOINT_URL_SQS, if it lasts.")
        return QueueProblem(
            code,
            _("The queue of SES's events did not answer (%(code)s).") % {"code": code},
            cure,
            lasting=False,
        )
    code = str(error.response.get("Error", {}).get("Code", ""))[:100]
    name = code.rpartition("#")[2]
    if name in _MISSING:
        cure = _("Check SES_EVENTS_QUEUE_URL; `manage.py sessetup` prints it and makes the queue.")
        return QueueProblem(
            name,
            _("The queue of SES's events does not exist (%(name)s).") % {"name": name},
            cure,
            lasting=True,
        )
    if name in _FORBIDDEN:
        cure = _(
            "Allow the account of the worker sqs:ReceiveMessage, sqs:DeleteMessage, "
            "sqs:ChangeMessageVisibility and sqs:GetQueueAttributes on it (and kms:Decrypt where "
            "it is encrypted)."
        )
        return QueueProblem(
            name,
            _("The queue of SES's events may not be read (%(name)s).") % {"name": name},
            cure,
            lasting=True,
        )
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    cure = _("Nothing, unless it lasts.")
    return QueueProblem(
        name or "Unknown",
        _("SQS could not hand out SES's events (%(code)s).") % {"code": name or "no code"},
        cure if status >= 500 or "hrottl" in name else "Check SES_EVENTS_QUEUE_URL.",
        lasting=400 <= status < 500 and "hrottl" not in name,
    )
