"""When delivery is not healthy claims stop, also in the middle of a pass of another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from emailoffload.delivery import health
from emailoffload.delivery.errors import Outcome
from emailoffload.moodle import claims
from emailoffload.outbox.models import Claim, Email, Run
from emailoffload.outbox.switches import Pause, set_pause
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.sources import reasons
from emailoffload.worker import dispatch, intercept
from tests import processes
from tests.conftest import Moodle
from tests.outbox.factory import queue_emails
from tests.reengagement.test_decisions import soon

pytestmark = [
    pytest.mark.mariadb,
    pytest.mark.django_db(databases=["default", "moodle"], transaction=True),
]
SHUT = Outcome("account", "AccountSuspendedException", "The account is suspended. See the SES console.")


def after_the_first_claim(monkeypatch: pytest.MonkeyPatch, happens: Any) -> list[int]:
    """Let something happen once the first batch is claimed; returns the sizes of the batches claimed."""
    whole, sizes = claims.apply, []

    def apply(source: str, swaps: Sequence[claims.Swap]) -> set[int]:
        won = whole(source, swaps)
        sizes.append(len(swaps))
        if len(sizes) == 1:
            happens()
        return won

    monkeypatch.setattr(claims, "apply", apply)
    return sizes


@pytest.mark.parametrize("due", [300, -60], ids=["ahead of time", "under the lock"])
def test_a_breaker_that_opens_during_a_pass_stops_its_next_batch(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch, settings: Any, due: int
) -> None:
    settings.CLAIM_BATCH_SIZE = 2
    soon(moodle, 8, due=due)
    sizes = after_the_first_claim(monkeypatch, lambda: health.trip(SHUT))
    result = intercept.run()
    assert sizes == [2] and result.claimed == 2
    assert result.left == {reasons.DELIVERY_UNHEALTHY: 6}
    assert "AccountSuspendedException" in Run.objects.get(kind="intercept").message
    assert Claim.objects.count() == 2


def test_a_breaker_that_opened_and_is_half_open_again_stops_it_too(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.CLAIM_BATCH_SIZE = 2
    soon(moodle, 8)
    monkeypatch.setattr(health, "SHORTEST", -1.0)
    after_the_first_claim(monkeypatch, lambda: health.trip(SHUT))
    assert intercept.run().claimed == 2


TRIP = """
import tests.processes as processes
processes._set_up()
from emailoffload.delivery import health
from emailoffload.delivery.errors import Outcome
health.trip(Outcome("account", "AccountSuspendedException", "suspended"))
"""


def test_a_claim_in_progress_stops_when_another_process_opens_the_breaker(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.CLAIM_BATCH_SIZE = 2
    soon(moodle, 6)

    def elsewhere() -> None:
        from django.db import connections

        env = {"OFFLOAD_TEST_DEFAULT_DB": str(connections["default"].settings_dict["NAME"]),
               "OFFLOAD_TEST_OVERRIDES": json.dumps({}), "DJANGO_SETTINGS_MODULE": "tests.settings"}  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", TRIP], cwd=processes.ROOT, env={**os.environ, **env}, check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    after_the_first_claim(monkeypatch, elsewhere)
    result = intercept.run()
    assert (result.claimed, dict(result.left)) == (2, {reasons.DELIVERY_UNHEALTHY: 4})


def test_a_breaker_that_was_half_open_when_the_pass_began_lets_it_claim_its_few(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon(moodle, 3)
    monkeypatch.setattr(health, "SHORTEST", -1.0)
    health.trip(SHUT)
    assert intercept.run().claimed == 3


def overdue(minutes: float) -> None:
    then = timezone.now() - timedelta(minutes=minutes)
    queue_emails(2, due=then)
    Email.objects.update(next_try_at=then)
    Claim.objects.update(state="released")


def test_while_mails_are_due_and_no_dispatcher_is_at_work_nothing_more_is_claimed(
    moodle: Moodle, ses: SandboxSES
) -> None:
    soon(moodle, 3)
    overdue(4)
    result = intercept.run()
    assert (result.claimed, dict(result.left)) == (0, {reasons.DELIVERY_UNHEALTHY: 3})
    assert "no dispatcher is at work" in Run.objects.get(kind="intercept").message


def test_a_backlog_that_is_being_worked_off_stops_no_claims(moodle: Moodle, ses: SandboxSES) -> None:
    soon(moodle, 3)
    overdue(10)
    email = Email.objects.earliest("pk")
    email.tries.create(number=1, started_at=timezone.now() - timedelta(seconds=20))
    assert intercept.run().claimed == 3


def test_what_is_due_since_a_moment_or_set_aside_for_another_way_stops_no_claims(
    moodle: Moodle, ses: SandboxSES
) -> None:
    soon(moodle, 3)
    overdue(10)
    Email.objects.update(lease="smtp")
    queue_emails(1, due=timezone.now() - timedelta(minutes=1))
    assert intercept.run().claimed == 3


def test_once_the_outbox_has_drained_claiming_goes_on(moodle: Moodle, ses: SandboxSES) -> None:
    overdue(4)
    assert health.stuck_since() is not None
    Claim.objects.update(state="claimed")
    dispatch.run(budget=1)
    assert health.stuck_since() is None


def test_sending_paused_for_minutes_pauses_claims_too(moodle: Moodle, ses: SandboxSES) -> None:
    soon(moodle, 3)
    overdue(4)
    set_pause(Pause(sends=True))
    result = intercept.run()
    assert (result.claimed, dict(result.left)) == (0, {reasons.DELIVERY_UNHEALTHY: 3})
