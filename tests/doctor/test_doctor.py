"""The doctor says what is wrong, and how to cure it; on a site where all is well it says that."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from django.utils import timezone
from django_q.models import Schedule

from emailoffload.actions import doctor
from emailoffload.actions.diagnosis.finding import Finding
from emailoffload.moodle import cronlock
from emailoffload.outbox import content, switches
from emailoffload.outbox.models import Run, State
from emailoffload.sandbox.ses_server import SandboxSES
from tests import mariadb
from tests import settings as test_settings
from tests.conftest import Moodle
from tests.doctor.conftest import TASK

Examine = Callable[[str], Finding]
pytestmark = [
    pytest.mark.mariadb,
    pytest.mark.django_db(databases=["default", "moodle"], transaction=True),
]


@contextmanager
def moodle_connection(**changes: str) -> Iterator[None]:
    """The product's connection to Moodle's database with other values, for one block."""
    connection = connections["moodle"]
    before = dict(connection.settings_dict)
    connection.close()
    connection.settings_dict.update(changes)
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict.update(before)


def test_a_site_on_which_all_is_well_has_no_finding(site: Moodle) -> None:
    findings = list(doctor.run())
    assert [(f.id, f.verdict, f.text) for f in findings if f.verdict != "ok"] == []
    assert doctor.is_fine(findings)


def test_ids_are_unique_and_needs_are_looked_at_before(site: Moodle) -> None:
    ids = [look.id for look in doctor.LOOKS]
    assert len(set(ids)) == len(ids)
    for number, look in enumerate(doctor.LOOKS):
        assert set(look.needs) <= set(ids[:number])


def test_examining_changes_nothing_in_our_database(site: Moodle) -> None:
    before = sorted(State.objects.values_list("name", flat=True))
    list(doctor.run())
    assert sorted(State.objects.values_list("name", flat=True)) == before


def test_the_command_prints_findings_as_json_and_exits_1_when_one_needs_a_person(
    site: Moodle, ses_sandbox: SandboxSES
) -> None:
    ses_sandbox.api.sending_enabled = False
    out = StringIO()
    with pytest.raises(SystemExit) as stopped:
        call_command("doctor", "--json", stdout=out)
    assert stopped.value.code == 1
    result = json.loads(out.getvalue())
    assert result["fine"] is False
    assert result["counts"]["problem"] == 1
    (found,) = [finding for finding in result["findings"] if finding["verdict"] == "problem"]
    assert found.keys() == {"id", "title", "verdict", "text", "cure"}
    assert found["id"] == "ses.account"
    assert found["cure"]


def test_the_command_says_so_when_all_is_well(site: Moodle) -> None:
    out = StringIO()
    call_command("doctor", stdout=out)
    assert out.getvalue().rstrip().endswith("Everything is fine.")


def test_no_credential_is_ever_printed(site: Moodle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-that-must-stay")
    with moodle_connection(PASSWORD="another-secret-that-must-stay"):
        text = " ".join(f"{f.text} {f.cure}" for f in doctor.run())
    for secret in ("must-stay", test_settings.APP_ACCOUNT[1], test_settings.MOODLE_ACCOUNT[1]):
        assert secret not in text


def test_what_could_not_be_looked_at_is_named_in_one_line(site: Moodle) -> None:
    out = StringIO()
    with moodle_connection(PASSWORD="wrong"), pytest.raises(SystemExit):
        call_command("doctor", stdout=out)
    assert "\nProblems: 1, warnings: 0. Not looked at because of them: " in out.getvalue()
    assert "unknown " not in out.getvalue()


# --- Moodle's database ---


def test_a_refused_account_is_one_problem_and_what_depends_on_it_is_unknown(site: Moodle) -> None:
    with moodle_connection(PASSWORD="wrong"):
        verdicts = {finding.id: finding for finding in doctor.run()}
    assert verdicts["moodle.reachable"].verdict == "problem"
    assert "MOODLE_DATABASE_URL" in verdicts["moodle.reachable"].text
    dependent = (
        "moodle.server",
        "moodle.grants",
        "moodle.variant",
        "lock.shared",
        "lock.handshake",
        "cron.alive",
    )
    assert {verdicts[name].verdict for name in dependent} == {"unknown"}


def test_an_account_that_may_do_too_much_is_a_warning(site: Moodle, examine: Examine) -> None:
    with moodle_connection(USER="root", PASSWORD=""):
        found = examine("moodle.grants")
    assert found.verdict == "warning"
    assert "moodlegrants" in found.cure


def test_a_missing_privilege_is_a_problem_that_names_table_and_column(
    site: Moodle, server: mariadb.Server, examine: Examine
) -> None:
    user = f"'{test_settings.MOODLE_ACCOUNT[0]}'@'localhost'"
    where = f"`{test_settings.MOODLE_DATABASE}`.`mdl_reengagement_inprogress`"
    server.run(f"REVOKE UPDATE (emailtime) ON {where} FROM {user}")
    try:
        with moodle_connection():
            found = examine("moodle.grants")
    finally:
        server.run(f"GRANT UPDATE (emailtime) ON {where} TO {user}")
    assert found.verdict == "problem"
    assert "emailtime" in found.text
    assert "mdl_reengagement_inprogress" in found.text


def test_a_read_only_server_is_not_the_one_to_claim_on(
    site: Moodle, server: mariadb.Server, examine: Examine
) -> None:
    server.run("SET GLOBAL read_only = 1")
    try:
        found = examine("moodle.server")
    finally:
        server.run("SET GLOBAL read_only = 0")
    assert found.verdict == "problem"
    assert "primary" in found.cure


def test_an_unknown_plugin_version_is_a_problem(site: Moodle, examine: Examine) -> None:
    site.set_config("version", "2031010100", plugin="mod_reengagement")
    found = examine("moodle.variant")
    assert found.verdict == "problem"
    assert "2031010100" in found.text


# --- The cron lock ---


def test_the_handshake_gives_the_lock_back(site: Moodle, examine: Examine) -> None:
    assert examine("lock.handshake").verdict == "ok"
    name = cronlock.lock_name_mysql(test_settings.MOODLE_DATABASE, "mdl_", TASK)
    assert site.value("SELECT IS_FREE_LOCK(%s)", (name,)) == 1


def test_a_lock_that_the_cron_holds_is_fine_and_proves_the_name(site: Moodle, examine: Examine) -> None:
    name = cronlock.lock_name_mysql(test_settings.MOODLE_DATABASE, "mdl_", TASK)
    assert site.value("SELECT GET_LOCK(%s, 0)", (name,)) == 1
    found = examine("lock.handshake")
    site.value("SELECT RELEASE_LOCK(%s)", (name,))
    assert found.verdict == "ok"
    assert "cron has the lock" in found.text


def test_a_task_that_seems_to_run_without_its_lock_points_to_another_lock_name(
    site: Moodle, examine: Examine
) -> None:
    site.execute(
        "UPDATE mdl_task_scheduled SET timestarted = %s WHERE classname = %s", (int(time.time()) - 60, TASK)
    )
    found = examine("lock.handshake")
    assert found.verdict == "warning"
    assert "MOODLE_DB_NAME" in found.cure


@pytest.mark.parametrize(
    "factory", [r"\core\lock\file_lock_factory", "db_record_lock_factory", "cachestore_redis"]
)
def test_a_lock_that_cannot_be_shared_is_a_warning(
    site: Moodle, examine: Examine, settings: Any, factory: str
) -> None:
    settings.MOODLE_LOCK_FACTORY = factory
    found = examine("lock.shared")
    assert found.verdict == "warning"
    assert "stay with Moodle" in found.text


# --- Clocks and cron ---


def test_a_moodle_host_that_is_ahead_by_the_margin_is_a_problem(site: Moodle, examine: Examine) -> None:
    site.execute(
        "UPDATE mdl_task_scheduled SET lastruntime = %s WHERE classname = %s", (int(time.time()) + 300, TASK)
    )
    found = examine("clock.moodle")
    assert found.verdict == "problem"
    assert "NTP" in found.cure


def test_a_host_whose_clock_differs_from_the_database_servers_is_a_problem(
    site: Moodle, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    monkeypatch.setattr("emailoffload.actions.diagnosis.moodle.time.time", lambda: real() - 120)
    found = examine("clock.database")
    assert found.verdict == "problem"
    # Less what passed between the two readings.
    assert 60 < float(found.text.partition(" differ by ")[2].partition(" s;")[0]) < 121


@pytest.mark.parametrize(
    ("change", "verdict", "words"),
    [
        ("lastruntime = UNIX_TIMESTAMP() - 86400", "problem", "ran last at"),
        ("lastruntime = NULL", "warning", "never run"),
        ("disabled = 1", "warning", "disabled"),
        ("faildelay = 60", "warning", "failed"),
    ],
)
def test_a_cron_that_does_not_work_is_found(
    site: Moodle, examine: Examine, change: str, verdict: str, words: str
) -> None:
    site.execute(f"UPDATE mdl_task_scheduled SET {change} WHERE classname = %s", (TASK,))
    found = examine("cron.alive")
    assert (found.verdict, words in found.text) == (verdict, True)


# --- Amazon SES ---


def test_an_endpoint_that_does_not_answer_is_a_problem(
    site: Moodle, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emailoffload.delivery import ses

    monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", "http://127.0.0.1:9")
    ses.forget_client()
    found = examine("ses.account")
    assert found.verdict == "problem"
    assert "AWS_ENDPOINT_URL_SESV2" in found.cure


def test_missing_credentials_are_named(
    site: Moodle, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emailoffload.delivery import ses

    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", "/nonexistent")
    ses.forget_client()
    found = examine("ses.account")
    assert found.verdict == "problem"
    assert "AWS_ACCESS_KEY_ID" in found.cure


def test_a_used_up_quota_is_a_problem(site: Moodle, ses_sandbox: SandboxSES, examine: Examine) -> None:
    ses_sandbox.api.max_24h = 0
    assert examine("ses.quota").verdict == "problem"


def test_a_rate_above_the_accounts_is_a_warning(
    site: Moodle, ses_sandbox: SandboxSES, examine: Examine, settings: Any
) -> None:
    settings.SES_MAX_SEND_RATE = ses_sandbox.api.max_send_rate + 1
    assert examine("ses.quota").verdict == "warning"


def test_a_sender_without_an_identity_is_a_problem_and_its_domain_or_a_parent_is_enough(
    site: Moodle, ses_sandbox: SandboxSES, examine: Examine
) -> None:
    site.set_config("noreplyaddress", "noreply@mail.learn.example.org")
    ses_sandbox.api.any_identity = False
    found = examine("ses.identity")
    assert found.verdict == "problem"
    assert "mail.learn.example.org" in found.text
    for name in ("noreply@mail.learn.example.org", "mail.learn.example.org", "example.org"):
        ses_sandbox.api.identities = {name: None}
        assert examine("ses.identity").verdict == "ok"


def test_a_configuration_set_that_does_not_exist_is_a_problem(
    site: Moodle, examine: Examine, settings: Any
) -> None:
    settings.SES_CONFIGURATION_SET = "no-such-set"
    found = examine("ses.configuration_set")
    assert found.verdict == "problem"
    assert "SES_CONFIGURATION_SET" in found.cure


# --- Our side ---


def test_a_worker_that_has_stopped_is_a_problem(site: Moodle, examine: Examine) -> None:
    Run.objects.update(started_at=timezone.now() - timedelta(hours=1))
    assert examine("worker.heartbeat").verdict == "problem"


def test_a_worker_that_never_ran_is_a_warning(site: Moodle, examine: Examine) -> None:
    Run.objects.all().delete()
    assert examine("worker.heartbeat").verdict == "warning"


def test_a_schedule_that_was_removed_is_a_warning_that_names_it(site: Moodle, examine: Examine) -> None:
    Schedule.objects.filter(name__endswith="recover").delete()
    found = examine("worker.schedules")
    assert found.verdict == "warning"
    assert "recover" in found.text


def test_a_pass_that_was_refused_is_a_warning_with_its_reason(site: Moodle, examine: Examine) -> None:
    Run.objects.filter(kind="intercept").update(outcome="refused", message="The plugin is not installed.")
    found = examine("worker.outcomes")
    assert found.verdict == "warning"
    assert "The plugin is not installed." in found.text


def test_settings_that_contradict_each_other_are_found(site: Moodle, examine: Examine, settings: Any) -> None:
    settings.CLAIM_LEAD_SECONDS = 500
    short = examine("settings.fit")
    assert (short.verdict, "540" in short.cure) == ("warning", True)
    settings.CLAIM_LEAD_SECONDS = settings.CLAIM_MARGIN_SECONDS
    assert examine("settings.fit").verdict == "problem"


def test_a_pause_is_a_warning(site: Moodle, examine: Examine) -> None:
    switches.set_pause(switches.Pause(claims=True, by="admin", reason="drain"))
    assert examine("claims.switches").verdict == "warning"


def test_keys_that_are_missing_here_are_a_problem_that_names_their_fingerprints(
    site: Moodle, examine: Examine
) -> None:
    State.objects.update_or_create(name=content.REGISTRY, defaults={"value": {"ids": ["0123456789ab"]}})
    found = examine("keys.content")
    assert found.verdict == "problem"
    assert "0123456789ab" in found.text


def test_missing_migrations_are_a_problem(site: Moodle, examine: Examine) -> None:
    with connections["default"].cursor() as cursor:
        cursor.execute("UPDATE django_migrations SET app = 'x_emailoffload' WHERE app = 'emailoffload'")
    try:
        found = examine("database.migrated")
    finally:
        with connections["default"].cursor() as cursor:
            cursor.execute("UPDATE django_migrations SET app = 'emailoffload' WHERE app = 'x_emailoffload'")
    assert found.verdict == "problem"
    assert "manage.py migrate" in found.cure


def test_a_look_that_fails_is_a_finding_and_the_others_are_taken(
    site: Moodle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("learner@example.org")

    monkeypatch.setattr("emailoffload.actions.diagnosis.ours.content.missing_keys", broken)
    findings = {finding.id: finding for finding in doctor.run()}
    assert findings["keys.content"].verdict == "problem"
    assert "RuntimeError" in findings["keys.content"].text
    assert "learner@example.org" not in findings["keys.content"].text
    assert findings["ses.account"].verdict == "ok"
