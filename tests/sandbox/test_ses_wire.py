"""The sandbox SES as boto3 sees it."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from emailoffload.sandbox.ses_server import SandboxSES
from tests.sandbox.conftest import client_for

Build = Callable[..., dict[str, Any]]


def code_of(call: Callable[[], object]) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        call()
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def test_a_simple_message_is_accepted_and_kept_as_sent(ses: SandboxSES, client: Any, simple: Build) -> None:
    answer = client.send_email(**simple())
    (message,) = ses.messages
    assert answer["MessageId"] == message.message_id
    assert answer["ResponseMetadata"]["RequestId"]
    assert message.recipients == ["zoe@learn.example"]
    assert (message.subject, message.text) == ("Größe & <Maß>", "Plain körper")
    assert message.html == "<p>Rich <b>körper</b></p>"
    assert message.tags == {"email-offload-id": "ab" * 16}
    assert message.header("x-email-offload-id") == message.offload_id == "ab" * 16


def test_a_raw_message_is_accepted_and_decoded(ses: SandboxSES, client: Any) -> None:
    mime = EmailMessage()
    mime["From"], mime["To"], mime["Subject"] = "a@learn.example", "b@learn.example", "Größe"
    mime.set_content("Körper")
    mime.add_alternative("<p>Körper</p>", subtype="html")
    client.send_email(
        Content={"Raw": {"Data": bytes(mime)}}, Destination={"ToAddresses": ["c@learn.example"]}
    )
    (message,) = ses.messages
    assert message.recipients == ["c@learn.example"]
    assert (message.subject, message.text.strip(), message.html.strip()) == (
        "Größe",
        "Körper",
        "<p>Körper</p>",
    )


def test_the_account_says_its_quota_and_what_was_sent(client: Any, simple: Build) -> None:
    client.send_email(**simple())
    client.send_email(**simple(to="success@simulator.amazonses.com"))
    account = client.get_account()
    assert account["SendingEnabled"] and account["EnforcementStatus"] == "HEALTHY"
    assert account["SendQuota"] == {"Max24HourSend": 1e6, "MaxSendRate": 1000.0, "SentLast24Hours": 1.0}


@pytest.mark.parametrize(
    "changes",
    [
        {"Content": {"Template": {"TemplateName": "t", "TemplateData": "{}"}}},
        {"Destination": {"ToAddresses": []}},
        {"Destination": {"ToAddresses": ["no-at-sign"]}},
        {"Destination": {"ToAddresses": ["zoë@learn.example"]}},
        {"Destination": {"ToAddresses": [f"u{n}@learn.example" for n in range(51)]}},
        {"FromEmailAddress": "Café <noreply@learn.example>"},
        {"EmailTags": [{"Name": "name", "Value": "not allowed!"}]},
        {"Content": {"Raw": {"Data": b""}}},
        {"Content": {"Simple": {"Subject": {"Data": "a\nb"}, "Body": {"Text": {"Data": "x"}}}}},
        {"Content": {"Simple": {"Subject": {"Data": "a"}, "Body": {}}}},
    ],
)
def test_what_ses_refuses_is_refused(
    ses: SandboxSES, client: Any, simple: Build, changes: dict[str, Any]
) -> None:
    assert code_of(lambda: client.send_email(**simple(**changes))) == ("BadRequestException", 400)
    assert ses.accepted == 0


def test_a_header_that_is_not_ascii_is_refused(client: Any, simple: Build) -> None:
    request = simple()
    request["Content"]["Simple"]["Headers"][0]["Value"] = "wörd"
    assert code_of(lambda: client.send_email(**request)) == ("BadRequestException", 400)


def test_event_destinations_are_kept_changed_and_deleted() -> None:
    topic = {"TopicArn": "arn:aws:sns:eu-west-1:123456789012:events"}
    wanted = {"Enabled": True, "MatchingEventTypes": ["SEND", "BOUNCE"], "SnsDestination": topic}
    named = {"ConfigurationSetName": "mine", "EventDestinationName": "events"}
    with SandboxSES(configuration_sets=("mine",)) as ses:
        client = client_for(ses)

        def held() -> Any:
            answer = client.get_configuration_set_event_destinations(ConfigurationSetName="mine")
            return answer["EventDestinations"]

        client.create_configuration_set_event_destination(**named, EventDestination=wanted)
        assert held() == [{"Name": "events", **wanted}]
        make = client.create_configuration_set_event_destination
        assert code_of(lambda: make(**named, EventDestination=wanted))[0] == "AlreadyExistsException"
        changed = {**wanted, "MatchingEventTypes": ["SEND"]}
        client.update_configuration_set_event_destination(**named, EventDestination=changed)
        assert held() == [{"Name": "events", **changed}]
        client.delete_configuration_set_event_destination(**named)
        assert held() == []
        delete = client.delete_configuration_set_event_destination
        assert code_of(lambda: delete(**named))[0] == "NotFoundException"


def test_configuration_sets_and_identities_exist_or_not(simple: Build) -> None:
    with SandboxSES(identities=("learn.example",), configuration_sets=("mine",)) as ses:
        client = client_for(ses)
        assert client.get_configuration_set(ConfigurationSetName="mine")["ConfigurationSetName"] == "mine"
        assert (
            code_of(lambda: client.get_configuration_set(ConfigurationSetName="other"))[0]
            == "NotFoundException"
        )
        assert client.get_email_identity(EmailIdentity="learn.example")["VerifiedForSendingStatus"]
        assert code_of(lambda: client.get_email_identity(EmailIdentity="x.example"))[0] == "NotFoundException"
        client.create_email_identity(EmailIdentity="x.example")
        assert [i["IdentityName"] for i in client.list_email_identities()["EmailIdentities"]] == [
            "learn.example",
            "x.example",
        ]
        client.send_email(**simple(ConfigurationSetName="mine"))
        assert (
            code_of(lambda: client.send_email(**simple(ConfigurationSetName="no")))[0] == "NotFoundException"
        )
        wrong = simple(FromEmailAddress="a@unverified.example")
        assert code_of(lambda: client.send_email(**wrong)) == ("MessageRejected", 400)
        assert ses.accepted == 1


def test_sending_can_be_paused_and_resumed(client: Any, simple: Build) -> None:
    client.put_account_sending_attributes(SendingEnabled=False)
    assert client.get_account()["SendingEnabled"] is False
    assert code_of(lambda: client.send_email(**simple())) == ("SendingPausedException", 400)
    client.put_account_sending_attributes(SendingEnabled=True)
    client.send_email(**simple())


def test_the_sending_rate_and_the_daily_quota_are_enforced(simple: Build) -> None:
    with SandboxSES(max_send_rate=0.01, enforce_rate=True) as ses:
        client = client_for(ses)
        client.send_email(**simple())
        assert code_of(lambda: client.send_email(**simple())) == ("TooManyRequestsException", 429)
    with SandboxSES(max_24h=1) as ses:
        client = client_for(ses)
        client.send_email(**simple())
        assert code_of(lambda: client.send_email(**simple())) == ("TooManyRequestsException", 429)


def test_a_call_without_a_signature_is_refused(ses: SandboxSES) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{ses.url}/v2/email/account")
    assert caught.value.code == 403
    assert caught.value.headers["x-amzn-ErrorType"] == "MissingAuthenticationTokenException"
    assert json.loads(caught.value.read())["__type"] == "MissingAuthenticationTokenException"
    assert caught.value.headers["x-amzn-RequestId"]


def test_duplicates_are_counted_by_our_id(ses: SandboxSES, client: Any, simple: Build) -> None:
    for ref in ("a" * 32, "b" * 32, "a" * 32):
        client.send_email(**simple(ref=ref))
    stats = json.load(urllib.request.urlopen(f"{ses.url}/_sandbox/stats"))
    assert (stats["accepted"], stats["distinct_offload_ids"], stats["duplicates"]) == (3, 2, 1)
    assert stats["duplicated_offload_ids"] == ["a" * 32]
    assert sum(stats["by_second"].values()) == 3
    assert 1 <= stats["max_in_one_second"] <= 3


def test_discarding_keeps_the_counters_only(simple: Build) -> None:
    with SandboxSES(discard=True) as ses:
        client_for(ses).send_email(**simple())
        assert ses.accepted == 1 and ses.messages == []


def test_a_store_keeps_messages_over_a_restart(tmp_path: Path, simple: Build) -> None:
    store = tmp_path / "ses.sqlite3"
    with SandboxSES(store=store) as ses:
        client_for(ses).send_email(**simple())
        first = ses.messages
    with SandboxSES(store=store) as ses:
        assert ses.messages == first
        client_for(ses).send_email(**simple())
        assert ses.stats()["duplicates"] == 1
    assert store.stat().st_mode & 0o077 == 0


def test_messages_can_be_read_since_a_number(ses: SandboxSES, client: Any, simple: Build) -> None:
    for number in range(3):
        client.send_email(**simple(to=f"u{number}@learn.example"))
    found = json.load(urllib.request.urlopen(f"{ses.url}/_sandbox/messages?since=1&limit=1"))["messages"]
    assert [(item["number"], item["to"]) for item in found] == [(2, ["u1@learn.example"])]


def test_several_requests_in_one_write_are_answered_in_order(ses: SandboxSES) -> None:
    with socket.create_connection(("127.0.0.1", ses.port)) as sock:
        request = "GET /_sandbox/{} HTTP/1.1\r\nHost: 127.0.0.1\r\n{}\r\n"
        sock.sendall(
            (request.format("nothing", "") + request.format("faults", "Connection: close\r\n")).encode()
        )
        answer = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
    assert answer.index("404 Not Found") < answer.index("200 OK") < answer.index('{"faults": []}')


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET / HTTP/1.1\r\nHost: attacker.example:80\r\n\r\n", 421),
        ("GET / HTTP/1.1\r\n\r\n", 421),
        ("nonsense\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        ("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n", 413),
        ("GET / HTTP/1.1\r\nX: " + "a" * 70000, 431),
    ],
)
def test_requests_that_cannot_be_meant_for_it_are_refused(ses: SandboxSES, head: str, status: int) -> None:
    with socket.create_connection(("127.0.0.1", ses.port)) as sock:
        sock.sendall(head.encode())
        assert sock.recv(65536).startswith(f"HTTP/1.1 {status} ".encode())


def test_a_port_that_is_taken_is_an_error(ses: SandboxSES) -> None:
    with pytest.raises(OSError, match="in use"), SandboxSES(port=ses.port):
        pass
