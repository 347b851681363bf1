"""The sandbox's queue, as boto3 sees it, and beside it a maintained emulator's: both keep the same promises."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from emailoffload.sandbox.events import QUEUE
from emailoffload.sandbox.ses_server import SandboxSES

NAMES = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]


@dataclass
class Place:
    """A queue, and a client for it."""

    sqs: Any
    url: str

    def take(self, most: int = 10, **options: Any) -> list[dict[str, Any]]:
        options = {"WaitTimeSeconds": 0, **options}
        answer = self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=most, **options)
        found: list[dict[str, Any]] = answer.get("Messages", [])
        return found

    def put(self, *bodies: str) -> None:
        for body in bodies:
            self.sqs.send_message(QueueUrl=self.url, MessageBody=body)

    def counts(self) -> list[int]:
        values = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=NAMES)["Attributes"]
        return [int(values[name]) for name in NAMES]


def client(address: str) -> Any:
    config = Config(retries={"total_max_attempts": 1}, read_timeout=30)
    return boto3.client("sqs", endpoint_url=address, region_name="eu-west-1", config=config)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxSES]:
    with SandboxSES() as ses:
        yield ses


@pytest.fixture
def ours(sandbox: SandboxSES) -> Place:
    sandbox.api.sqs.queue.purge()
    sandbox.api.sqs.queue.purged = None
    return Place(client(sandbox.url), sandbox.queue_url)


@pytest.fixture
def emulator(aws_server: str) -> Iterator[Place]:
    sqs = client(aws_server)
    url = sqs.create_queue(QueueName=f"sandbox-{uuid.uuid4().hex}")["QueueUrl"]
    yield Place(sqs, url)
    sqs.delete_queue(QueueUrl=url)


@pytest.fixture(params=["ours", "emulator"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(ClientError) as caught:
        call()
    return str(caught.value.response["Error"]["Code"])


def test_a_message_is_handed_out_hidden_and_deleted(place: Place) -> None:
    sent = place.sqs.send_message(QueueUrl=place.url, MessageBody="größe")
    assert place.counts() == [1, 0]
    (got,) = place.take(MessageSystemAttributeNames=["All"])
    assert (got["Body"], got["MessageId"]) == ("größe", sent["MessageId"])
    assert got["MD5OfBody"] == sent["MD5OfMessageBody"]
    assert got["Attributes"]["ApproximateReceiveCount"] == "1"
    assert abs(int(got["Attributes"]["SentTimestamp"]) / 1000 - time.time()) < 60
    assert place.take() == [] and place.counts() == [0, 1]
    place.sqs.delete_message(QueueUrl=place.url, ReceiptHandle=got["ReceiptHandle"])
    assert place.counts() == [0, 0]
    place.sqs.delete_message(QueueUrl=place.url, ReceiptHandle=got["ReceiptHandle"])  # no error


def test_system_attributes_come_only_when_asked_for(place: Place) -> None:
    place.put("a")
    (got,) = place.take(AttributeNames=["SentTimestamp"], VisibilityTimeout=0)
    assert list(got["Attributes"]) == ["SentTimestamp"]
    assert "Attributes" not in place.take()[0]


def test_what_is_not_deleted_in_time_comes_again(place: Place) -> None:
    place.put("a", "b")
    first = place.take(VisibilityTimeout=1)
    assert sorted(each["Body"] for each in first) == ["a", "b"]
    again: list[dict[str, Any]] = []
    while len(again) < 2:
        again += place.take(WaitTimeSeconds=2, MessageSystemAttributeNames=["All"])
    assert {each["Attributes"]["ApproximateReceiveCount"] for each in again} == {"2"}


def test_a_message_that_is_given_back_is_there_at_once(place: Place) -> None:
    place.put("a")
    (got,) = place.take()
    place.sqs.change_message_visibility(
        QueueUrl=place.url, ReceiptHandle=got["ReceiptHandle"], VisibilityTimeout=0
    )
    (again,) = place.take()
    answer = place.sqs.change_message_visibility_batch(
        QueueUrl=place.url,
        Entries=[{"Id": "0", "ReceiptHandle": again["ReceiptHandle"], "VisibilityTimeout": 0}],
    )
    assert [each["Id"] for each in answer["Successful"]] == ["0"]
    assert [each["Body"] for each in place.take()] == ["a"]


def test_an_answer_holds_ten_messages_at_most_and_one_unless_asked(place: Place) -> None:
    entries = [{"Id": str(number), "MessageBody": f"m{number}"} for number in range(10)]
    answer = place.sqs.send_message_batch(QueueUrl=place.url, Entries=entries)
    assert len(answer["Successful"]) == 10
    place.put("m10")
    assert len(place.sqs.receive_message(QueueUrl=place.url)["Messages"]) == 1
    got = place.take()
    assert len(got) == 10 and place.take() == []
    handles = [{"Id": str(n), "ReceiptHandle": each["ReceiptHandle"]} for n, each in enumerate(got)]
    gone = place.sqs.delete_message_batch(QueueUrl=place.url, Entries=handles)
    assert len(gone["Successful"]) == 10 and not gone.get("Failed")
    assert place.counts() == [0, 1]


def test_a_long_poll_is_answered_as_soon_as_a_message_comes(place: Place) -> None:
    sender = threading.Timer(0.3, place.put, ["late"])
    sender.start()
    started = time.monotonic()
    assert [each["Body"] for each in place.take(WaitTimeSeconds=20)] == ["late"]
    assert time.monotonic() - started < 15
    sender.join()


def test_a_long_poll_ends_with_nothing_after_its_time(place: Place) -> None:
    started = time.monotonic()
    assert place.take(WaitTimeSeconds=1) == []
    assert time.monotonic() - started >= 0.9


def test_a_delayed_message_comes_later(place: Place) -> None:
    place.sqs.send_message(QueueUrl=place.url, MessageBody="later", DelaySeconds=1)
    assert place.take() == []
    assert [each["Body"] for each in place.take(WaitTimeSeconds=5)] == ["later"]


def test_the_queue_is_found_by_its_name_and_says_what_it_is_like(place: Place) -> None:
    name = place.url.rpartition("/")[2]
    assert place.sqs.get_queue_url(QueueName=name)["QueueUrl"].rpartition("/")[2] == name
    values = place.sqs.get_queue_attributes(QueueUrl=place.url, AttributeNames=["All"])["Attributes"]
    assert values["QueueArn"].endswith(f":{name}")
    assert {"VisibilityTimeout": "30", "DelaySeconds": "0"}.items() <= values.items()
    answer = place.sqs.get_queue_attributes(QueueUrl=place.url, AttributeNames=["RedrivePolicy"])
    assert answer.get("Attributes", {}) == {}


def test_purging_deletes_everything_and_may_not_be_repeated_at_once(place: Place) -> None:
    place.put("a", "b")
    place.take(1)
    place.sqs.purge_queue(QueueUrl=place.url)
    assert place.counts() == [0, 0] and place.take() == []
    again = code_of(lambda: place.sqs.purge_queue(QueueUrl=place.url))
    assert again == "AWS.SimpleQueueService.PurgeQueueInProgress"


def _entries(*ids: str) -> list[dict[str, str]]:
    return [{"Id": name, "MessageBody": "x"} for name in ids]


WRONG: dict[str, tuple[str, Callable[[Place], object]]] = {
    "another queue": (
        "AWS.SimpleQueueService.NonExistentQueue",
        lambda place: place.sqs.receive_message(QueueUrl=place.url + "-other"),
    ),
    "a name of none": (
        "AWS.SimpleQueueService.NonExistentQueue",
        lambda place: place.sqs.get_queue_url(QueueName="nobody-made-it"),
    ),
    "a handle": (
        "ReceiptHandleIsInvalid",
        lambda place: place.sqs.delete_message(QueueUrl=place.url, ReceiptHandle="no handle"),
    ),
    "eleven at once": ("InvalidParameterValue", lambda place: place.take(11)),
    "a long wait": ("InvalidParameterValue", lambda place: place.take(WaitTimeSeconds=21)),
    "no entries": (
        "AWS.SimpleQueueService.EmptyBatchRequest",
        lambda place: place.sqs.send_message_batch(QueueUrl=place.url, Entries=[]),
    ),
    "eleven entries": (
        "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
        lambda place: place.sqs.send_message_batch(
            QueueUrl=place.url, Entries=_entries(*map(str, range(11)))
        ),
    ),
    "an id twice": (
        "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
        lambda place: place.sqs.send_message_batch(QueueUrl=place.url, Entries=_entries("a", "a")),
    ),
    "an id with a space": (
        "AWS.SimpleQueueService.InvalidBatchEntryId",
        lambda place: place.sqs.send_message_batch(QueueUrl=place.url, Entries=_entries("a b")),
    ),
    "an attribute": (
        "InvalidAttributeName",
        lambda place: place.sqs.get_queue_attributes(QueueUrl=place.url, AttributeNames=["Colour"]),
    ),
    "a day of hiding": (
        "InvalidParameterValue",
        lambda place: place.sqs.change_message_visibility(
            QueueUrl=place.url, ReceiptHandle=_held(place), VisibilityTimeout=86400
        ),
    ),
}


def _held(place: Place) -> str:
    place.put("held")
    return str(place.take()[0]["ReceiptHandle"])


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_named_as_sqs_names_it(place: Place, what: str) -> None:
    code, call = WRONG[what]
    assert code_of(lambda: call(place)) == code


def test_one_wrong_entry_of_a_batch_fails_alone(place: Place) -> None:
    handles = [{"Id": "good", "ReceiptHandle": _held(place)}, {"Id": "bad", "ReceiptHandle": "no handle"}]
    answer = place.sqs.delete_message_batch(QueueUrl=place.url, Entries=handles)
    assert [each["Id"] for each in answer["Successful"]] == ["good"]
    (failed,) = answer["Failed"]
    assert (failed["Id"], failed["Code"], failed["SenderFault"]) == ("bad", "ReceiptHandleIsInvalid", True)


# --- what only SQS itself could be compared with ---


def test_a_message_that_nobody_holds_cannot_be_hidden(ours: Place) -> None:
    change = {"QueueUrl": ours.url, "ReceiptHandle": _held(ours)}
    ours.sqs.change_message_visibility(**change, VisibilityTimeout=0)
    code = code_of(lambda: ours.sqs.change_message_visibility(**change, VisibilityTimeout=5))
    assert code == "AWS.SimpleQueueService.MessageNotInflight"


def test_a_reader_that_goes_away_takes_no_message_with_it(ours: Place, sandbox: SandboxSES) -> None:
    config = Config(retries={"total_max_attempts": 1}, read_timeout=0.3)
    hasty = boto3.client("sqs", endpoint_url=sandbox.url, region_name="eu-west-1", config=config)
    with pytest.raises(Exception, match="Read timeout"):
        hasty.receive_message(QueueUrl=ours.url, WaitTimeSeconds=20)
    hasty.close()
    ours.put("for the next one")
    assert [each["Body"] for each in ours.take(WaitTimeSeconds=5)] == ["for the next one"]


@pytest.mark.parametrize(
    ("mode", "code"), [("unavailable", "ServiceUnavailable"), ("denied", "AccessDeniedException")]
)
def test_the_queue_has_bad_days_on_request(ours: Place, sandbox: SandboxSES, mode: str, code: str) -> None:
    ours.put("a")
    sandbox.fault(mode=mode, operation="ReceiveMessage", count=1)
    assert code_of(ours.take) == code
    assert [each["Body"] for each in ours.take()] == ["a"]
    sandbox.fault(mode="error500_after", operation="DeleteMessage", count=1)
    handle = _held(ours)
    assert (
        code_of(lambda: ours.sqs.delete_message(QueueUrl=ours.url, ReceiptHandle=handle)) == "InternalFailure"
    )
    assert ours.counts() == [0, 1]
    sandbox.clear_faults()


def test_it_is_the_queue_of_the_sandbox_that_is_named(sandbox: SandboxSES) -> None:
    found = client(sandbox.url).get_queue_url(QueueName=QUEUE)["QueueUrl"]
    assert found == sandbox.queue_url


def test_a_call_that_is_not_signed_is_refused(ours: Place) -> None:
    from botocore import UNSIGNED

    config = Config(signature_version=UNSIGNED)
    sqs = boto3.client("sqs", endpoint_url=ours.sqs.meta.endpoint_url, region_name="eu-west-1", config=config)
    assert code_of(lambda: sqs.receive_message(QueueUrl=ours.url)) == "MissingAuthenticationToken"
