"""Django's system checks of our settings: what is visible without asking a database or SES.

Errors (E) stop `migrate` and `check`; warnings (W) are shown; `doctor` reports both. Ids are stable.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from emailoffload.outbox import retention

INTERCEPT_PERIOD = 240
"""Seconds between two passes of the interceptor (its schedule is `*/4`)."""
PRELOADED_FROM = 31536000
"""HSTS_SECONDS from which on browsers put a name on their list."""
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


def _place(alias: str) -> tuple[str, ...]:
    """What tells one database from another."""
    config = settings.DATABASES[alias]
    socket = config.get("OPTIONS", {}).get("unix_socket", "")
    return (*(str(config.get(name) or "") for name in ("ENGINE", "HOST", "PORT", "NAME")), str(socket))


@register("emailoffload")
def databases(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Our tables never go into Moodle's database, and a real site has a real database."""
    found: list[CheckMessage] = []
    if _place("default") == _place("moodle"):
        found.append(
            Error(
                "DATABASE_URL and MOODLE_DATABASE_URL name the same database.",
                hint="Give Email Offload a database of its own: nothing of ours belongs into Moodle's.",
                id="emailoffload.E001",
            )
        )
    elif not settings.SAMPLE_SITE and settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"):
        found.append(
            Warning(
                "Our database is SQLite: one writer at a time, on one host only.",
                hint="Set DATABASE_URL to a MariaDB or MySQL database.",
                id="emailoffload.W001",
            )
        )
    return found


@register("emailoffload")
def times(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Lead, margin and lease fit each other and the periods of the two crons."""
    found: list[CheckMessage] = []
    needed = INTERCEPT_PERIOD + settings.MOODLE_CRON_PERIOD_SECONDS
    if settings.CLAIM_LEAD_SECONDS <= settings.CLAIM_MARGIN_SECONDS:
        found.append(
            Error(
                "CLAIM_LEAD_SECONDS does not exceed CLAIM_MARGIN_SECONDS: nothing is claimed ahead of time.",
                hint=f"Set CLAIM_LEAD_SECONDS to more than {needed}, as far as possible.",
                id="emailoffload.E002",
            )
        )
    elif needed > settings.CLAIM_LEAD_SECONDS:
        found.append(
            Warning(
                f"CLAIM_LEAD_SECONDS is {settings.CLAIM_LEAD_SECONDS}: some reminders fall due unclaimed.",
                hint=f"Set it to more than {needed}: the interceptor's period plus Moodle's cron period.",
                id="emailoffload.W002",
            )
        )
    longest = settings.SES_CONNECT_TIMEOUT_SECONDS + settings.SES_READ_TIMEOUT_SECONDS
    if longest >= settings.LEASE_SECONDS:
        found.append(
            Warning(
                "LEASE_SECONDS is not longer than a send to SES may take: mails in flight seem abandoned.",
                hint=f"Set it to more than {longest:g}, the sum of SES's connect and read timeouts.",
                id="emailoffload.W003",
            )
        )
    return found


@register("emailoffload")
def exposure(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """A dashboard that others reach is protected; a real site is not in debug mode."""
    found: list[CheckMessage] = []
    if settings.DEBUG and not settings.SAMPLE_SITE:
        found.append(
            Warning(
                "DEBUG is on for a real site: error pages show settings and data.",
                hint="Leave DEBUG out.",
                id="emailoffload.W004",
            )
        )
    if not settings.SECURE_HTTPS and not LOCAL_HOSTS.issuperset(settings.ALLOWED_HOSTS):
        found.append(
            Warning(
                "The dashboard is reached by more than local host names, but SECURE_HTTPS is off.",
                hint="Put it behind https and set SECURE_HTTPS=on: it shows who was mailed what.",
                id="emailoffload.W005",
            )
        )
    preloadable = settings.SECURE_HSTS_INCLUDE_SUBDOMAINS and settings.SECURE_HSTS_SECONDS >= PRELOADED_FROM
    if settings.SECURE_HSTS_PRELOAD and not preloadable:
        found.append(
            Warning(
                "HSTS_PRELOAD is on, but browsers list no name without HSTS_SUBDOMAINS, SECURE_HTTPS and a year of "
                "HSTS_SECONDS.",
                hint=f"Set HSTS_SUBDOMAINS=on and HSTS_SECONDS={PRELOADED_FROM} if every name below the dashboard's "
                "speaks https; else leave HSTS_PRELOAD out.",
                id="emailoffload.W010",
            )
        )
    return found


@register("emailoffload")
def folders(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Moodle's data folder, where it is given, is one, and readable."""
    root = settings.MOODLE_DATAROOT
    if not root or os.access(Path(root) / "filedir", os.R_OK | os.X_OK):
        return []
    return [
        Warning(
            "MOODLE_DATAROOT has no folder `filedir` that we can read: mails with attachments stay with IOMAD.",
            hint="Set it to Moodle's data folder as this host sees it, and let our account read what is in it.",
            id="emailoffload.W006",
        )
    ]


@register("emailoffload")
def privacy(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """The steps of the ladder by which personal data goes do not contradict each other."""
    return [Error(what, hint=cure, id="emailoffload.E009") for what, cure in retention.contradictions()]


@register("emailoffload")
def logins(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Single sign-on has what it needs, and logins are counted by the address of who logs in."""
    found: list[CheckMessage] = []
    if settings.OIDC_SERVER_URL and settings.OIDC_MISSING:
        found.append(
            Error(
                "OIDC_SERVER_URL asks for single sign-on, but these packages are not installed: "
                f"{', '.join(settings.OIDC_MISSING)}.",
                hint="Install them with `pip install --require-hashes -r requirements-oidc.lock`, or leave out OIDC_…",
                id="emailoffload.E003",
            )
        )
    if settings.SECURE_HTTPS and not settings.TRUSTED_PROXIES:
        found.append(
            Warning(
                "SECURE_HTTPS is on, so a proxy stands in front, but TRUSTED_PROXIES is 0: everybody seems to come "
                "from the proxy, and one who guesses passwords locks out all.",
                hint="Set TRUSTED_PROXIES to the number of proxies that add to X-Forwarded-For, mostly 1.",
                id="emailoffload.W007",
            )
        )
    return found


@register("emailoffload")
def carriers(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """What shall carry triggers is installed; whether its server answers, `doctor` says."""
    if settings.BROKER != "redis" or find_spec("redis") is not None:
        return []
    return [
        Error(
            "BROKER is redis, but the package redis is not installed: triggers can only go through our database.",
            hint="Install it with `pip install --require-hashes -r requirements-redis.lock`, or leave out BROKER.",
            id="emailoffload.E005",
        )
    ]
