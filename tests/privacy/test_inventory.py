"""Every column that is stored is classified: a new one cannot be added without saying what it holds about people."""

from __future__ import annotations

import json
from pathlib import Path

from django.apps import apps

from emailoffload.outbox import personal, retention
from tests.processes import ROOT, on_sqlite

PAGE = ROOT / "docs" / "privacy.md"


def stored() -> dict[str, set[str]]:
    """Every table that this product keeps, with its columns; proxies and Moodle's tables are none."""
    return {
        model._meta.label: {field.attname for field in model._meta.concrete_fields}
        for model in apps.get_models(include_auto_created=True)
        if model._meta.managed and not model._meta.proxy and model._meta.app_label != "moodle"
    }


def test_every_column_says_what_it_holds_about_people() -> None:
    missing = {
        f"{table}.{column}"
        for table, columns in stored().items()
        for column in columns - personal.INVENTORY.get(table, {}).keys()
    }
    assert not missing, "classify these in emailoffload/outbox/personal.py, and tell them in docs/privacy.md"


def test_nothing_is_classified_that_does_not_exist_and_every_class_is_one() -> None:
    there = stored()
    for table, columns in personal.INVENTORY.items():
        if table in there:
            assert columns.keys() == there[table], table
        else:
            assert table.startswith(("account.", "socialaccount.")), table
        assert set(columns.values()) <= set(personal.CLASSES)


def test_the_tables_of_single_sign_on_are_classified_too(tmp_path: Path) -> None:
    script = (
        "import os\n"
        "os.environ |= {'OIDC_SERVER_URL': 'https://login.example.org', 'OIDC_CLIENT_ID': 'a',"
        " 'OIDC_CLIENT_SECRET': 'b', 'OIDC_GROUP_MAP': '{\"a\": \"Auditors\"}'}\n"
        "import django; django.setup()\n"
        "import json\n"
        "from tests.privacy.test_inventory import stored\n"
        "print(json.dumps({table: sorted(columns) for table, columns in stored().items()}))\n"
    )
    found = json.loads(on_sqlite(script, tmp_path).stdout)
    assert {table: sorted(columns) for table, columns in personal.INVENTORY.items()} == found


def test_the_page_on_privacy_names_every_personal_column_and_every_setting() -> None:
    text = PAGE.read_text()
    for table, columns in personal.INVENTORY.items():
        app, model = table.split(".")
        for column, what in columns.items():
            if app == "emailoffload" and what not in (personal.NONE, personal.STAFF):
                assert f"`{model}.{column}`" in text, f"docs/privacy.md does not name {model}.{column}"
    for step in retention.STEPS:
        assert retention.setting(step) in text
    assert "RETAIN_DELETED_USER_DAYS" in text
