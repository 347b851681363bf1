"""Four interceptors and Moodle's cron over thousands of rows that fall due around now (promise P1, P2)."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from emailoffload.outbox.models import Claim, Email
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.sandbox.ses_server import SandboxSES
from tests.conftest import Moodle
from tests.processes import result, spawn, start
from tests.race.conftest import Doubles
from tests.race.ledger import Ledger

pytestmark = [
    pytest.mark.django_db(databases=["default", "moodle"], transaction=True),
    pytest.mark.race,
]
INTERCEPTORS = 4
PACE = {"CLAIM_MARGIN_SECONDS": 2, "CLAIM_LEAD_SECONDS": 8, "CLAIM_BATCH_SIZE": 200}
"""Shorter than in life, so that what takes minutes there happens in seconds here."""


def race(
    moodle: Moodle,
    *,
    lock: bool,
    variant: str = "monolithic",
    sabotage: str = "none",
    seconds: int = 12,
    mail_seconds: float = 0.002,
) -> Ledger:
    """Let them race until every row has been due for a while, then count."""
    if variant == "adhoc":
        moodle.set_config("version", "2025010100", plugin="mod_reengagement")
        moodle.insert(
            "mdl_task_log",
            type=1,
            component="mod_reengagement",
            classname=r"mod_reengagement\task\reengagement_adhoc_task",
            userid=0,
            timestart=time.time(),
            timeend=time.time(),
            dbreads=0,
            dbwrites=0,
            result=0,
            output="",
        )
    moodle.execute("DELETE FROM mdl_reengagement_inprogress WHERE reengagement NOT BETWEEN 12 AND 17")
    owed = {row[0] for row in moodle.rows("SELECT id FROM mdl_reengagement_inprogress")}
    factory = "auto" if lock else "db_record"
    cron = spawn("moodle", seconds + 4, mail_seconds, "lock" if lock else "none", variant)
    interceptors = [
        spawn("intercept", f"-{lane}", seconds, sabotage, MOODLE_LOCK_FACTORY=factory, **PACE)
        for lane in range(INTERCEPTORS)
    ]
    start(
        [cron, *interceptors],
        lambda: moodle.execute(
            "UPDATE mdl_reengagement_inprogress SET emailtime = %s + (id %% 22)", [int(time.time()) - 8]
        ),
    )
    reports = [result(process) for process in interceptors]
    mailed = Counter(result(cron)["mailed"])
    # What the interceptors left at the very end, Moodle's next run finds.
    last = spawn("moodle", 0, 0, "lock" if lock else "none", variant)
    start([last])
    mailed += Counter(result(last)["mailed"])
    assert [report["refused"] for report in reports if report["refused"]] == []
    ours = Counter(
        Email.objects.filter(state=EmailState.QUEUED, claim__state=ClaimState.CLAIMED).values_list(
            "claim__row_id", flat=True
        )
    )
    assert (
        sum(report["claimed"] for report in reports) == Claim.objects.filter(state=ClaimState.CLAIMED).count()
    )
    return Ledger(owed, mailed, ours)


@pytest.mark.parametrize("lock", [True, False], ids=["with the lock", "lock not available"])
@pytest.mark.parametrize("variant", ["monolithic", "adhoc"])
def test_each_owed_mail_goes_out_once_in_total(
    moodle: Moodle, ses: SandboxSES, lock: bool, variant: str
) -> None:
    ledger = race(moodle, lock=lock, variant=variant)
    assert len(ledger.owed) > 2800
    assert not ledger.doubles
    assert not ledger.never
    assert len(ledger.ours) > 400, "we must have taken a good part of it"
    assert len(ledger.moodle) > 50, "Moodle must have been mailing at the same time"


def test_a_row_that_moodle_handled_between_our_look_and_our_claim_is_lost_not_doubled(
    moodle: Moodle, ses: SandboxSES
) -> None:
    ledger = race(moodle, lock=True, sabotage="slow")
    assert not ledger.doubles
    assert not ledger.never


@pytest.mark.parametrize(
    ("sabotage", "lock"),
    [("no_lead", False), ("no_lock", True), ("no_compare", True)],
)
def test_without_one_of_its_protections_the_same_race_sends_doubles(
    moodle: Moodle, ses: SandboxSES, doubles: Doubles, sabotage: str, lock: bool
) -> None:
    assert doubles(lambda: race(moodle, lock=lock, sabotage=sabotage))
