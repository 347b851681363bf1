"""Each test asks anew: what another one was answered does not count."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import Client

from emailoffload.monitoring import metrics, readiness


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    """Nothing is remembered from before, nor for afterwards."""
    metrics.forget()
    readiness.forget()
    yield
    metrics.forget()
    readiness.forget()


@pytest.fixture
def machine() -> Client:
    """Prometheus on this host, say: no session, no login."""
    return Client(REMOTE_ADDR="127.0.0.1")
