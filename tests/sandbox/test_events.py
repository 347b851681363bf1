"""What the sandbox publishes about the mails that it takes."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from emailoffload.feedback.models import EventType
from emailoffload.feedback.parse import Parsed, parse
from emailoffload.sandbox.event_shapes import WHATS, Wrapping
from emailoffload.sandbox.events import STORIES, WRAPPINGS, Events, Options
from emailoffload.sandbox.mailbox import Message
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.sandbox.suppression_list import SuppressionList
from tests.sandbox.conftest import NOW, client_for

Build = Callable[..., dict[str, Any]]
SET = "email-offload"
AT_ONCE = Options(delay=0)
SIMULATOR = "simulator.amazonses.com"


@pytest.fixture
def server() -> Iterator[SandboxSES]:
    with SandboxSES(events=AT_ONCE) as ses:
        yield ses


def waiting(ses: SandboxSES) -> list[str]:
    """What lies in the queue, oldest first."""
    return ses.api.sqs.queue.bodies()


def read(bodies: list[str]) -> list[Parsed]:
    return [event for body in bodies for event in parse(body.encode())]


def kinds(bodies: list[str]) -> list[tuple[str, str, str]]:
    return [(event.type.value, event.kind, event.subkind) for event in read(bodies)]


BOUNCED = ("bounce", "permanent", "General")
SENT, DELIVERED = ("send", "", ""), ("delivery", "", "")


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        (f"success@{SIMULATOR}", [SENT, DELIVERED]),
        (f"success+a-label@{SIMULATOR}", [SENT, DELIVERED]),
        (f"bounce@{SIMULATOR}", [SENT, BOUNCED]),
        (f"complaint@{SIMULATOR}", [SENT, DELIVERED, ("complaint", "abuse", "")]),
        (f"ooto@{SIMULATOR}", [SENT, DELIVERED, ("bounce", "transient", "General")]),
        (f"suppressionlist@{SIMULATOR}", [SENT, ("bounce", "permanent", "Suppressed")]),
        (f"nobody@{SIMULATOR}", [SENT, BOUNCED]),
        ("zoe@learn.example", [SENT, DELIVERED]),
        ("zoe+news@learn.example", [SENT, DELIVERED]),
        ("bounce@learn.example", [SENT, DELIVERED]),
        ("zoe+bounce@learn.example", [SENT, BOUNCED]),
        ("Zoë <Zoe+Full@learn.example>", [SENT, ("bounce", "transient", "MailboxFull")]),
        ("zoe+delay@learn.example", [SENT, ("delay", "", "TransientCommunicationFailure"), DELIVERED]),
        ("zoe+stuck@learn.example", [SENT, ("delay", "", "TransientCommunicationFailure")]),
        ("zoe+click@learn.example", [SENT, DELIVERED, ("open", "", ""), ("click", "", "")]),
        ("zoe+reject@learn.example", [SENT, ("reject", "", "")]),
    ],
)
def test_the_address_decides_what_becomes_of_a_mail(
    server: SandboxSES, simple: Build, to: str, expected: list[tuple[str, str, str]]
) -> None:
    address = to.replace("Zoë", "=?utf-8?q?Zo=C3=AB?=")
    answer = client_for(server).send_email(**simple(address, ConfigurationSetName=SET))
    assert kinds(waiting(server)) == [(EventType(_TYPES.get(a, a)).value, b, c) for a, b, c in expected]
    for event in read(waiting(server)):
        assert (event.message_id, event.ref) == (answer["MessageId"], "ab" * 16)
        assert event.identity == "learn.example"
        assert event.address == to.rpartition("<")[2].rstrip(">").lower()


_TYPES = {"delay": EventType.DELIVERY_DELAY.value}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("what", WHATS)
def test_every_event_is_one_that_the_product_reads(what: str, wrapping: Wrapping, simple: Build) -> None:
    bodies: list[str] = []
    events = Events(bodies.append, SuppressionList(), Options(wrapping=wrapping), lambda: 1_800_000_000.5)
    events.publish(what, Message(1, "id-1", 1_799_999_999.0, simple(ConfigurationSetName=SET)))
    (event,) = read(bodies)
    assert (event.message_id, event.ref, event.address) == ("id-1", "ab" * 16, "zoe@learn.example")
    assert event.at.timestamp() == pytest.approx(1_800_000_000.5, abs=0.001) or what in _TIMELESS
    assert not event.foreign


_TIMELESS = {"send", "reject", "rendering-failure"}
"""Their time is the mail's own."""


def test_a_mail_without_a_configuration_set_has_no_events(server: SandboxSES, simple: Build) -> None:
    client_for(server).send_email(**simple())
    assert waiting(server) == []


def test_an_event_destination_decides_what_is_published(simple: Build) -> None:
    with SandboxSES() as ses:
        client = client_for(ses)
        client.send_email(**simple(ConfigurationSetName=SET))
        assert waiting(ses) == []
        for name, changes in (
            ("off", {"Enabled": False}),
            ("elsewhere", {"SnsDestination": {"TopicArn": "arn:aws:sns:eu-west-1:123456789012:other"}}),
            ("sends", {"MatchingEventTypes": ["SEND"]}),
        ):
            (wanted,) = ses.api.events.destinations().values()
            client.create_configuration_set_event_destination(
                ConfigurationSetName=SET, EventDestinationName=name, EventDestination={**wanted, **changes}
            )
        client.send_email(**simple(ConfigurationSetName=SET))
        assert kinds(waiting(ses)) == [SENT]


def test_opens_and_clicks_need_an_html_part(server: SandboxSES, simple: Build) -> None:
    request = simple("zoe+click@learn.example", ConfigurationSetName=SET)
    del request["Content"]["Simple"]["Body"]["Html"]
    client_for(server).send_email(**request)
    assert kinds(waiting(server)) == [SENT, DELIVERED]


def test_events_come_when_their_time_has_come(simple: Build) -> None:
    now = [float(NOW)]
    bodies: list[str] = []
    events = Events(bodies.append, SuppressionList(), Options(delay=60), lambda: now[0])
    message = Message(1, "id-1", now[0], simple("zoe+open@learn.example", ConfigurationSetName=SET))
    events.accepted(message, events.destinations().values())
    seen = []
    for passed in (0, 59, 60, 239, 240):
        now[0] = float(NOW + passed)
        events.tick()
        seen.append(len(bodies))
    assert seen == [1, 1, 2, 2, 3] and events.waiting == 0
    assert [event.at.timestamp() - NOW for event in read(bodies)] == [0, 60, 240]


def test_events_come_late_twice_and_in_another_order_on_request(simple: Build) -> None:
    now = [float(NOW)]
    bodies: list[str] = []
    events = Events(
        bodies.append, SuppressionList(), Options(delay=1, scatter=500, duplicates=0.5), lambda: now[0]
    )
    for number in range(20):
        message = Message(
            number, f"id-{number}", now[0], simple("z+click@learn.example", ConfigurationSetName=SET)
        )
        events.accepted(message, events.destinations().values())
    now[0] = NOW + 3000.0
    events.tick()
    times = [event.at for event in read(bodies)]
    assert times != sorted(times)
    assert len({event.key for event in read(bodies)}) == 80 < len(bodies) < 160


def test_bounces_and_complaints_put_an_address_on_the_accounts_list_and_others_do_not(
    server: SandboxSES, simple: Build
) -> None:
    client = client_for(server)
    for name in ("bounce", "complaint", "full", "ooto"):
        client.send_email(**simple(f"zoe+{name}@learn.example", ConfigurationSetName=SET))
        client.send_email(**simple(f"{name}@{SIMULATOR}", ConfigurationSetName=SET))
    found = client.list_suppressed_destinations()["SuppressedDestinationSummaries"]
    assert [(each["EmailAddress"], each["Reason"]) for each in found] == [
        ("zoe+bounce@learn.example", "BOUNCE"),
        ("zoe+complaint@learn.example", "COMPLAINT"),
    ]
    one = client.get_suppressed_destination(EmailAddress="zoe+bounce@learn.example")["SuppressedDestination"]
    assert one["Attributes"]["MessageId"] == server.messages[0].message_id


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("BOUNCE", ("bounce", "permanent", "OnAccountSuppressionList")),
        ("COMPLAINT", ("complaint", "", "OnAccountSuppressionList")),
    ],
)
def test_mails_to_a_suppressed_address_are_taken_and_not_delivered(
    server: SandboxSES, simple: Build, reason: str, expected: tuple[str, str, str]
) -> None:
    client = client_for(server)
    client.put_suppressed_destination(EmailAddress="Zoe@learn.example", Reason=reason)
    client.send_email(**simple(ConfigurationSetName=SET))
    assert kinds(waiting(server)) == [SENT, expected]
    client.delete_suppressed_destination(EmailAddress="zoe@learn.example")
    client.send_email(**simple(ConfigurationSetName=SET))
    assert kinds(waiting(server))[2:] == [SENT, DELIVERED]
    client.put_suppressed_destination(EmailAddress="zoe@learn.example", Reason=reason)
    client.put_account_suppression_attributes(SuppressedReasons=[])
    assert client.get_account()["SuppressionAttributes"]["SuppressedReasons"] == []
    client.send_email(**simple(ConfigurationSetName=SET))
    assert kinds(waiting(server))[4:] == [SENT, DELIVERED]


def test_the_accounts_list_is_read_page_by_page_and_filtered(server: SandboxSES) -> None:
    client = client_for(server)
    for number in range(5):
        reason = "COMPLAINT" if number == 2 else "BOUNCE"
        client.put_suppressed_destination(EmailAddress=f"u{number}@learn.example", Reason=reason)
    pages: list[list[str]] = []
    token: dict[str, str] = {}
    while True:
        answer = client.list_suppressed_destinations(PageSize=2, **token)
        pages.append([each["EmailAddress"][:2] for each in answer["SuppressedDestinationSummaries"]])
        if "NextToken" not in answer:
            break
        token = {"NextToken": answer["NextToken"]}
    assert pages == [["u0", "u1"], ["u2", "u3"], ["u4"]]
    only = client.list_suppressed_destinations(Reasons=["COMPLAINT"])["SuppressedDestinationSummaries"]
    assert [each["EmailAddress"] for each in only] == ["u2@learn.example"]
    at = only[0]["LastUpdateTime"]
    for window, count in (({"StartDate": at.replace(year=2090)}, 0), ({"EndDate": at.replace(year=2090)}, 5)):
        found = client.list_suppressed_destinations(**window)["SuppressedDestinationSummaries"]
        assert len(found) == count


@pytest.mark.parametrize(
    ("call", "values", "code"),
    [
        ("get_suppressed_destination", {"EmailAddress": "no@learn.example"}, "NotFoundException"),
        ("delete_suppressed_destination", {"EmailAddress": "no@learn.example"}, "NotFoundException"),
        ("put_suppressed_destination", {"EmailAddress": "nobody", "Reason": "BOUNCE"}, "BadRequestException"),
        (
            "put_suppressed_destination",
            {"EmailAddress": "a@b.example", "Reason": "MOOD"},
            "BadRequestException",
        ),
        ("list_suppressed_destinations", {"PageSize": 1001}, "BadRequestException"),
        ("list_suppressed_destinations", {"NextToken": "é"}, "BadRequestException"),
    ],
)
def test_what_ses_refuses_about_its_list_is_refused(
    server: SandboxSES, call: str, values: dict[str, Any], code: str
) -> None:
    with pytest.raises(ClientError) as caught:
        getattr(client_for(server), call)(**values)
    assert caught.value.response["Error"]["Code"] == code


def test_what_is_to_come_is_kept_over_a_restart(tmp_path: Path, simple: Build) -> None:
    store = tmp_path / "ses.sqlite3"
    with SandboxSES(store=store, events=Options(delay=3600)) as ses:
        client_for(ses).send_email(**simple("zoe+bounce@learn.example", ConfigurationSetName=SET))
        client_for(ses).put_suppressed_destination(EmailAddress="a@learn.example", Reason="BOUNCE")
        before = waiting(ses)
        assert kinds(before) == [SENT] and ses.api.events.waiting == 1
    with SandboxSES(store=store, events=Options(delay=3600)) as ses:
        assert waiting(ses) == before and ses.api.events.waiting == 1
        assert ses.api.suppressions.reason("a@learn.example") == "BOUNCE"


# --- on command ---


def post(ses: SandboxSES, path: str, data: bytes, kind: str) -> Any:
    request = urllib.request.Request(ses.url + path, data, {"Content-Type": kind})
    return urllib.request.urlopen(request)


def test_an_event_is_published_on_command(server: SandboxSES, simple: Build) -> None:
    client_for(server).send_email(**simple())
    order = json.dumps({"what": "complaint", "message": 1}).encode()
    answer = json.load(post(server, "/_sandbox/events", order, "application/json"))
    assert (answer["type"], answer["address"]) == ("Complaint", "zoe@learn.example")
    assert kinds(waiting(server)) == [("complaint", "abuse", "")]
    listed = json.load(urllib.request.urlopen(f"{server.url}/_sandbox/events"))
    assert (listed["events"], listed["waiting"]) == ([answer], 0)
    assert server.publish("not-spam", 1).what == "not-spam" and len(waiting(server)) == 2


@pytest.mark.parametrize(
    ("order", "kind", "status"),
    [
        ({"what": "bounce", "message": 9}, "application/json", 404),
        ({"what": "joy", "message": 1}, "application/json", 400),
        ({"message": 1}, "application/json", 400),
        (["bounce"], "application/json", 400),
        ({"what": "bounce", "message": 1}, "text/plain", 415),
    ],
)
def test_a_command_that_cannot_be_obeyed_is_refused(
    server: SandboxSES, simple: Build, order: Any, kind: str, status: int
) -> None:
    client_for(server).send_email(**simple())
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(server, "/_sandbox/events", json.dumps(order).encode(), kind)
    assert caught.value.code == status
    assert waiting(server) == []


def form(server: SandboxSES, **changes: str) -> bytes:
    fields = {"token": _token(server), "message": "1", "what": "bounce", **changes}
    return urllib.parse.urlencode(fields).encode()


def _token(server: SandboxSES) -> str:
    page: str = urllib.request.urlopen(f"{server.url}/messages/1").read().decode()
    return page.partition('name="token" value="')[2].partition('"')[0]


def test_a_form_on_a_messages_page_publishes_and_shows_what_became_of_it(
    server: SandboxSES, simple: Build
) -> None:
    client_for(server).send_email(**simple())
    page = post(server, "/events", form(server), "application/x-www-form-urlencoded")
    assert page.url == f"{server.url}/messages/1"
    assert "there is no such mailbox" in page.read().decode()
    assert kinds(waiting(server)) == [BOUNCED]
    assert "Bounce" in urllib.request.urlopen(f"{server.url}/events").read().decode()
    suppressed = urllib.request.urlopen(f"{server.url}/suppressions").read().decode()
    assert "zoe@learn.example" in suppressed and "BOUNCE" in suppressed


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"token": "x"}, 403), ({"message": "9"}, 404), ({"message": "x"}, 404), ({"what": "joy"}, 404)],
)
def test_a_form_that_is_not_the_pages_own_publishes_nothing(
    server: SandboxSES, simple: Build, changes: dict[str, str], status: int
) -> None:
    client_for(server).send_email(**simple())
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(server, "/events", form(server, **changes), "application/x-www-form-urlencoded")
    assert caught.value.code == status
    assert waiting(server) == []


def test_every_story_is_told_with_events_that_there_are() -> None:
    assert {what for story in STORIES.values() for what, _times in story} <= set(WHATS)
