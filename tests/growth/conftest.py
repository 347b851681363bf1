"""Carriers of triggers: a real Redis, and SQS over its wire protocol."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django_q.conf import Conf

from emailoffload.worker import broker
from tests.feedback.conftest import aws, aws_server
from tests.growth.redis_server import RedisServer

__all__ = ["aws", "aws_server"]


@pytest.fixture(scope="module")
def running() -> Iterator[RedisServer]:
    """One server for a file."""
    with RedisServer() as server:
        yield server


@pytest.fixture(autouse=True)
def healthy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is known of a carrier that was away in another test."""
    monkeypatch.setattr(broker, "_standing", broker._Standing())
    broker._redis.cache_clear()
    broker._sqs.cache_clear()
    yield
    broker._redis.cache_clear()
    broker._sqs.cache_clear()


@pytest.fixture
def redis_server(
    running: RedisServer, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RedisServer]:
    """Triggers go through it, in this process; whatever happened to it, the next test finds it at work."""
    settings.BROKER, settings.REDIS_URL = "redis", running.url
    monkeypatch.setattr(Conf, "BROKER_CLASS", "emailoffload.worker.broker.ByRedis")
    yield running
    running.kill()
    running.start()  # empty


@pytest.fixture
def sqs_queue(aws: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Triggers go through an SQS queue, in this process; returns its address."""
    from emailoffload.feedback import queue

    url = queue.client().create_queue(QueueName=f"triggers-{uuid.uuid4().hex}")["QueueUrl"]
    settings.BROKER, settings.BROKER_QUEUE_URL = "sqs", url
    monkeypatch.setattr(Conf, "BROKER_CLASS", "emailoffload.worker.broker.BySqs")
    monkeypatch.setattr(broker, "SQS_WAIT_SECONDS", 0)
    return url
