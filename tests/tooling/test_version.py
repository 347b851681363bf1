"""One place says which version this is; what people see of it, the tag and the changelog follow."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from emailoffload import version
from emailoffload.dashboard import configuration
from tests.processes import ROOT

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_a_checkout_is_the_version_of_its_own_pyproject_whatever_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0.1")
    version.current.cache_clear()
    assert version.current() == VERSION


def test_a_wheel_is_the_version_that_its_record_says(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.BASE_DIR = tmp_path
    monkeypatch.setattr("importlib.metadata.version", lambda name: "7.8.9")
    version.current.cache_clear()
    try:
        assert version.current() == "7.8.9"
    finally:
        version.current.cache_clear()


@pytest.mark.django_db(databases=["default", "moodle"])
def test_the_page_of_settings_names_the_version() -> None:
    assert ("Email Offload", VERSION) in configuration.versions()


def test_the_command_line_names_it_without_a_database() -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"Email Offload {VERSION} (Django ")


def test_the_changelog_has_a_section_for_it_above_those_of_releases() -> None:
    sections = re.findall(r"^## (\S+)(?: \((.+)\))?$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    names = [name for name, _ in sections]
    assert names[0] == VERSION
    assert names == sorted(names, key=lambda name: [int(part) for part in name.split(".")], reverse=True)
    for name, when in sections[1:]:
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", when), f"{name} is released, and says when"
