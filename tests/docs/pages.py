"""The documentation as its tests read it: pages, headings, links, commands, the codes in tables."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]

_FENCE = re.compile(r"^( *)```[^\n]*\n(.*?)^\1```[ \t]*$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def name(page: Path) -> str:
    """A page as people call it: its path below the project's folder."""
    return page.relative_to(ROOT).as_posix()


def prose(text: str) -> str:
    """A page without its blocks of code."""
    return _FENCE.sub("", text)


def fences(text: str) -> list[str]:
    """What stands in a page's blocks of code."""
    return [block for _, block in _FENCE.findall(text)]


def spans(text: str) -> list[str]:
    """What stands between backticks in a page's prose, each in one line."""
    return [" ".join(span.split()) for span in _SPAN.findall(prose(text))]


def slug(title: str) -> str:
    """The address of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


@cache
def anchors(page: Path) -> frozenset[str]:
    """The addresses of all headings of a page; of headings with the same words the later ones have a number."""
    seen: Counter[str] = Counter()
    found = set()
    for title in re.findall(r"^#+ (.*)$", prose(page.read_text()), re.MULTILINE):
        address = slug(title)
        found.add(f"{address}-{seen[address]}" if seen[address] else address)
        seen[address] += 1
    return frozenset(found)


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Each link of a page to the project itself: the file that it leads to, and the anchor ('' for none).

    Pictures are links too. What stands in code is none.
    """
    for target in _LINK.findall(_SPAN.sub("", prose(page.read_text()))):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        yield ((page.parent / file).resolve() if file else page), anchor


def first_column(page: str, section: str = "") -> list[str]:
    """The codes that stand in the first column of the tables of a page of docs/, or of one of its sections."""
    text = (DOCS / page).read_text()
    if section:
        text = text.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


def command_lines(text: str, program: str) -> list[str]:
    """What a page says after `program`, such as "manage.py": the rest of a command as far as it is written as one.

    In blocks of code that is the line, with those that a backslash continues; in prose what stands in backticks.
    """
    joined = [re.sub(r"\\\n\s*", " ", block) for block in fences(text)]
    lines = [re.sub(r"(?m)(^|\s)#.*$", "", block) for block in joined]
    ends = r"([^\n`;|&>#]*)"
    return [
        rest.strip()
        for part in [*lines, *spans(text)]
        for rest in re.findall(rf"(?:^|[\s\"'(]|bin/){re.escape(program)} {ends}", part, re.MULTILINE)
    ]
