"""`moodlegrants` prints statements that the server accepts and that are enough."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from emailoffload.moodle import grants, iomad
from tests.moodle.test_errors import reconnect

__all__ = ["reconnect"]
pytestmark = [pytest.mark.mariadb, pytest.mark.django_db(databases=["default", "moodle"])]


def printed(capsys: Any, *args: str) -> Any:
    call_command("moodlegrants", "--json", *args)
    return json.loads(capsys.readouterr().out)


def as_admin(reconnect: Any) -> None:
    reconnect(USER="root", PASSWORD="")


def new_account(server: Any, report: Any) -> None:
    server.run(f"DROP USER IF EXISTS {report['account']}; {report['create_user']}")
    for statement in report["statements"]:
        server.run(statement["sql"])


@pytest.mark.parametrize("basis", ["database", "account", "expected"])
def test_an_account_made_from_the_print_lacks_nothing_and_has_no_more(
    basis: str, server: Any, moodle: Any, reconnect: Any, capsys: Any
) -> None:
    if basis == "database":
        as_admin(reconnect)
    elif basis == "expected":
        reconnect(PASSWORD="not the one")
    report = printed(capsys, "--account", "'printed'@'localhost'")
    assert report["source"] == basis
    new_account(server, report)
    reconnect(USER="printed", PASSWORD="choose a long password")
    assert grants.check_grants(connections["moodle"]) == grants.GrantFindings([], [])
    assert iomad.language_readable()


def test_every_statement_says_what_it_is_for(moodle: Any, capsys: Any) -> None:
    report = printed(capsys)
    assert all(statement["purpose"] for statement in report["statements"])
    assert {statement["table"] for statement in report["statements"]} >= {"mdl_user", "mdl_company_users"}


def test_an_admin_also_gets_the_names_of_activities(
    server: Any, moodle: Any, reconnect: Any, capsys: Any
) -> None:
    moodle.execute("CREATE TABLE mdl_page (id BIGINT, course BIGINT, name VARCHAR(255), content TEXT)")
    try:
        as_admin(reconnect)
        report = printed(capsys)
    finally:
        moodle.execute("DROP TABLE mdl_page")
    sql = {statement["table"]: statement["sql"] for statement in report["statements"]}
    assert "GRANT SELECT (`id`, `course`, `name`) ON `moodle`.`mdl_page`" in sql["mdl_page"]


def test_the_text_is_sql_that_only_needs_the_account(server: Any, moodle: Any, capsys: Any) -> None:
    call_command("moodlegrants", "--account", "textual@localhost")
    text = capsys.readouterr().out
    server.run(f"CREATE OR REPLACE USER 'textual'@'localhost';{text}")
    lines = [line for line in text.splitlines() if line and not line.startswith("--")]
    assert lines
    assert all(line.startswith("GRANT SELECT (") for line in lines)


@pytest.mark.parametrize("account", ["offload", "'a'@'b'; DROP TABLE x", "a'b@c", "@x", ""])
def test_an_account_that_is_none_is_wrong_usage(account: str) -> None:
    with pytest.raises(CommandError) as caught:
        call_command("moodlegrants", "--account", account)
    assert caught.value.returncode == 2
