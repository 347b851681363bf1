"""What the doctor says about IOMAD's mail queue."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from emailoffload.actions.diagnosis.finding import Finding
from emailoffload.moodle import cronlock, iomad, variants
from emailoffload.outbox import guardstate
from emailoffload.outbox.models import Lease, Run
from emailoffload.worker import lease
from tests import settings as test_settings
from tests.conftest import Moodle
from tests.doctor.conftest import QUEUE_TASK

Examine = Callable[[str], Finding]
pytestmark = [
    pytest.mark.mariadb,
    pytest.mark.django_db(databases=["default", "moodle"], transaction=True),
]


def test_a_version_of_the_queue_that_nobody_knows_stays_with_iomad(site: Moodle, examine: Examine) -> None:
    assert examine("queue.source").verdict == "ok"
    site.set_config("version", "2031010100", plugin="local_email")
    found = examine("queue.source")
    assert found.verdict == "warning" and "2031010100" in found.text


def test_a_language_of_templates_that_may_not_be_read_is_a_warning_with_the_statement_that_cures_it(
    site: Moodle, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iomad, "readable_columns", lambda *about: {})
    found = examine("queue.source")
    assert found.verdict == "warning" and "moodlegrants" in found.cure


@pytest.mark.parametrize(
    ("change", "verdict", "words"),
    [
        ("lastruntime = UNIX_TIMESTAMP() - 3000", "warning", "ran last 0.8 hours ago"),
        ("lastruntime = UNIX_TIMESTAMP() - 3000, timestarted = UNIX_TIMESTAMP()", "ok", "running"),
        ("lastruntime = NULL", "warning", "never run"),
        ("disabled = 1", "warning", "disabled"),
        ("component = 'local_other'", "warning", "no cron_task of local_email"),
    ],
)
def test_a_task_of_iomads_that_does_not_run_is_found(
    site: Moodle, examine: Examine, change: str, verdict: str, words: str
) -> None:
    site.execute(f"UPDATE mdl_task_scheduled SET {change} WHERE classname = %s", (QUEUE_TASK,))
    found = examine("queue.cron")
    assert (found.verdict, words in found.text) == (verdict, True)


def test_with_hold_iomads_task_may_rest_for_an_hour(site: Moodle, examine: Examine, settings: Any) -> None:
    settings.MOODLE_CRON_GUARD = "hold"
    change = "UPDATE mdl_task_scheduled SET lastruntime = %s WHERE classname = %s"
    site.execute(change, (int(time.time()) - 3700, QUEUE_TASK))
    assert examine("queue.cron").verdict == "ok"
    site.execute(change, (int(time.time()) - 3600 - 1000, QUEUE_TASK))
    assert examine("queue.cron").verdict == "warning"


@pytest.mark.parametrize("mode", ["tick", "hold", "off"])
def test_the_guard_mode_is_named_and_the_lock_given_back(
    site: Moodle, examine: Examine, settings: Any, mode: str
) -> None:
    settings.MOODLE_CRON_GUARD = mode
    found = examine("queue.guard")
    assert found.verdict == "ok" and mode in found.text and "given back" in found.text
    name = cronlock.lock_name_mysql(test_settings.MOODLE_DATABASE, "mdl_", QUEUE_TASK)
    assert site.value("SELECT GET_LOCK(%s, 0)", (name,)) == 1
    assert "a run has the lock" in examine("queue.guard").text
    guardstate.save(guardstate.Guard(mode, held_since=timezone.now(), last_look=timezone.now()))
    assert "the worker holds the lock" in examine("queue.guard").text
    site.value("SELECT RELEASE_LOCK(%s)", (name,))


@pytest.mark.parametrize("last_look", [None, timedelta(minutes=6)])
def test_a_queue_that_nobody_watches_is_a_warning(
    site: Moodle, examine: Examine, last_look: timedelta | None
) -> None:
    if last_look:
        guardstate.save(guardstate.Guard("tick", last_look=timezone.now() - last_look))
    else:
        guardstate.forget()
    found = examine("queue.guard")
    assert found.verdict == "warning" and "Nobody watches" in found.text


def test_without_the_lock_iomads_delay_must_give_us_time(
    site: Moodle, examine: Examine, settings: Any
) -> None:
    assert examine("queue.delay").verdict == "ok"
    settings.MOODLE_LOCK_FACTORY = "db_record_lock_factory"
    assert "does nothing" in examine("queue.guard").text
    settings.CLAIM_MARGIN_SECONDS, settings.QUEUE_POLL_SECONDS = 30, 5
    site.set_config("iomad_emaildelay", "39")
    found = examine("queue.delay")
    assert found.verdict == "warning" and "40 s or more" in found.cure
    site.set_config("iomad_emaildelay", "40")
    assert examine("queue.delay").verdict == "ok"
    settings.MOODLE_FORCED_CONFIG = {"iomad_emaildelay": 0}
    assert examine("queue.delay").verdict == "warning"


def test_a_site_without_iomad_has_nothing_to_be_said_about(
    site: Moodle, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = replace(variants.detect(), iomad=False)
    monkeypatch.setattr(variants, "detect", lambda: plain)
    for look in ("source", "cron", "guard", "delay"):
        found = examine(f"queue.{look}")
        assert found.verdict == "ok" and "has no IOMAD" in found.text


def test_a_watch_alone_is_no_living_worker(site: Moodle, examine: Examine) -> None:
    Run.objects.update(started_at=timezone.now() - timedelta(hours=1))
    held = lease.take(guardstate.LEASE)
    assert held is not None and Lease.objects.filter(name=guardstate.LEASE).exists()
    assert examine("worker.heartbeat").verdict == "problem"
