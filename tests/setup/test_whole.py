"""The way of an administrator from nothing, in processes of its own: the statements that setup prints are executed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emailoffload.actions.setup import envfile
from emailoffload.actions.setup.databases import Address
from offloadsite import env
from tests.conftest import Moodle
from tests.processes import ROOT
from tests.setup.conftest import SENDER, SOCKET

pytestmark = [pytest.mark.whole, pytest.mark.django_db(databases=["default", "moodle"], transaction=True)]
MOODLES = Address("", "", "moodle", "setup_moodle", "moodle-password-1", SOCKET)
OWN = Address("", "", "setup_whole", "setup_own", "own-password-1", SOCKET)


@pytest.fixture
def clean(server: Any) -> Iterator[None]:
    """Nothing of ours is there, before and after."""
    drop = (
        f"DROP DATABASE IF EXISTS {OWN.name}; DROP USER IF EXISTS {OWN.user}@localhost;"
        f"DROP USER IF EXISTS {MOODLES.user}@localhost"
    )
    server.run(drop)
    yield
    server.run(drop)


def manage(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command of the product, with nothing of the suite's settings."""
    names = {*env.BY_NAME, "DJANGO_SETTINGS_MODULE", "OFFLOAD_ENV_FILE"}
    rest = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=ROOT, env={**rest, **variables}, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


def test_setup_starts_whatever_the_settings_say_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done = manage("setup", "--help", MOODLE_DATABASE_URL="nonsense", LEASE_SECONDS="soon")
    assert done.returncode == 0, done.stderr
    done = manage(
        "setup", "--non-interactive", "--output", str(tmp_path / "env"), OFFLOAD_DATA_DIR=str(tmp_path / "data"),
        SECRET_KEY="short",
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_from_nothing_to_shadow_mode_with_the_printed_statements(
    moodle: Moodle, clean: None, server: Any, secret: Callable[[str, str], str], tmp_path: Path
) -> None:
    file = tmp_path / "site.env"
    options = [
        "setup", "--non-interactive", "--output", str(file), "--force", "--data-dir", str(tmp_path),
        "--moodle-database", MOODLES.with_password("").url(), "--moodle-password-file", secret("m", MOODLES.password),
        "--database", OWN.with_password("").url(), "--database-password-file", secret("o", OWN.password),
        "--wwwroot", "http://127.0.0.1:18080", "--region", "eu-west-1", "--sender", SENDER, "--no-aws-check",
        "--events", "skip", "--no-doctor",
    ]  # fmt: skip
    first = manage(*options)
    assert first.returncode == 1, first.stderr
    statements = re.findall(r"^(?:-- )?((?:GRANT|CREATE) [^;]*);$", first.stdout, re.M)
    assert len(statements) > 30
    for statement in statements:
        password = MOODLES.password if MOODLES.user in statement else OWN.password
        server.run(re.sub(r"IDENTIFIED BY '[^']*'", f"IDENTIFIED BY '{password}'", statement))
    keys = envfile.read(file)[1]["CONTENT_KEYS"]
    again = manage(
        *options, "--migrate", "--admin", "boss", "--admin-password-file", secret("a", "staple-battery-77")
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert "The whole site is in shadow mode" in again.stdout
    assert "The account boss may log in." in again.stdout
    assert envfile.read(file)[1]["CONTENT_KEYS"] == keys
    listed = manage("routing", OFFLOAD_ENV_FILE=str(file))
    assert "“site”: the whole site: shadow" in listed.stdout
    for said in (first, again):
        assert not {MOODLES.password, OWN.password, keys} & set(
            re.split(r"[\s'\"=]", said.stdout + said.stderr)
        )
