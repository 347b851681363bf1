"""Every state, setting, reason, finding, alarm and figure has its place in the documentation, and nothing else has."""

from __future__ import annotations

import re
import tomllib
from collections import Counter

import pytest
from django.core.management import call_command
from packaging.requirements import Requirement

from emailoffload.actions import doctor
from emailoffload.dashboard import nav
from emailoffload.dashboard import reasons as words
from emailoffload.dashboard.words import RUN_OUTCOMES
from emailoffload.moodle import refusals, variants
from emailoffload.outbox import states
from emailoffload.sources import reasons
from offloadsite import env
from tests.docs.pages import PAGES, ROOT, fences, first_column, name, spans


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


FOREIGN = {
    # Of AWS, Python, libraries, systemd, SQL, HTTP and Moodle: names that are not ours.
    "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
    "AWS_PROFILE", "AWS_CA_BUNDLE", "AWS_DEFAULT_REGION", "HTTPS_PROXY", "SSL_CERT_FILE", "WEB_CONCURRENCY",
    "GET_LOCK", "MOODLE_400_STABLE", "AWS_ENDPOINT_URL_SESV2", "AWS_ENDPOINT_URL_SQS",
    # Of a build, of the tests, and where our settings are looked for.
    "OFFLOAD_LOCK", "OFFLOAD_ENV_FILE", "OFFLOAD_KILL_AT", "OFFLOAD_SCREENSHOTS",
}  # fmt: skip


def test_every_setting_that_a_page_names_exists() -> None:
    known = {spec.name for spec in env.SPECS}
    known |= FOREIGN | {f"{spec.name}_FILE" for spec in env.SPECS if spec.secret}
    unknown = {
        (name(page), word)
        for page in PAGES
        for text in [*spans(page.read_text()), *fences(page.read_text())]
        for word in re.findall(r"(?<![\w./$-])([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?![\w*-])", text)
        if word not in known
    }
    assert unknown == set()


def test_every_page_of_the_dashboard_is_described_under_its_name() -> None:
    text = (ROOT / "docs" / "dashboard.md").read_text()
    listed = re.findall(r"^\| \*([^*]+)\* \|", text.split("\n## All pages\n", 1)[1], re.MULTILINE)
    assert listed == [str(entry.label) for section in nav.SECTIONS for entry in section.entries]
