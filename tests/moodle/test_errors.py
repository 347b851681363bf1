"""Each thing that can be wrong with Moodle's database is told apart, with its cause and a cure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connections

from emailoffload.moodle import errors
from tests import settings as test_settings

pytestmark = [pytest.mark.mariadb, pytest.mark.django_db(transaction=True, databases=["default", "moodle"])]


@pytest.fixture
def reconnect() -> Iterator[Callable[..., None]]:
    """Point the product at another database for one test."""
    original = connections["moodle"]

    def change(**changes: Any) -> None:
        other = original.copy()
        other.settings_dict.update(changes)
        connections["moodle"] = other

    yield change
    connections["moodle"].close()
    connections["moodle"] = original


def problem(kind: type[errors.MoodleProblem]) -> errors.MoodleProblem:
    with pytest.raises(kind) as caught:
        errors.require_ready()
    assert caught.value.cure
    assert caught.value.code == kind.code
    assert test_settings.MOODLE_ACCOUNT[1] not in f"{caught.value} {caught.value.cure}"
    return caught.value


def test_a_server_that_does_not_answer(reconnect: Any, tmp_path: Path) -> None:
    reconnect(
        OPTIONS={**connections["moodle"].settings_dict["OPTIONS"], "unix_socket": str(tmp_path / "none")}
    )
    found = problem(errors.MoodleUnreachable)
    assert str(tmp_path / "none") in str(found)
    assert "MOODLE_DATABASE_URL" in found.cure


def test_a_refused_tcp_connection(reconnect: Any) -> None:
    options = dict(connections["moodle"].settings_dict["OPTIONS"])
    options.pop("unix_socket")
    reconnect(HOST="127.0.0.1", PORT="9", OPTIONS=options)
    assert "127.0.0.1:9" in str(problem(errors.MoodleUnreachable))


def test_a_wrong_password(reconnect: Any) -> None:
    reconnect(PASSWORD="wrong-one")
    found = problem(errors.MoodleUnreachable)
    assert "refuses the account" in str(found)
    assert "wrong-one" not in f"{found} {found.cure}"


def test_a_database_that_does_not_exist(reconnect: Any) -> None:
    reconnect(NAME="nowhere", USER="root", PASSWORD="")
    assert "no database nowhere" in str(problem(errors.MoodleUnreachable))


def test_a_database_that_the_account_may_not_use(reconnect: Any) -> None:
    reconnect(NAME="moodle_pristine")
    assert "moodlegrants" in problem(errors.MoodleUnreachable).cure


def test_a_prefix_that_matches_nothing_names_the_right_one(settings: Any) -> None:
    settings.MOODLE_DB_PREFIX = "xyz_"
    found = problem(errors.PrefixMatchesNothing)
    assert "'xyz_'" in str(found)
    assert "MOODLE_DB_PREFIX" in found.cure
    assert "mdl_" in found.cure


def test_a_database_that_is_not_moodles(reconnect: Any, server: Any) -> None:
    server.run(
        "CREATE DATABASE IF NOT EXISTS offload_other; CREATE TABLE IF NOT EXISTS offload_other.t (id INT)"
    )
    reconnect(NAME="offload_other", USER="root", PASSWORD="")
    found = problem(errors.PrefixMatchesNothing)
    assert "offload_other" in str(found)
    assert "moodlegrants" in found.cure


@pytest.mark.parametrize(
    ("revoked", "named"),
    [
        ("SELECT (email) ON moodle.mdl_user", "SELECT (email) on mdl_user"),
        ("SELECT (emailsubject) ON moodle.mdl_reengagement", "SELECT (emailsubject) on mdl_reengagement"),
        (
            "UPDATE (emailtime) ON moodle.mdl_reengagement_inprogress",
            "UPDATE (emailtime) on mdl_reengagement_inprogress",
        ),
        ("SELECT (id, companyid, userid) ON moodle.mdl_company_users", "mdl_company_users"),
    ],
)
def test_a_missing_privilege_is_named(server: Any, moodle: Any, revoked: str, named: str) -> None:
    user = f"'{test_settings.MOODLE_ACCOUNT[0]}'@'localhost'"
    server.run(f"REVOKE {revoked} FROM {user}")
    try:
        connections["moodle"].close()
        found = problem(errors.GrantsMissing)
    finally:
        server.run(f"GRANT {revoked} TO {user}")
    assert named in str(found)
    assert "moodlegrants" in found.cure


def test_a_server_that_goes_away_later_is_the_same_problem() -> None:
    with pytest.raises(errors.MoodleUnreachable), errors.translated():
        raise OperationalError(2013, "Lost connection to server during query")


def test_a_refused_statement_is_a_missing_grant() -> None:
    with pytest.raises(errors.GrantsMissing), errors.translated():
        connections["moodle"].cursor().execute("SELECT password FROM mdl_user")


def test_readiness_costs_few_queries(moodle: Any, django_assert_max_num_queries: Any) -> None:
    with django_assert_max_num_queries(16, connection=connections["moodle"]):
        errors.require_ready()
