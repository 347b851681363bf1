"""A claim that may have come too late is undone at once: whatever Moodle's run does then, it does alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.utils import timezone

from emailoffload.moodle import claims, cronlock
from emailoffload.outbox.models import Claim, Email
from emailoffload.outbox.states import EmailState
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.sources import reasons
from emailoffload.worker import claiming, intercept
from emailoffload.worker.recover_intents import recover_intents
from tests.conftest import Moodle

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)


def three(moodle: Moodle, *, due: int) -> list[tuple[int, int, int]]:
    """Three reminders that are owed: (id, emailsent, emailtime)."""
    moodle.execute("DELETE FROM mdl_reengagement_inprogress WHERE reengagement <> 13 OR userid > 20")
    moodle.execute("UPDATE mdl_reengagement_inprogress SET emailtime = %s", [int(time.time()) + due])
    return rows(moodle)


def rows(moodle: Moodle) -> list[tuple[int, int, int]]:
    return moodle.rows("SELECT id, emailsent, emailtime FROM mdl_reengagement_inprogress ORDER BY id")


def after_the_claim(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """Let something happen just after the claim was committed, and before the pass looks at the clock."""
    whole = claims.apply
    done: list[bool] = []

    def apply(source: str, swaps: Sequence[claims.Swap]) -> set[int]:
        won = whole(source, swaps)
        if not done:
            done.append(True)
            happens()
        return won

    monkeypatch.setattr(claims, "apply", apply)


def nothing_is_claimed(moodle: Moodle, before: list[tuple[int, int, int]]) -> None:
    result = intercept.run()
    assert (result.claimed, result.left) == (0, {reasons.COMMITTED_LATE: len(before)})
    assert rows(moodle) == before
    assert set(Claim.objects.values_list("state", flat=True)) == {"lost"}
    assert not Email.objects.exists()


@pytest.mark.parametrize("seconds", [400, 3700], ids=["the due time has passed", "slept past its lease"])
def test_a_claim_ahead_that_was_committed_late_is_undone(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch, settings: SimpleNamespace, seconds: int
) -> None:
    settings.LEASE_SECONDS = 3600
    settings.CLAIM_LEAD_SECONDS = 7200
    before = three(moodle, due=300 if seconds < 3600 else 7000)
    offset = [0]
    clock = SimpleNamespace(time=lambda: time.time() + offset[0], monotonic=time.monotonic)
    monkeypatch.setattr(claiming, "time", clock)
    after_the_claim(monkeypatch, lambda: offset.__setitem__(0, seconds))
    nothing_is_claimed(moodle, before)


def test_a_claim_during_which_moodles_lock_was_lost_is_undone(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = three(moodle, due=-60)
    name = cronlock.lock_name_mysql("moodle", "mdl_", cronlock.reengagement_lock_target())

    def cut() -> None:
        moodle.execute(f"KILL {moodle.value('SELECT IS_USED_LOCK(%s)', [name])}")

    after_the_claim(monkeypatch, cut)
    nothing_is_claimed(moodle, before)


@pytest.mark.parametrize("due", [7000, -60], ids=["ahead of time", "under the lock"])
def test_a_claimer_that_slept_while_a_mail_of_its_claim_left_does_not_give_that_row_back(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch, settings: SimpleNamespace, due: int
) -> None:
    settings.LEASE_SECONDS = 3600
    settings.CLAIM_LEAD_SECONDS = 7200
    before = three(moodle, due=due)
    offset = [0]
    clock = SimpleNamespace(time=lambda: time.time() + offset[0], monotonic=time.monotonic)
    monkeypatch.setattr(claiming, "time", clock)
    claimed: list[tuple[int, int, int]] = []

    def sleep() -> None:
        claimed.extend(rows(moodle))
        offset[0] = 3700
        assert recover_intents(timezone.now() + timedelta(seconds=3700))["claimed"] == len(before)
        Email.objects.filter(claim__row_id=before[0][0]).update(state=EmailState.ACCEPTED)

    after_the_claim(monkeypatch, sleep)
    assert intercept.run().claimed == 0
    assert rows(moodle) == [claimed[0], *before[1:]]
    assert list(Claim.objects.order_by("row_id").values_list("state", "emails__state")) == [
        ("claimed", "accepted"),
        *[("released", "released")] * (len(before) - 1),
    ]


def test_a_claimer_that_slept_before_its_claim_does_not_give_back_what_its_successor_holds(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch, settings: SimpleNamespace
) -> None:
    settings.LEASE_SECONDS = 3600
    settings.CLAIM_LEAD_SECONDS = 7200
    before = three(moodle, due=7000)
    offset = [0]
    clock = SimpleNamespace(time=lambda: time.time() + offset[0], monotonic=time.monotonic)
    monkeypatch.setattr(claiming, "time", clock)

    def sleep(name: str) -> None:
        if name == "after_intent" and not offset[0]:
            offset[0] = 3700
            assert recover_intents(timezone.now() + timedelta(seconds=3700))["dropped"] == len(before)
            assert intercept.run(lane="-successor").claimed == len(before)
            Email.objects.filter(claim__state="claimed").update(state=EmailState.ACCEPTED)

    monkeypatch.setattr("emailoffload.worker.killpoints.reached", sleep)
    assert intercept.run().claimed == 0
    held = [claim.after["emailtime"] for claim in Claim.objects.filter(state="claimed").order_by("row_id")]
    assert [row[2] for row in rows(moodle)] == held
    assert Claim.objects.filter(state="lost").count() == len(before)
