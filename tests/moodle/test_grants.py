"""The account of `moodlegrants` can do what the product needs, and the server refuses everything else."""

from __future__ import annotations

from typing import Any

import MySQLdb
import pytest
from django.conf import settings
from django.db import connections

from emailoffload.moodle import grants, models
from tests import settings as test_settings

pytestmark = [pytest.mark.mariadb, pytest.mark.django_db(databases=["default", "moodle"])]


@pytest.fixture
def account(server: Any, transactional_db: None) -> Any:
    """A plain connection as the suite's Moodle account."""
    connection = server.connect(test_settings.MOODLE_DATABASE, *test_settings.MOODLE_ACCOUNT)
    yield connection
    connection.close()


def refused(connection: Any, sql: str) -> bool:
    """Whether the server refuses a statement for lack of a privilege."""
    try:
        connection.query(sql)
        result = connection.store_result()
        if result is not None:
            result.fetch_row(0)
    except MySQLdb.OperationalError as error:
        return error.args[0] in {1142, 1143, 1044, 1227, 1370}
    return False


def test_every_listed_column_can_be_read(account: Any, moodle: Any) -> None:
    existing = _existing(moodle)
    for model in models.MODELS:
        table = model._meta.db_table
        if table not in existing:
            continue
        names = [f"`{c}`" for c in models.columns_of(model) if c in existing[table]]
        account.query(f"SELECT {', '.join(names)} FROM `{table}` LIMIT 1")
        account.store_result().fetch_row(0)


def test_every_other_column_and_table_is_refused(account: Any, moodle: Any) -> None:
    listed = {model._meta.db_table: set(models.columns_of(model)) for model in models.MODELS}
    tried = 0
    for table, columns in _existing(moodle).items():
        for column in columns - listed.get(table, set()):
            assert refused(account, f"SELECT `{column}` FROM `{table}` LIMIT 1"), f"{table}.{column}"
            tried += 1
    assert tried > 100


def test_the_password_of_a_user_is_refused(account: Any) -> None:
    assert refused(account, "SELECT password FROM mdl_user LIMIT 1")
    assert refused(account, "SELECT secret FROM mdl_user LIMIT 1")


CLAIMED = {
    ("mdl_reengagement_inprogress", "emailsent"),
    ("mdl_reengagement_inprogress", "emailtime"),
    ("mdl_email", "sent"),
    ("mdl_email", "modifiedtime"),
}


def test_only_the_columns_of_a_claim_can_be_updated(account: Any, moodle: Any) -> None:
    assert not refused(
        account, "UPDATE mdl_reengagement_inprogress SET emailsent = 1, emailtime = 2 WHERE id = -1"
    )
    assert not refused(account, "UPDATE mdl_email SET sent = NULL, modifiedtime = 2 WHERE id = -1")
    tried = 0
    for table, columns in _existing(moodle).items():
        for column in columns:
            if (table, column) not in CLAIMED:
                sql = f"UPDATE `{table}` SET `{column}` = `{column}` WHERE id = -1"
                assert refused(account, sql), f"{table}.{column}"
                tried += 1
    assert tried > 400


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO mdl_reengagement_inprogress (id) VALUES (-1)",
        "DELETE FROM mdl_reengagement_inprogress WHERE id = -1",
        "DELETE FROM mdl_user WHERE id = -1",
        "TRUNCATE TABLE mdl_reengagement_inprogress",
        "DROP TABLE mdl_reengagement_inprogress",
        "ALTER TABLE mdl_reengagement_inprogress ADD COLUMN x INT",
        "CREATE INDEX x ON mdl_reengagement_inprogress (emailtime)",
        "CREATE TABLE x (id INT)",
        "CREATE VIEW x AS SELECT id FROM mdl_user",
        "LOCK TABLES mdl_user READ",
        "REPLACE INTO mdl_config (id, name, value) VALUES (-1, 'x', 'x')",
        "INSERT INTO mdl_email (id, sent) VALUES (-1, 1)",
        "REPLACE INTO mdl_email (id, sent) VALUES (-1, 1)",
        "DELETE FROM mdl_email WHERE id = -1",
        "TRUNCATE TABLE mdl_email",
        "UPDATE mdl_email SET sent = 1, body = 'x' WHERE id = -1",
        "UPDATE mdl_email SET subject = 'x' WHERE id = -1",
        "INSERT INTO mdl_email (id) VALUES (-1) ON DUPLICATE KEY UPDATE sent = 1",
    ],
)
def test_no_other_kind_of_statement_is_allowed(account: Any, sql: str) -> None:
    assert refused(account, sql)


def test_updates_grow_by_exactly_two_columns_on_a_site_with_iomad_and_by_none_on_others() -> None:
    def updates(*, iomad: bool) -> dict[str, list[str]]:
        wanted = grants.required("mdl_", grants.expected_columns(iomad=iomad))
        return {table: rights["UPDATE"] for table, rights in wanted.items() if "UPDATE" in rights}

    reminders = {"mdl_reengagement_inprogress": ["emailsent", "emailtime"]}
    assert updates(iomad=False) == reminders
    assert updates(iomad=True) == reminders | {"mdl_email": ["sent", "modifiedtime"]}


def test_without_iomad_nothing_at_all_is_asked_for_its_tables(moodle: Any) -> None:
    plain = {table: names for table, names in _existing(moodle).items() if table not in models.IOMAD_TABLES}
    statements = grants.statements("'a'@'h'", "d", "mdl_", plain)
    assert not any(f"`{table}`" in text for text in statements for table in models.IOMAD_TABLES)
    everything = grants.statements("'a'@'h'", "d", "mdl_", _existing(moodle))
    more = [text for text in everything if text not in statements]
    assert sum("UPDATE" in text for text in more) == 1
    assert any(
        text.startswith("GRANT SELECT (") and "UPDATE (`sent`, `modifiedtime`)" in text for text in more
    )
    assert {text.split(".`")[1].split("`")[0] for text in more} == models.IOMAD_TABLES


def test_the_suites_account_has_exactly_what_is_printed(moodle: Any) -> None:
    assert grants.check_grants(connections["moodle"]) == grants.GrantFindings(missing=[], excess=[])


def _existing(moodle: Any) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for table, column in moodle.rows(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = %s",
        [moodle.database],
    ):
        found.setdefault(table, set()).add(column)
    return found


def _account(server: Any, name: str, *statements: str) -> Any:
    """A second connection settings of Django for a new account with the given grants."""
    server.run(f"CREATE OR REPLACE USER '{name}'@'localhost' IDENTIFIED BY 'p'")
    for statement in statements:
        server.run(statement.replace("ACCOUNT", f"'{name}'@'localhost'"))
    wrapper = connections["moodle"].copy()
    wrapper.settings_dict.update(USER=name, PASSWORD="p")
    return wrapper


def test_too_few_and_too_many_privileges_are_named(server: Any, moodle: Any) -> None:
    wrapper = _account(
        server,
        "some",
        "GRANT SELECT ON `moodle`.`mdl_user` TO ACCOUNT",
        "GRANT SELECT (id), UPDATE (completed) ON `moodle`.`mdl_reengagement_inprogress` TO ACCOUNT",
        "GRANT INSERT ON `moodle`.* TO ACCOUNT",
    )
    try:
        findings = grants.check_grants(wrapper)
    finally:
        wrapper.close()
    assert set(findings.excess) == {
        "SELECT on moodle.mdl_user",
        "UPDATE (completed) on moodle.mdl_reengagement_inprogress",
        "INSERT on moodle.*",
    }
    assert "UPDATE (emailsent, emailtime) on mdl_reengagement_inprogress" in findings.missing
    assert "SELECT (id, category, fullname, shortname, lang) on mdl_course" in findings.missing
    assert not any(text.endswith("on mdl_user") for text in findings.missing)


def test_an_admin_account_is_reported_as_having_too_much(server: Any, moodle: Any) -> None:
    wrapper = _account(server, "boss", "GRANT ALL ON *.* TO ACCOUNT WITH GRANT OPTION")
    try:
        findings = grants.check_grants(wrapper)
    finally:
        wrapper.close()
    assert findings.missing == []
    assert "ALL PRIVILEGES on *.*" in findings.excess
    assert any("pass on" in text for text in findings.excess)


def test_a_table_that_does_not_exist_is_left_out() -> None:
    lines = grants.statements("'a'@'h'", "d", "mdl_", {"mdl_user": {"id", "email", "password"}})
    assert lines == ["GRANT SELECT (`id`, `email`) ON `d`.`mdl_user` TO 'a'@'h'"]


def test_names_of_activities_of_installed_plugins_are_granted() -> None:
    columns = {"x_page": {"id", "course", "name", "content"}, "x_user": {"id"}}
    lines = grants.statements("'a'@'h'", "d", "x_", columns, modules=["page", "user", "quiz", "bad`name"])
    assert lines == [
        "GRANT SELECT (`id`) ON `d`.`x_user` TO 'a'@'h'",
        "GRANT SELECT (`id`, `course`, `name`) ON `d`.`x_page` TO 'a'@'h'",
    ]


def test_no_secret_column_of_a_user_is_in_the_list() -> None:
    assert not {"password", "secret", "lastip"} & set(models.columns_of(models.User))
    assert settings.DATABASE_ROUTERS
