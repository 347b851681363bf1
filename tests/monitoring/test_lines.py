"""Every line that the log has at three in the morning is in the documentation, and none is there that the code lost."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import emailoffload
from emailoffload.monitoring import readiness

ROOT = Path(emailoffload.__file__).parent
DOCS = ROOT.parent / "docs"
PAGE = (DOCS / "monitoring.md").read_text()
LOUD = {"warning", "error", "exception", "critical", "log"}


def text_of(node: ast.expr) -> str:
    """The literal that a line is made from; its values are an ellipsis."""
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return ""
    return re.sub(r"%[-0-9.]*[a-z]", "…", value) if isinstance(value, str) else ""


def lines() -> Iterator[tuple[str, str]]:
    """Texts of the product's lines from warning on, with the file that writes them; not those of requests."""
    for path in sorted(ROOT.rglob("*.py")):
        if "sandbox" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if ast.unparse(node.func.value) not in {"log", "logger"} or node.func.attr not in LOUD:
                continue
            text = text_of(node.args[node.func.attr == "log"])
            if text and path.name != "requests.py":
                yield path.relative_to(ROOT).as_posix(), text


LINES = sorted(set(lines()))
TOLD = [
    row.replace("`", "")
    for row in re.findall(r"^\| (.+?) \|", PAGE.partition("| The line begins |")[2], re.MULTILINE)
]


def begins(text: str, beginning: str) -> bool:
    """Whether a line begins as the documentation says; where the page has an ellipsis anything may stand."""
    pattern = ".*?".join(re.escape(part) for part in beginning.split("…"))
    return re.match(pattern, text.replace("`", "")) is not None


@pytest.mark.parametrize(("file", "text"), LINES)
def test_a_line_that_asks_for_attention_is_in_the_documentation(file: str, text: str) -> None:
    assert any(begins(text, beginning) for beginning in TOLD), file


@pytest.mark.parametrize("beginning", TOLD)
def test_a_line_in_the_documentation_is_one_of_the_code(beginning: str) -> None:
    assert any(begins(text, beginning) for _file, text in LINES)


def test_every_check_of_readyz_has_its_verdicts_and_the_section_with_what_to_do() -> None:
    part = PAGE.partition("## Ready?")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| .+ \| (.+) \|$", part, re.MULTILINE))
    assert set(rows) == {"database", "moodle", *readiness._CHECKS}
    sections = re.findall(r"^### (\w+)$", (DOCS / "operations.md").read_text(), re.MULTILINE)
    for check, do in rows.items():
        found = re.search(r"operations\.md#(\w+)\)", do)
        assert found and found[1] in sections, check
