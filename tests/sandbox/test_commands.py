"""`quickstart`, `sandboxses` and `samplemoodle`."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError

from emailoffload.sandbox import accounts
from tests.sandbox.conftest import client_for

OURS = ("DATABASE_URL", "MOODLE_", "OFFLOAD_", "AWS_", "SES_", "DJANGO_SETTINGS_MODULE")


def clean_environment(data_dir: Path, **more: str) -> dict[str, str]:
    """Nothing configured, as on a laptop where the project was just cloned."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(OURS)}
    return {**env, "OFFLOAD_DATA_DIR": str(data_dir), "OFFLOAD_ENV_FILE": os.devnull, **more}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def sample_site(settings: Any, tmp_path: Path) -> Path:
    settings.SAMPLE_SITE = True
    settings.SAMPLE_MOODLE_PATH = tmp_path / "sample-moodle.sqlite3"
    return tmp_path / "sample-moodle.sqlite3"


class Running:
    """A command in a process of its own; its output is read line by line."""

    def __init__(self, *arguments: str, env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", *arguments], env=env, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.stdout = self.process.stdout
        self.lines: list[str] = []

    def until(self, text: str) -> str:
        for line in self.stdout:
            self.lines.append(line)
            if text in line:
                return line
        raise AssertionError("the command ended:\n" + "".join(self.lines))

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.lines += list(self.stdout)
        return self.process.wait(60)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    running: list[Running] = []

    def begin(*arguments: str, **more: str) -> Running:
        running.append(Running(*arguments, env=clean_environment(tmp_path, **more)))
        return running[-1]

    yield begin
    for item in running:
        if item.process.poll() is None:
            item.end()


def test_quickstart_needs_no_settings_and_ends_cleanly(start: Any, tmp_path: Path) -> None:
    port, ses_port = free_port(), free_port()
    quickstart = start("quickstart", "--port", str(port), "--no-browser", SANDBOX_PORT=str(ses_port))
    assert quickstart.until("Dashboard").split()[-1] == f"http://127.0.0.1:{port}/"
    quickstart.until("auditor")
    assert "none twice" in quickstart.until("waiting for their time")
    assert urllib.request.urlopen(f"http://127.0.0.1:{port}/").status == 200
    assert b"Sandbox SES" in urllib.request.urlopen(f"http://127.0.0.1:{ses_port}/").read()
    kept = tmp_path / "demo-accounts.json"
    assert kept.stat().st_mode & 0o077 == 0
    shown = "".join(quickstart.lines)
    assert all(password in shown for password in json.loads(kept.read_text()).values())
    assert quickstart.end() == 0
    for freed in (port, ses_port):
        socket.create_server(("127.0.0.1", freed)).close()


def test_what_quickstart_starts_sends_the_first_mail_within_a_minute(start: Any) -> None:
    ses_port = free_port()
    started = time.monotonic()
    quickstart = start("quickstart", "--port", str(free_port()), "--no-browser", SANDBOX_PORT=str(ses_port))
    quickstart.until("auditor")
    while not (messages := _messages(ses_port)):
        assert quickstart.process.poll() is None and time.monotonic() - started < 120
        time.sleep(0.5)
    assert time.monotonic() - started < 90  # a minute on an idle machine
    assert messages[0]["offload_id"] and messages[0]["subject"]
    assert quickstart.end() == 0


def _messages(port: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.load(
        urllib.request.urlopen(f"http://127.0.0.1:{port}/_sandbox/messages")
    )["messages"]
    return found


def test_quickstart_refuses_a_real_site() -> None:
    with pytest.raises(CommandError, match="MOODLE_DATABASE_URL is set"):
        call_command("quickstart")


@pytest.mark.parametrize(("busy", "cure"), [("web", "--port"), ("ses", "SANDBOX_PORT=")])
def test_quickstart_says_which_port_is_in_use_and_how_to_choose_another(
    busy: str, cure: str, sample_site: Path, settings: Any
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken, free = server.getsockname()[1], free_port()
        settings.SANDBOX_PORT = taken if busy == "ses" else free
        with pytest.raises(CommandError, match=f"Port {taken} .*{cure}"):
            call_command("quickstart", port=taken if busy == "web" else free)
    assert not sample_site.exists()


def test_demo_accounts_are_made_once_and_keep_a_changed_password(db: None, tmp_path: Path) -> None:
    path = tmp_path / "demo.json"
    passwords = accounts.ensure(path)
    assert path.stat().st_mode & 0o077 == 0
    assert all(User.objects.get(username=name).check_password(word) for name, word in passwords.items())
    assert [user.username for user in User.objects.filter(is_superuser=True)] == ["admin"]
    auditor = User.objects.get(username="auditor")
    assert auditor.has_perm("emailoffload.view_email") and not auditor.has_perm("emailoffload.view_content")
    User.objects.get(username="support").delete()
    auditor.set_password("my own choice")
    auditor.save()
    assert accounts.ensure(path) == passwords
    assert User.objects.get(username="auditor").check_password("my own choice")
    assert User.objects.get(username="support").check_password(passwords["support"])


def test_sandboxses_picks_a_port_and_writes_it_down(start: Any, tmp_path: Path) -> None:
    target = tmp_path / "port"
    running = start("sandboxses", "--port", "0", "--latency-ms", "1", "--print-port-file", str(target))
    line = running.until("ready")
    assert line.strip().endswith(f":{target.read_text().strip()}")

    class Address:
        url = f"http://127.0.0.1:{target.read_text().strip()}"

    assert client_for(Address()).get_account()["SendingEnabled"]  # type: ignore[arg-type]
    assert running.end() == 0


def test_sandboxses_says_what_to_do_when_its_port_is_taken() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(CommandError, match=r"cannot listen on 127\.0\.0\.1:\d+ .*--port 0"),
    ):
        call_command("sandboxses", port=server.getsockname()[1])


def test_samplemoodle_refuses_a_real_site() -> None:
    with pytest.raises(CommandError, match="MOODLE_DATABASE_URL is set"):
        call_command("samplemoodle", "create")


def test_samplemoodle_creates_runs_its_cron_and_shows_what_it_mailed(
    sample_site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CommandError, match="samplemoodle create"):
        call_command("samplemoodle", "mails")
    call_command("samplemoodle", "create")
    for options, left in (((), 1), (("--fresh",), 302)):
        with sqlite3.connect(sample_site) as connection:
            connection.execute("DELETE FROM mdl_user WHERE id > 1")
        call_command("samplemoodle", "create", *options)
        with sqlite3.connect(sample_site) as connection:
            assert connection.execute("SELECT count(*) FROM mdl_user").fetchone() == (left,)
    with sqlite3.connect(sample_site) as connection:
        connection.execute(
            "UPDATE mdl_reengagement_inprogress SET emailtime = unixepoch() - 60 WHERE reengagement = 3"
        )
    call_command("samplemoodle", "cron", "--once", "--mail-seconds", "0")
    capsys.readouterr()
    call_command("samplemoodle", "mails", "--limit", "1000")
    with sqlite3.connect(sample_site) as connection:
        (count,) = connection.execute("SELECT count(*) FROM sandbox_moodle_mail").fetchone()
    assert count > 0
    assert len(capsys.readouterr().out.splitlines()) == count
