"""A fake SES for tests of sending."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from emailoffload.delivery import ses as product
from tests.fake_ses import FakeSes


@pytest.fixture
def ses(monkeypatch: Any) -> Iterator[FakeSes]:
    """A running fake SES that this process's client talks to."""
    server = FakeSes().start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", server.url)
    product.forget_client()
    yield server
    product.forget_client()
    server.stop()
