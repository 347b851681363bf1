"""The table of branches that `make test` prints, and what it refuses."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from tests.branches import CLAIM, HELD, TRACED, Part, Traced, parts, table, too_low
from tests.processes import ROOT


def measured(**files: tuple[int, int]) -> dict[str, Any]:
    """A report of coverage's with these files: (branches, taken)."""
    return {
        "files": {
            f"emailoffload/{name.replace('__', '/')}.py": {
                "summary": {"num_branches": branches, "covered_branches": taken}
            }
            for name, (branches, taken) in files.items()
        }
    }


def test_every_file_that_counts_as_claiming_exists() -> None:
    assert [name for name in CLAIM if not (ROOT / "emailoffload" / name).is_file()] == []


def test_every_folder_whose_tests_are_traced_exists() -> None:
    assert [name for name in TRACED if not (ROOT / "tests" / name).is_dir()] == []


@pytest.mark.parametrize(
    ("file", "mark", "switched"),
    [
        ("claims/test_swaps.py", "mariadb", 0),
        ("claims/test_kills.py", "kill", 1),
        ("i18n/test_pages.py", "", 1),
        ("test_settings.py", "", 1),
    ],
)
def test_only_tests_of_the_way_of_a_mail_in_this_process_are_traced(
    file: str, mark: str, switched: int
) -> None:
    tracer = SimpleNamespace(cov_controller=Mock())
    item: Any = SimpleNamespace(
        path=ROOT / "tests" / file, get_closest_marker=lambda name: name == mark or None
    )
    around = Traced(tracer).pytest_runtest_protocol(item)
    next(around)
    assert tracer.cov_controller.pause.call_count == switched
    assert tracer.cov_controller.resume.call_count == 0
    with pytest.raises(StopIteration):
        around.send(True)
    assert tracer.cov_controller.resume.call_count == switched


def test_files_are_added_up_by_package_and_what_claims_by_itself() -> None:
    found = parts(
        measured(
            moodle__claims=(10, 9),
            worker__handback=(10, 10),
            worker__runs=(4, 2),
            outbox__states=(6, 6),
            apps=(0, 0),
        )
    )
    assert found == {"claim": Part(20, 19), "other": Part(), "outbox": Part(6, 6), "worker": Part(4, 2)}


@pytest.mark.parametrize(("taken", "refused"), [(950, True), (951, False), (1000, False)])
def test_what_must_not_be_wrong_is_refused_unless_it_is_above_the_floor(taken: int, refused: bool) -> None:
    found = {name: Part(1000, 1000) for name in HELD} | {
        "outbox": Part(1000, taken),
        "dashboard": Part(1000, 1),
    }
    assert too_low(found) == (["outbox"] if refused else [])


def test_a_part_that_was_not_measured_is_refused() -> None:
    assert too_low({"claim": Part(2, 2), "outbox": Part(2, 2), "feedback": Part(2, 2)}) == ["delivery"]


def test_the_table_has_a_line_for_each_part_and_the_sum() -> None:
    lines = table({"claim": Part(200, 199), "dashboard": Part(100, 80)})
    assert [line.split()[:4] for line in lines[1:]] == [
        ["claim", "200", "199", "99.5"], ["dashboard", "100", "80", "80.0"], ["all", "300", "279", "93.0"]
    ]  # fmt: skip
    assert "wanted" in lines[1]
    assert "wanted" not in lines[2]
