"""Moodle's config.php is read without PHP: what is a literal is known, what is not is named, secrets are not kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emailoffload.actions.setup import configphp, php

USUAL = r"""<?php  // Moodle configuration file
unset($CFG);
global $CFG;
$CFG = new stdClass();

$CFG->dbtype    = 'mariadb';
$CFG->dblibrary = 'native';
$CFG->dbhost    = 'db.example.org';
$CFG->dbname    = 'moodle';
$CFG->dbuser    = 'moodleuser';
$CFG->dbpass    = 'the $ecret';
$CFG->prefix    = 'm_';
$CFG->dboptions = array (
  'dbpersist' => 0,
  'dbport' => 3307,
  'dbsocket' => '',
);
$CFG->wwwroot   = 'https://learn.example.org/';
$CFG->dataroot  = "/var/moodledata";
$CFG->lock_factory = "\\core\\lock\\file_lock_factory";
$CFG->noemailever = true;
$CFG->supportuserid = 2; # a user
$CFG->noreplyaddress4 = 'noreply@' . 'company.example.org';
/* $CFG->divertallemailsto = 'old@example.org'; */
$CFG->smtppass = 'mail $ecret';
date_default_timezone_set('Europe/London');
require_once(__DIR__ . '/lib/setup.php');
"""


def value(expression: str) -> Any:
    found = php.assignments(f"<?php $CFG->x = {expression};")
    return found.values.get("x", php.NotLiteral)


def test_a_usual_file_gives_everything_that_only_it_knows() -> None:
    found = configphp.understand(USUAL)
    assert (found.host, found.port, found.database, found.prefix) == (
        "db.example.org",
        "3307",
        "moodle",
        "m_",
    )
    assert found.wwwroot == "https://learn.example.org"
    assert found.dataroot == "/var/moodledata"
    assert found.lock_factory == r"\core\lock\file_lock_factory"
    assert found.noemailever is True
    assert found.timezone == "Europe/London"
    assert found.forced == {"supportuserid": 2, "noreplyaddress4": "noreply@company.example.org"}
    assert found.unclear == found.notes == ()


def test_no_password_is_kept_and_no_account_taken_over() -> None:
    found = configphp.understand(USUAL)
    assert found.moodle_account == "moodleuser"
    assert "ecret" not in repr(found)
    assert "dbpass" not in php.assignments(USUAL, secret=frozenset({"dbpass"})).values


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("'a'", "a"), (r"'it\'s \n'", r"it's \n"), (r'"a\tb\x41\101\u{41}\$"', "a\tbAAA$"), ("''", ""),
        ("1", 1), ("-1", -1), ("0777", 511), ("0x1F", 31), ("1.5", 1.5), ("TRUE", True), ("null", None),
        ("'a' . \"b\" . 1", "ab1"), ("array('a' => 1, 'b' => [true, 'x'])", {"a": 1, "b": {0: True, 1: "x"}}),
        ("[]", {}),
        ("'semi;colon // no comment'", "semi;colon // no comment"),
    ],
)  # fmt: skip
def test_literals_mean_what_php_takes_them_for(expression: str, expected: Any) -> None:
    assert value(expression) == expected


@pytest.mark.parametrize(
    "expression",
    ["getenv('X')", "'a' . $b", '"a$b"', '"a{$b}"', "__DIR__ . '/x'", "DB_NAME", "$x ?: 'a'", "['a' => f()]",
     "<<<END\na\nEND", "1 + 1", "true ? 'a' : 'b'", "$_SERVER['HTTP_HOST']"],
)  # fmt: skip
def test_what_only_php_can_work_out_is_named_and_never_guessed(expression: str) -> None:
    found = php.assignments(f"<?php\n$CFG->wwwroot = {expression};\n$CFG->prefix = 'mdl_';")
    assert found.unclear == {"wwwroot"}
    assert found.values == {"prefix": "mdl_"}


@pytest.mark.parametrize(
    "text",
    [
        "if (PHP_SAPI == 'cli') { $CFG->wwwroot = 'a'; }",
        "if ($a) $CFG->wwwroot = 'a';",
        "$CFG->wwwroot = 'a'; if ($b) { $CFG->wwwroot = 'b'; }",
        "if ($a): $x = 1; $CFG->wwwroot = 'a'; endif;",
        "function f() { $CFG->wwwroot = 'a'; }",
        "$CFG->wwwroot .= '/x';",
        "$CFG->wwwroot = $CFG->other = 'a';",
        "$CFG->wwwroot['a'] = 'b';",
        "switch ($h) { case 'x': $CFG->wwwroot = 'a'; break; }",
    ],
)
def test_an_assignment_under_a_condition_is_not_believed(text: str) -> None:
    found = php.assignments(f"<?php {text}")
    assert "wwwroot" in found.unclear
    assert "wwwroot" not in found.values


def test_the_last_assignment_counts_and_comments_and_what_stands_after_a_return_do_not() -> None:
    found = php.assignments(
        "<?php $CFG->a = 1; // $CFG->b = 1;\n# $CFG->b = 1;\n$CFG->a = 2; ?> $CFG->b = 1; <?php $CFG->c = 3;"
        "return; $CFG->a = 4;"
    )
    assert found.values == {"a": 2, "c": 3}


def test_only_reading_a_value_is_no_assignment() -> None:
    found = php.assignments("<?php $CFG->a = 'x'; if ($CFG->a == 'x') { echo $CFG->a['k']; }")
    assert (found.values, found.unclear) == ({"a": "x"}, set())


def test_other_files_forced_plugin_settings_and_task_overrides_are_pointed_out() -> None:
    found = configphp.understand(
        USUAL + "include('/etc/moodle/more.php'); $CFG->forced_plugin_settings = ['message' => ['x' => 1]];"
        r"$CFG->scheduled_tasks = ['\mod_reengagement\task\cron_task' => ['schedule' => '*/15 * * * *']];"
    )
    assert [next(word for word in ("more.php", "message", "schedule") if word in note) for note in found.notes] == [
        "more.php", "message", "schedule",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "fits"), [("mysqli", True), ("auroramysql", True), ("pgsql", False), ("sqlsrv", False)]
)
def test_a_database_that_nothing_can_be_claimed_on_is_refused(kind: str, fits: bool) -> None:
    text = USUAL.replace("'mariadb'", f"'{kind}'")
    if fits:
        assert configphp.understand(text).database == "moodle"
    else:
        with pytest.raises(configphp.Unreadable, match=kind):
            configphp.understand(text)


def test_another_file_is_told_from_a_config_php(tmp_path: Path) -> None:
    for name, text in (("a.php", "<?php echo 1;"), ("b.txt", "no php"), ("c.php", "")):
        (tmp_path / name).write_text(text)
        with pytest.raises(configphp.Unreadable):
            configphp.read(tmp_path / name)
    with pytest.raises(configphp.Unreadable) as missing:
        configphp.read(tmp_path / "none.php")
    assert missing.value.cure
    (tmp_path / "config.php").write_text(USUAL)
    assert configphp.read(tmp_path).prefix == "m_"


@given(st.text(max_size=200))
def test_no_text_makes_the_reader_fail(text: str) -> None:
    php.assignments("<?php " + text)
    php.assignments("<?php $CFG->x = " + text)
