"""A sandbox SES with a real boto3 client, and a sample Moodle in a file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from emailoffload.sandbox import sample_moodle
from emailoffload.sandbox.ses_server import SandboxSES

NOW = 1_800_000_000


def client_for(ses: SandboxSES, **options: Any) -> Any:
    """A boto3 client as a program would make it, without retries and with short timeouts."""
    options = {"retries": {"total_max_attempts": 1}, "connect_timeout": 2, "read_timeout": 5, **options}
    config = Config(**options)
    return boto3.client(
        "sesv2", endpoint_url=ses.url, region_name="eu-west-1", aws_access_key_id="any",
        aws_secret_access_key="any", config=config,
    )  # fmt: skip


@pytest.fixture
def ses() -> Iterator[SandboxSES]:
    with SandboxSES() as server:
        yield server


@pytest.fixture
def client(ses: SandboxSES) -> Any:
    return client_for(ses)


@pytest.fixture
def simple() -> Callable[..., dict[str, Any]]:
    """Arguments of send_email for a message with Simple content."""

    def build(to: str = "zoe@learn.example", ref: str = "ab" * 16, **changes: Any) -> dict[str, Any]:
        return {
            "FromEmailAddress": "=?utf-8?q?Caf=C3=A9?= <noreply@learn.example>",
            "Destination": {"ToAddresses": [to]},
            "ReplyToAddresses": ["noreply@learn.example"],
            "Content": {
                "Simple": {
                    "Subject": {"Data": "Größe & <Maß>", "Charset": "UTF-8"},
                    "Body": {"Text": {"Data": "Plain körper"}, "Html": {"Data": "<p>Rich <b>körper</b></p>"}},
                    "Headers": [{"Name": "X-Email-Offload-Id", "Value": ref}],
                }
            },
            "EmailTags": [{"Name": "email-offload-id", "Value": ref}],
            **changes,
        }

    return build


@pytest.fixture
def sample(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A sample Moodle that was created at the moment NOW."""
    path = tmp_path / "sample.sqlite3"
    sample_moodle.create(path, now=NOW)
    connection = sample_moodle.connect(path)
    yield connection
    connection.close()
