"""Each request has an id and a line in the log, and no line says what people looked for."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from django.test import Client

from emailoffload import logs
from emailoffload.dashboard import overview
from emailoffload.monitoring.requests import shown_path
from tests.queries import counted

pytestmark = [pytest.mark.mariadb, pytest.mark.django_db(databases=["default", "moodle"])]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    """A function: the access lines so far, as dictionaries with their level."""
    caplog.set_level(logging.DEBUG, "offload.access")
    formatter = logs.OneLineJson()

    def read() -> list[dict[str, Any]]:
        found = [record for record in caplog.records if record.name == "offload.access"]
        return [json.loads(formatter.format(record)) for record in found]

    return read


def test_a_request_is_one_line_with_who_asked_for_what_and_how_long_it_took(
    admin_client: Client, admin_user: Any, lines: Any
) -> None:
    response = admin_client.get("/emails/", {"q": "ada@example.org"})
    (line,) = lines()
    assert line["level"] == "INFO" and line["status"] == response.status_code == 200
    assert (line["method"], line["path"], line["route"]) == ("GET", "/emails/", "emails")
    assert line["user"] == admin_user.pk and line["ms"] > 0
    assert "ada" not in str(line) and "q=" not in str(line)


def test_who_asks_is_not_looked_up_for_the_log(client: Client, lines: Any) -> None:
    with counted() as queries:
        client.get("/login/")
    assert "user" not in lines()[0] and not queries


def test_an_answer_has_the_id_that_its_lines_have(client: Client, lines: Any) -> None:
    first, second = client.get("/login/"), client.get("/login/")
    assert first["X-Request-ID"] != second["X-Request-ID"] and len(first["X-Request-ID"]) == 16


def test_what_is_logged_while_a_request_is_worked_on_has_its_id(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(overview, "collect", lambda *args: seen.append(logs.ids()) or {}["broken"])
    admin_client.raise_request_exception = False
    response = admin_client.get("/")
    assert response.status_code == 500
    assert seen[0]["request"] == response["X-Request-ID"]
    assert not logs.ids()


@pytest.mark.parametrize(
    ("header", "given", "believed"),
    [
        ("", "0123456789abcdef", False), ("X-Request-ID", "0123456789abcdef", True),
        ("X-Amzn-Trace-Id", "Root=1-67891233-abcdef012345678912345678", True), ("X-Request-ID", "short", False),
        ("X-Request-ID", "ada@example.org", False), ("X-Request-ID", "x" * 101, False),
        ("X-Request-ID", "with a blank", False), ("X-Request-ID", "", False),
    ],
)  # fmt: skip
def test_an_id_is_taken_from_the_header_that_the_settings_name_where_it_is_fit_for_a_log(
    client: Client, settings: Any, header: str, given: str, believed: bool
) -> None:
    settings.REQUEST_ID_HEADER = header
    name = "HTTP_" + (header or "X-Request-ID").upper().replace("-", "_")
    assert (client.get("/login/", **{name: given})["X-Request-ID"] == given) is believed


def test_a_page_that_failed_is_an_error(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch, lines: Any
) -> None:
    monkeypatch.setattr(overview, "collect", lambda *args: {}["broken"])
    admin_client.raise_request_exception = False
    admin_client.get("/")
    assert [(line["level"], line["status"]) for line in lines()] == [("ERROR", 500)]


@pytest.mark.parametrize("page", ["/healthz", "/readyz", "/metrics"])
def test_what_monitoring_asks_is_routine(client: Client, page: str, lines: Any) -> None:
    client.get(page, REMOTE_ADDR="10.9.9.9")
    assert lines()[0]["level"] == "DEBUG"


def test_an_answer_that_something_is_not_ready_is_one_line_and_no_error(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert client.get("/readyz", REMOTE_ADDR="127.0.0.1").status_code == 503
    told = [(record.name, record.levelname) for record in caplog.records]
    assert told == [("offload.access", "INFO")]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/emails/15/", "/emails/15/"), ("/users/ada@example.org/", "/users/(address)/"),
        ("/x/ada%40example.org", "/x/(address)"), ("/a b\n2026 forged", "/a%20b%0A2026%20forged"),
        ("/" + "x" * 500, "/" + "x" * 199),
    ],
)  # fmt: skip
def test_a_path_is_shown_without_addresses_and_without_anything_odd(path: str, shown: str) -> None:
    assert shown_path(path) == shown


def test_a_page_that_does_not_exist_is_one_line_and_not_two(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client.get("/nobody/ada@example.org/")
    assert [record.name for record in caplog.records if record.name.startswith(("django", "offload"))] == [
        "offload.access"
    ]
    assert "ada" not in caplog.text
