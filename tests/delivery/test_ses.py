"""The client: one per process, one transmission per call, whatever the server does."""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from emailoffload.delivery import message, transport
from emailoffload.delivery import ses as product
from tests.fake_ses import FakeSes, Reply
from tests.outbox.factory import parts

REF = "0123456789abcdef0123456789abcdef"


def request() -> dict[str, Any]:
    return message.build(parts(), REF, "reengagement")


class SilentServer:
    """Accepts connections, reads a whole request, then says nothing or resets."""

    def __init__(self, *, reset: bool) -> None:
        self.reset = reset
        self.connections = self.requests = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.kept: list[socket.socket] = []
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            data = b""
            while b"\r\n\r\n" not in data or len(data.partition(b"\r\n\r\n")[2]) < self.length(data):
                data += connection.recv(65536)
            self.requests += 1
            if self.reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                connection.close()
            else:
                self.kept.append(connection)

    @staticmethod
    def length(data: bytes) -> int:
        head = data.partition(b"\r\n\r\n")[0].lower()
        return int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])

    def stop(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.kept:
            connection.close()
        self.thread.join(5)


@pytest.fixture(params=[False, True], ids=["silent", "reset after the body"])
def server(request: Any, monkeypatch: Any, settings: Any) -> Iterator[SilentServer]:
    started = SilentServer(reset=request.param)
    address = f"http://127.0.0.1:{started.listener.getsockname()[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", address)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "5")
    settings.SES_READ_TIMEOUT_SECONDS = 0.4
    product.forget_client()
    yield started
    product.forget_client()
    started.stop()


def test_a_mail_is_transmitted_once_when_the_server_does_not_answer(server: SilentServer) -> None:
    outcome = product.send(request())
    assert outcome.kind == "unknown"
    assert (server.connections, server.requests) == (1, 1)


def test_an_answer_gives_the_message_id(ses: FakeSes) -> None:
    outcome = product.send(request())
    assert outcome.kind == "accepted" and outcome.message_id.startswith("0102") and outcome.request_id
    assert outcome.http_status == 200


def test_the_account_is_read_as_ses_says_it(ses: FakeSes) -> None:
    ses.account["SendQuota"] = {"Max24HourSend": 50000.0, "MaxSendRate": 14.0, "SentLast24Hours": 12.0}
    ses.account["ProductionAccessEnabled"] = False
    assert product.get_account() == product.Account(True, 14.0, 50000, 12, False, "HEALTHY")
    ses.account["SendQuota"]["Max24HourSend"] = -1
    account = product.get_account()
    assert isinstance(account, product.Account) and account.max_24h is None


def test_an_endpoint_that_is_not_ses_is_told_from_one_that_is(ses: FakeSes) -> None:
    ses.account_reply = Reply(raw=b"{}")
    answer = product.get_account()
    assert isinstance(answer, product.Outcome) and (answer.kind, answer.code) == ("account", "NoSendQuota")


def test_a_forked_process_makes_its_own_client(ses: FakeSes) -> None:
    ours = product.client()
    assert product.client() is ours
    queue: Any = multiprocessing.get_context("fork").SimpleQueue()

    def child() -> None:
        queue.put((product.client() is not ours, product.client() is product.client()))
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    assert queue.get() == (True, True)
    process.join()


def test_a_connection_that_was_idle_is_not_used_again(ses: FakeSes, monkeypatch: Any) -> None:
    product.send(request())
    product.wake()
    product.send(request())
    assert ses.connections == 1
    monkeypatch.setattr(transport, "IDLE_SECONDS", 0.0)
    product.wake()
    assert product.send(request()).kind == "accepted"
    assert ses.connections == 2
