"""A site of an older version: its own database and the rows of Moodle that its claims are about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connections

from tests.conftest import Moodle
from tests.mariadb import Server
from tests.upgrade.old_site import CONTENT_KEY, OldSite


@pytest.fixture
def old(server: Server, moodle: Moodle, settings: Any) -> Iterator[OldSite]:
    """The database of 0.1.0, which the product works with in this test; not migrated yet."""
    settings.CONTENT_KEYS = [CONTENT_KEY]
    mine = str(connections["default"].settings_dict["NAME"])
    site = OldSite(server, moodle)
    site.use()
    ContentType.objects.clear_cache()
    yield site
    site.leave(mine)
    ContentType.objects.clear_cache()


@pytest.fixture
def upgraded(old: OldSite) -> OldSite:
    """The same, migrated to today's version."""
    call_command("migrate", verbosity=0)
    return old
