"""The dialogue with a script in place of a person, and with the other commands run in this process."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from emailoffload.actions.setup import envfile
from emailoffload.actions.setup.databases import Address
from emailoffload.delivery import ses
from emailoffload.management.asking import Asker
from emailoffload.management.commands import setup
from emailoffload.management.setup.talk import Ended
from emailoffload.sandbox.ses_server import SandboxSES
from tests import settings as test_settings
from tests.conftest import Moodle

SOCKET = test_settings.SERVER.socket
MOODLES = Address("", "", test_settings.MOODLE_DATABASE, *test_settings.MOODLE_ACCOUNT, socket=SOCKET)
OWN = Address("", "", "offload_setup", *test_settings.APP_ACCOUNT, socket=SOCKET)
SENDER = "noreply@lab.example"


def in_this_process(arguments: tuple[str, ...], environment: Mapping[str, str]) -> Ended:
    """One of our commands, with the settings of the suite."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            if name.startswith("DJANGO_SUPERUSER_"):
                patch.setenv(name, value)
        try:
            call_command(*arguments, stdout=out, stderr=err)
        except SystemExit as ended:
            status = int(str(ended.code or 0))
        except CommandError as error:
            err.write(f"CommandError: {error}\n")
            status = error.returncode
    return Ended(status, out.getvalue(), err.getvalue())


@dataclass
class Dialogue:
    """One run: `answers` are found by the beginning of a question; what has none gets Enter."""

    file: Path
    answers: dict[str, list[str]] = field(default_factory=dict)
    stop_at: int = 0
    """The question at which the person presses Ctrl-C; 0 for none."""
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    ran: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Everything that stood on the screen."""
        return "\n".join([*self.said, *self.asked])

    @property
    def values(self) -> dict[str, str]:
        """What the file says."""
        return envfile.read(self.file)[1]

    def _read(self, prompt: str) -> str:
        self.asked.append(prompt)
        if len(self.asked) == self.stop_at:
            raise KeyboardInterrupt
        for beginning, lines in self.answers.items():
            if prompt.startswith(beginning) and lines:
                return lines.pop(0)
        return ""

    def _run(self, arguments: tuple[str, ...], environment: Mapping[str, str]) -> Ended:
        self.ran.append(arguments)
        return in_this_process(arguments, environment)

    def go(self, *options: str, interactive: bool = True) -> int:
        """Run the dialogue; returns its exit status."""
        command = setup.Command(stdout=io.StringIO(), stderr=io.StringIO())
        command.asker = Asker(self.said.append, interactive, self._read, self._read)
        command.runner = self._run
        try:
            call_command(command, "--output", str(self.file), *options)
        except CommandError as error:
            self.said.append(str(error))
            return error.returncode
        return 0


@pytest.fixture
def own_database(server: Any) -> Iterator[Address]:
    """An empty database of our own."""
    server.run(f"CREATE OR REPLACE DATABASE {OWN.name} CHARACTER SET utf8mb4")
    yield OWN
    server.run(f"DROP DATABASE {OWN.name}")


@pytest.fixture
def amazon(monkeypatch: pytest.MonkeyPatch) -> Iterator[SandboxSES]:
    """A local SES."""
    with SandboxSES(identities=(SENDER.partition("@")[2],)) as sandbox:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", sandbox.url)
        ses.forget_client()
        yield sandbox
    ses.forget_client()


@pytest.fixture
def secret(tmp_path: Path) -> Callable[[str, str], str]:
    """Write a secret into a file; returns its path."""

    def write(name: str, value: str) -> str:
        (tmp_path / name).write_text(value + "\n")
        return str(tmp_path / name)

    return write


@pytest.fixture
def options(
    moodle: Moodle,
    own_database: Address,
    amazon: SandboxSES,
    secret: Callable[[str, str], str],
    tmp_path: Path,
) -> list[str]:
    """Options that leave nothing to ask, on the real site."""
    return [
        "--non-interactive",
        "--moodle-database", MOODLES.with_password("").url(),
        "--moodle-password-file", secret("moodle-password", MOODLES.password),
        "--database", own_database.with_password("").url(),
        "--database-password-file", secret("own-password", own_database.password),
        "--wwwroot", "http://127.0.0.1:18080", "--php-timezone", "Europe/London", "--region", "eu-west-1",
        "--sender", SENDER, "--data-dir", str(tmp_path), "--host", "offload.example.org", "--events", "skip",
    ]  # fmt: skip
