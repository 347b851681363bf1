"""While our database is away the pages say so, with a cure, and no traceback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import OperationalError, connections
from django.test import Client

from emailoffload.dashboard import overview
from emailoffload.moodle.errors import MoodleUnreachable

pytestmark = [pytest.mark.mariadb, pytest.mark.django_db(databases=["default", "moodle"], transaction=True)]


@pytest.fixture
def person(admin_user: Any) -> Client:
    """Somebody who is signed in and sees what a browser sees."""
    client = Client(raise_request_exception=False)
    client.force_login(admin_user)
    return client


@pytest.fixture
def away(person: Client) -> Iterator[None]:
    """Our database is out of reach."""
    options = connections["default"].settings_dict["OPTIONS"]
    before = options["unix_socket"]
    connections["default"].close()
    options["unix_socket"] = "/nowhere/socket"
    yield
    options["unix_socket"] = before
    connections["default"].close()


@pytest.mark.parametrize("address", ["/", "/emails/", "/fallbacks/", "/users/15093/", "/admin/", "/login/"])
def test_every_page_says_that_our_database_does_not_answer_and_what_to_do(
    person: Client, away: None, address: str
) -> None:
    response = person.get(address)
    if address == "/login/" and response.status_code == 200:
        return  # it needs no database
    page = response.content.decode()
    assert response.status_code == 503 and response["Retry-After"] == "30"
    assert "Our database does not answer." in page and "DATABASE_URL" in page
    assert "Traceback" not in page and "OperationalError" not in page and "/nowhere" not in page
    assert "default-src &#x27;none&#x27;" not in page and "<script" not in page


def test_a_form_that_is_sent_meanwhile_gets_the_same_page(person: Client, away: None) -> None:
    response = person.post("/pause/", {"claims": "on", "reason": "test"})
    assert response.status_code == 503 and b"does not answer" in response.content


def test_healthz_answers_503_with_the_cause(away: None, client: Client) -> None:
    response = client.get("/healthz")
    assert (response.status_code, response.json()) == (503, {"status": "database does not answer"})


def test_healthz_answers_in_json_to_a_browser_that_is_signed_in_too(person: Client, away: None) -> None:
    response = person.get("/healthz")
    assert (response.status_code, response.json()) == (503, {"status": "database does not answer"})


@pytest.mark.parametrize(
    ("code", "words"),
    [(1114, "Our database is full."), (1290, "Our database is read-only."), (1205, "Our database is locked")],
)
def test_a_full_read_only_or_locked_database_is_named(
    person: Client, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    def fail(*args: Any) -> Any:
        raise OperationalError(code, "secret detail")

    monkeypatch.setattr(overview, "collect", fail)
    response = person.get("/")
    assert response.status_code == 503
    assert words in response.content.decode() and "secret detail" not in response.content.decode()


def test_a_page_that_needs_moodles_database_names_that_one(
    person: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> Any:
        raise MoodleUnreachable(
            "Moodle's database on db:3306 cannot be used (error 2002).", "Check the server."
        )

    monkeypatch.setattr(overview, "collect", fail)
    response = person.get("/")
    assert response.status_code == 503 and "Moodle&#x27;s database on db:3306" in response.content.decode()


def test_an_error_of_ours_is_still_a_500(person: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(overview, "collect", fail)
    response = person.get("/")
    assert response.status_code == 500 and b"Something went wrong" in response.content
