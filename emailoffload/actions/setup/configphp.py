"""What Moodle's config.php knows alone (facts §0), taken over into settings of ours. Nothing of it is executed.

Moodle's own database account is never taken over: its password is not even kept in memory, and its name is only used
to refuse it as ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from emailoffload.actions.setup import php
from emailoffload.moodle.site import CONFIG_NAMES

MOST_BYTES: Final = 1_000_000
_SECRET: Final = frozenset({"dbpass"})
_KINDS: Final = frozenset({"mysqli", "mariadb", "auroramysql"})
"""Moodle's names for MariaDB, MySQL and Amazon's MySQL."""
_NEEDED: Final = (
    "dbtype", "dbhost", "dbname", "dbuser", "dboptions", "prefix", "wwwroot", "dataroot", "lock_factory",
)  # fmt: skip
OWN_SETTINGS: Final = frozenset({*_NEEDED, "noemailever"})
"""What is asked for by a question of its own; the rest goes into MOODLE_FORCED_CONFIG."""
_COMPANY_SENDER: Final = re.compile(r"noreplyaddress\d+\Z")
_READ_PLUGINS: Final = ("message", "filter_", "theme_", "local_email", "mod_reengagement")


class Unreadable(Exception):
    """The file cannot be used; the text is the cause, `cure` what to do."""

    def __init__(self, text: str, cure: str) -> None:
        super().__init__(text)
        self.cure = cure


@dataclass(frozen=True, slots=True)
class Config:
    """What was found. A value that is '' or None is not set, or only known to PHP: then its name is in `unclear`."""

    host: str = ""
    port: str = ""
    socket: str = ""
    database: str = ""
    moodle_account: str = ""
    """The name of Moodle's own account, which is not for us."""
    prefix: str | None = None
    wwwroot: str = ""
    dataroot: str = ""
    lock_factory: str = ""
    noemailever: bool = False
    timezone: str = ""
    forced: Mapping[str, Any] = field(default_factory=dict)
    """Other settings of the site that win over the database, for MOODLE_FORCED_CONFIG."""
    unclear: tuple[str, ...] = ()
    """Names that matter to us and whose values only PHP knows."""
    notes: tuple[str, ...] = ()
    """What an administrator should know, in sentences."""


def read(path: Path) -> Config:
    """Read the file. Raises Unreadable."""
    try:
        if path.is_dir():
            path = path / "config.php"
        with path.open("rb") as file:
            text = file.read(MOST_BYTES).decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise Unreadable(
            f"{path} cannot be read ({error.strerror}).",
            "Name Moodle's config.php, or a copy of it, and let this account read it; or go on without it.",
        ) from error
    return understand(text)


def understand(text: str) -> Config:
    """What a config.php of this text means for us. Raises Unreadable where it is none, or its database no MySQL."""
    found = php.assignments(text, secret=_SECRET)
    values = found.values
    if not (values.keys() | found.unclear) & {"dbname", "wwwroot", "dataroot"}:
        raise Unreadable(
            "This is not Moodle's config.php: it sets neither dbname nor wwwroot nor dataroot.",
            "Name the config.php in Moodle's main folder; where that only includes another file, name that one.",
        )
    kind = _text(values.get("dbtype"))
    if kind and kind not in _KINDS:
        raise Unreadable(
            f"Moodle's database is of the kind {kind}; reminders can be claimed on MariaDB and MySQL only.",
            "Nothing can be set up for this site.",
        )
    options = values.get("dboptions")
    options = options if isinstance(options, dict) else {}
    host, port = _host(_text(values.get("dbhost")))
    socket = _text(options.get("dbsocket"))
    wanted = {*_NEEDED, *CONFIG_NAMES}
    unclear = {name for name in found.unclear if name in wanted or _COMPANY_SENDER.match(name)}
    return Config(
        host=host,
        port=_text(options.get("dbport")) or port,
        socket=socket if socket.startswith("/") else "",
        database=_text(values.get("dbname")),
        moodle_account=_text(values.get("dbuser")),
        prefix=_text(values["prefix"]) if "prefix" in values else None,
        wwwroot=_text(values.get("wwwroot")).rstrip("/"),
        dataroot=_text(values.get("dataroot")),
        lock_factory=_text(values.get("lock_factory")),
        noemailever=_truth(values.get("noemailever")),
        timezone=found.timezone,
        forced=_forced(values),
        unclear=tuple(sorted(unclear)),
        notes=tuple(_notes(values, found)),
    )


def _forced(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the site that the file sets and that we read, without those that have a setting of their own."""
    return {
        name: value
        for name, value in values.items()
        if (name in CONFIG_NAMES or _COMPANY_SENDER.match(name))
        and name != "noemailever"
        and not isinstance(value, dict)
    }


def _notes(values: Mapping[str, Any], found: php.Assigned) -> list[str]:
    notes = []
    others = [name for name in found.includes if not name.endswith("lib/setup.php")]
    if others:
        notes.append(
            f"It includes other files ({', '.join(others)}); what they set is not seen. Compare them with the answers."
        )
    plugins = values.get("forced_plugin_settings")
    names = [str(name) for name in plugins] if isinstance(plugins, dict) else []
    if "forced_plugin_settings" in found.unclear:
        names = ["some that could not be read"]
    forced = [name for name in names if name.startswith((*_READ_PLUGINS, "some"))]
    if forced:
        notes.append(
            f"It forces settings of plugins ({', '.join(forced)}), which we read from the database: make the database "
            "say the same, or mails may differ."
        )
    if "scheduled_tasks" in values or "scheduled_tasks" in found.unclear:
        notes.append(
            "It overrides the schedule of tasks: if that concerns mod_reengagement or local_email, say how often they "
            "run (MOODLE_CRON_PERIOD_SECONDS)."
        )
    return notes


def _host(text: str) -> tuple[str, str]:
    """Host and port; PHP's mark of a persistent connection is not part of the name."""
    text = text.removeprefix("p:")
    host, _, port = text.partition(":") if text.count(":") == 1 else (text, "", "")
    return (host, port) if port.isdigit() or not port else (text, "")


def _text(value: Any) -> str:
    if value is None or isinstance(value, (bool, dict)):
        return ""
    return str(value).strip()


def _truth(value: Any) -> bool:
    """As PHP takes it for true."""
    return value not in (None, False, 0, 0.0, "", "0") and value != {}
