"""Amazon SES, API v2, through boto3: one client per process, one transmission per call."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import boto3
import botocore.session
from botocore.config import Config
from django.conf import settings

from emailoffload.delivery import errors, transport
from emailoffload.delivery.errors import Outcome, classify

if TYPE_CHECKING:
    from mypy_boto3_sesv2 import SESV2Client

_lock = threading.Lock()
_client: tuple[int, SESV2Client] | None = None
_last_use = 0.0


@dataclass(frozen=True, slots=True)
class Account:
    """What GetAccount says: may we send, mails per second, mails per 24 hours (None: no limit)."""

    sending_enabled: bool
    max_send_rate: float
    max_24h: int | None
    sent_24h: int
    production: bool
    enforcement: str = ""


def client() -> SESV2Client:
    """This process's client, made at first use.

    A client that was made before a fork shares its connections with the parent and would cross answers
    (perf-facts, traps), so it is tied to the process id. Total attempts is 1 because the SDK would otherwise
    transmit an unanswered mail again (design §6). Region, credentials and endpoint: the SDK's own variables.
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
                read_timeout=settings.SES_READ_TIMEOUT_SECONDS,
                max_pool_connections=settings.DISPATCH_THREADS,
                retries={"total_max_attempts": 1, "mode": "standard"},
                tcp_keepalive=True,
                # `message.build` makes requests that pass validation; the tests validate them instead.
                parameter_validation=False,
                disable_request_compression=True,
                user_agent="email-offload",
            )
            # A session of its own: the default session would keep what a parent process read.
            core = botocore.session.get_session()
            new = boto3.session.Session(botocore_session=core).client("sesv2", config=config)
            endpoint = new.meta.endpoint_url
            if transport.applies(endpoint):
                way = transport.Transport(
                    endpoint,
                    settings.SES_CONNECT_TIMEOUT_SECONDS,
                    settings.SES_READ_TIMEOUT_SECONDS,
                    core.get_config_variable("ca_bundle"),
                )
                # What the handler returns is taken for the answer, which the stubs do not know.
                new.meta.events.register("before-send.sesv2.SendEmail", cast(Any, way.send))
            _client = (os.getpid(), new)
        return _client[1]


def forget_client() -> None:
    """Make a new client next time: settings, credentials or endpoint may have changed."""
    global _client
    with _lock:
        if _client and _client[0] == os.getpid():
            _client[1].close()
        _client = None


def wake() -> None:
    """Call before a burst of sends: the SDK's own connections that were silent for long are closed.

    They are used where a proxy is; all others know their own age (`transport`).
    """
    if _client and _client[0] == os.getpid() and time.monotonic() - _last_use > transport.IDLE_SECONDS:
        _client[1].close()


def send(request: Mapping[str, Any], *, sender: str = "", recipient: str = "") -> Outcome:
    """Transmit one mail, once. `request` is of `message.build`; the addresses are bare. Never raises."""
    global _last_use
    try:
        answer = client().send_email(**request)
    except Exception as error:
        # Broad on purpose: whatever happens to one mail is recorded on that mail, as an outcome.
        return classify(error, sender=sender, recipient=recipient)
    finally:
        _last_use = time.monotonic()
    meta = answer["ResponseMetadata"]
    request_id, status = str(meta.get("RequestId", ""))[:128], int(meta.get("HTTPStatusCode", 0))
    message_id = answer.get("MessageId", "")
    if not message_id:
        return Outcome(
            "unknown",
            "NoMessageId",
            errors.UNKNOWN["NoMessageId"],
            request_id=request_id,
            http_status=status,
        )
    return Outcome("accepted", message_id=message_id[:128], request_id=request_id, http_status=status)


def get_account() -> Account | Outcome:
    """What SES says about the account, or the outcome that says why it did not answer. Never raises."""
    try:
        answer = client().get_account()
        quota = answer["SendQuota"]
        maximum = quota["Max24HourSend"]
        return Account(
            sending_enabled=bool(answer.get("SendingEnabled", True)),
            max_send_rate=float(quota["MaxSendRate"]),
            max_24h=None if maximum < 0 else int(maximum),
            sent_24h=int(quota["SentLast24Hours"]),
            production=bool(answer.get("ProductionAccessEnabled", True)),
            enforcement=str(answer.get("EnforcementStatus", "")),
        )
    except (KeyError, TypeError):
        return Outcome("account", "NoSendQuota", errors.ACCOUNT["NoSendQuota"])
    except Exception as error:
        # Broad on purpose, as in `send`: the caller decides by the outcome.
        return classify(error)
