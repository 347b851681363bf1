"""`manage.py setup` on the real site: what it asks, finds, refuses, writes, and leaves alone."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from emailoffload.actions.setup import databases, look
from emailoffload.actions.setup.databases import Address, Unusable
from emailoffload.outbox.models import Claim
from emailoffload.policy.models import RoutingRule
from emailoffload.sandbox.ses_server import SandboxSES
from offloadsite import env
from tests import settings as test_settings
from tests.conftest import Moodle
from tests.setup.conftest import MOODLES, OWN, SENDER, SOCKET, Dialogue

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
PASSWORD = "correct-horse-battery-9"


@pytest.fixture
def dialogue(tmp_path: Path) -> Dialogue:
    """A run that writes into a folder of its own."""
    return Dialogue(tmp_path / "site.env")


@pytest.fixture
def person(
    moodle: Moodle, own_database: Address, amazon: SandboxSES, dialogue: Dialogue, tmp_path: Path
) -> Dialogue:
    """A person who answers what has no default, and presses Enter at everything else."""
    dialogue.answers = {
        "Database host": [SOCKET, SOCKET],
        "Database name": [MOODLES.name, OWN.name],
        "Account": [MOODLES.user, OWN.user],
        "Password": [MOODLES.password, OWN.password, PASSWORD],
        "Again": [PASSWORD],
        "Address of the site": ["http://127.0.0.1:18080"],
        "Region": ["eu-west-1"],
        "Data folder": [str(tmp_path)],
        "Host name": ["offload.example.org"],
        "Set up the way of events": ["skip"],
        "Name of the first": ["boss"],
    }
    return dialogue


def test_without_a_person_a_site_is_set_up_in_shadow_mode(options: list[str], dialogue: Dialogue) -> None:
    status = dialogue.go(*options, "--migrate", "--no-doctor", interactive=False)
    assert status == 0, dialogue.text
    values = dialogue.values
    assert Address.of(values["MOODLE_DATABASE_URL"]) == MOODLES
    assert Address.of(values["DATABASE_URL"]) == OWN
    assert values["MOODLE_WWWROOT"] == "http://127.0.0.1:18080"
    assert values["MOODLE_CRON_PERIOD_SECONDS"] == "300"
    assert values["ALLOWED_HOSTS"].split(",")[0] == "offload.example.org"
    assert (values["SECURE_HTTPS"], values["TRUSTED_PROXIES"]) == ("on", "1")
    assert values["DASHBOARD_URL"] == values["CSRF_TRUSTED_ORIGINS"] == "https://offload.example.org"
    assert len(values["SECRET_KEY"]) >= 50
    assert len(values["CONTENT_KEYS"]) == 44
    rule = RoutingRule.objects.get()
    assert (rule.name, rule.mode) == ("site", "shadow")
    assert "routing on --percentage 10" in dialogue.text
    assert "shadows" in dialogue.text
    for name, value in values.items():
        if value and name in env.BY_NAME:
            env.BY_NAME[name].parse(value)


def test_the_file_is_for_its_owner_only_and_no_secret_is_shown(
    options: list[str], dialogue: Dialogue
) -> None:
    dialogue.go(*options, "--no-doctor", interactive=False)
    assert stat.S_IMODE(dialogue.file.stat().st_mode) == 0o600
    values = dialogue.values
    for secret in (MOODLES.password, OWN.password, values["SECRET_KEY"], values["CONTENT_KEYS"]):
        assert secret not in dialogue.text
    assert "DATABASE_URL: new (not shown)" in dialogue.text


def test_a_file_that_exists_is_not_changed_without_force_and_its_secrets_are_kept(
    options: list[str], dialogue: Dialogue
) -> None:
    dialogue.go(*options, "--no-doctor", interactive=False)
    with dialogue.file.open("a") as file:
        file.write("# mine\nALARM_EMAILS=alarms@example.org\n")
    before, text = dialogue.values, dialogue.file.read_text()
    again = Dialogue(dialogue.file)
    assert again.go(*options, "--cron-period", "600", "--no-doctor", interactive=False) == 1
    assert dialogue.file.read_text() == text
    assert "MOODLE_CRON_PERIOD_SECONDS: 300 → 600" in again.text
    forced = Dialogue(dialogue.file)
    forced.go(*options, "--cron-period", "600", "--force", "--no-doctor", interactive=False)
    assert forced.values == {**before, "MOODLE_CRON_PERIOD_SECONDS": "600"}
    assert "# mine\n" in dialogue.file.read_text()
    same = Dialogue(dialogue.file)
    assert same.go(*options, "--cron-period", "600", "--no-doctor", "--migrate", interactive=False) == 0
    assert "says all of it already" in same.text


def test_a_person_is_asked_with_a_sentence_and_a_default_for_everything(person: Dialogue) -> None:
    assert person.go("--no-doctor") == 0, person.text
    assert Address.of(person.values["MOODLE_DATABASE_URL"]) == MOODLES
    assert "IOMAD. mod_reengagement 2023020804 runs as one scheduled task." in person.text
    assert "The lock of Moodle's cron was taken and given back" in person.text
    assert "SES has verified" in person.text
    boss = User.objects.get(username="boss")
    assert boss.is_superuser
    assert boss.check_password(PASSWORD)
    assert PASSWORD not in person.text
    assert "Table prefix [mdl_]: " in person.asked
    assert f"Sender [{SENDER}]: " in person.asked
    assert not Claim.objects.exists()


def test_wrong_input_is_asked_again_with_what_is_expected(person: Dialogue) -> None:
    person.answers |= {
        "Table prefix": ["no-prefix!", "nope_", "mdl_"],
        "Address of the site": ["learn.example.org", "http://127.0.0.1:18080"],
        "Region": ["Ireland", "eu-west-1"],
        "Sender": ["nobody@", SENDER],
        "Host name": ["offload example", "offload.example.org"],
        "Password": ["wrong", MOODLES.password, OWN.password, "short", PASSWORD, PASSWORD],
        "Again": ["another", PASSWORD],
        "What now": ["correct"],
        "Database host": [SOCKET, SOCKET, SOCKET],
        "Database name": [MOODLES.name, MOODLES.name, OWN.name],
        "Account": [MOODLES.user, MOODLES.user, OWN.user],
    }
    assert person.go("--no-doctor") == 0, person.text
    for expected in (
        "letters, digits and underscores", "no table of Moodle's begins with 'nope_'; there are: mdl_",
        "starts with http:// or https://", "such as eu-west-1", "expected an address or a domain",
        "expected a host name", "does not let offload_moodle in", "too short", "The two are not the same",
    ):  # fmt: skip
        assert expected in person.text, expected
    assert person.values["MOODLE_DB_PREFIX"] == "mdl_"


@pytest.mark.parametrize("question", [1, 4, 9, 14])
def test_ctrl_c_leaves_nothing_behind(person: Dialogue, question: int) -> None:
    person.stop_at = question
    assert person.go() == 130
    assert "Nothing was written" in person.text
    assert [path for path in person.file.parent.iterdir() if "env" in path.name] == []
    assert not RoutingRule.objects.exists()


def test_config_php_answers_what_only_it_knows_and_its_account_is_refused(
    options: list[str], dialogue: Dialogue, tmp_path: Path
) -> None:
    config = tmp_path / "config.php"
    config.write_text(
        f"<?php $CFG->dbtype='mariadb'; $CFG->dbname='moodle'; $CFG->dbuser='{MOODLES.user}'; $CFG->dbpass='x';"
        "$CFG->prefix='mdl_'; $CFG->wwwroot='http://127.0.0.1:18080'; $CFG->supportname='Help';"
        "$CFG->forcetimezone=get_zone();"
    )
    for option in ("--wwwroot", "--php-timezone"):
        place = options.index(option)
        del options[place : place + 2]
    assert dialogue.go(*options, "--from-config-php", str(config), interactive=False) == 2
    assert "may do everything in Moodle's database" in dialogue.text
    config.write_text(config.read_text().replace(MOODLES.user, "moodleuser"))
    unclear = Dialogue(dialogue.file)
    assert unclear.go(*options, "--from-config-php", str(config), interactive=False) == 2
    assert "forcetimezone" in unclear.text
    assert not dialogue.file.exists()
    told = Dialogue(dialogue.file)
    forced = '{"forcetimezone": "Europe/Paris", "supportname": "Help"}'
    told.go(
        *options,
        "--from-config-php",
        str(config),
        "--forced-config",
        forced,
        "--no-doctor",
        interactive=False,
    )
    assert env.json_object(told.values["MOODLE_FORCED_CONFIG"])["forcetimezone"] == "Europe/Paris"
    assert told.values["MOODLE_WWWROOT"] == "http://127.0.0.1:18080"


def test_moodles_database_is_never_taken_for_our_own(options: list[str], dialogue: Dialogue) -> None:
    options[options.index("--database") + 1] = MOODLES.with_password("").url()
    assert dialogue.go(*options, interactive=False) == 2
    assert "Nothing of ours belongs into it" in dialogue.text
    root = Address("", "", test_settings.MOODLE_DATABASE, "root", "", socket=SOCKET)
    with pytest.raises(Unusable, match="Moodle's own database"):
        databases.ours(root)


def test_an_account_that_does_not_exist_gets_statements_without_its_password(
    options: list[str], dialogue: Dialogue, secret: Callable[[str, str], str]
) -> None:
    options[options.index("--moodle-database") + 1] = Address("", "", "moodle", "nobody", socket=SOCKET).url()
    options[options.index("--moodle-password-file") + 1] = secret("other", "a-password-to-come")
    options[options.index("--database") + 1] = Address("", "", "not_there", "nobody", socket=SOCKET).url()
    status = dialogue.go(*options, "--no-doctor", interactive=False)
    assert status == 1
    assert "GRANT SELECT (`id`, `reengagement`, `userid`" in dialogue.text
    assert "CREATE USER 'nobody'@'localhost'" in dialogue.text
    assert "CREATE DATABASE IF NOT EXISTS `not_there` CHARACTER SET utf8mb4;" in dialogue.text
    assert "a-password-to-come" not in dialogue.text
    assert Address.of(dialogue.values["MOODLE_DATABASE_URL"]).user == "nobody"


def test_where_nothing_listens_the_cause_and_the_cure_are_said() -> None:
    with pytest.raises(Unusable) as nothing:
        databases.moodles(Address("127.0.0.1", "9", "moodle", "someone", "x"))
    assert "Nothing answers at 127.0.0.1:9" in str(nothing.value)
    assert "firewall" in nothing.value.cure


@pytest.mark.parametrize("text", ["p@ss:w/or?d#%+&", "ünï cødé", "'\"\\", "$HOME"])
def test_any_password_comes_back_as_it_was_through_address_and_file(text: str, tmp_path: Path) -> None:
    from emailoffload.actions.setup import envfile

    address = Address("db.example.org", "3307", "moo+dle", "o@f", text)
    assert Address.of(address.url()) == address
    values = {
        "MOODLE_DATABASE_URL": address.url(),
        "MOODLE_FORCED_CONFIG": '{"supportname": "It\'s \\"us\\""}',
    }
    envfile.write(tmp_path / "x.env", envfile.merged("", values))
    assert envfile.read(tmp_path / "x.env")[1] == values


def test_the_period_of_moodles_cron_is_found_from_its_log_else_from_the_next_run(moodle: Moodle) -> None:
    import time

    now = int(time.time())
    name = r"\mod_reengagement\task\cron_task"
    moodle.execute("DELETE FROM mdl_task_log")
    moodle.execute(
        "UPDATE mdl_task_scheduled SET lastruntime = %s, nextruntime = %s WHERE classname = %s",
        (now, now + 590, name),
    )
    assert look.cron_period("reengagement") == 600
    for number in range(8):
        moodle.insert(
            "mdl_task_log", classname=name.lstrip("\\"), component="mod_reengagement", timestart=now - number * 121,
            timeend=now, type=0, userid=0, dbreads=0, dbwrites=0, result=0, output="",
        )  # fmt: skip
    assert look.cron_period("reengagement") == 120


def test_sandboxed_accounts_and_unknown_identities_are_pointed_out(
    options: list[str], dialogue: Dialogue, amazon: SandboxSES
) -> None:
    options[options.index("--sender") + 1] = "noreply@unknown.example"
    dialogue.go(*options, "--no-doctor", interactive=False)
    assert "SES knows no identity for unknown.example" in dialogue.text
    assert "create-email-identity" in dialogue.text


def test_a_folder_that_cannot_be_written_to_is_told_before_all_questions(person: Dialogue) -> None:
    person.file = person.file.parent / "none" / "site.env"
    assert person.go() == 2
    assert "could not be written" in person.text
    assert person.asked == []


def test_a_link_to_the_file_stays_a_link(options: list[str], dialogue: Dialogue, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    dialogue.file.symlink_to(tmp_path / "data" / "env")
    dialogue.go(*options, "--no-doctor", interactive=False)
    assert dialogue.file.is_symlink()
    assert stat.S_IMODE((tmp_path / "data" / "env").stat().st_mode) == 0o600


def test_missing_options_are_named(dialogue: Dialogue) -> None:
    assert dialogue.go("--non-interactive", interactive=False) == 2
    assert "--moodle-database is missing" in dialogue.text
