"""The fault table, driven over the wire: each fault, each kind of claim, each policy, before and after its deadline."""

from __future__ import annotations

from typing import Any

import pytest

from emailoffload.sandbox.ses_server import SandboxSES
from tests.conftest import Moodle
from tests.fallback.conftest import sink
from tests.fallback.sink import Sink
from tests.faults.table import FAULTS, KINDS, PHASES, POLICIES, Case, expected
from tests.faults.world import World

__all__ = ["sink"]
EXPECTED = expected()


def test_the_table_has_every_case() -> None:
    cases = {Case(f, k, p, when) for f in FAULTS for k in KINDS for p in POLICIES for when in PHASES}
    assert set(EXPECTED) == cases
    assert len(cases) == 14 * 5 * 5 * 3


@pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
@pytest.mark.parametrize("fault", FAULTS)
def test_each_mail_ends_as_the_table_says_and_none_leaves_twice(
    moodle: Moodle, ses: SandboxSES, sink: Sink, settings: Any, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    world = World(moodle, ses, sink, settings)
    seen: dict[Case, str] = {}
    for up in (False, True):
        world.smtp(up=up)
        policies = [name for name, (_, reachable) in POLICIES.items() if reachable is up]
        world.break_ses(fault, monkeypatch)
        for phase in PHASES:
            for policy in policies:
                world.move_time(policy, phase)
            world.work()
            for policy in policies:
                for kind, cell in world.cells(policy).items():
                    seen[Case(fault, kind, policy, phase)] = cell
        world.mend_ses(monkeypatch)
    wrong = {case: (cell, EXPECTED[case]) for case, cell in seen.items() if cell != EXPECTED[case]}
    assert not wrong, "\n".join(
        f"{case}: {cell}, expected {wanted}" for case, (cell, wanted) in wrong.items()
    )
    assert len(seen) == len(KINDS) * len(POLICIES) * len(PHASES)
    world.ledger()
    # When all is well again, what is settled stays so.
    for policy in POLICIES:
        world.move_time(policy, "second")
    world.work()
    assert {p: world.cells(p) for p in POLICIES} == {
        p: {k: EXPECTED[Case(fault, k, p, "second")] for k in KINDS} for p in POLICIES
    }
    world.ledger()
