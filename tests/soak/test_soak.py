"""A soak in short: real workers, killed and frozen, while SES, SMTP and MariaDB fail (promises P1, P2)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from emailoffload.sandbox.bench.stage import Stage, stage
from emailoffload.sandbox.soak import soak
from emailoffload.sandbox.soak.ledger import LOST, TWICE
from emailoffload.sandbox.soak.plan import Plan
from tests import mariadb

pytestmark = [pytest.mark.race, pytest.mark.mariadb]


@pytest.fixture(scope="module")
def made() -> Iterator[Stage]:
    """A server of its own, which may be killed."""
    with stage(mariadb.folder()) as made:
        yield made


def test_whatever_is_killed_each_mail_goes_out_once_or_is_held(made: Stage) -> None:
    plan = Plan(seed=int(time.time()), mails=300, clusters=0, seconds=8.0, patience=60.0, every=0.75,
                deadline=5, lead=8)  # fmt: skip
    result = soak.run(made, plan)
    report = "\n".join(result.lines())
    assert result.fine, report
    assert len(result.ledger.owed) > 250
    assert {"kill a worker", "kill MariaDB"} <= result.trouble.keys(), report
    assert result.ledger.mailed("ses") > 20, report
    assert result.ledger.mailed("moodle") > 3, report


def test_the_ledger_tells_of_a_worker_that_forgets_mails_and_sends_others_again(made: Stage) -> None:
    plan = Plan(seed=1, mails=100, workers=2, clusters=0, seconds=3.0, patience=10.0, troubled=False,
                deadline=5, lead=8, sabotage="tests.soak.sabotages.liar")  # fmt: skip
    result = soak.run(made, plan)
    assert not result.fine
    assert result.ledger.wrong(TWICE), result.lines()
    assert result.ledger.wrong(LOST), result.lines()
    assert any("attempt 1 ses accepted" in line for line in result.histories)
