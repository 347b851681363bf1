"""The page *Settings*: what is effective, where it comes from, and what the doctor found. Nothing is changed here."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from typing import Any, Final

from django.conf import settings
from django.db import connections
from django.db.utils import Error as DatabaseFailure
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from emailoffload import version as product
from emailoffload.actions import checkup
from emailoffload.dashboard import access
from emailoffload.dashboard.views import Page
from offloadsite import env

ORIGINS: Final[dict[str, Promise]] = {
    "environment": gettext_lazy("environment"),
    "file": gettext_lazy("settings file"),
    "secret file": gettext_lazy("a file of its own"),
    "default": gettext_lazy("default"),
}
DATABASES: Final = {"DATABASE_URL": "default", "MOODLE_DATABASE_URL": "moodle"}
MASKED: Final = frozenset({"MOODLE_FORCED_CONFIG"})
"""Not secret as such, but what sites put there may be: only the names inside are shown."""
TONES: Final = {"ok": "good", "warning": "warn", "problem": "bad", "unknown": "quiet"}
VERDICTS: Final[dict[str, Promise]] = {
    "problem": gettext_lazy("problem"),
    "warning": gettext_lazy("warning"),
    "unknown": gettext_lazy("not seen"),
    "ok": gettext_lazy("fine"),
}
PACKAGES: Final = ("Django", "django-q2", "boto3", "mysqlclient")


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as the page shows it; `value` never holds a secret."""

    name: str
    value: str
    origin: Promise
    changed: bool
    """Somebody gave it: it is not the default."""
    meaning: str


def effective() -> list[tuple[str, list[Setting], int]]:
    """Every setting by section, in the order of the table, and how many of a section somebody gave."""
    order: list[str] = []
    for spec in env.SPECS:
        if spec.section not in order:
            order.append(spec.section)
    found = sorted(env.given(), key=lambda each: order.index(each.spec.section))
    sections = []
    for section, several in groupby(found, key=lambda each: each.spec.section):
        shown = [_setting(each) for each in several]
        sections.append((section, shown, sum(each.changed for each in shown)))
    return sections


def _setting(given: env.Given) -> Setting:
    spec = given.spec
    return Setting(
        name=spec.name,
        value=_shown(given),
        origin=ORIGINS[given.origin],
        changed=given.origin != "default",
        meaning=spec.meaning,
    )


def _shown(given: env.Given) -> str:
    name = given.spec.name
    if name in DATABASES:
        return _database(settings.DATABASES[DATABASES[name]])
    if given.spec.secret:
        return _("set, not shown") if given.origin != "default" else _("not set")
    if name in MASKED:
        return ", ".join(sorted(getattr(settings, name))) or _("nothing")
    return given.raw or _("nothing")


def _database(config: dict[str, Any]) -> str:
    """Engine, server and name of a database: what tells one from another, without its account."""
    engine = config["ENGINE"].rpartition(".")[2]
    host = config.get("HOST") or config.get("OPTIONS", {}).get("unix_socket", "")
    port = f":{config['PORT']}" if config.get("PORT") else ""
    return f"{engine} · {host}{port} · {config['NAME']}" if host else f"{engine} · {config['NAME']}"


def versions() -> list[tuple[str, str]]:
    """Names and versions of what a report of a problem should name; two queries."""
    found = [("Email Offload", product.current()), ("Python", platform.python_version())]
    found += [(name, version(name)) for name in PACKAGES]
    labels = {"default": _("Own database"), "moodle": _("Moodle's database")}
    return found + [(label, _server(alias)) for alias, label in labels.items()]


def _server(alias: str) -> str:
    connection = connections[alias]
    statement = "SELECT sqlite_version()" if connection.vendor == "sqlite" else "SELECT VERSION()"
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return f"{connection.display_name} {cursor.fetchone()[0]}"
    except DatabaseFailure:
        connection.close()
        return _("does not answer")


def by_verdict(found: checkup.Checkup) -> list[tuple[str, Promise, Sequence[Any]]]:
    """The findings by verdict, what needs a person first: (tone, name, findings)."""
    return [
        (TONES[verdict], name, several)
        for verdict, name in VERDICTS.items()
        if (several := [each for each in found.findings if each.verdict == verdict])
    ]


class ConfigurationPage(Page):
    """The effective settings and the doctor's findings; a POST has the worker look anew."""

    template_name = "offload/configuration.html"
    permissions = (access.VIEW_CONFIGURATION,)
    whole_site = True
    http_method_names = ("get", "head", "post", "options")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Settings by section, findings by verdict, versions; a handful of queries."""
        found = checkup.known()
        return super().get_context_data(
            checkup=found,
            verdicts=by_verdict(found),
            sections=effective(),
            versions=versions(),
            only_changed=self.request.GET.get("show") == "changed",
            **kwargs,
        )

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Ask the worker to look; the page says that it is waited for."""
        checkup.ask(request.user.get_username())
        return redirect("configuration")
