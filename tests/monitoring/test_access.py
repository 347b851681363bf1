"""Who may read `/readyz` and `/metrics`."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from django.test import Client

from offloadsite import env

pytestmark = [pytest.mark.mariadb, pytest.mark.django_db(databases=["default", "moodle"])]
PAGES = pytest.mark.parametrize("page", ["/readyz", "/metrics"])
TOKEN = "a-token-of-more-than-twenty-characters"
LET_IN = {200, 503}


@PAGES
@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.1.2.3", False),
        ("2001:db8::1", False),
        ("", False),
    ],
)
def test_without_settings_only_this_host_may_ask(page: str, address: str, status: bool) -> None:
    response = Client(REMOTE_ADDR=address).get(page)
    assert (response.status_code in LET_IN) is status
    assert status or (response.status_code == 403 and b"METRICS_ALLOWED" in response.content)


@PAGES
@pytest.mark.parametrize("header", ["X_FORWARDED_FOR", "FORWARDED", "X_REAL_IP", "VIA"])
def test_who_comes_through_a_proxy_that_nobody_told_us_of_is_not_taken_for_this_host(
    page: str, header: str
) -> None:
    response = Client(REMOTE_ADDR="127.0.0.1").get(page, **{f"HTTP_{header}": "127.0.0.1"})
    assert response.status_code == 403


@PAGES
@pytest.mark.parametrize(
    ("forwarded", "status"),
    [("10.20.0.7", True), ("127.0.0.1, 203.0.113.9", False), ("203.0.113.9, 10.20.0.7", True)],
)
def test_behind_known_proxies_the_address_is_that_which_the_proxy_saw(
    page: str, forwarded: str, status: bool, settings: Any
) -> None:
    settings.TRUSTED_PROXIES = 1
    settings.METRICS_ALLOWED = [ip_network("10.20.0.0/24")]
    response = Client(REMOTE_ADDR="127.0.0.1").get(page, HTTP_X_FORWARDED_FOR=forwarded)
    assert (response.status_code in LET_IN) is status


@PAGES
@pytest.mark.parametrize(
    ("given", "status"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer {TOKEN}", True),
        (f"Bearer {TOKEN}x", False),
        (f"Basic {TOKEN}", False),
        ("Bearer é", False),
        ("Bearer ", False),
        ("", False),
    ],
)
def test_the_token_lets_in_from_everywhere_and_nothing_like_it_does(
    page: str, given: str, status: bool, settings: Any
) -> None:
    settings.METRICS_TOKEN = TOKEN
    response = Client(REMOTE_ADDR="203.0.113.9").get(page, HTTP_AUTHORIZATION=given)
    assert (response.status_code in LET_IN) is status
    assert status or (response.status_code, response["WWW-Authenticate"]) == (401, "Bearer")
    assert TOKEN.encode() not in response.content


@PAGES
def test_without_a_token_an_empty_one_opens_nothing(page: str) -> None:
    assert Client(REMOTE_ADDR="203.0.113.9").get(page, HTTP_AUTHORIZATION="Bearer ").status_code == 403


@PAGES
def test_a_session_of_an_administrator_opens_nothing(page: str, admin_client: Client) -> None:
    assert admin_client.get(page, REMOTE_ADDR="203.0.113.9").status_code == 403


@PAGES
def test_only_reading_is_allowed(page: str, machine: Client) -> None:
    response = machine.post(page)
    assert (response.status_code, response["Allow"]) == (405, "GET, HEAD")
    assert machine.head(page).status_code in LET_IN


@PAGES
def test_they_answer_by_http_on_a_site_of_https_as_they_are_asked_on_the_host_itself(
    page: str, machine: Client, settings: Any
) -> None:
    settings.SECURE_SSL_REDIRECT = True
    assert machine.get("/emails/").status_code == 301
    assert machine.get(page).status_code in LET_IN


@pytest.mark.parametrize(
    ("text", "networks"),
    [("10.1.0.0/16, ::1", ["10.1.0.0/16", "::1/128"]), ("none", []), ("", [])],
)
def test_networks_are_read(text: str, networks: list[str]) -> None:
    assert [str(network) for network in env.networks(text)] == networks


@pytest.mark.parametrize("text", ["10.1.0.0/99", "everybody", "10.1.2.3/16"])
def test_networks_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(env.Malformed):
        env.networks(text)


@pytest.mark.parametrize("text", ["short", "a token with blanks that is long", "é" * 30])
def test_tokens_that_could_be_guessed_or_do_not_fit_a_header_are_refused(text: str) -> None:
    with pytest.raises(env.Malformed):
        env.token(text)
    assert env.token(TOKEN) == TOKEN and env.token("") == ""
