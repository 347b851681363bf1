"""Django's system checks find settings that contradict each other, with a hint that cures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.checks.registry import registry

from emailoffload import checks


@pytest.fixture(autouse=True)
def local(settings: Any) -> None:
    """The test runner allows a host name of its own."""
    settings.ALLOWED_HOSTS = ["localhost"]


def ids() -> list[str]:
    """Ids of what the product's own checks find."""
    found = run_checks(tags=["emailoffload"])
    assert all(message.hint for message in found)
    return sorted(str(message.id) for message in found)


def test_the_checks_are_registered_and_the_suites_settings_pass_them() -> None:
    assert {checks.databases, checks.times, checks.exposure, checks.folders} <= set(registry.get_checks())
    assert ids() == []


def test_defaults_of_the_sample_site_pass(settings: Any) -> None:
    settings.SAMPLE_SITE = True
    assert ids() == []


@pytest.fixture
def default_database(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], None]:
    """Makes our database another one, as far as the settings say."""
    return lambda config: monkeypatch.setitem(settings.DATABASES, "default", config)


def test_one_database_for_both_is_an_error(settings: Any, default_database: Callable[[Any], None]) -> None:
    default_database(settings.DATABASES["moodle"])
    assert ids() == ["emailoffload.E001"]


def test_sqlite_is_for_the_sample_site_only(settings: Any, default_database: Callable[[Any], None]) -> None:
    default_database({"ENGINE": "django.db.backends.sqlite3", "NAME": "offload.sqlite3"})
    assert ids() == ["emailoffload.W001"]
    settings.SAMPLE_SITE = True
    assert ids() == []


def lead_within_margin(settings: Any) -> None:
    settings.CLAIM_LEAD_SECONDS = settings.CLAIM_MARGIN_SECONDS


def short_lead(settings: Any) -> None:
    settings.CLAIM_LEAD_SECONDS = 539


def short_lease(settings: Any) -> None:
    settings.LEASE_SECONDS = 15


def debug(settings: Any) -> None:
    settings.DEBUG = True


def open_to_others(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["offload.example.org"]


def one_address_for_all(settings: Any) -> None:
    settings.SECURE_HTTPS = True


def listed_too_early(settings: Any) -> None:
    settings.SECURE_HSTS_PRELOAD, settings.SECURE_HSTS_INCLUDE_SUBDOMAINS = True, False


def no_single_sign_on(settings: Any) -> None:
    settings.OIDC_SERVER_URL, settings.OIDC_MISSING = "https://login.example.org", ["allauth"]


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lead_within_margin, "emailoffload.E002"),
        (short_lead, "emailoffload.W002"),
        (short_lease, "emailoffload.W003"),
        (debug, "emailoffload.W004"),
        (open_to_others, "emailoffload.W005"),
        (one_address_for_all, "emailoffload.W007"),
        (listed_too_early, "emailoffload.W010"),
        (no_single_sign_on, "emailoffload.E003"),
    ],
)
def test_a_contradiction_is_found(spoil: Callable[[Any], None], found: str, settings: Any) -> None:
    spoil(settings)
    assert ids() == [found]


def test_https_makes_other_host_names_fine(settings: Any) -> None:
    settings.ALLOWED_HOSTS, settings.SECURE_HTTPS = ["offload.example.org"], True
    settings.TRUSTED_PROXIES = 1
    assert ids() == []


def test_a_data_folder_of_moodles_that_is_none_is_noticed(settings: Any, tmp_path: Path) -> None:
    settings.MOODLE_DATAROOT = str(tmp_path)
    assert ids() == ["emailoffload.W006"]
    (tmp_path / "filedir").mkdir()
    assert ids() == []


def test_single_sign_on_without_its_packages_says_how_they_are_installed(settings: Any) -> None:
    no_single_sign_on(settings)
    (found,) = run_checks(tags=["emailoffload"])
    assert "allauth" in found.msg
    assert "requirements-oidc.lock" in str(found.hint)
