"""The wheel is enough: installed alone, it checks, migrates, serves."""

from __future__ import annotations

import os
import shutil
import site
import socket
import subprocess
import sys
import time
import urllib.request
import venv
import zipfile
from pathlib import Path

import pytest

from offloadsite import env
from tests.processes import ROOT

pytestmark = pytest.mark.whole
SOURCES = ("emailoffload", "offloadsite", "templates", "static", "tools")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without a network, from a copy: a build leaves things behind."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "manage.py"):
        shutil.copy(ROOT / name, folder)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation", "-w", "dist",
         "."],
        cwd=folder, check=True, timeout=240,
    )  # fmt: skip
    (found,) = (folder / "dist").glob("email_offload-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with the wheel; what it depends on is this one's, of the same lock file."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True)
    (packages,) = (folder / "lib").glob("python3.*/site-packages")
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "-q", "--no-deps", "--no-index",
         wheel],
        check=True, timeout=240,
    )  # fmt: skip
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return folder


def clean(**more: str) -> dict[str, str]:
    """An environment in which nothing is set."""
    rest = {
        name: value
        for name, value in os.environ.items()
        if name not in env.NAMES and name != "DJANGO_SETTINGS_MODULE"
    }
    return {**rest, "OFFLOAD_ENV_FILE": os.devnull, **more}


def offload(installed: Path, folder: Path, *arguments: str) -> str:
    """The installed command, run in `folder`; what it says."""
    done = subprocess.run(
        [installed / "bin" / "email-offload", *arguments], cwd=folder, env=clean(), capture_output=True, text=True,
        timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_holds_every_file_that_the_product_reads(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    listed = subprocess.run(
        ["git", "ls-files", *SOURCES[:-1]], cwd=ROOT, capture_output=True, text=True, check=True
    )
    tracked = [name for name in listed.stdout.split() if (ROOT / name).is_file()]
    expected = {
        f"offloadsite/{name}" if name.startswith(("templates/", "static/")) else name for name in tracked
    }
    assert expected - inside == set()
    assert not [name for name in inside if name.startswith(("tests/", "tools/", "manage"))]


@pytest.fixture
def port() -> int:
    """A free one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether something listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_installed_elsewhere_it_checks_migrates_collects_and_serves(
    installed: Path, tmp_path: Path, port: int
) -> None:
    assert "no issues" in offload(installed, tmp_path, "check")
    offload(installed, tmp_path, "migrate", "-v0")
    offload(installed, tmp_path, "collectstatic", "--noinput")
    assert (tmp_path / "var" / "offload.sqlite3").is_file(), "what a site owns lies in the current folder"
    assert (tmp_path / "var" / "static" / "offload" / "style.css").is_file()
    assert not list(installed.rglob("secret.key")), "and not among the packages"
    command = [
        "gunicorn",
        "offloadsite.wsgi",
        "--config",
        "python:offloadsite.gunicorn",
        "--bind",
        f"127.0.0.1:{port}",
    ]
    with (tmp_path / "web.log").open("w") as log:
        web = subprocess.Popen(
            [installed / "bin" / "python", "-m", *command], cwd=tmp_path, env=clean(WEB_CONCURRENCY="1"),
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        end = time.monotonic() + 90
        while not answers(port):
            assert time.monotonic() < end, (tmp_path / "web.log").read_text()
            assert web.poll() is None, (tmp_path / "web.log").read_text()
            time.sleep(0.1)
        login = urllib.request.urlopen(f"http://127.0.0.1:{port}/login/", timeout=30).read().decode()
        assert "offload/style" in login
        style = urllib.request.urlopen(f"http://127.0.0.1:{port}/static/offload/style.css", timeout=10)
        assert style.read() == (ROOT / "static" / "offload" / "style.css").read_bytes()
        assert "ok" in offload(installed, tmp_path, "healthcheck", "web", "--port", str(port))
    finally:
        web.terminate()
        assert web.wait(60) == 0
