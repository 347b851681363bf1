"""The parts of the drill: what its report says, how its ledger counts, what its processes get of the site."""

from __future__ import annotations

import io
import json
import sqlite3
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import django
import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError

from emailoffload.sandbox.drill import plan as planning
from emailoffload.sandbox.drill import runner
from emailoffload.sandbox.drill.ledger import Ledger, balance
from emailoffload.sandbox.drill.moodledb.base import AWAY, DatabaseWrapper
from emailoffload.sandbox.drill.pace import ENVIRONMENT, Pace
from emailoffload.sandbox.drill.plan import Plan
from emailoffload.sandbox.drill.rehearsals import ALL
from emailoffload.sandbox.drill.report import Check, Deed, Outcome, Report

GOOD = Check("Nothing was lost", "none", "none", True)
BAD = Check("They come back", "4", "3", False)
BALANCED = Ledger(owed=2, ses=1, moodle=1)


def struck(**changes: Any) -> Ledger:
    found: dict[str, Any] = {"ses": Counter(), "smtp": Counter(), "moodle": Counter(), "held": set()}
    return balance({"anna@a.example": "refused"}, **{**found, **changes})


ANNA = "anna@a.example"


@pytest.mark.parametrize(
    ("received", "twice", "lost"),
    [
        ({"ses": Counter({ANNA: 1})}, 0, 0),
        ({"smtp": Counter({ANNA: 1})}, 0, 0),
        ({"moodle": Counter({ANNA: 1})}, 0, 0),
        ({"held": {ANNA}}, 0, 0),
        ({"uncertain": {ANNA}}, 0, 0),
        ({"ses": Counter({ANNA: 1}), "uncertain": {ANNA}}, 0, 0),
        ({}, 0, 1),
        ({"ses": Counter({ANNA: 2})}, 1, 0),
        ({"ses": Counter({ANNA: 1}), "moodle": Counter({ANNA: 1})}, 1, 0),
        ({"ses": Counter({ANNA: 1}), "smtp": Counter({ANNA: 1})}, 1, 0),
        ({"moodle": Counter({ANNA: 1}), "held": {ANNA}}, 1, 0),
    ],
)
def test_each_mail_is_to_be_received_once_or_to_wait_for_a_person(
    received: dict[str, Any], twice: int, lost: int
) -> None:
    ledger = struck(**received)
    assert (sum(ledger.twice.values()), sum(ledger.lost.values())) == (twice, lost)
    assert ledger.fine is (twice + lost == 0)
    assert ledger.owed == 1


def test_the_ledger_names_the_rehearsal_and_no_person() -> None:
    text = str(struck())
    assert "lost in refused: 1" in text
    assert "anna" not in text


def outcome(*steps: Check | Deed, **changes: Any) -> Outcome:
    return Outcome("refused", "Amazon SES cannot be reached", list(steps), **changes)


def report(*outcomes: Outcome, ledger: Ledger | None = BALANCED, problem: str = "") -> Report:
    made = runner.blank(planning.of_site(("refused",)))
    return replace(made, outcomes=list(outcomes), ledger=ledger, problem=problem)


def test_a_drill_is_fine_only_if_all_was_looked_at_as_expected_and_the_ledger_balances() -> None:
    assert report(outcome(GOOD)).fine
    assert not report(outcome(GOOD), outcome(GOOD, BAD)).fine
    assert not report(outcome(GOOD, problem="It ended.")).fine
    assert not report(outcome(Deed("Nothing was looked at."))).fine
    assert not report(outcome(GOOD), ledger=Ledger(owed=1, lost={"refused": 1})).fine
    assert not report(outcome(GOOD), ledger=None).fine
    assert not report().fine
    assert not report(outcome(GOOD), problem="It ended.").fine


def test_the_report_says_what_was_done_expected_and_seen() -> None:
    text = report(outcome(Deed("SES was broken."), BAD, GOOD, states={"queued": 1})).text()
    assert text.index("SES was broken.") < text.index("They come back: 3 (expected: 4)")
    assert "NOT AS EXPECTED. See: Amazon SES cannot be reached." in text
    assert "records at the end: 1 queued" in text
    assert "What this proves" not in text
    assert "What this does not prove" in text


def test_a_report_that_is_fine_says_what_it_proves_and_what_not() -> None:
    text = report(outcome(GOOD)).text()
    assert "everything went as expected" in text
    assert text.index("What this proves") < text.index("What this does not prove")
    assert max(len(line) for line in text.splitlines()) <= 110


def test_the_report_says_what_the_times_mean_on_this_site(settings: Any) -> None:
    settings.SEND_DEADLINE_SECONDS, settings.MOODLE_CRON_PERIOD_SECONDS = 1800, 600
    settings.CLAIM_LEAD_SECONDS = 1200
    text = " ".join(report(outcome(GOOD)).text().split())
    assert "goes another way 30 min after it was due, or at the next look, 31 min" in text
    assert "within 10 min more: the learner has the mail about 41 min after it was due" in text
    assert "reminders of the next 20 min may be claimed already" in text


def test_what_passes_between_the_processes_comes_out_as_it_went_in() -> None:
    made = outcome(Deed("SES was broken."), BAD, seconds=2.0, states={"queued": 1})
    assert Outcome.from_dict(json.loads(json.dumps(made.as_dict()))) == made
    ledger = Ledger(owed=2, twice={"refused": 1})
    assert Ledger.from_dict(json.loads(json.dumps(ledger.as_dict()))) == ledger
    assert Pace.from_json(Pace().slower(2).json()) == Pace().slower(2)


def test_a_slow_machine_gets_more_time_and_a_fast_one_no_less() -> None:
    assert Pace().slower(0.2) == Pace()
    assert Pace().slower(2).deadline == 2 * Pace().deadline
    assert Pace().slower(100).deadline == 4 * Pace().deadline


def test_nothing_of_the_site_reaches_the_processes_of_a_rehearsal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("DATABASE_URL", "MOODLE_DATABASE_URL", "SECRET_KEY", "AWS_PROFILE", "HTTPS_PROXY", "SES_X"):
        monkeypatch.setenv(name, "of-the-site")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-site")
    monkeypatch.setenv("EMAIL_URL", "smtp://of-the-site")
    env = planning.environment(Plan(("normal",), smtp=True), tmp_path, 1, 2)
    assert [name for name, value in env.items() if "of-the-site" in value] == []
    assert env["HOME"] == env["OFFLOAD_DATA_DIR"] == str(tmp_path)
    assert env["EMAIL_URL"] == "smtp://127.0.0.1:2"
    assert "EMAIL_URL" not in planning.environment(Plan(("normal",), smtp=False), tmp_path, 1, 2)


def test_the_report_names_the_versions_that_it_ran_with() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    versions = report(outcome(GOOD)).versions
    assert versions["Email Offload"] == project["version"]
    assert versions["Django"] == django.__version__


def test_no_secret_is_in_the_report(settings: Any) -> None:
    settings.SMTP_ROUTE, settings.EMAIL_HOST_PASSWORD = True, "smtp-password"
    settings.SECRET_KEY = "key-of-the-site"
    made = report(outcome(GOOD))
    assert "password" not in made.text() and "key-of-the-site" not in json.dumps(made.as_dict())
    assert "there is an SMTP route" in made.text()


@pytest.fixture
def any_database(django_db_blocker: Any) -> Iterator[None]:
    """Databases that are not the suite's may be opened."""
    with django_db_blocker.unblock():
        yield


@pytest.mark.usefixtures("any_database")
def test_moodles_database_fails_as_a_server_that_is_gone_and_comes_back(tmp_path: Path) -> None:
    database = tmp_path / "moodle.sqlite3"
    sqlite3.connect(database).close()
    options = {"NAME": str(database), "OPTIONS": {}, "CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": False,
               "AUTOCOMMIT": True, "ATOMIC_REQUESTS": False, "TIME_ZONE": None, "TEST": {}}  # fmt: skip
    connection = DatabaseWrapper(options, "drill")
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    (tmp_path / AWAY).touch()
    assert not connection.is_usable()
    with pytest.raises(OperationalError) as caught:
        connection.cursor()
    assert caught.value.args[0] == 2006
    connection.close()
    with pytest.raises(OperationalError):
        connection.cursor()
    (tmp_path / AWAY).unlink()
    with connection.cursor() as cursor:
        assert cursor.execute("SELECT 1").fetchone() == (1,)
    connection.close()


def test_the_settings_of_rehearsals_serve_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.core.exceptions import ImproperlyConfigured

    monkeypatch.delitem(sys.modules, "emailoffload.sandbox.drill.settings", raising=False)
    monkeypatch.setenv(ENVIRONMENT, Pace().json())
    # The suite's own settings name a real Moodle database.
    with pytest.raises(ImproperlyConfigured):
        __import__("emailoffload.sandbox.drill.settings")


def run_command(monkeypatch: pytest.MonkeyPatch, made: Report, *args: str) -> tuple[int, str]:
    """Exit status and output of `manage.py drill`, which gets this report."""
    monkeypatch.setattr(runner, "run", lambda plan, say: made)
    monkeypatch.setattr("signal.signal", lambda *_: None)  # this process keeps its own
    out = io.StringIO()
    try:
        call_command("drill", *args, stdout=out, stderr=io.StringIO())
    except SystemExit as end:
        return int(end.code or 0), out.getvalue()
    return 0, out.getvalue()


def test_the_exit_status_is_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_command(monkeypatch, report(outcome(GOOD)))[0] == 0
    assert run_command(monkeypatch, report(outcome(BAD)))[0] == 1


def test_the_report_is_kept_where_the_admin_wants_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = report(outcome(GOOD))
    file = tmp_path / "drill.txt"
    run_command(monkeypatch, made, "--output", str(file))
    assert file.read_text() == made.text()
    _, out = run_command(monkeypatch, made, "--json", "--output", str(file))
    assert json.loads(file.read_text()) == json.loads(out) == json.loads(json.dumps(made.as_dict()))


@pytest.mark.parametrize(
    "args", [["--only", "nonsense"], ["--output", "/nowhere/at/all/drill.txt"], ["--output", "/"]]
)
def test_wrong_usage_is_refused_before_anything_is_played(
    monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    monkeypatch.setattr(runner, "run", lambda plan, say: pytest.fail("it was played"))
    with pytest.raises(CommandError) as caught:
        call_command("drill", *args)
    assert caught.value.returncode == 2


def test_every_rehearsal_is_listed_and_documented() -> None:
    out = io.StringIO()
    call_command("drill", "--list", "--json", stdout=out)
    assert json.loads(out.getvalue()) == {name: str(rehearsal.title) for name, rehearsal in ALL.items()}
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    assert [name for name in ALL if f"| `{name}` |" not in page] == []
