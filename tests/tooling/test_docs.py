"""What the documentation says is what the code does."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command, get_commands, load_command_class
from packaging.requirements import Requirement

from emailoffload.outbox import states
from offloadsite import env

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def moves(number: int) -> set[tuple[str, str]]:
    """The moves of one mermaid diagram of docs/states.md."""
    text = (ROOT / "docs" / "states.md").read_text()
    diagram = re.findall(r"```mermaid\n(.*?)```", text, re.DOTALL)[number]
    return set(re.findall(r"^ *(\w+) --> (\w+)", diagram, re.MULTILINE))


def test_the_diagram_of_emails_shows_exactly_the_moves_of_the_table() -> None:
    assert moves(0) == {(old.value, new.value) for old, news in states.TRANSITIONS.items() for new in news}


def test_the_diagram_of_claims_shows_exactly_the_moves_of_the_table() -> None:
    assert moves(1) == {
        (old.value, new.value) for old, news in states.CLAIM_TRANSITIONS.items() for new in news
    }


@pytest.mark.parametrize("kind", [states.EmailState, states.ClaimState])
def test_every_state_is_explained(kind: type[states.EmailState] | type[states.ClaimState]) -> None:
    rows = "".join(re.findall(r"^\| `.*$", (ROOT / "docs" / "states.md").read_text(), re.MULTILINE))
    assert [state for state in kind.values if f"`{state}`" not in rows] == []


def test_the_settings_page_is_what_the_command_would_write() -> None:
    call_command("settingsreference", check=True)


def test_the_settings_page_has_every_setting() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    assert [spec.name for spec in env.SPECS if f"### {spec.name}\n" not in page] == []


def test_every_dependency_has_a_line_that_says_why_it_is_here() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [
        *project["dependencies"],
        *(text for extra in project["optional-dependencies"].values() for text in extra),
    ]
    page = (ROOT / "docs" / "dependencies.md").read_text()
    listed = set(re.findall(r"^\| ([A-Za-z0-9_-]+) \| \S", page, re.MULTILINE))
    assert {Requirement(text).name for text in requirements} == listed - {"Package"}


def links() -> Iterator[tuple[Path, str]]:
    """Every link to a file of the project, with the page that has it."""
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if not re.match(r"[a-z]+:", target):
                yield page, target


def test_links_between_pages_lead_somewhere() -> None:
    assert [(page.name, target) for page, target in links() if not (page.parent / target).exists()] == []


def test_the_readme_starts_with_the_two_commands_that_try_it_and_test_it() -> None:
    top = (ROOT / "README.md").read_text()[:2500]
    assert re.search(r"^make run\b", top, re.MULTILINE)
    assert re.search(r"^make test\b", top, re.MULTILINE)


def test_every_command_that_is_documented_exists_with_its_options() -> None:
    known = get_commands()
    unknown = []
    for page in PAGES:
        for name, rest in re.findall(r"manage\.py ([a-z_]+)([^`\n]*)", page.read_text()):
            if name not in known:
                unknown.append((page.name, name))
                continue
            app = known[name]
            command = load_command_class(app, name) if isinstance(app, str) else app
            options = command.create_parser("manage.py", name)._option_string_actions
            unknown += [
                (page.name, name, flag)
                for flag in re.findall(r"(?<!\S)--[a-z-]+", rest)
                if flag not in options
            ]
    assert unknown == []


def test_every_command_of_the_product_is_documented() -> None:
    text = "".join(page.read_text() for page in PAGES)
    ours = [name for name, app in get_commands().items() if app == "emailoffload"]
    assert [name for name in ours if f"manage.py {name}" not in text] == []
