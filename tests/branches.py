"""Branch coverage: a table by part of the product, and a floor for what must not be wrong.

On with `--cov`, which `make test` gives when it runs everything. Tracing makes Python slower by half, so only the tests
of the way of a mail are traced then (`TRACED`), and only that way is told of; `--cov=emailoffload` (`make coverage`)
traces every test and tells of every part. Only what runs in the processes of pytest counts: processes that tests start,
and often kill, prove much, but what they ran is not measured.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coverage
import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOOR = 95.0
"""Per cent of branches of each part of `HELD`; more than that must be covered."""
HELD = ("claim", "outbox", "delivery", "feedback")
TRACED = {
    "actions", "alarms", "claims", "credentials", "delivery", "fallback", "feedback", "iomad", "left",
    "moodle", "outage", "outbox", "privacy", "reconcile", "reengagement", "rollups", "routing", "worker",
}  # fmt: skip
"""The folders of tests that are traced by `make test`, but for those whose work other processes do."""
CLAIM = {
    *(f"moodle/{name}.py" for name in ("claims", "cronlock", "guard", "router", "targets")),
    *(
        f"worker/{name}.py"
        for name in (
            "claiming", "cronguard", "guard_timing", "handback", "intercept", "intercept_result", "late_claims",
            "recover_intents", "supply", "traces", "trust",
        )
    ),
}  # fmt: skip
"""The files that claim, hand back and recover claims."""


@dataclass(slots=True)
class Part:
    """A part of the product: how many branches it has, and how many of them were taken."""

    branches: int = 0
    taken: int = 0

    @property
    def percent(self) -> float:
        """How many of a hundred branches were taken; all of none."""
        return 100 * self.taken / self.branches if self.branches else 100.0


def part_of(file: str) -> str:
    """The part that a file of the product belongs to: the claim, or its package."""
    inside = file.removeprefix("emailoffload/")
    if inside in CLAIM:
        return "claim"
    return inside.split("/")[0] if "/" in inside else "other"


def parts(report: Mapping[str, Any]) -> dict[str, Part]:
    """The parts of coverage's JSON report, by name."""
    found: dict[str, Part] = {}
    for file, measured in report["files"].items():
        part = found.setdefault(part_of(file), Part())
        part.branches += measured["summary"]["num_branches"]
        part.taken += measured["summary"]["covered_branches"]
    return dict(sorted(found.items()))


def too_low(found: Mapping[str, Part]) -> list[str]:
    """The parts of `HELD` that are not above the floor, or were not measured at all."""
    return [name for name in HELD if name not in found or found[name].percent <= FLOOR]


def table(found: Mapping[str, Part]) -> list[str]:
    """The lines to print."""
    whole = Part(sum(p.branches for p in found.values()), sum(p.taken for p in found.values()))
    lines = [f"{'part of the product':<22}{'branches':>9}{'taken':>8}{'':>9}"]
    for name, part in [*found.items(), ("all", whole)]:
        floor = f"   more than {FLOOR:.0f} % wanted" if name in HELD else ""
        lines.append(f"{name:<22}{part.branches:>9}{part.taken:>8}{part.percent:>7.1f} %{floor}")
    return lines


class Traced:
    """Traces the tests of `TRACED` only."""

    def __init__(self, tracer: Any) -> None:
        self.tracer = tracer
        """pytest-cov's plugin."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Set-up, call and tear-down of one test."""
        elsewhere = any(item.get_closest_marker(mark) for mark in ("race", "kill", "whole", "browser"))
        if item.path.relative_to(ROOT / "tests").parts[0] in TRACED and not elsewhere:
            return (yield)
        self.tracer.cov_controller.pause()
        try:
            return (yield)
        finally:
            self.tracer.cov_controller.resume()


class Branches:
    """Reads what pytest-cov has gathered, fails the run where too little was covered, and prints the table."""

    def __init__(self) -> None:
        self.found: dict[str, Part] = {}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """After the last test, when the measurements of all processes have been put together."""
        result = yield
        with tempfile.TemporaryDirectory() as folder:
            measured = coverage.Coverage(config_file=str(ROOT / "pyproject.toml"))
            measured.load()
            measured.json_report(outfile=os.path.join(folder, "report"))
            self.found = parts(json.loads(Path(folder, "report").read_text()))
        if too_low(self.found):
            session.testsfailed += 1
        return result

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """The table, above pytest's own last line."""
        terminalreporter.section("branches of the product that the tests take")
        for line in table(self.found):
            terminalreporter.line(line)
        for name in too_low(self.found):
            terminalreporter.line(
                f"FAILED: {name} is not above {FLOOR:.0f} %. `python -m coverage html` shows what no test takes."
            )
