"""What carries triggers: Redis and SQS, and our database while they are away. No trigger waits for a dead server."""

from __future__ import annotations

import logging
import os
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django_q.brokers import get_broker
from django_q.models import OrmQ
from django_q.signing import SignedPackage
from django_q.tasks import async_task

from emailoffload.actions.diagnosis import background
from emailoffload.worker import broker, tasks
from emailoffload.worker.broker import ByRedis, Unusable
from tests.growth.redis_server import RedisServer

pytestmark = pytest.mark.django_db
RECOVER = f"{tasks.MODULE}.recover"


@pytest.fixture(params=["redis", "sqs", "database"])
def carried(request: pytest.FixtureRequest) -> str:
    """Each of the three ways."""
    if request.param != "database":
        request.getfixturevalue({"redis": "redis_server", "sqs": "sqs_queue"}[request.param])
    return str(request.param)


def drained(carrier: Any) -> list[str]:
    """Take triggers until none comes, as a worker does; their functions."""
    found: list[str] = []
    while taken := carrier.dequeue():
        for receipt, package in taken:
            found.append(SignedPackage.loads(package)["func"])
            carrier.acknowledge(receipt)
    return found


def test_every_trigger_arrives_once_and_is_gone_when_it_is_dealt_with(carried: str) -> None:
    for _ in range(3):
        async_task(RECOVER)
    assert OrmQ.objects.count() == (3 if carried == "database" else 0)
    assert get_broker().queue_size() == 3
    assert drained(get_broker()) == [RECOVER] * 3
    assert get_broker().queue_size() == 0
    assert not OrmQ.objects.exists()


def test_a_trigger_signed_with_another_key_is_dropped(carried: str) -> None:
    carrier = get_broker()
    carrier.enqueue("not-ours:at-all")
    ((receipt, package),) = carrier.dequeue()
    assert package == "not-ours:at-all"
    carrier.fail(receipt)
    assert drained(carrier) == []


def test_what_a_host_without_redis_asked_for_is_heard_while_redis_carries_the_rest(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    carrier = get_broker()
    assert drained(carrier) == []
    carrier.behind.enqueue(SignedPackage.dumps({"func": RECOVER}))
    assert drained(carrier) == [], "our database is asked every few seconds only"
    monkeypatch.setattr(broker, "LOOK_SECONDS", 0.0)
    assert drained(carrier) == [RECOVER]
    assert not OrmQ.objects.exists()


def died(server: RedisServer) -> None:
    server.kill()


def froze(server: RedisServer) -> None:
    server.freeze()


def refuses(server: RedisServer) -> None:
    with closing(broker._redis(os.getpid(), server.url)) as client:
        client.config_set("maxmemory", 1)


@pytest.mark.parametrize("trouble", [died, froze, refuses])
def test_while_redis_is_away_triggers_go_through_our_database_and_the_log_says_so_once(
    redis_server: RedisServer, trouble: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(broker, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(broker, "WAIT_SECONDS", 0.1)
    trouble(redis_server)
    carrier = get_broker()
    with caplog.at_level(logging.INFO, logger="emailoffload"):
        for _ in range(3):
            async_task(RECOVER)
        assert OrmQ.objects.count() == 3
        assert drained(carrier) == [RECOVER] * 3
    (line,) = caplog.messages
    assert line.startswith("Redis cannot be used (")
    assert "nothing is lost" in line
    assert str(redis_server.socket) not in line


def test_redis_is_used_again_as_soon_as_it_answers_and_the_log_says_so(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(broker, "REST_SECONDS", 0.0)
    monkeypatch.setattr(broker, "LOOK_SECONDS", 0.0)
    carrier = get_broker()
    redis_server.kill()
    async_task(RECOVER)
    redis_server.start()
    async_task(RECOVER)
    assert OrmQ.objects.count() == 1
    assert sorted(drained(carrier)) == [RECOVER] * 2, "what went through our database is not forgotten"
    assert caplog.messages[-1].startswith("Redis can be used again")


def test_a_dead_redis_is_not_asked_at_each_trigger(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "REST_SECONDS", 3600.0)
    redis_server.kill()
    async_task(RECOVER)
    redis_server.start()
    async_task(RECOVER)
    assert OrmQ.objects.count() == 2


def test_a_redis_that_accepts_a_question_and_never_answers_is_waited_for_once(
    redis_server: RedisServer, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "ANSWER_SECONDS", 0.2)
    with closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(str(tmp_path / "mute"))
        server.listen(5)
        server.setblocking(False)
        settings.REDIS_URL = f"unix://{tmp_path / 'mute'}"
        async_task(RECOVER)
        assert OrmQ.objects.count() == 1
        server.accept()[0].close()
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_redis_that_nobody_empties_keeps_a_bounded_number_of_triggers(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "KEPT", 5)
    for _ in range(8):
        async_task(RECOVER)
    assert get_broker().queue_size() == 5


def test_without_the_package_triggers_go_through_our_database(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "redis", None)
    async_task(RECOVER)
    assert OrmQ.objects.count() == 1
    assert "the package redis is not installed" in caplog.text


def test_a_forked_process_has_a_connection_of_its_own(redis_server: RedisServer) -> None:
    ours = broker._redis(os.getpid(), redis_server.url)
    assert broker._redis(os.getpid(), redis_server.url) is ours
    assert broker._redis(os.getpid() + 1, redis_server.url) is not ours


def test_a_queue_at_sqs_that_does_not_exist_is_named_and_stops_no_trigger(
    sqs_queue: str, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.BROKER_QUEUE_URL += "-gone"
    async_task(RECOVER)
    assert drained(get_broker()) == [RECOVER]
    assert "SQS cannot be used (" in caplog.text
    assert "NonExistentQueue" in caplog.text or "QueueDoesNotExist" in caplog.text


def test_a_message_that_could_not_be_deleted_at_sqs_ends_no_process(
    sqs_queue: str, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async_task(RECOVER)
    carrier = get_broker()
    ((receipt, _),) = carrier.dequeue()
    settings.BROKER_QUEUE_URL = "http://127.0.0.1:9/nobody"
    broker._sqs.cache_clear()
    carrier.acknowledge(receipt)
    assert "SQS cannot be used (" in caplog.text


def test_the_doctor_says_what_carries_triggers(carried: str) -> None:
    verdict, text, _ = background.carrier()
    assert verdict == "ok"
    assert {"redis": "Redis", "sqs": "SQS", "database": "through our database."}[carried] in text


def test_the_doctor_warns_of_a_redis_that_is_away_and_of_triggers_that_nobody_takes(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "BACKLOG", 1)
    for _ in range(2):
        async_task(RECOVER)
    verdict, text, cure = background.carrier()
    assert (verdict, text) == ("warning", "2 triggers wait for a worker.")
    assert "SECRET_KEY" in cure
    redis_server.kill()
    verdict, text, cure = background.carrier()
    assert verdict == "warning"
    assert "no mail waits for it" in text and str(redis_server.socket) not in text
    assert "REDIS_URL" in cure


def test_a_redis_that_wants_a_password_is_named_without_it(redis_server: RedisServer, settings: Any) -> None:
    client = broker._redis(os.getpid(), redis_server.url)
    client.config_set("requirepass", "right")
    settings.REDIS_URL = f"{redis_server.url}?password=wrong-one"
    with pytest.raises(Unusable) as refused:
        ByRedis().waiting()
    assert "Auth" in str(refused.value) and "wrong-one" not in str(refused.value)


def test_the_check_of_settings_says_how_the_package_is_installed(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emailoffload import checks

    settings.BROKER = "redis"
    assert checks.carriers(None) == []
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    (found,) = checks.carriers(None)
    assert found.id == "emailoffload.E005"
    assert "requirements-redis.lock" in str(found.hint)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty queue in our database is not waited at."""
    from django_q.conf import Conf

    monkeypatch.setattr(Conf, "POLL", 0.01)
