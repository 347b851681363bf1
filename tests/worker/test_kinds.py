"""A kind of pass is named in one table, and whoever adds one is told what else must know it."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import emailoffload
from emailoffload.dashboard import words
from emailoffload.worker import alarm_conditions, runs

ROOT = Path(emailoffload.__file__).parent


def recorded() -> Iterator[str]:
    """The kinds of pass that the worker's code records."""
    for path in sorted((ROOT / "worker").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "runs.record":
                kind = node.args[0]
                name = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
                module = importlib.import_module(name)
                yield kind.value if isinstance(kind, ast.Constant) else getattr(module, ast.unparse(kind))


def test_every_kind_that_is_recorded_is_in_the_table_that_metrics_are_made_from() -> None:
    assert sorted(recorded()) == sorted(runs.KINDS)


def test_every_kind_has_words_for_people_and_alarms_know_no_other() -> None:
    assert set(runs.KINDS) <= set(words.KINDS)
    assert set(alarm_conditions.KINDS) <= set(runs.KINDS)
