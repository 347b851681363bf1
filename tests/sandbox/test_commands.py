"""`quickstart`, `sandboxses` and `samplemoodle`."""

from __future__ import annotations

import io
import json
import os
import re
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

from emailoffload.management.commands import quickstart
from emailoffload.sandbox import accounts
from emailoffload.sandbox.supervisor import Supervisor
from tests.sandbox.conftest import client_for

OURS = ("DATABASE_URL", "MOODLE_", "OFFLOAD_", "AWS_", "SES_", "SNS_", "DJANGO_SETTINGS_MODULE")


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


@pytest.mark.whole
def test_quickstart_needs_no_settings_and_ends_cleanly(start: Any, tmp_path: Path) -> None:
    port, ses_port = free_port(), free_port()
    running = start("quickstart", "--port", str(port), "--no-browser", SANDBOX_PORT=str(ses_port))
    assert running.until("Dashboard").split()[-1] == f"http://127.0.0.1:{port}/"
    assert running.until("Create users").split()[2] == f"http://127.0.0.1:{ses_port}/moodle"
    running.until("auditor")
    assert "none twice" in running.until("waiting for their time")
    assert urllib.request.urlopen(f"http://127.0.0.1:{port}/").status == 200
    form = urllib.request.urlopen(f"http://127.0.0.1:{ses_port}/moodle").read().decode()
    assert "Baltica Fine Foods" in form and f'href="http://127.0.0.1:{port}/"' in form
    assert b"Sandbox SES" in urllib.request.urlopen(f"http://127.0.0.1:{ses_port}/").read()
    kept = tmp_path / "demo-accounts.json"
    assert kept.stat().st_mode & 0o077 == 0
    shown = "".join(running.lines)
    assert all(password in shown for password in json.loads(kept.read_text()).values())
    assert running.end() == 0
    for freed in (port, ses_port):
        socket.create_server(("127.0.0.1", freed)).close()


@pytest.mark.whole
def test_what_quickstart_starts_sends_the_first_mail_within_a_minute_and_sees_what_became_of_it(
    start: Any, tmp_path: Path
) -> None:
    ses_port = free_port()
    started = time.monotonic()
    running = start("quickstart", "--port", str(free_port()), "--no-browser", SANDBOX_PORT=str(ses_port))
    running.until("auditor")
    while not (messages := _messages(ses_port)):
        assert running.process.poll() is None and time.monotonic() - started < 120
        time.sleep(0.5)
    assert time.monotonic() - started < 90  # a minute on an idle machine
    assert messages[0]["offload_id"] and messages[0]["subject"]
    with sqlite3.connect(tmp_path / "offload.sqlite3") as ours:
        while not ours.execute("SELECT 1 FROM emailoffload_email WHERE delivered_at > ''").fetchone():
            assert running.process.poll() is None and time.monotonic() - started < 180
            time.sleep(0.5)
    assert running.end() == 0


@pytest.mark.parametrize("endpoint", ["", "https://email.eu-west-1.amazonaws.com"])
def test_the_sample_site_listens_to_the_local_ses_and_to_no_other(endpoint: str, tmp_path: Path) -> None:
    values = {"SANDBOX_PORT": "18026", **({"AWS_ENDPOINT_URL_SESV2": endpoint} if endpoint else {})}
    names = "s.SES_EVENTS_QUEUE_URL, s.SES_CONFIGURATION_SET, os.environ.get('AWS_ENDPOINT_URL_SQS')"
    printed = subprocess.run(
        [sys.executable, "-c", f"import os, offloadsite.settings as s; print([{names}])"],
        env=clean_environment(tmp_path, **values),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    local = [
        "http://127.0.0.1:18026/000000000000/email-offload-events",
        "email-offload",
        "http://127.0.0.1:18026",
    ]
    assert printed.strip() == str([None, "", None] if endpoint else local)


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


def test_samplemoodle_runs_the_cron_of_the_mail_queue_too(
    sample_site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("samplemoodle", "create")
    with sqlite3.connect(sample_site) as connection:
        connection.execute("UPDATE mdl_email SET due = unixepoch() - 60 WHERE sent IS NULL")
        connection.execute("UPDATE mdl_reengagement_inprogress SET emailtime = unixepoch() + 9999")
    call_command("samplemoodle", "cron", "--once", "--mail-seconds", "0")
    out = capsys.readouterr().out
    assert re.search(r"IOMAD's mail queue: \d+ queued rows mailed, \d+ mails, 1 deleted as disabled", out)
    with sqlite3.connect(sample_site) as connection:
        sources = connection.execute("SELECT DISTINCT source FROM sandbox_moodle_mail WHERE role = 'cc'")
        assert sources.fetchall() == [("iomad_queue",)]
        (resting,) = connection.execute(
            "SELECT count(*) FROM mdl_email WHERE sent IS NULL AND due < unixepoch()"
        ).fetchone()
    assert resting == 2  # of a suspended and of a deleted user
    call_command("samplemoodle", "mails", "--limit", "1")
    assert "queue row" in capsys.readouterr().out


def test_samplemoodle_creates_users_and_says_where_to_watch_their_mails(
    sample_site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CommandError, match="samplemoodle create"):
        call_command("samplemoodle", create_users=3)
    call_command("samplemoodle", "create")
    call_command("samplemoodle", create_users=3, company=2)
    out = capsys.readouterr().out
    assert "Created 3 users (401 to 403) in Meridian Care Homes. 3 welcome mails" in out
    assert "/emails/?template=user_create" in out
    with sqlite3.connect(sample_site) as connection:
        queued = "SELECT count(*) FROM mdl_email WHERE userid > 400 AND templatename = 'user_create'"
        assert connection.execute(queued).fetchone() == (3,)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--create-users", "0"], "from 1 to 5000"),
        (["--create-users", str(10**9)], "from 1 to 5000"),
        (["--create-users", "many"], "invalid int value"),
        (["--create-users", "2", "--company", "9"], "no company 9"),
        (["--company", "2", "mails"], "belongs to --create-users"),
        (["--create-users", "2", "mails"], "Say what to do"),
        ([], "Say what to do"),
    ],
)
def test_samplemoodle_explains_wrong_usage_and_ends_with_status_2(
    sample_site: Path, arguments: list[str], says: str
) -> None:
    call_command("samplemoodle", "create")
    with pytest.raises(CommandError, match=says) as caught:
        call_command("samplemoodle", *arguments)
    assert caught.value.returncode == 2 or "invalid" in says  # argparse itself ends with 2
    with sqlite3.connect(sample_site) as connection:
        assert connection.execute("SELECT count(*) FROM mdl_user").fetchone() == (302,)


def test_a_sample_of_another_version_is_made_anew_by_quickstart_and_refused_by_the_rest(
    sample_site: Path, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call_command("samplemoodle", "create")
    with sqlite3.connect(sample_site) as connection:
        connection.execute("PRAGMA user_version = 1")
        connection.execute("DELETE FROM mdl_user")
    with pytest.raises(CommandError, match=r"made by another version .* --fresh"):
        call_command("samplemoodle", "mails")
    monkeypatch.setattr(quickstart, "call_command", lambda *_args, **_options: None)
    monkeypatch.setattr(accounts, "ensure", lambda _path: {})
    settings.DATA_DIR = tmp_path
    quickstart.Command()._prepare(Supervisor({}, io.StringIO()), 8000, fresh=False)
    with sqlite3.connect(sample_site) as connection:
        assert connection.execute("SELECT count(*) FROM mdl_user").fetchone() == (302,)
