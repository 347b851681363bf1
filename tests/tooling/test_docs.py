"""What the documentation says is what the code does."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command, get_commands, load_command_class
from packaging.requirements import Requirement

from emailoffload.actions import doctor
from emailoffload.dashboard import reasons as words
from emailoffload.dashboard.words import RUN_OUTCOMES
from emailoffload.moodle import refusals, variants
from emailoffload.outbox import states
from emailoffload.sources import reasons
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


def first_column(page: str, section: str = "") -> list[str]:
    """The codes that stand in the first column of the tables of a page of docs/, or of one of its sections."""
    text = (ROOT / "docs" / page).read_text()
    if section:
        text = text.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


def test_every_reason_why_a_row_stays_with_moodle_is_listed_once_and_none_that_does_not_exist() -> None:
    listed = Counter(first_column("rendering.md"))
    assert listed == Counter({*reasons.MEANINGS, *refusals.MEANINGS})


def test_every_reason_of_the_workers_own_is_explained_with_what_to_do() -> None:
    own = {code for code in words.WORKER if code == code.lower()}
    assert set(first_column("failure.md", "Reasons on an email")) == own


def test_every_finding_of_the_doctor_is_explained() -> None:
    assert first_column("operations.md", "What the doctor looks at") == [look.id for look in doctor.LOOKS]


def test_every_outcome_of_a_run_is_explained() -> None:
    assert set(first_column("operations.md", "Watching it")) == set(RUN_OUTCOMES)


def test_every_point_at_which_a_process_can_be_killed_has_its_crash_window_explained() -> None:
    code = "".join(path.read_text() for path in (ROOT / "emailoffload").rglob("*.py"))
    points = set(re.findall(r'killpoints\.reached\("(\w+)"\)', code))
    assert points
    assert set(first_column("claiming.md", "Crash windows")) == points


def test_every_test_that_the_documentation_names_exists() -> None:
    defined = set(
        re.findall(
            r"^def (test_\w+)",
            "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py")),
            re.MULTILINE,
        )
    )
    named = {name for page in PAGES for name in re.findall(r"`(test_\w+)`", page.read_text())}
    assert named
    assert named - defined == set()


def test_every_supported_version_of_the_plugin_is_listed() -> None:
    page = (ROOT / "docs" / "claiming.md").read_text()
    listed = {int(number) for number in re.findall(r"\b20\d{8}\b", page)}
    for low, high in re.findall(r"\b(20\d{8}) to (20\d{8})\b", page):
        listed |= set(range(int(low), int(high) + 1))
    assert listed == variants.MONOLITHIC_VERSIONS


def test_every_section_that_a_link_names_exists() -> None:
    missing = []
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text()):
            heads = re.findall(
                r"^#+ (.*)$", (page.parent / target if target else page).read_text(), re.MULTILINE
            )
            slugs = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
            if anchor not in slugs:
                missing.append((page.name, target, anchor))
    assert missing == []
