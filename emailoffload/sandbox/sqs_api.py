"""The SQS operations of the sandbox, in the JSON protocol that the SDKs speak: `X-Amz-Target: AmazonSQS.…`.

Follows the SQS API reference (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/). Errors carry
two names, as SQS's do: that of the JSON protocol in the body, and in `x-amzn-query-error` the older one, which is what
boto3 shows. There is one queue, that of SES's events; signatures are looked at, not verified.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from emailoffload.sandbox.api_errors import request_id
from emailoffload.sandbox.faults import MODES, Fault, Faults
from emailoffload.sandbox.http import Reply, Request
from emailoffload.sandbox.sqs_queue import RETENTION, VISIBILITY, BadHandle, Item, NotInFlight, Queue

TARGET = "AmazonSQS."
ACCOUNT = "000000000000"
REGION = "eu-west-1"
MAX_BYTES = 1024 * 1024
"""Of a message, and of all messages of a batch."""
AT_ONCE = 10
MAX_VISIBILITY = 43200
MAX_WAIT = 20
MAX_DELAY = 900
PURGE_PAUSE = 60
_SIGNATURE = re.compile(r"AWS4-HMAC-SHA256 Credential=[^/,\s]+/\d{8}/[a-z0-9-]+/sqs/aws4_request,.*")
_ENTRY_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
_NOT_ALLOWED = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_OLD_NAMES = frozenset(
    {
        "BatchEntryIdsNotDistinct", "BatchRequestTooLong", "EmptyBatchRequest", "InvalidBatchEntryId",
        "MessageNotInflight", "PurgeQueueInProgress", "TooManyEntriesInBatchRequest", "UnsupportedOperation",
    }
)  # fmt: skip
_SYSTEM = ("SenderId", "SentTimestamp", "ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp")
Values = Mapping[str, Any]


class SqsError(Exception):
    """An answer other than success."""

    def __init__(self, name: str, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        shape, self.code = f"com.amazonaws.sqs#{name}", name
        if name == "QueueDoesNotExist":
            self.code = "AWS.SimpleQueueService.NonExistentQueue"
        elif name in _OLD_NAMES:
            self.code = f"AWS.SimpleQueueService.{name}"
        elif name.endswith("Exception"):  # not one of SQS's own
            shape = f"com.amazon.coral.service#{name}"
            self.code = name.removesuffix("Exception").replace("Required", "")
        self.reply = Reply(
            json.dumps({"__type": shape, "message": message}).encode(),
            status,
            headers={"x-amzn-query-error": f"{self.code};Sender"},
        )


def _wrong_value(value: object, name: str, reason: str) -> SqsError:
    text = f"Value {value} for parameter {name} is invalid. Reason: {reason}"
    return SqsError("InvalidParameterValueException", text)


@dataclass(slots=True)
class _Waiter:
    """A long poll that nothing has come for yet."""

    values: Values
    most: int
    visibility: float
    future: asyncio.Future[Reply]


class SqsApi:
    """Answers requests whose target is AmazonSQS; `clock` gives UNIX seconds."""

    def __init__(
        self, faults: Faults, queue: str, policy: str = "", clock: Callable[[], float] = time.time
    ) -> None:
        self.faults = faults
        self.queue = Queue(queue, clock, policy)
        self._waiters: list[_Waiter] = []
        self._operations: dict[str, Callable[[Values], dict[str, Any]]] = {
            "SendMessage": self._send,
            "SendMessageBatch": lambda values: self._batch(values, self._send),
            "DeleteMessage": self._delete,
            "DeleteMessageBatch": lambda values: self._batch(values, self._delete),
            "ChangeMessageVisibility": self._change,
            "ChangeMessageVisibilityBatch": lambda values: self._batch(values, self._change),
            "GetQueueAttributes": self._attributes,
            "PurgeQueue": self._purge,
        }

    def put(self, body: str) -> None:
        """Add a message, as SNS does. Call it in the event loop."""
        self.queue.put(body)
        self.tick()

    def tick(self) -> None:
        """Answer long polls that something has come for."""
        for waiter in list(self._waiters):
            if not waiter.future.done():
                items = self.queue.take(waiter.most, waiter.visibility)
                if not items:
                    return
                waiter.future.set_result(_received(items, waiter.values))
            self._waiters.remove(waiter)

    def handle(self, request: Request) -> Reply:
        """Answer one API call; errors are answers too."""
        try:
            reply = self._route(request)
        except SqsError as error:
            reply = error.reply
        reply.content_type = "application/x-amz-json-1.0"
        reply.headers["x-amzn-RequestId"] = request_id()
        return reply

    def _route(self, request: Request) -> Reply:
        if not _SIGNATURE.fullmatch(request.headers.get("authorization", "")):
            text = "Request is missing Authentication Token"
            raise SqsError("MissingAuthenticationTokenException", text, status=403)
        operation = request.headers["x-amz-target"].removeprefix(TARGET)
        fault = self.faults.pick(operation)
        if fault is not None and not MODES[fault.mode].accepts:
            return fault.reply() or Reply()
        return _late(self._perform(operation, request), fault)

    def _perform(self, operation: str, request: Request) -> Reply:
        try:
            values = json.loads(request.body)
        except ValueError:
            values = None
        if not isinstance(values, dict):
            raise SqsError("SerializationException", "The body is not a JSON object.")
        if operation == "GetQueueUrl":
            self._known(_needed(values, "QueueName"))
            return _answer({"QueueUrl": f"http://{request.headers['host']}/{ACCOUNT}/{self.queue.name}"})
        act = self._operations.get(operation)
        if act is None and operation != "ReceiveMessage":
            raise SqsError("UnsupportedOperation", f"The sandbox does not have {operation}.")
        account, _, name = str(_needed(values, "QueueUrl")).rpartition("/")
        self._known(name if account.endswith(f"/{ACCOUNT}") else "")
        return self._receive(values) if act is None else _answer(act(values))

    def _known(self, name: object) -> None:
        if name != self.queue.name:
            raise SqsError("QueueDoesNotExist", "The specified queue does not exist.")

    # --- receiving ---

    def _receive(self, values: Values) -> Reply:
        most = _whole(values, "MaxNumberOfMessages", 1, 1, AT_ONCE)
        visibility = _whole(values, "VisibilityTimeout", VISIBILITY, 0, MAX_VISIBILITY)
        wait = _whole(values, "WaitTimeSeconds", 0, 0, MAX_WAIT)
        items = self.queue.take(most, visibility)
        if items or not wait:
            return _received(items, values)
        loop = asyncio.get_running_loop()
        waiter = _Waiter(values, most, visibility, loop.create_future())
        self._waiters.append(waiter)
        loop.call_later(wait, self._give_up, waiter)
        return Reply(later=waiter.future)

    def _give_up(self, waiter: _Waiter) -> None:
        self.tick()
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        if not waiter.future.done():
            waiter.future.set_result(_received([], waiter.values))

    # --- everything else ---

    def _send(self, values: Values) -> dict[str, Any]:
        body = str(_needed(values, "MessageBody"))
        if values.get("MessageAttributes"):
            raise SqsError("UnsupportedOperation", "The sandbox takes no message attributes.")
        if len(body.encode("utf-8", "surrogatepass")) > MAX_BYTES:
            text = (
                f"One or more parameters are invalid. Reason: Message must be shorter than {MAX_BYTES} bytes."
            )
            raise SqsError("InvalidParameterValueException", text)
        if _NOT_ALLOWED.search(body):
            raise SqsError("InvalidMessageContents", "The message contains characters that are not allowed.")
        item = self.queue.put(body, _whole(values, "DelaySeconds", 0, 0, MAX_DELAY))
        self.tick()
        return {"MessageId": item.message_id, "MD5OfMessageBody": _md5(body)}

    def _delete(self, values: Values) -> dict[str, Any]:
        with_handle(self.queue.delete, values)
        return {}

    def _change(self, values: Values) -> dict[str, Any]:
        _needed(values, "VisibilityTimeout")
        seconds = _whole(values, "VisibilityTimeout", 0, 0, MAX_VISIBILITY)
        with_handle(lambda handle: self.queue.change(handle, seconds), values)
        self.tick()
        return {}

    def _batch(self, values: Values, act: Callable[[Values], dict[str, Any]]) -> dict[str, Any]:
        """Each entry by itself: one that fails does not keep the others from being done."""
        entries = values.get("Entries")
        if not isinstance(entries, list) or not entries:
            raise SqsError("EmptyBatchRequest", "The batch request contains no entries.")
        if len(entries) > AT_ONCE:
            text = f"Maximum number of entries per request are {AT_ONCE}. You have sent {len(entries)}."
            raise SqsError("TooManyEntriesInBatchRequest", text)
        ids = [str(entry.get("Id", "")) for entry in entries]
        for place, name in enumerate(ids):
            if not _ENTRY_ID.fullmatch(name):
                text = "A batch entry id is 1 to 80 letters, digits, hyphens and underscores."
                raise SqsError("InvalidBatchEntryId", text)
            if name in ids[:place]:
                raise SqsError("BatchEntryIdsNotDistinct", f"Id {name} repeated.")
        size = sum(
            len(str(entry.get("MessageBody", "")).encode("utf-8", "surrogatepass")) for entry in entries
        )
        if size > MAX_BYTES:
            text = f"Batch requests cannot be longer than {MAX_BYTES} bytes. You have sent {size} bytes."
            raise SqsError("BatchRequestTooLong", text)
        done: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        for name, entry in zip(ids, entries, strict=True):
            try:
                done.append({"Id": name, **act(entry)})
            except SqsError as error:
                failed.append({"Id": name, "SenderFault": True, "Code": error.code, "Message": error.message})
        return {"Successful": done, **({"Failed": failed} if failed else {})}

    def _attributes(self, values: Values) -> dict[str, Any]:
        visible, held, delayed = self.queue.counts()
        known = {
            "ApproximateNumberOfMessages": visible,
            "ApproximateNumberOfMessagesNotVisible": held,
            "ApproximateNumberOfMessagesDelayed": delayed,
            "CreatedTimestamp": int(self.queue.created),
            "LastModifiedTimestamp": int(self.queue.created),
            "DelaySeconds": 0,
            "MaximumMessageSize": MAX_BYTES,
            "MessageRetentionPeriod": RETENTION,
            "QueueArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{self.queue.name}",
            "ReceiveMessageWaitTimeSeconds": 0,
            "SqsManagedSseEnabled": "true",
            "VisibilityTimeout": VISIBILITY,
        }
        if self.queue.policy:
            known["Policy"] = self.queue.policy
        wanted = values.get("AttributeNames") or []
        for name in wanted:
            if name not in {*known, "All", "Policy", "RedrivePolicy", "RedriveAllowPolicy", "KmsMasterKeyId"}:
                raise SqsError("InvalidAttributeName", f"Unknown Attribute {name}.")
        found = {name: str(value) for name, value in known.items() if name in wanted or "All" in wanted}
        return {"Attributes": found} if found else {}

    def _purge(self, _values: Values) -> dict[str, Any]:
        purged = self.queue.purged
        if purged is not None and self.queue.clock() < purged + PURGE_PAUSE:
            text = (
                f"Only one PurgeQueue operation on {self.queue.name} is allowed every {PURGE_PAUSE} seconds."
            )
            raise SqsError("PurgeQueueInProgress", text, status=403)
        self.queue.purge()
        return {}


def with_handle(act: Callable[[str], None], values: Values) -> None:
    """Do something to the message of a receipt handle. Raises SqsError as SQS names what is wrong with it."""
    try:
        act(str(_needed(values, "ReceiptHandle")))
    except BadHandle:
        raise SqsError("ReceiptHandleIsInvalid", "The input receipt handle is invalid.") from None
    except NotInFlight:
        raise SqsError("MessageNotInflight", "The message referred to isn't in flight.") from None


def _late(reply: Reply, fault: Fault | None) -> Reply:
    """The answer to a call that was obeyed, under a fault that spoils the answer only."""
    if fault is None:
        return reply
    reply.delay += fault.seconds if fault.mode == "slow" else 0
    return fault.reply() or reply


def _needed(values: Values, name: str) -> Any:
    value = values.get(name)
    if value is None or value == "":
        text = f"The request must contain the parameter {name}."
        raise SqsError("MissingRequiredParameterException", text)
    return value


def _whole(values: Values, name: str, default: int, least: int, most: int) -> int:
    value = values.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _wrong_value(value, name, f"Must be between {least} and {most}, if provided.")
    return value


def _received(items: list[Item], values: Values) -> Reply:
    wanted = {*(values.get("AttributeNames") or ()), *(values.get("MessageSystemAttributeNames") or ())}
    messages = []
    for item in items:
        message: dict[str, Any] = {
            "MessageId": item.message_id,
            "ReceiptHandle": item.handle,
            "Body": item.body,
            "MD5OfBody": _md5(item.body),
        }
        system = {
            "SenderId": ACCOUNT,
            "SentTimestamp": str(int(item.sent_at * 1000)),
            "ApproximateReceiveCount": str(item.receives),
            "ApproximateFirstReceiveTimestamp": str(int(item.first_received * 1000)),
        }
        if shown := {name: system[name] for name in _SYSTEM if name in wanted or "All" in wanted}:
            message["Attributes"] = shown
        messages.append(message)
    return _answer({"Messages": messages} if messages else {})


def _md5(text: str) -> str:
    return hashlib.md5(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def _answer(data: dict[str, Any]) -> Reply:
    return Reply(json.dumps(data).encode())
