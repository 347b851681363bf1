"""The table of roles in docs/security.md is what `migrate` gives."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import Group

from tests.processes import ROOT

pytestmark = pytest.mark.django_db


def table() -> dict[str, set[str]]:
    """The permissions of each group, as the documentation has them."""
    text = (ROOT / "docs" / "security.md").read_text()
    lines = re.search(r"^\| May \|.*(?:\n\|.*)+", text, re.MULTILINE)
    assert lines
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[0].splitlines()]
    found: dict[str, set[str]] = {group: set() for group in head[2:]}
    for row in rows:
        names = set(re.findall(r"`(\w+)`", row[1]))
        assert names, row
        for group, may in zip(head[2:], row[2:], strict=True):
            assert may in {"yes", "–"}
            found[group] |= names if may == "yes" else set()
    return found


def test_the_documented_roles_are_those_that_the_migrations_make() -> None:
    made = {
        group.name: set(group.permissions.values_list("codename", flat=True))
        for group in Group.objects.prefetch_related("permissions")
    }
    assert made == table()


def test_nobody_but_superusers_looks_after_accounts_by_default() -> None:
    for group in Group.objects.all():
        assert not group.permissions.exclude(content_type__app_label="emailoffload").exists(), group
