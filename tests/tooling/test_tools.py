"""The tools behind the Makefile: what they refuse, what they say, and that they do nothing twice."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools"


@pytest.fixture(scope="module")
def check_lock() -> dict[str, Any]:
    """The functions of tools/check_lock.py."""
    return runpy.run_path(str(TOOLS / "check_lock.py"))


LOCK = """# made by make lock
django==5.2.9 \\
    --hash=sha256:aa
boto3-stubs==1.40.1 ; python_version >= '3.11' \\
    --hash=sha256:bb
"""


def test_the_lock_files_fit_pyproject() -> None:
    subprocess.run([sys.executable, TOOLS / "check_lock.py"], check=True)


def test_a_lock_that_fits_has_no_problem(check_lock: dict[str, Any]) -> None:
    assert check_lock["problems_of"](["Django>=5.2.8,<5.3", "boto3_stubs[sesv2]>=1.40"], LOCK, "x.lock") == []


@pytest.mark.parametrize(
    ("requirement", "lock", "words"),
    [
        ("Django<5", LOCK, "does not satisfy"),
        ("nh3", LOCK, "is not pinned"),
        ("Django", LOCK.replace("    --hash=sha256:aa\n", ""), "has no hash"),
        (
            "Django",
            "--index-url https://packages.example.org/simple\n" + LOCK,
            "place where packages come from",
        ),
        ("Django", "--find-links /srv/wheels\n" + LOCK, "place where packages come from"),
    ],
)
def test_a_lock_that_does_not_fit_is_refused(
    check_lock: dict[str, Any], requirement: str, lock: str, words: str
) -> None:
    (problem,) = check_lock["problems_of"]([requirement], lock, "x.lock")
    assert words in problem


def bare_path(tmp_path: Path, *extra: str) -> str:
    """A PATH with a shell's everyday programs and nothing else: no compiler, no apt-get, no sudo."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "cat", "cksum", "dirname", "env", "grep", "id", *extra):
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    return str(folder)


def bootstrap(path: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the bootstrap script with that PATH."""
    env = {"PATH": path, "HOME": os.environ.get("HOME", "/")}
    return subprocess.run(
        [TOOLS / "bootstrap", *args], env=env, capture_output=True, text=True, timeout=60, cwd=ROOT
    )


def test_a_machine_that_lacks_something_is_told_what_to_install(tmp_path: Path) -> None:
    done = bootstrap(bare_path(tmp_path), "run", str(tmp_path / "venv"))
    assert done.returncode == 1
    assert "  - Python 3.11 or newer" in done.stderr
    assert "  - a C compiler" in done.stderr
    assert "apt-get install python3 python3-venv python3-dev gcc" in done.stderr
    assert "Chromium" not in done.stderr.split("Install them")[0], "only tests need a browser"
    assert not (tmp_path / "venv").exists()


def prepared(tmp_path: Path, mode: str, lock: str) -> Path:
    """A virtual environment that the bootstrap script has filled, except that its pip does not work."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    python = venv / "bin" / "python"
    python.write_text(f'#!/bin/sh\ncase "$1" in -m) exit 99;; esac\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    checksum = subprocess.run(
        ["cksum"], stdin=(ROOT / lock).open(), capture_output=True, text=True, check=True
    )
    (venv / ".email-offload").write_text(f"{mode} {checksum.stdout}")
    return venv


@pytest.mark.parametrize(("mode", "lock"), [("run", "requirements.lock"), ("dev", "requirements-dev.lock")])
def test_what_is_installed_is_not_installed_again(tmp_path: Path, mode: str, lock: str) -> None:
    done = bootstrap(os.environ["PATH"], "run", str(prepared(tmp_path, mode, lock)))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_lock_that_has_changed_is_installed(tmp_path: Path) -> None:
    venv = prepared(tmp_path, "run", "requirements.lock")
    (venv / ".email-offload").write_text("run 1 1\n")
    done = bootstrap(os.environ["PATH"], "run", str(venv))
    assert done.returncode != 0
    assert "has no pip" in done.stderr, "it was about to install"


def test_an_environment_for_running_only_is_not_enough_for_tests(tmp_path: Path) -> None:
    done = bootstrap(os.environ["PATH"], "dev", str(prepared(tmp_path, "run", "requirements.lock")))
    assert done.returncode != 0
    assert "has no pip" in done.stderr, "it was about to install"


def test_an_unknown_mode_is_wrong_usage() -> None:
    assert bootstrap(os.environ["PATH"], "everything", ".venv").returncode == 2


def test_make_uses_an_active_virtual_environment_and_else_its_own(tmp_path: Path) -> None:
    def python_of(**env: str) -> str:
        done = subprocess.run(
            ["make", "--dry-run", "bench"], cwd=ROOT, env={"PATH": os.environ["PATH"], **env},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.splitlines()[-1].split()[0]

    active = tmp_path / "active"
    active.mkdir()
    (active / "pyvenv.cfg").write_text("")
    assert python_of(VIRTUAL_ENV=str(active)) == f"{active}/bin/python"
    assert python_of(VIRTUAL_ENV=str(tmp_path / "gone")) == ".venv/bin/python"
    assert python_of() == ".venv/bin/python"


def test_ci_runs_what_a_developer_runs() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    commands = [line for line in lines if line and not line.startswith("#")]
    assert commands == [
        "set -euo pipefail",
        'cd "$(dirname "$0")/.."',
        "make --no-print-directory e2e || make --no-print-directory e2e",
        "exec make --no-print-directory test",
    ]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_image_copies_only_files_that_exist_and_are_let_through() -> None:
    let_through = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        words = line.split()
        if words[:1] == ["COPY"] and not words[1].startswith("--from"):
            assert set(words[1:-1]) <= let_through
            assert all(any(ROOT.glob(name.removeprefix("./"))) for name in words[1:-1])
