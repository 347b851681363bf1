"""The page that creates users in the sample Moodle."""

from __future__ import annotations

import re
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from emailoffload.sandbox import moodle_page, sample_moodle
from emailoffload.sandbox.email_cron import SimulatedEmailCron
from emailoffload.sandbox.moodle_page import MoodlePage
from emailoffload.sandbox.sample_users import MAX_USERS
from emailoffload.sandbox.ses_server import SandboxSES

DASHBOARD = "http://127.0.0.1:8000"


@pytest.fixture
def page(sample: sqlite3.Connection, tmp_path: Path) -> MoodlePage:
    return MoodlePage(tmp_path / "sample.sqlite3", "mdl_", DASHBOARD + "/")


@pytest.fixture
def server(page: MoodlePage) -> Iterator[SandboxSES]:
    with SandboxSES(moodle=page) as ses:
        yield ses


class Answer:
    """A reply that was read, whatever its status."""

    def __init__(self, reply: Any) -> None:
        self.status, self.url, self.headers = reply.status, reply.url, reply.headers
        self.text = reply.read().decode()


def ask(server: SandboxSES, path: str = "/moodle", data: bytes | None = None, **headers: str) -> Answer:
    request = urllib.request.Request(server.url + path, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request) as reply:
            return Answer(reply)
    except urllib.error.HTTPError as error:
        return Answer(error)


def send(server: SandboxSES, **fields: str) -> Answer:
    """Fill the form in as a browser does, with the token that the page gave out."""
    token = re.search(r'name="token" value="([^"]+)"', ask(server).text)
    assert token
    return ask(server, data=urlencode({"token": token[1], "company": "", **fields}).encode())


def users(sample: sqlite3.Connection) -> int:
    count: int = sample.execute("SELECT count(*) FROM mdl_user").fetchone()[0]
    return count


def test_users_are_created_and_the_page_says_what_happens_next(
    server: SandboxSES, sample: sqlite3.Connection
) -> None:
    answer = send(server, count="30", company="2")
    assert users(sample) == 332
    assert answer.status == 200 and answer.url.endswith("/moodle/created/1")
    assert "30 users created" in answer.text and "401 – 430 (Meridian Care Homes)" in answer.text
    assert f'href="{DASHBOARD}/emails/?template=user_create"' in answer.text
    assert "SQLite file, which has no lock" in answer.text and "ahead of their time" in answer.text
    bodies = sample.execute("SELECT body FROM mdl_email WHERE userid > 400 AND templatename = 'user_create'")
    for (body,) in bodies:
        password = re.search(r"[A-Z]\w+-[A-Z]\w+-\d{4}", body)
        assert password and password[0] not in answer.text


def test_loading_the_next_page_again_creates_nobody(server: SandboxSES, sample: sqlite3.Connection) -> None:
    answer = send(server, count="1")
    assert "1 user created" in answer.text
    for _ in range(2):
        ask(server, "/moodle/created/1")
    assert users(sample) == 303


def test_the_next_page_follows_the_mails(
    server: SandboxSES, sample: sqlite3.Connection, tmp_path: Path
) -> None:
    def fact(name: str) -> str:
        found = re.search(rf">{name}</th><td>([^<]*)<", ask(server, "/moodle/created/1").text)
        assert found
        return found[1]

    send(server, count="2", company="1")
    total = int(fact("Queued mails"))
    assert fact("Still waiting in IOMAD&#x27;s queue") == str(total)
    sample.execute("UPDATE mdl_email SET sent = 5, modifiedtime = 5 WHERE userid = 401")
    assert (
        int(fact("Claimed by Email Offload")) == total - int(fact("Still waiting in IOMAD&#x27;s queue")) > 0
    )
    (row,) = sample.execute("SELECT min(id) FROM mdl_email WHERE userid = 402").fetchone()
    sample.execute("UPDATE mdl_email SET sent = 5 WHERE id = ?", [row])
    sample.execute(
        "INSERT INTO sandbox_moodle_mail (timesent, source, role, row_id, activity_id, user_id, address, due,"
        " ordinal) VALUES (5, 'iomad_queue', 'user', ?, 0, 402, 'a@learn.example', 5, 1)",
        [row],
    )
    claimed = int(fact("Claimed by Email Offload"))
    assert fact("Mailed by Moodle&#x27;s own cron") == "1"
    assert claimed == sample.execute("SELECT count(*) FROM mdl_email WHERE userid = 401").fetchone()[0]


def test_moodles_cron_mails_new_users_where_nothing_claims_them(
    server: SandboxSES, sample: sqlite3.Connection, tmp_path: Path
) -> None:
    send(server, count="3")
    sample.execute("UPDATE mdl_email SET due = 5 WHERE userid > 400")
    sample.execute("DELETE FROM mdl_email WHERE userid <= 400")
    mails: list[object] = []
    cron = SimulatedEmailCron(
        lambda: sample_moodle.connect(tmp_path / "sample.sqlite3"), prefix="mdl_", paramstyle="qmark",
        lock=None, mail=mails.append, mail_seconds=0,
    )  # fmt: skip
    assert cron.run_queue().rows == len(mails) >= 3


@pytest.mark.parametrize(
    "count", ["0", "-3", "", "many", "1.5", "1e3", str(10**9), "9" * 3000, str(MAX_USERS + 1)]
)
def test_a_wrong_number_is_explained_and_creates_nobody(
    server: SandboxSES, sample: sqlite3.Connection, count: str
) -> None:
    answer = send(server, count=count)
    assert answer.status == 400
    assert "from 1 to 5000" in answer.text or "Please use the form" in answer.text
    assert 'role="alert"' in answer.text and "<form" in answer.text
    assert users(sample) == 302


@pytest.mark.parametrize("company", ["9", "0", "x", "-1", "<b>"])
def test_an_unknown_company_is_explained_and_creates_nobody(
    server: SandboxSES, sample: sqlite3.Connection, company: str
) -> None:
    answer = send(server, count="7", company=company)
    assert answer.status == 400 and "There is no company" in answer.text
    assert 'value="7"' in answer.text and "<b>" not in answer.text
    assert users(sample) == 302


@pytest.mark.parametrize("token", ["", "x", "é"])
def test_a_form_without_the_pages_token_creates_nobody(
    server: SandboxSES, sample: sqlite3.Connection, token: str
) -> None:
    for fields in ({"count": "5", "token": token}, {"count": "5"}):
        answer = ask(server, data=urlencode({"company": "", **fields}).encode())
        assert answer.status == 403 and "Nothing was created" in answer.text
    assert users(sample) == 302


def test_every_start_has_a_token_of_its_own(page: MoodlePage) -> None:
    assert MoodlePage(page.path, "mdl_", DASHBOARD).token != page.token
    assert len(page.token) >= 40


def test_only_a_form_is_taken(server: SandboxSES, page: MoodlePage, sample: sqlite3.Connection) -> None:
    body = urlencode({"token": page.token, "count": "5"}).encode()
    kind = {"Content-Type": "text/plain"}
    assert ask(server, data=body, **kind).status == 400
    assert ask(server, data=body + b"&x=" + b"x" * 5000).status == 400
    assert users(sample) == 302


def test_no_other_name_reaches_it(server: SandboxSES, page: MoodlePage, sample: sqlite3.Connection) -> None:
    body = urlencode({"token": page.token, "count": "5"}).encode()
    assert ask(server, data=body, Host="evil.example").status == 421
    assert users(sample) == 302


def test_the_page_runs_nothing_and_cannot_be_framed(server: SandboxSES) -> None:
    answer = ask(server)
    policy = answer.headers["Content-Security-Policy"]
    assert (
        "default-src 'none'" in policy and "script-src" not in policy and "frame-ancestors 'none'" in policy
    )
    assert "form-action 'self'" in policy
    assert "<script" not in answer.text and "style=" not in answer.text
    for field in ("count", "company"):
        assert f'<label for="{field}">' in answer.text and f'id="{field}"' in answer.text


def test_the_list_of_messages_links_to_it_only_where_there_is_a_sample(
    server: SandboxSES, ses: SandboxSES
) -> None:
    assert 'href="/moodle"' in ask(server, "/").text
    assert 'href="/moodle"' not in ask(ses, "/").text
    assert ask(ses).status == 404


@pytest.mark.parametrize("path", ["/moodle/created/7", "/moodle/created/", "/moodle/x", "/moodle/"])
def test_what_is_not_there_is_not_found(server: SandboxSES, path: str) -> None:
    assert ask(server, path).status == 404
    assert ask(server, path, data=b"count=5").status == 405


def test_without_a_usable_sample_the_page_says_how_to_get_one(
    server: SandboxSES, sample: sqlite3.Connection, tmp_path: Path
) -> None:
    sample.execute("PRAGMA user_version = 1")
    answer = ask(server)
    assert answer.status == 503 and "samplemoodle create --fresh" in answer.text
    sample.close()
    (tmp_path / "sample.sqlite3").unlink()
    assert "samplemoodle create." in ask(server).text


def test_a_busy_sample_asks_to_try_again(
    server: SandboxSES, sample: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moodle_page, "PATIENCE", 0.05)
    sample.execute("BEGIN IMMEDIATE")
    answer = send(server, count="5")
    sample.execute("ROLLBACK")
    assert answer.status == 503 and "try again" in answer.text
    assert users(sample) == 302
