"""What our own account may do on our own database: the documentation, `setup` and the suite say the same."""

from __future__ import annotations

import re

import pytest
from django.db import OperationalError, connection

from emailoffload.actions.setup.databases import TO_RUN, TO_UPGRADE, Address, statements_for_ours
from tests import mariadb
from tests import settings as test_settings
from tests.conftest import upgrading
from tests.processes import ROOT

pytestmark = [pytest.mark.mariadb]


def granted(grants: list[str]) -> dict[str, set[str]]:
    """The privileges that GRANT statements give, by what they are given on, without the bare right to log in."""
    found = [re.match(r"GRANT (.+) ON (\S+) TO ", grant) for grant in grants]
    return {match[2]: set(match[1].split(", ")) for match in found if match and match[1] != "USAGE"}


def test_the_documentation_names_what_setup_grants() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    section = text.split("## What it may do to our own database")[1].split("\n## ")[0]
    named = [
        re.findall(r"`([A-Z]+)`", line.split("|")[1]) for line in section.splitlines() if line[:3] == "| `"
    ]
    assert named == [list(TO_RUN), list(TO_UPGRADE)]
    address = Address("db.example.org", "", "off_load", "offload", "secret")
    printed = [line.rstrip(";") for line in statements_for_ours(address, "10.0.0.5") if "GRANT" in line]
    assert granted(printed) == {r"`off\_load`.*": {*TO_RUN, *TO_UPGRADE}}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("account", "may"),
    [(test_settings.APP_ACCOUNT, {*TO_RUN}), (test_settings.UPGRADE_ACCOUNT, {*TO_RUN, *TO_UPGRADE})],
    ids=["run", "upgrade"],
)
def test_the_suites_accounts_have_what_is_documented_and_nothing_else(
    server: mariadb.Server, account: tuple[str, str], may: set[str]
) -> None:
    with server.connect("", *account).cursor() as cursor:
        cursor.execute("SHOW GRANTS FOR CURRENT_USER")
        found = granted([row[0] for row in cursor.fetchall()])
    assert found.pop(r"`test\_offload%`.*") == may
    # Databases that a test makes for itself; the suite's own never has such a name.
    assert found == {"`offload%`.*": {*TO_RUN, *TO_UPGRADE}}
    assert str(connection.settings_dict["NAME"]).startswith("test_offload")


@pytest.mark.django_db(transaction=True)
def test_the_running_product_is_an_account_that_cannot_change_a_table() -> None:
    assert (
        connection.settings_dict["USER"],
        connection.settings_dict["PASSWORD"],
    ) == test_settings.APP_ACCOUNT
    with connection.cursor() as cursor:
        for statement in (
            "CREATE TABLE emailoffload_other (id INT)",
            "ALTER TABLE emailoffload_email ADD COLUMN other INT",
            "CREATE INDEX other ON emailoffload_email (state)",
            "DROP TABLE emailoffload_state",
            "TRUNCATE TABLE emailoffload_state",
        ):
            with pytest.raises(OperationalError, match="command denied"):
                cursor.execute(statement)
    with upgrading(), connection.cursor() as cursor:
        cursor.execute("CREATE TABLE emailoffload_other (id INT)")
        cursor.execute("DROP TABLE emailoffload_other")
