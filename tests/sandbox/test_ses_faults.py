"""What AWS does on bad days, on demand."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError
from botocore.parsers import ResponseParserError

from emailoffload.sandbox.faults import MODES
from emailoffload.sandbox.ses_server import SandboxSES
from tests.sandbox.conftest import client_for

Build = Callable[..., dict[str, Any]]


def control(ses: SandboxSES, method: str, body: object = None, content_type: str = "application/json") -> Any:
    request = urllib.request.Request(
        f"{ses.url}/_sandbox/faults", json.dumps(body).encode() if body is not None else None,
        {"Content-Type": content_type}, method=method,
    )  # fmt: skip
    return json.load(urllib.request.urlopen(request))


@pytest.mark.parametrize("mode", [name for name, mode in MODES.items() if mode.error is not None])
def test_each_error_reaches_the_sdk_under_its_name(
    mode: str, ses: SandboxSES, client: Any, simple: Build
) -> None:
    error = MODES[mode].error
    assert error is not None
    control(ses, "POST", {"mode": mode, "count": 1})
    with pytest.raises(ClientError) as caught:
        client.send_email(**simple())
    response = caught.value.response
    assert (response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]) == error[:2]
    assert response["Error"]["Message"] == error[2]
    assert ses.accepted == MODES[mode].accepts
    client.send_email(**simple())
    assert ses.accepted == 1 + MODES[mode].accepts


@pytest.mark.parametrize(("mode", "taken"), [("hang_before", 0), ("hang_after", 1)])
def test_a_hanging_call_times_out_whether_or_not_the_mail_was_taken(
    mode: str, taken: int, ses: SandboxSES, simple: Build
) -> None:
    ses.fault(mode=mode, count=1)
    with pytest.raises(ReadTimeoutError):
        client_for(ses, read_timeout=0.3).send_email(**simple())
    assert ses.accepted == taken


@pytest.mark.parametrize(("mode", "taken"), [("reset_before", 0), ("reset_after", 1)])
def test_a_reset_ends_the_connection_whether_or_not_the_mail_was_taken(
    mode: str, taken: int, ses: SandboxSES, client: Any, simple: Build
) -> None:
    ses.fault(mode=mode, count=1)
    with pytest.raises(ConnectionClosedError):
        client.send_email(**simple())
    assert ses.accepted == taken


def test_a_slow_answer_comes_late_and_a_garbled_one_cannot_be_read(
    ses: SandboxSES, client: Any, simple: Build
) -> None:
    ses.fault(mode="slow", seconds=0.2, count=1)
    started = time.monotonic()
    assert client.send_email(**simple())["MessageId"]
    assert time.monotonic() - started >= 0.2
    ses.fault(mode="garbage", count=1)
    with pytest.raises((ResponseParserError, UnicodeDecodeError)):
        client.send_email(**simple())
    assert ses.accepted == 2


def test_a_fault_can_be_for_some_addresses_or_for_another_call(
    ses: SandboxSES, client: Any, simple: Build
) -> None:
    fault = ses.fault(mode="reject", match="unlucky@")
    ses.fault(mode="denied", operation="GetAccount")
    client.send_email(**simple())
    with pytest.raises(client.exceptions.MessageRejected):
        client.send_email(**simple(to="Un Lucky <unlucky@learn.example>"))
    assert fault.hits == 1
    with pytest.raises(ClientError, match="AccessDeniedException"):
        client.get_account()
    ses.clear_faults()
    client.send_email(**simple(to="unlucky@learn.example"))


def test_a_probability_hits_some_calls(ses: SandboxSES, client: Any, simple: Build) -> None:
    fault = ses.fault(mode="throttle", probability=0.5)
    for _ in range(40):
        try:
            client.send_email(**simple())
        except client.exceptions.TooManyRequestsException:
            continue
    assert fault.hits == 40 - ses.accepted
    assert 5 < fault.hits < 35


def test_faults_are_listed_and_cleared_over_http(ses: SandboxSES) -> None:
    control(ses, "POST", [{"mode": "pause"}, {"mode": "slow", "seconds": 1}])
    assert [fault["mode"] for fault in control(ses, "GET")["faults"]] == ["pause", "slow"]
    assert control(ses, "DELETE") == {"faults": []}
    assert ses.faults.active == []


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        ({"mode": "nonsense"}, "application/json", 400),
        ({"mode": "pause", "colour": "red"}, "application/json", 400),
        ({"mode": "pause", "count": "three"}, "application/json", 400),
        ({"mode": "pause"}, "text/plain", 415),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(
    ses: SandboxSES, body: object, content_type: str, status: int
) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        control(ses, "POST", body, content_type)
    assert caught.value.code == status
    assert ses.faults.active == []
