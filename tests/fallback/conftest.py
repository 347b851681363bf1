"""An SMTP server for the fallback route, and a site whose reminders are due."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fallback.sink import Sink


@pytest.fixture
def no_smtp(settings: Any) -> None:
    """A site without EMAIL_URL."""
    settings.SMTP_ROUTE = False


@pytest.fixture
def sink(settings: Any) -> Iterator[Sink]:
    """An SMTP server that EMAIL_URL names."""
    server = Sink()
    settings.SMTP_ROUTE = True
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.port
    settings.EMAIL_TIMEOUT = settings.SMTP_TIMEOUT_SECONDS = 0.5
    yield server
    server.stop()
