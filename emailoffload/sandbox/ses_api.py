"""The SESv2 operations of the sandbox: what they accept, refuse and answer.

Follows the SESv2 API reference (https://docs.aws.amazon.com/ses/latest/APIReference-V2/). Signatures are
looked at, not verified: any key pair works. What SES refuses is refused here too, so that a mail which the
sandbox takes is one that SES would take.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from emailoffload.sandbox import event_shapes, ses_answers
from emailoffload.sandbox.api_errors import ApiError, bad_request, json_body, request_id
from emailoffload.sandbox.events import QUEUE, Events, Options
from emailoffload.sandbox.faults import MODES, Faults
from emailoffload.sandbox.http import Reply, Request
from emailoffload.sandbox.mailbox import Mailbox, Message, recipients_of
from emailoffload.sandbox.sqs_api import SqsApi
from emailoffload.sandbox.suppression_list import SuppressionList

_SIGNATURE = re.compile(
    r"AWS4-HMAC-SHA256 Credential=[^/,\s]+/\d{8}/[a-z0-9-]+/ses/aws4_request, ?"
    r"SignedHeaders=[a-z0-9;-]+, ?Signature=[0-9a-f]{64}"
)
_ADDRESS = re.compile(r"(?:[\x20-\x7e]*<)?([\x21-\x3b\x3d\x3f\x41-\x7e]+@[A-Za-z0-9.-]+)>?")
_TAG = re.compile(r"[A-Za-z0-9_-]{1,256}")
_HEADER_NAME = re.compile(r"[\x21-\x39\x3b-\x7e]{1,126}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{1,995}")
MAX_RECIPIENTS = 50
MAX_HEADERS = 15
MAX_MESSAGE_BYTES = 40 * 1024 * 1024


class SesApi:
    """Answers requests under `/v2/email/`; has the account's suppression list, and the queue of its events.

    With `events` its configuration sets publish into that queue from the start.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        faults: Faults,
        *,
        latency: float = 0.0,
        max_send_rate: float = 1000.0,
        enforce_rate: bool = False,
        max_24h: float = 1_000_000.0,
        identities: tuple[str, ...] = (),
        configuration_sets: tuple[str, ...] = ("email-offload",),
        events: Options | None = None,
    ) -> None:
        self.mailbox = mailbox
        self.faults = faults
        self.latency = latency
        self.max_send_rate = max_send_rate
        self.enforce_rate = enforce_rate
        self.max_24h = max_24h
        self.sending_enabled = True
        self.any_identity = not identities
        self.identities: dict[str, None] = dict.fromkeys(identities)
        self.configuration_sets: dict[str, None] = dict.fromkeys(configuration_sets)
        self.event_destinations: dict[str, dict[str, dict[str, Any]]] = {}
        """By configuration set and name: what SES was told to publish, and where to."""
        self.suppressions = SuppressionList()
        self.sqs = SqsApi(faults, QUEUE, event_shapes.QUEUE_POLICY)
        self.events = Events(self.sqs.put, self.suppressions, events)
        if events is not None:
            self.event_destinations = {name: self.events.destinations() for name in configuration_sets}
        self.restore()
        self._tokens = max(1.0, max_send_rate)
        self._refilled = time.monotonic()

    def tick(self) -> None:
        """Publish the events that are due, and hand out what has become visible."""
        self.events.tick()
        self.sqs.tick()

    def restore(self) -> None:
        """Go on where `keep` left off: the events that wait, and the suppression list."""
        self.suppressions.restore(self.mailbox.kept("suppressions") or ())
        self.sqs.queue.restore(self.mailbox.kept("queue") or ())
        self.events.restore(self.mailbox.kept("events") or ())

    def keep(self) -> None:
        """Write down, at an orderly end, what a store of messages does not hold."""
        self.mailbox.keep("suppressions", self.suppressions.dump())
        self.mailbox.keep("queue", self.sqs.queue.bodies())
        self.mailbox.keep("events", self.events.dump())

    def handle(self, request: Request) -> Reply:
        """Answer one API call; errors are answers too."""
        try:
            reply = self._route(request)
        except ApiError as error:
            reply = error.reply
        reply.headers["x-amzn-RequestId"] = request_id()
        if reply.ending == "answer":
            reply.delay += self.latency
        return reply

    def _route(self, request: Request) -> Reply:
        authorization = request.headers.get("authorization")
        if authorization is None:
            raise ApiError(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
        if not _SIGNATURE.fullmatch(authorization) or "x-amz-date" not in request.headers:
            raise ApiError(
                403,
                "IncompleteSignatureException",
                "The Authorization header is not a SigV4 signature for ses.",
            )
        path = request.target.partition("?")[0].rstrip("/")
        if path == "/v2/email/outbound-emails" and request.method == "POST":
            return self._send_email(json_body(request))
        parts = [unquote(part) for part in path.split("/")[3:]] or [""]
        return self._manage(request, parts)

    # --- SendEmail ---

    def _send_email(self, data: Mapping[str, Any]) -> Reply:
        addresses = self._check(data)
        fault = self.faults.pick("SendEmail", addresses)
        taken = fault is None or MODES[fault.mode].accepts
        if taken:
            self._check_account(data, len(addresses) - 1)
        now = time.time()
        message_id = f"0102{int(now * 1000):012x}-{request_id()}-000000"
        if taken:
            self.mailbox.accept(message_id, data, now)
            destinations = self.event_destinations.get(data.get("ConfigurationSetName", ""))
            if destinations:
                message = Message(self.mailbox.accepted, message_id, now, data)
                self.events.accepted(message, destinations.values())
        reply = fault.reply() if fault is not None else None
        if reply is None:
            reply = Reply(b'{"MessageId":"%s"}' % message_id.encode())
            if fault is not None:
                reply.delay = fault.seconds
        return reply

    def _check(self, data: Mapping[str, Any]) -> list[str]:
        """Refuse what SES would; return the sender's and the recipients' addresses."""
        content = data.get("Content")
        if not isinstance(content, dict):
            raise bad_request("1 validation error detected: Value null at 'content' must not be null")
        if len(content) != 1 or not content.keys() <= {"Simple", "Raw"}:
            raise bad_request("The sandbox takes exactly one of Content.Simple and Content.Raw.")
        recipients = recipients_of(data)
        raw = content.get("Raw")
        if raw is not None:
            _check_raw(raw)
        else:
            _check_simple(content["Simple"])
            if not recipients or "FromEmailAddress" not in data:
                raise bad_request("Destination and FromEmailAddress are required.")
        if len(recipients) > MAX_RECIPIENTS:
            raise bad_request(f"Recipient count exceeds {MAX_RECIPIENTS}.")
        sender = data.get("FromEmailAddress")
        found = [_address(sender)] if sender is not None else [""]
        found += [_address(value) for value in recipients]
        for value in data.get("ReplyToAddresses") or ():
            _address(value)
        for tag in data.get("EmailTags") or ():
            if not (_TAG.fullmatch(tag.get("Name", "")) and _TAG.fullmatch(tag.get("Value", ""))):
                raise bad_request("Invalid tag: names and values are letters, digits, _ and - only.")
        return found

    def _check_account(self, data: Mapping[str, Any], recipients: int) -> None:
        if not self.sending_enabled:
            raise ApiError(400, "SendingPausedException", "Sending is paused for this account.")
        configuration_set = data.get("ConfigurationSetName")
        if configuration_set and configuration_set not in self.configuration_sets:
            raise ApiError(
                404, "NotFoundException", f"Configuration set <{configuration_set}> does not exist."
            )
        if not self.any_identity and "FromEmailAddress" in data:
            sender = _address(data["FromEmailAddress"])
            if not {sender, sender.rpartition("@")[2]} & self.identities.keys():
                raise ApiError(
                    400,
                    "MessageRejected",
                    "Email address is not verified. The following identities failed the check in region"
                    f" EU-WEST-1: {sender}",
                )
        if self.mailbox.sent_last_24_hours + recipients > self.max_24h:
            raise ApiError(429, "TooManyRequestsException", "Daily message quota exceeded.")
        if self.enforce_rate and not self._take_token():
            raise ApiError(429, "TooManyRequestsException", "Maximum sending rate exceeded.")

    def _take_token(self) -> bool:
        now = time.monotonic()
        capacity = max(1.0, self.max_send_rate)
        self._tokens = min(capacity, self._tokens + (now - self._refilled) * self.max_send_rate)
        self._refilled = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    # --- the account, identities, configuration sets ---

    def _manage(self, request: Request, parts: list[str]) -> Reply:
        head = "/".join(parts) if parts[0] == "account" else parts[0]
        operation = _OPERATIONS.get((request.method, head, len(parts)))
        if operation is None:
            raise ApiError(404, "UnknownOperationException", "The sandbox does not have this operation.")
        fault = self.faults.pick(operation)
        reply = fault.reply() if fault is not None else None
        if reply is not None:
            return reply
        name = parts[1] if len(parts) > 1 else ""
        if operation == "GetAccount":
            answer = self._account()
        elif operation == "PutAccountSendingAttributes":
            self.sending_enabled = bool(json_body(request).get("SendingEnabled", False))
            answer = {}
        elif "Suppress" in operation:
            answer = self.suppressions.answer(operation, parts[-1], request)
        elif "EventDestination" in operation:
            answer = self._destinations(operation, parts, request)
        else:
            answer = self._names(operation, name, request)
        result = Reply(json.dumps(answer).encode())
        if fault is not None:
            result.delay = fault.seconds
        return result

    def _account(self) -> dict[str, Any]:
        return {
            "DedicatedIpAutoWarmupEnabled": False,
            "EnforcementStatus": "HEALTHY",
            "ProductionAccessEnabled": True,
            "SendingEnabled": self.sending_enabled,
            "SendQuota": {
                "Max24HourSend": self.max_24h,
                "MaxSendRate": self.max_send_rate,
                "SentLast24Hours": float(self.mailbox.sent_last_24_hours),
            },
            "SuppressionAttributes": {"SuppressedReasons": list(self.suppressions.reasons)},
        }

    def _names(self, operation: str, name: str, request: Request) -> dict[str, Any]:
        kind = "Identity" if "Identit" in operation else "ConfigurationSet"
        known = self.identities if kind == "Identity" else self.configuration_sets
        if operation.startswith("List"):
            return ses_answers.listing(kind, list(known))
        if operation.startswith("Create"):
            wanted = json_body(request).get("EmailIdentity" if kind == "Identity" else "ConfigurationSetName")
            if not isinstance(wanted, str) or not wanted:
                raise bad_request("The name is missing.")
            if wanted in known:
                raise ApiError(400, "AlreadyExistsException", f"{wanted} already exists.")
            known[wanted] = None
            return ses_answers.identity(wanted) if kind == "Identity" else {}
        if name not in known and not (
            kind == "Identity" and self.any_identity and operation.startswith("Get")
        ):
            raise ApiError(404, "NotFoundException", f"{kind} <{name}> does not exist.")
        if operation.startswith("Delete"):
            del known[name]
            self.event_destinations.pop(name, None)
            return {}
        return ses_answers.identity(name) if kind == "Identity" else ses_answers.configuration_set(name)

    def _destinations(self, operation: str, parts: list[str], request: Request) -> dict[str, Any]:
        """Event destinations of a configuration set: to an SNS topic, or to EventBridge."""
        if parts[1] not in self.configuration_sets:
            raise ApiError(404, "NotFoundException", f"Configuration set <{parts[1]}> does not exist.")
        known = self.event_destinations.setdefault(parts[1], {})
        if operation.startswith("Get"):
            return {"EventDestinations": [{"Name": name, **each} for name, each in known.items()]}
        data = json_body(request)
        creating = operation.startswith("Create")
        name = data.get("EventDestinationName") if creating else parts[3]
        if not isinstance(name, str) or not _TAG.fullmatch(name):
            raise bad_request("The event destination's name is letters, digits, _ and - only.")
        if creating and name in known:
            raise ApiError(400, "AlreadyExistsException", f"Event destination <{name}> already exists.")
        if not creating and name not in known:
            raise ApiError(404, "NotFoundException", f"Event destination <{name}> does not exist.")
        if operation.startswith("Delete"):
            del known[name]
            return {}
        wanted = data.get("EventDestination")
        if not isinstance(wanted, dict) or not wanted.get("MatchingEventTypes"):
            raise bad_request("EventDestination.MatchingEventTypes is missing.")
        known[name] = wanted
        return {}


_OPERATIONS: Mapping[tuple[str, str, int], str] = {
    ("GET", "account", 1): "GetAccount",
    ("PUT", "account/sending", 2): "PutAccountSendingAttributes",
    ("PUT", "account/suppression", 2): "PutAccountSuppressionAttributes",
    ("GET", "suppression", 2): "ListSuppressedDestinations",
    ("PUT", "suppression", 2): "PutSuppressedDestination",
    ("GET", "suppression", 3): "GetSuppressedDestination",
    ("DELETE", "suppression", 3): "DeleteSuppressedDestination",
    ("POST", "list-identities", 1): "ListEmailIdentities",
    ("POST", "list-configuration-sets", 1): "ListConfigurationSets",
    ("GET", "identities", 1): "ListEmailIdentities",
    ("POST", "identities", 1): "CreateEmailIdentity",
    ("GET", "identities", 2): "GetEmailIdentity",
    ("DELETE", "identities", 2): "DeleteEmailIdentity",
    ("GET", "configuration-sets", 1): "ListConfigurationSets",
    ("POST", "configuration-sets", 1): "CreateConfigurationSet",
    ("GET", "configuration-sets", 2): "GetConfigurationSet",
    ("GET", "configuration-sets", 3): "GetConfigurationSetEventDestinations",
    ("POST", "configuration-sets", 3): "CreateConfigurationSetEventDestination",
    ("PUT", "configuration-sets", 4): "UpdateConfigurationSetEventDestination",
    ("DELETE", "configuration-sets", 4): "DeleteConfigurationSetEventDestination",
    ("DELETE", "configuration-sets", 2): "DeleteConfigurationSet",
}
"""(method, first part of the path, number of parts) → operation. The lists have two addresses: AWS has changed
them, and SDKs of both ages are in use."""


def _address(value: Any) -> str:
    """The bare address of `Name <address>`. Addresses and names must be ASCII, as with SES."""
    if not isinstance(value, str) or not value.isascii():
        raise bad_request(
            "Address contains non-ASCII characters: encode names as RFC 2047, domains as punycode."
        )
    found = _ADDRESS.fullmatch(value.strip())
    if found is None:
        raise bad_request("Missing final '@domain'" if "@" not in value else "Illegal address.")
    return found[1]


def _check_simple(simple: Any) -> None:
    try:
        subject = simple["Subject"]["Data"]
        body = simple["Body"]
        parts = [body[name]["Data"] for name in ("Text", "Html") if name in body]
    except (KeyError, TypeError):
        raise bad_request("Content.Simple needs Subject.Data and Body with Text.Data or Html.Data.") from None
    if not parts or not all(isinstance(part, str) for part in [subject, *parts]):
        raise bad_request("Content.Simple needs Subject.Data and Body with Text.Data or Html.Data.")
    if "\n" in subject or "\r" in subject:
        raise bad_request("The subject contains a line break.")
    if sum(len(part) for part in parts) > MAX_MESSAGE_BYTES:
        raise bad_request("Message length is more than 41943040 bytes long.")
    headers = simple.get("Headers") or []
    if len(headers) > MAX_HEADERS:
        raise bad_request(f"At most {MAX_HEADERS} headers.")
    for item in headers:
        if not (
            _HEADER_NAME.fullmatch(item.get("Name", "")) and _HEADER_VALUE.fullmatch(item.get("Value", ""))
        ):
            raise bad_request("Invalid header: names and values are printable ASCII.")


def _check_raw(raw: Any) -> None:
    try:
        data = base64.b64decode(raw["Data"], validate=True)
    except (KeyError, TypeError, binascii.Error):
        raise bad_request("Content.Raw.Data must be base64.") from None
    if not data.strip():
        raise bad_request("The raw message is empty.")
    if len(data) > MAX_MESSAGE_BYTES:
        raise bad_request("Message length is more than 41943040 bytes long.")
