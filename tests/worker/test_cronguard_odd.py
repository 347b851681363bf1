"""The watch over IOMAD's queue where something is not as it should be: another run, another watcher, a refusal."""

from __future__ import annotations

import time
from typing import Any

import pytest

from emailoffload.sandbox.email_cron import QUEUE_CLASS
from emailoffload.sources import reasons
from emailoffload.worker import cronguard, intercept, lease
from emailoffload.worker.intercept_result import InterceptResult
from tests.claims import queue
from tests.worker.test_cronguard import LOCK, Site, claimed, site

__all__ = ["site"]
pytestmark = [
    pytest.mark.mariadb,
    pytest.mark.django_db(databases=["default", "moodle"], transaction=True),
]


def test_iomads_task_is_found_among_others_of_its_component_and_may_be_missing(site: Site) -> None:
    table = "mdl_task_scheduled"
    site.moodle.execute(
        f"UPDATE {table} SET classname = '\\\\local_email\\\\task\\\\another' WHERE classname = %s",
        [QUEUE_CLASS],
    )
    assert cronguard.task() is None
    site.moodle.execute(f"DELETE FROM {table} WHERE component = %s", [cronguard.COMPONENT])
    assert cronguard.task() is None


@pytest.mark.parametrize(
    ("seconds", "stopped", "least", "most"), [(0.05, False, 0.05, 2), (60, True, 0, 1), (0, False, 0, 1)]
)
def test_a_pause_lasts_until_its_end_or_until_the_watch_stops(
    seconds: float, stopped: bool, least: float, most: float
) -> None:
    began = time.monotonic()
    cronguard._sleep(seconds, lambda: stopped)
    assert least <= time.monotonic() - began < most


def test_a_watcher_whose_lease_went_to_another_lets_the_lock_go_and_waits(
    site: Site, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MOODLE_CRON_GUARD = "hold"
    site.step()
    assert site.held()
    monkeypatch.setattr(lease.Held, "beat", lambda held: False)
    monkeypatch.setattr(lease, "take", lambda name: None)
    rows = queue.queued(site.moodle, 2)
    assert site.step(5) >= 1
    assert not site.held()
    assert claimed().isdisjoint(rows)


def test_a_hold_that_finds_a_run_of_iomads_claims_what_is_due_later_meanwhile(
    site: Site, settings: Any
) -> None:
    settings.MOODLE_CRON_GUARD = "hold"
    site.moodle.value("SELECT GET_LOCK(%s, 0)", [LOCK])
    due, later = queue.queued(site.moodle, 1), queue.queued(site.moodle, 1, due=600)
    site.step()
    assert claimed() == set(later)
    site.moodle.value("SELECT RELEASE_LOCK(%s)", [LOCK])
    site.step(5)
    assert claimed() == {*due, *later}
    assert site.held()


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> list[InterceptResult]:
    """What the next passes come to, instead of real ones."""
    waiting: list[InterceptResult] = []
    monkeypatch.setattr(intercept, "run", lambda **given: waiting.pop(0))
    return waiting


def test_a_tick_waits_for_a_pass_that_is_at_work_and_then_does_its_own(
    site: Site, results: list[InterceptResult]
) -> None:
    queue.queued(site.moodle, 1)
    results += [InterceptResult(busy=True), InterceptResult(busy=True), InterceptResult(claimed=1)]
    site.guard._whole(site.guard._situation(site.now), None)
    assert results == []


def test_what_refuses_a_pass_is_why_nothing_more_is_claimed_until_the_next_look_at_the_site(
    site: Site, results: list[InterceptResult]
) -> None:
    site.step()
    queue.queued(site.moodle, 1)
    results += [InterceptResult(refused="Grants are missing."), InterceptResult()]
    site.step(5)
    site.step(5)
    assert site.guard._state.why_not == "Grants are missing."
    site.step(cronguard.READY_SECONDS)
    assert site.guard._state.why_not == ""


@pytest.mark.parametrize(
    ("left", "again"),
    [({reasons.CRON_RUNNING: 1}, True), ({reasons.STOPPED: 1}, True), ({reasons.NO_CAPACITY: 1}, False)],
)
def test_rows_that_a_run_or_a_stop_kept_back_are_looked_at_again_at_once(
    site: Site, monkeypatch: pytest.MonkeyPatch, left: dict[str, int], again: bool
) -> None:
    site.step()
    queue.queued(site.moodle, 1, due=600)
    asked: list[int] = []

    def run(**given: Any) -> InterceptResult:
        asked.append(1)
        result = InterceptResult()
        result.left.update(left)
        return result

    monkeypatch.setattr(intercept, "run", run)
    site.step(5)
    site.step(5)
    assert len(asked) == (2 if again else 1)
