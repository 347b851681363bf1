"""SQS and SNS over their real wire protocols: moto in server mode, one for the whole session, on loopback."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator

import pytest
from moto.server import ThreadedMotoServer


@pytest.fixture(scope="session")
def aws_server() -> Iterator[str]:
    """The address of a server that speaks SQS, SNS and more of AWS; one for the session."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it would tell of each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(aws_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The product's SQS and SNS clients go to the test server."""
    from emailoffload.feedback import queue

    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", aws_server)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SNS", aws_server)
    queue.forget_client()
    yield aws_server
    queue.forget_client()


class Queue:
    """One SQS queue, as whoever publishes to it sees it."""

    def __init__(self, url: str) -> None:
        from emailoffload.feedback import queue

        self.url = url
        self.sqs = queue.client()

    def put(self, *bodies: bytes) -> None:
        """Send messages, ten at a time."""
        for start in range(0, len(bodies), 10):
            entries = [
                {"Id": str(number), "MessageBody": body.decode()}
                for number, body in enumerate(bodies[start : start + 10])
            ]
            answer = self.sqs.send_message_batch(QueueUrl=self.url, Entries=entries)  # type: ignore[arg-type]
            assert not answer.get("Failed")

    def left(self) -> tuple[int, int]:
        """How many messages are visible, and how many are with a receiver."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)  # type: ignore[arg-type]
        values = answer["Attributes"]
        return int(values[names[0]]), int(values[names[1]])  # type: ignore[index]


@pytest.fixture
def events_queue(aws: str, settings: object) -> Iterator[Queue]:
    """A fresh queue, which SES_EVENTS_QUEUE_URL names."""
    from emailoffload.feedback import queue

    url = queue.client().create_queue(QueueName=f"events-{uuid.uuid4().hex}")["QueueUrl"]
    settings.SES_EVENTS_QUEUE_URL = url  # type: ignore[attr-defined]
    yield Queue(url)
    queue.client().delete_queue(QueueUrl=url)
