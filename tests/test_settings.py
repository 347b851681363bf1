"""What a site may set, what happens when it sets it wrongly, and the keys that it may leave to us."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from offloadsite import env, keys

ROOT = Path(__file__).resolve().parent.parent
HIDDEN = "hunter2-do-not-print"
MALFORMED = {
    "DATABASE_URL": f"postgres://offload:{HIDDEN}@db/offload",
    "MOODLE_DATABASE_URL": f"mysql://offload:{HIDDEN}@db:port/moodle",
    "MOODLE_DB_PREFIX": f"mdl`;{HIDDEN}",
    "MOODLE_WWWROOT": f"learn.example.org/{HIDDEN}",
    "MOODLE_CRON_PERIOD_SECONDS": HIDDEN,
    "MOODLE_CRON_GUARD": HIDDEN,
    "MOODLE_NOEMAILEVER": HIDDEN,
    "MOODLE_FORCED_CONFIG": HIDDEN,
    "MOODLE_PHP_TIMEZONE": HIDDEN,
    "CLAIM_LEAD_SECONDS": "0",
    "CLAIM_MARGIN_SECONDS": HIDDEN,
    "CLAIM_BATCH_SIZE": "5001",
    "RENDER_PARITY": HIDDEN,
    "SEND_DEADLINE_SECONDS": HIDDEN,
    "SES_MAX_SEND_RATE": HIDDEN,
    "SES_CONNECT_TIMEOUT_SECONDS": "1000",
    "SES_READ_TIMEOUT_SECONDS": HIDDEN,
    "DISPATCH_THREADS": "0",
    "DISPATCH_SLOTS": HIDDEN,
    "DISPATCH_BUDGET_SECONDS": HIDDEN,
    "LEASE_SECONDS": HIDDEN,
    "WORKER_PROCESSES": "2",
    "BROKER": HIDDEN,
    "REDIS_URL": f"http://:{HIDDEN}@redis",
    "BROKER_QUEUE_URL": f"sqs:{HIDDEN}",
    "BROKER_NAME": f"{HIDDEN}:q",
    "DEBUG": HIDDEN,
    "SECURE_HTTPS": HIDDEN,
    "TIME_ZONE": HIDDEN,
    "LOG_LEVEL": HIDDEN,
    "SANDBOX_PORT": "65536",
}


def command(tmp_path: Path, *args: str, **values: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the project's folder with nothing set but `values` and a data folder."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    settings = {"OFFLOAD_ENV_FILE": os.devnull, "OFFLOAD_DATA_DIR": str(tmp_path / "var"), **values}
    return subprocess.run(
        [sys.executable, *args],
        cwd=ROOT,
        env={**inherited, **settings},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_setting_names_itself_its_meaning_and_an_example_but_not_its_value(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, MALFORMED[name])
    _, problems = env.read()
    (problem,) = [text for text in problems if text.startswith(f"{name}:")]
    spec = env.BY_NAME[name]
    assert "malformed: expected" in problem or "malformed: the address" in problem
    assert spec.meaning in problem
    assert f"{name}={spec.example}" in problem
    assert HIDDEN not in problem


@pytest.mark.parametrize("spec", env.SPECS, ids=lambda spec: spec.name)
def test_every_setting_says_what_it_means_and_its_default_can_be_used(spec: env.Spec) -> None:
    assert spec.meaning.endswith(".")
    assert spec.example
    if spec.default and spec.default.strip():
        spec.parse(spec.default)


@pytest.mark.parametrize(
    "spec",
    [spec for spec in env.SPECS if spec.name not in {"SECRET_KEY", "CONTENT_KEYS"}],
    ids=lambda spec: spec.name,
)
def test_every_example_is_accepted_as_it_is_printed(spec: env.Spec) -> None:
    spec.parse(spec.example)


def test_all_problems_are_listed_together_and_a_command_exits_1_without_a_traceback(tmp_path: Path) -> None:
    done = command(
        tmp_path,
        "manage.py",
        "check",
        MOODLE_DATABASE_URL=f"mysql://offload:{HIDDEN}@db/moodle",
        CLAIM_LEAD_SECONDS="soon",
        SECRET_KEY=HIDDEN,
        CONTENT_KEYS=HIDDEN,
    )
    assert done.returncode == 1
    for name in (
        "MOODLE_WWWROOT: missing",
        "CLAIM_LEAD_SECONDS: malformed",
        "SECRET_KEY: too short",
        "CONTENT_KEYS: malformed",
    ):
        assert name in done.stderr
    assert "Example: MOODLE_WWWROOT=https://" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert HIDDEN not in done.stdout + done.stderr


def test_single_sign_on_with_half_of_its_settings_starts_nothing_and_names_the_others(tmp_path: Path) -> None:
    values = {
        "OIDC_SERVER_URL": "https://login.example.org",
        "OIDC_CLIENT_SECRET_FILE": str(tmp_path / "none"),
    }
    done = command(tmp_path, "manage.py", "check", **values)
    assert done.returncode == 1
    for words in (
        "OIDC_CLIENT_ID: missing",
        "OIDC_GROUP_MAP: missing",
        "OIDC_CLIENT_SECRET_FILE: the file cannot be read",
    ):
        assert words in done.stderr


def test_without_a_moodle_database_the_sample_site_and_the_local_ses_are_used(tmp_path: Path) -> None:
    code = (
        "import json, os; from offloadsite import settings as s\n"
        "print(json.dumps([s.SAMPLE_SITE, *[s.DATABASES[name]['NAME'] for name in ('moodle', 'default')],"
        "os.environ['AWS_ENDPOINT_URL_SESV2']]))"
    )
    done = command(tmp_path, "-c", code, SANDBOX_PORT="8123")
    data = tmp_path / "var"
    assert json.loads(done.stdout) == [
        True,
        str(data / "sample-moodle.sqlite3"),
        str(data / "offload.sqlite3"),
        "http://127.0.0.1:8123",
    ]


def test_with_a_moodle_database_aws_is_used_as_its_sdk_is_configured(tmp_path: Path) -> None:
    code = (
        "import json, os; from offloadsite import settings as s;"
        "print(json.dumps([s.SAMPLE_SITE, sorted(n for n in os.environ if n.startswith('AWS_'))]))"
    )
    done = command(
        tmp_path,
        "-c",
        code,
        MOODLE_DATABASE_URL="mysql://u:p@db/moodle",
        MOODLE_WWWROOT="https://learn.example.org/",
    )
    assert json.loads(done.stdout) == [False, []]


def test_the_region_may_be_given_under_either_of_its_two_names(tmp_path: Path) -> None:
    code = "import boto3; from offloadsite import settings; print(boto3.session.Session().region_name)"
    assert command(tmp_path, "-c", code, AWS_REGION="eu-central-1").stdout.strip() == "eu-central-1"
    both = command(tmp_path, "-c", code, AWS_REGION="eu-central-1", AWS_DEFAULT_REGION="eu-north-1")
    assert both.stdout.strip() == "eu-north-1"


def test_the_settings_file_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    file = tmp_path / "site.env"
    file.write_text("CLAIM_LEAD_SECONDS=1200\nMOODLE_DB_PREFIX=m_\n")
    code = "from offloadsite import settings as s; print(s.CLAIM_LEAD_SECONDS, s.MOODLE_DB_PREFIX)"
    done = command(tmp_path, "-c", code, OFFLOAD_ENV_FILE=str(file), MOODLE_DB_PREFIX="mdl_")
    assert done.stdout.split() == ["1200", "mdl_"]


def test_the_connections_read_committed_rows_and_speak_utc(tmp_path: Path) -> None:
    code = (
        "import json; from offloadsite import settings as s\n"
        "print(json.dumps(s.DATABASES['moodle']['OPTIONS']))"
    )
    done = command(
        tmp_path,
        "-c",
        code,
        MOODLE_DATABASE_URL="mysql://u:p@db/moodle",
        MOODLE_WWWROOT="https://learn.example.org",
    )
    options = json.loads(done.stdout)
    assert options["isolation_level"] == "read committed"
    assert "time_zone='+00:00'" in options["init_command"]
    assert "STRICT_ALL_TABLES" in options["init_command"]


def test_generated_keys_are_readable_by_their_owner_only_and_stay_the_same(tmp_path: Path) -> None:
    first = keys.secret_key("", tmp_path)[0], keys.content_keys([], tmp_path)[0]
    again = keys.secret_key("", tmp_path)[0], keys.content_keys([], tmp_path)[0]
    assert first == again
    Fernet(first[1][0].encode())
    files = list(tmp_path.iterdir())
    assert sorted(file.name for file in files) == ["content.key", "secret.key"]
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)


def test_processes_that_race_for_the_first_key_agree_on_one(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from offloadsite import keys\n"
        "folder = pathlib.Path(sys.argv[1]); print('ready', flush=True); sys.stdin.readline()\n"
        "print(keys.content_keys([], folder)[0][0], keys.secret_key('', folder)[0])"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "var")],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(6)
    ]  # fmt: skip
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    answers = {racer.communicate(timeout=60)[0] for racer in racers}
    assert len(answers) == 1
    assert len(answers.pop().split()) == 2


def test_a_data_folder_that_cannot_be_written_is_named_with_the_cause(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    problem = keys.secret_key("", tmp_path / "file")[1]
    assert problem is not None
    assert problem.startswith("OFFLOAD_DATA_DIR: a key cannot be kept there")


def test_the_worker_never_ends_a_dispatcher_that_is_within_its_budget(tmp_path: Path) -> None:
    asked = (
        "from offloadsite.settings import Q_CLUSTER as q, DISPATCH_BUDGET_SECONDS as b;"
        "print(q['retry'] > q['timeout'] > b + 60)"
    )
    assert command(tmp_path, "-c", asked, DISPATCH_BUDGET_SECONDS="3600").stdout.strip() == "True"


@pytest.mark.parametrize(("broker", "address"), [("redis", "REDIS_URL"), ("sqs", "BROKER_QUEUE_URL")])
def test_a_broker_without_its_address_is_refused_by_name(tmp_path: Path, broker: str, address: str) -> None:
    done = command(tmp_path, "-c", "import offloadsite.settings", BROKER=broker)
    assert f"{address}: missing, while BROKER is {broker}" in done.stderr


@pytest.mark.parametrize("key", ["$" + "k" * 40, "#" + "k" * 40, "!@#$%^&*(-_=+)" * 3])
def test_a_key_with_signs_is_taken_as_it_is_from_the_environment_and_from_the_file(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", key)
    assert env.read()[0]["SECRET_KEY"] == key
    (tmp_path / "env").write_text(f"SECRET_KEY_FALLBACKS={key}\n")
    monkeypatch.setenv("OFFLOAD_ENV_FILE", str(tmp_path / "env"))
    monkeypatch.setattr(env, "_FROM_FILE", set())
    monkeypatch.setenv("SECRET_KEY_FALLBACKS", "")  # put back to what it was, after the file is read
    monkeypatch.delenv("SECRET_KEY_FALLBACKS")
    env.load_env_file()
    assert env.read()[0]["SECRET_KEY_FALLBACKS"] == [key]


def test_triggers_are_not_put_where_the_events_of_ses_arrive(tmp_path: Path) -> None:
    queue = "https://sqs.eu-west-1.amazonaws.com/123456789012/email-offload-events"
    values = {"BROKER": "sqs", "BROKER_QUEUE_URL": f"{queue}/", "SES_EVENTS_QUEUE_URL": queue}
    done = command(tmp_path, "-c", "import offloadsite.settings", **values)
    assert "BROKER_QUEUE_URL: the queue of SES's events" in done.stderr
