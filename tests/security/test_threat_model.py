"""docs/threat-model.md: each threat has a protection, and each protection a test that exists."""

from __future__ import annotations

import re

from tests.test_settings import ROOT

PAGE = ROOT / "docs" / "threat-model.md"
OPENS = re.compile(
    r"^\s*(?:import|from) (?:urllib\.request|urllib3|http\.client|requests|aiohttp|httpx|smtplib|ftplib|redis|boto3)\b",
    re.MULTILINE,
)
MAY_OPEN = {
    "accounts/oidc/views.py": "only the name of an error",
    "actions/sessetup/steps.py": "AWS", "actions/setup/amazon.py": "AWS", "management/commands/sessetup.py": "AWS",
    "delivery/ses.py": "AWS", "delivery/transport.py": "AWS, as the SDK names it", "feedback/queue.py": "AWS",
    "feedback/subscription.py": "AWS", "feedback/certificates.py": "SNS's own host, fixed but for the region",
    "delivery/smtp.py": "EMAIL_URL",
    "worker/alarm_telling.py": "ALARM_WEBHOOK_URL",
    "worker/broker.py": "REDIS_URL, AWS",
    "management/commands/healthcheck.py": "this host", "management/commands/quickstart.py": "this host",
}  # fmt: skip
"""The modules that can open a connection to anything but a database, and to what."""


def rows() -> list[list[str]]:
    """The cells of the tables of threats."""
    lines = re.findall(r"^\| (.+) \|$", PAGE.read_text().split("## Staff, and thieves")[1], re.MULTILINE)
    return [cells for line in lines if len(cells := line.split(" | ")) == 3 and cells[0] != "Threat"]


def test_each_threat_is_met_by_a_protection_and_a_test_that_exists() -> None:
    found = rows()
    assert len(found) > 40
    for threat, protection, tests in found:
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", tests)
        assert protection and named, threat
        for path, name in named:
            assert re.search(rf"^ *def {name}\(", (ROOT / path).read_text(), re.MULTILINE), f"{path}::{name}"


def test_connections_are_opened_by_a_few_modules_only() -> None:
    product = ROOT / "emailoffload"
    found = {
        path.relative_to(product).as_posix()
        for path in product.rglob("*.py")
        if OPENS.search(path.read_text()) and "sandbox" not in path.parts
    }
    assert found == set(MAY_OPEN)
