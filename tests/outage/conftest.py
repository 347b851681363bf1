"""Moodle's database on a server of its own, which a test may take away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections

from tests import settings as test_settings
from tests.conftest import Moodle, grant_moodle_account
from tests.outage.second import Second


@pytest.fixture(scope="session")
def second_server(django_db_setup: None) -> Iterator[Second]:
    """The second server, with the real site under its least-privileged account."""
    second = Second.new()
    second.server.restore_site(test_settings.MOODLE_DATABASE)
    grant_moodle_account(second.server, test_settings.MOODLE_DATABASE)
    yield second
    second.thaw()
    second.server.stop()


@pytest.fixture
def second(second_server: Second, moodle: Moodle) -> Iterator[Second]:
    """The second server, running and writable; the suite's own is untouched."""
    if second_server.process.poll() is not None:
        second_server.start()
    second_server.thaw()
    yield second_server
    if second_server.process.poll() is not None:
        second_server.start()
    second_server.thaw()
    second_server.server.run("SET GLOBAL read_only = 0")


@pytest.fixture
def moved(second: Second) -> Iterator[Second]:
    """The product's connection to Moodle's database leads to the second server, with the rows of the first."""
    name = test_settings.MOODLE_DATABASE
    second.copy(name, name, "mdl_reengagement_inprogress")
    options: dict[str, Any] = connections["moodle"].settings_dict["OPTIONS"]
    before = dict(options)
    connections["moodle"].close()
    options["unix_socket"] = second.server.socket
    options["read_timeout"] = options["write_timeout"] = 1
    yield second
    connections["moodle"].close()
    options.clear()
    options.update(before)
