"""Each source is ready by itself: what only the other one needs does not stand in its way."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections

from emailoffload.moodle import errors, variants
from emailoffload.outbox.models import Run
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.sources import registry
from emailoffload.worker import intercept, tasks
from tests import settings as test_settings
from tests.claims.queue import queued
from tests.conftest import Moodle, grant_moodle_account
from tests.reengagement.test_decisions import soon

pytestmark = [
    pytest.mark.mariadb,
    pytest.mark.django_db(databases=["default", "moodle"], transaction=True),
]
QUEUE, REMINDERS = "iomad_queue", "reengagement"
IOMAD = ("company", "company_users", "department", "email", "email_template")


@contextmanager
def revoked(server: Any, *rights: str) -> Iterator[None]:
    """The account without some of its rights, for a while."""
    user = f"'{test_settings.MOODLE_ACCOUNT[0]}'@'localhost'"
    for right in rights:
        server.run(f"REVOKE {right} FROM {user}")
    connections["moodle"].close()
    try:
        yield
    finally:
        for right in rights:
            server.run(f"GRANT {right} TO {user}")
        connections["moodle"].close()


@contextmanager
def without_iomad(server: Any, moodle: Moodle) -> Iterator[None]:
    """The site without IOMAD, with the account that `moodlegrants` prints for it."""
    moodle.execute(
        "DELETE FROM mdl_config_plugins WHERE plugin LIKE 'local_iomad%' OR plugin = 'local_email'"
    )
    for table in IOMAD:
        moodle.execute(f"RENAME TABLE mdl_{table} TO away_{table}")
    connections["moodle"].close()
    grant_moodle_account(server, test_settings.MOODLE_DATABASE)
    try:
        yield
    finally:
        for table in IOMAD:
            moodle.execute(f"RENAME TABLE away_{table} TO mdl_{table}")
        connections["moodle"].close()
        grant_moodle_account(server, test_settings.MOODLE_DATABASE)


def printed(capsys: Any, *args: str) -> tuple[Any, int]:
    """The JSON report of `intercept` and its exit status."""
    status = 0
    try:
        call_command("intercept", "--json", *args)
    except SystemExit as ended:
        status = int(ended.code or 0)
    return json.loads(capsys.readouterr().out), status


def test_the_real_site_has_both_sources_and_both_are_ready(moodle: Moodle) -> None:
    found = errors.require_ready(QUEUE)
    assert errors.require_ready(REMINDERS) == found
    assert registry.installed(found) == (REMINDERS, QUEUE) == registry.NAMES
    queue = variants.detect_queue()
    assert (queue.kind, queue.version, queue.supported) == ("known", 2024111900, True)


def test_readiness_of_the_queue_costs_few_queries(moodle: Moodle, django_assert_max_num_queries: Any) -> None:
    with django_assert_max_num_queries(20, connection=connections["moodle"]):
        errors.require_ready(QUEUE)


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM mdl_config_plugins WHERE plugin = 'mod_reengagement'",
        "UPDATE mdl_config_plugins SET value = '2099010100' WHERE plugin = 'mod_reengagement'",
        "UPDATE mdl_modules SET visible = 0 WHERE name = 'reengagement'",
    ],
    ids=["absent", "unknown", "disabled"],
)
def test_the_queue_works_where_the_plugin_does_not(moodle: Moodle, ses: SandboxSES, change: str) -> None:
    moodle.execute(change)
    queued(moodle, 2)
    with pytest.raises(errors.MoodleProblem):
        errors.require_ready(REMINDERS)
    result = intercept.run(source=QUEUE)
    assert (result.refused, result.claimed) == ("", 2)


def test_the_queue_works_without_any_right_on_the_plugins_tables(
    server: Any, moodle: Moodle, ses: SandboxSES
) -> None:
    moodle.execute("DELETE FROM mdl_config_plugins WHERE plugin = 'mod_reengagement'")
    queued(moodle, 1)
    with revoked(server, "UPDATE (emailsent, emailtime) ON moodle.mdl_reengagement_inprogress"):
        assert intercept.run(source=QUEUE).claimed == 1
        assert intercept.sources_here() == (QUEUE,)


def test_reminders_work_with_the_rights_that_they_have_always_had_and_the_queue_says_what_it_lacks(
    server: Any, moodle: Moodle, ses: SandboxSES, capsys: Any
) -> None:
    soon(moodle, 2)
    queued(moodle, 1)
    newer = (
        "SELECT (id, name, company, parent) ON moodle.mdl_department",
        "SELECT (id, modifiedtime, sent, due) ON moodle.mdl_email",
        "UPDATE (sent, modifiedtime) ON moodle.mdl_email",
        "SELECT (emailprofileid) ON moodle.mdl_company",
        "SELECT (managertype, departmentid, suspended) ON moodle.mdl_company_users",
    )
    with revoked(server, *newer):
        report, status = printed(capsys)
    assert report["sources"][REMINDERS]["claimed"] == 2
    lacking = report["sources"][QUEUE]["refused"]
    for right in (
        "UPDATE (sent, modifiedtime) on mdl_email",
        "SELECT (managertype, departmentid, suspended) on mdl_company_users",
        "mdl_department",
    ):
        assert right in lacking
    assert "moodlegrants" in report["cure"]
    assert (report["refused"], report["claimed"], status) == (f"{QUEUE}: {lacking}", 2, 1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("UPDATE mdl_config_plugins SET value = '2025051200' WHERE plugin = 'local_email'", "2025051200"),
        ("UPDATE mdl_config_plugins SET value = '2018010100' WHERE plugin = 'local_email'", "2018010100"),
        ("DELETE FROM mdl_config_plugins WHERE plugin = 'local_email'", "without a version"),
        ("UPDATE mdl_task_scheduled SET disabled = 1 WHERE component = 'local_email'", "is disabled"),
        ("REPLACE INTO mdl_config (name, value) VALUES ('cron_enabled', '0')", "cron is switched off"),
        ("UPDATE mdl_config SET value = '311' WHERE name = 'branch'", "older than Moodle 4.0"),
    ],
)
def test_a_queue_whose_behaviour_is_not_known_or_that_is_off_is_refused(
    moodle: Moodle, change: str, says: str
) -> None:
    moodle.execute(change)
    with pytest.raises(errors.UnsupportedVariant, match=says) as caught:
        errors.require_ready(QUEUE)
    assert caught.value.cure


def test_a_site_without_iomad_has_no_queue_and_says_so(
    server: Any, moodle: Moodle, ses: SandboxSES, capsys: Any
) -> None:
    soon(moodle, 1)
    with without_iomad(server, moodle):
        with pytest.raises(errors.IomadAbsent):
            errors.require_ready(QUEUE)
        report, status = printed(capsys, "--source", QUEUE)
        assert status == 1
        assert "no IOMAD" in report["refused"]
        assert QUEUE in report["cure"]
        assert intercept.sources_here() == (REMINDERS,)
        report, status = printed(capsys)
        assert (status, report["claimed"], list(report["sources"])) == (0, 1, [REMINDERS])


def test_the_schedule_passes_over_the_sources_that_the_site_has(
    server: Any, moodle: Moodle, ses: SandboxSES
) -> None:
    assert list(tasks.intercept()) == [REMINDERS, QUEUE]
    with without_iomad(server, moodle):
        assert list(tasks.intercept()) == [REMINDERS]


def test_a_site_that_cannot_be_reached_is_one_refused_pass(
    moodle: Moodle, settings: Any, capsys: Any
) -> None:
    settings.MOODLE_DB_PREFIX = "xyz_"
    report, status = printed(capsys)
    assert (status, list(report["sources"])) == (1, [REMINDERS])
    assert "xyz_" in report["refused"]
    assert Run.objects.get().outcome == "refused"


def test_without_a_source_every_source_is_passed_over_and_reported_together(
    moodle: Moodle, ses: SandboxSES, capsys: Any
) -> None:
    soon(moodle, 2)
    ids = queued(moodle, 3)
    moodle.execute("UPDATE mdl_email SET userid = 999999 WHERE id = %s", ids[:1])
    started = time.monotonic()
    report, status = printed(capsys)
    assert status == 0
    total = {name: report[name] for name in ("seen", "claimed", "lost", "left", "errors", "mails")}
    assert total == {"seen": 5, "claimed": 4, "lost": 0, "left": {"user_missing": 1}, "errors": 1, "mails": 4}
    assert 0 < report["seconds"] < time.monotonic() - started
    parts = report["sources"]
    assert (parts[REMINDERS]["claimed"], parts[QUEUE]["claimed"]) == (2, 2)
    for name in ("seen", "claimed", "lost", "errors", "mails"):
        assert report[name] == sum(part[name] for part in parts.values())
    call_command("intercept")
    text = capsys.readouterr().out
    assert "reengagement: 0 rows seen" in text
    assert "iomad_queue: 1 rows seen" in text
