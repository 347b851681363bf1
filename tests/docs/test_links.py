"""Whoever follows a link arrives, and every page is found by somebody who begins at the index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES, ROOT, anchors, command_lines, links, name, prose

INDEX = DOCS / "README.md"
SOURCES = ("emailoffload", "offloadsite", "templates", "tools", "docs/deploy", "docs/monitoring")
WRITTEN = {".py", ".html", ".service", ".conf", ".yaml", ".json", ".md", ""}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_to_a_file_and_to_a_section_that_exist(page: Path) -> None:
    broken = []
    for target, anchor in links(page):
        if not target.exists():
            broken.append(str(target))
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            broken.append(f"{name(target)}#{anchor}")
    assert broken == []


def test_every_page_and_every_file_of_the_documentation_is_found_from_the_index() -> None:
    seen = {INDEX}
    waiting = [INDEX]
    while waiting:
        for target, _ in links(waiting.pop()):
            if target in seen or ROOT not in target.parents:
                continue
            seen.add(target)
            if target.suffix == ".md":
                waiting.append(target)
    files = {path for path in DOCS.rglob("*") if path.is_file()}
    assert sorted(name(path) for path in files - seen) == []


def test_the_readme_leads_to_the_index() -> None:
    assert INDEX in {target for target, _ in links(ROOT / "README.md")}


def test_pages_that_the_program_names_exist_with_the_sections_that_it_names() -> None:
    missing = []
    for folder in SOURCES:
        for path in (ROOT / folder).rglob("*"):
            if not path.is_file() or path.suffix not in WRITTEN or "__pycache__" in path.parts:
                continue
            for page, anchor in re.findall(
                r"\bdocs/([a-z/-]+\.(?:md|yaml))(?:#([a-z_-]+))?", path.read_text(errors="ignore")
            ):
                target = DOCS / page
                if not target.is_file() or (anchor and anchor not in anchors(target)):
                    missing.append((name(path), page, anchor))
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_that_the_prose_names_exist(page: Path) -> None:
    """Paths such as `emailoffload/moodle/claims.py`; a folder ends with a slash."""
    named = re.findall(
        r"`((?:emailoffload|offloadsite|tests|tools|templates|static|docs)/[\w./-]*)`",
        prose(page.read_text()),
    )
    gone = [path for path in named if not (ROOT / path).exists()]
    # What a version of the past brought may be gone.
    assert page.name == "CHANGELOG.md" or gone == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_make_is_asked_for_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = {line.split()[0] for line in command_lines(page.read_text(), "make") if line}
    assert {word for word in asked if re.fullmatch(r"[a-z0-9]+", word)} - targets == set()


def test_the_readme_starts_with_the_two_commands_that_try_it_and_test_it() -> None:
    top = (ROOT / "README.md").read_text()[:2500]
    assert re.search(r"^make run\b", top, re.MULTILINE)
    assert re.search(r"^make test\b", top, re.MULTILINE)


def test_the_licence_is_there_in_full_and_is_the_one_that_is_named() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "GNU GENERAL PUBLIC LICENSE\n                       Version 3" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert 'license = "GPL-3.0-or-later"' in (ROOT / "pyproject.toml").read_text()
    assert "GPL-3.0-or-later" in (ROOT / "README.md").read_text()
