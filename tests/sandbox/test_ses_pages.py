"""The sandbox's own pages."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from emailoffload.sandbox import ses_pages
from emailoffload.sandbox.ses_server import SandboxSES

Build = Callable[..., dict[str, Any]]
HOSTILE = "<script>alert('x')</script>"


def get(ses: SandboxSES, path: str) -> tuple[str, Any]:
    with urllib.request.urlopen(ses.url + path) as answer:
        return answer.read().decode(), answer.headers


def test_the_list_shows_the_newest_message_first_and_pages(
    ses: SandboxSES, client: Any, simple: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ses_pages, "PAGE_SIZE", 2)
    assert "No message yet." in get(ses, "/")[0]
    for number in range(3):
        client.send_email(**simple(to=f"user{number}@learn.example"))
    page, _headers = get(ses, "/")
    assert page.index("user2@") < page.index("user1@")
    assert "user0@" not in page and 'href="/?before=2"' in page
    assert "user0@" in get(ses, "/?before=2")[0]


def test_a_message_shows_its_headers_tags_and_both_parts(ses: SandboxSES, client: Any, simple: Build) -> None:
    client.send_email(**simple())
    page, _headers = get(ses, "/messages/1")
    for text in (
        "zoe@learn.example",
        "X-Email-Offload-Id",
        "ab" * 16,
        "Plain körper",
        "Größe &amp; &lt;Maß&gt;",
    ):
        assert text in page
    assert '<iframe sandbox src="/messages/1/html"' in page
    assert get(ses, "/messages/1/html")[0] == "<p>Rich <b>körper</b></p>"


def test_names_are_shown_as_people_write_them(ses: SandboxSES, client: Any, simple: Build) -> None:
    client.send_email(**simple(to="=?utf-8?q?broken?x?= <a@learn.example>"))
    for path in ("/", "/messages/1"):
        page, _headers = get(ses, path)
        assert "Café &lt;noreply@learn.example&gt;" in page and "a@learn.example" in page


def test_nothing_that_a_mail_contains_becomes_markup_of_the_page(
    ses: SandboxSES, client: Any, simple: Build
) -> None:
    request = simple(to=f'"{HOSTILE}" <a@learn.example>')
    request["Content"]["Simple"]["Subject"]["Data"] = HOSTILE
    request["Content"]["Simple"]["Body"]["Text"]["Data"] = HOSTILE
    request["Content"]["Simple"]["Headers"].append({"Name": "X-Hostile", "Value": HOSTILE})
    client.send_email(**request)
    for path in ("/", "/messages/1"):
        page, _headers = get(ses, path)
        assert "<script" not in page and "&lt;script&gt;" in page


def test_pages_run_nothing_and_mails_load_nothing(ses: SandboxSES, client: Any, simple: Build) -> None:
    client.send_email(**simple())
    policy = get(ses, "/")[1]["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src" not in policy and "unsafe-inline" not in policy
    mail = get(ses, "/messages/1/html")[1]["Content-Security-Policy"]
    assert mail.startswith("sandbox; default-src 'none'; img-src data:;")


@pytest.mark.parametrize(
    "path", ["/messages/9", "/messages/x", "/other", "/messages/1/other", "/../etc/passwd"]
)
def test_what_is_not_there_is_not_found(ses: SandboxSES, client: Any, simple: Build, path: str) -> None:
    client.send_email(**simple())
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(ses, path)
    assert caught.value.code == 404


def test_a_page_cannot_be_posted_to(ses: SandboxSES) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(ses.url + "/", data=b"x")
    assert caught.value.code == 405
