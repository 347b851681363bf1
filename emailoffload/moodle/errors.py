"""What can be wrong with Moodle's database, each with its cause and cure in plain words.

Commands and passes call `require_ready` first; a MoodleProblem means that nothing was claimed. The texts name
hosts, databases and tables, never a password or a person.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.utils import DatabaseErrorWrapper
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from emailoffload.moodle import grants, models, targets, variants
from emailoffload.moodle.schema import Granted, readable_columns


class MoodleProblem(Exception):
    """Something about Moodle's database keeps us from working.

    Its text is the cause, `cure` says what to do, `code` is a stable name for both.
    """

    code = "moodle_problem"

    def __init__(self, cause: str, cure: str | Promise) -> None:
        super().__init__(cause)
        self.cure = str(cure)


class MoodleUnreachable(MoodleProblem):
    """The server does not answer, refuses the account or does not have the database."""

    code = "moodle_unreachable"


class MoodleReadOnly(MoodleProblem):
    """The server takes no writes: a replica, or a primary that somebody locked."""

    code = "moodle_read_only"


class MoodleFull(MoodleProblem):
    """The server's disk or table is full."""

    code = "moodle_full"


class MoodleSlow(MoodleProblem):
    """A statement took longer than we let it."""

    code = "moodle_slow"


class MoodleOutdated(MoodleProblem):
    """The rows are older than what we wrote: a replica that lags, or a database that was set back."""

    code = "moodle_outdated"


class PrefixMatchesNothing(MoodleProblem):
    """No table with MOODLE_DB_PREFIX is visible."""

    code = "prefix_matches_nothing"


class GrantsMissing(MoodleProblem):
    """The account may not read or update what it must."""

    code = "grants_missing"


class PluginAbsent(MoodleProblem):
    """mod_reengagement is not installed."""

    code = "plugin_absent"


class IomadAbsent(MoodleProblem):
    """This is no IOMAD site, so it has no mail queue."""

    code = "iomad_absent"


class UnsupportedVariant(MoodleProblem):
    """The installed code is unknown, or cannot be claimed from."""

    code = "unsupported_variant"


class TaskMissing(MoodleProblem):
    """Moodle's list of scheduled tasks does not have the one whose lock we need."""

    code = "task_missing"


_GRANTS_CURE = gettext_lazy(
    "Run `manage.py moodlegrants` and have Moodle's database admin execute what it prints."
)
_NETWORK = {2002, 2003, 2005, 2006, 2013, 2026, 1040, 1129, 1130, 1203, 1226}
_LOGIN = {1045, 1044, 1698, 1251, 2059, 1820, 1862}
_READ_ONLY = {1290, 1836, 1792}
_FULL = {1114, 1021, 1030, 1041}
_SLOW = {1969, 3024}


def translate(error: Error, connection: BaseDatabaseWrapper) -> MoodleProblem:
    """The problem behind an error of Moodle's database (the numbers are MySQL's and MariaDB's)."""
    number = error.args[0] if error.args and isinstance(error.args[0], int) else None
    name = connection.settings_dict["NAME"]
    where = _where(connection)
    if number == 1049:
        return MoodleUnreachable(
            _("There is no database %(name)s on %(where)s.") % {"name": name, "where": where},
            _("Correct the name at the end of MOODLE_DATABASE_URL."),
        )
    if number in _LOGIN:
        return MoodleUnreachable(
            _(
                "The database server on %(where)s refuses the account of MOODLE_DATABASE_URL "
                "(error %(number)s)."
            )
            % {"where": where, "number": number},
            _("Correct its name and password there, or create it as `manage.py moodlegrants` prints."),
        )
    if number in {1142, 1143, 1370, 1227}:
        return GrantsMissing(
            _("The account of MOODLE_DATABASE_URL lacks a privilege on %(name)s (error %(number)s).")
            % {"name": name, "number": number},
            _GRANTS_CURE,
        )
    if number == 1146 or number == 1054:
        return PrefixMatchesNothing(
            _("A table or column of Moodle is missing in %(name)s (error %(number)s).")
            % {"name": name, "number": number},
            _("Check MOODLE_DB_PREFIX and that MOODLE_DATABASE_URL names Moodle's own database."),
        )
    if number in _READ_ONLY:
        return read_only(where)
    if number in _FULL:
        return MoodleFull(
            _("Moodle's database on %(where)s cannot store anything (error %(number)s).")
            % {"where": where, "number": number},
            _("Make room on the disk of the database server."),
        )
    if number in _SLOW:
        return MoodleSlow(
            _("Moodle's database on %(where)s is too slow: a statement was broken off (error %(number)s).")
            % {"where": where, "number": number},
            _("Look at what keeps the database server busy; the next pass tries again."),
        )
    detail = f"error {number}" if number in _NETWORK or number else type(error).__name__
    return MoodleUnreachable(
        _("Moodle's database on %(where)s cannot be used (%(detail)s).") % {"where": where, "detail": detail},
        _("Check that the server runs and is reached from here, and host and port in MOODLE_DATABASE_URL."),
    )


def read_only(where: str = "") -> MoodleReadOnly:
    """The problem of a server that takes no writes."""
    where = where or _where(connections["moodle"])
    return MoodleReadOnly(
        _(
            "Moodle's database on %(where)s is read-only, so Moodle itself works on another "
            "server or cannot work."
        )
        % {"where": where},
        _("Name the primary server in MOODLE_DATABASE_URL, or have its read_only switched off."),
    )


def database_of(error: BaseException) -> str:
    """Which of our two databases an error comes from, as its alias in the settings; '' where that cannot be seen.

    An error does not say it itself; the connection that it was raised by stands in its traceback.
    """
    for frame, _line in traceback.walk_tb(error.__traceback__):
        owner: Any = frame.f_locals.get("self")
        # By its type: a lazy object would be evaluated by `isinstance`, and might ask the database again.
        if issubclass(type(owner), CursorWrapper):
            owner = owner.db
        elif issubclass(type(owner), DatabaseErrorWrapper):
            owner = owner.wrapper
        if issubclass(type(owner), BaseDatabaseWrapper):
            return str(owner.alias)
    return ""


@contextmanager
def translated() -> Iterator[None]:
    """Turn errors of Moodle's database inside the block into MoodleProblem, the original as its cause.

    Errors of our own database go on as they are.
    """
    try:
        yield
    except Error as error:
        if database_of(error) == "default":
            raise
        raise translate(error, connections["moodle"]) from error


def check_reachable() -> Granted:
    """Connect to Moodle's database and find its tables; the columns that the account can use, by table.

    Raises MoodleUnreachable or PrefixMatchesNothing.
    """
    connection = connections["moodle"]
    _refuse_missing_file(connection)
    with translated():
        connection.close_if_unusable_or_obsolete()
        held = readable_columns(connection)
        if held:
            return held
        elsewhere = _other_prefixes(connection)
    name, prefix = connection.settings_dict["NAME"], models.table("")
    if elsewhere:
        hint = ", ".join(other or "(empty)" for other in elsewhere)
        cure = _(
            "Set MOODLE_DB_PREFIX to $CFG->prefix of Moodle's config.php; tables here have: %(hint)s."
        ) % {"hint": hint}
    else:
        cure = _(
            "Set MOODLE_DB_PREFIX to $CFG->prefix of Moodle's config.php, and check that "
            "MOODLE_DATABASE_URL names "
            "Moodle's own database. If both are right, the account has no privileges yet. %(then)s"
        ) % {"then": _GRANTS_CURE}
    raise PrefixMatchesNothing(
        _("No table that starts with %(prefix)s can be seen in %(name)s.")
        % {"prefix": f"{prefix!r}", "name": name},
        cure,
    )


def require_ready(source: str = targets.REENGAGEMENT) -> variants.Variant:
    """Check everything that a pass over a source needs of Moodle's database, in about fifteen small queries.

    Each source is judged by itself: what only the other one needs may be absent, unknown or not granted.
    Returns what is installed; the source's own code is a supported one. Raises MoodleUnreachable,
    PrefixMatchesNothing, GrantsMissing, PluginAbsent, IomadAbsent or UnsupportedVariant.
    """
    held = check_reachable()
    iomad = bool(models.IOMAD_TABLES & held.keys())
    lacking = grants.missing_of(held, models.table(""), iomad=iomad, source=source)
    own = {targets.TARGETS[source].table, models.table("reengagement")}
    core = [text for text in lacking if text.rpartition(" on ")[2] not in own | models.IOMAD_TABLES]
    if core:
        # First of all, because without these it cannot be said what is installed.
        raise _grants_missing(core)
    with translated():
        variant = variants.detect()
        queue = variants.detect_queue() if source == targets.IOMAD_QUEUE and variant.iomad else None
    _require_installed(source, variant)
    lacking = grants.missing_of(held, models.table(""), iomad=variant.iomad, source=source)
    if lacking:
        raise _grants_missing(lacking)
    supported, why = (queue.supported, queue.why) if queue else (variant.supported, variant.why)
    if not supported:
        raise UnsupportedVariant(why, _cure(switched_off=(queue or variant).kind == "disabled"))
    return variant


def _require_installed(source: str, variant: variants.Variant) -> None:
    if source == targets.IOMAD_QUEUE and not variant.iomad:
        raise IomadAbsent(
            _("This Moodle is no IOMAD, so it has no mail queue."),
            _("Leave the source iomad_queue out, or point MOODLE_DATABASE_URL to the site that has IOMAD."),
        )
    if source == targets.REENGAGEMENT and variant.kind == "absent":
        raise PluginAbsent(
            variant.why, _("Install it in Moodle, or point MOODLE_DATABASE_URL to the site that has it.")
        )


def _cure(*, switched_off: bool) -> str:
    if switched_off:
        return _("Nothing is claimed until it is switched on again in Moodle.")
    return _(
        "Nothing is claimed; Moodle goes on sending as before. The documentation lists supported versions."
    )


def _grants_missing(lacking: list[str]) -> GrantsMissing:
    shown = "; ".join(lacking[:5]) + (f"; and {len(lacking) - 5} more" if len(lacking) > 5 else "")
    return GrantsMissing(
        _("The account of MOODLE_DATABASE_URL lacks: %(shown)s.") % {"shown": shown}, _GRANTS_CURE
    )


def _where(connection: BaseDatabaseWrapper) -> str:
    settings: dict[str, Any] = connection.settings_dict
    if connection.vendor != "mysql":
        return str(settings["NAME"])
    host = settings["OPTIONS"].get("unix_socket") or settings["HOST"] or "localhost"
    return f"{host}:{settings['PORT']}" if settings["PORT"] else str(host)


def _refuse_missing_file(connection: BaseDatabaseWrapper) -> None:
    """SQLite would silently create a file that is not there."""
    name = str(connection.settings_dict["NAME"])
    in_memory = name.startswith("file:") or ":memory:" in name
    if connection.vendor == "sqlite" and not in_memory and not Path(name).is_file():
        raise MoodleUnreachable(
            _("The sample Moodle %(name)s does not exist.") % {"name": Path(name).name},
            _("Run `manage.py quickstart`, or set MOODLE_DATABASE_URL to a real site's database."),
        )


def _other_prefixes(connection: BaseDatabaseWrapper) -> list[str]:
    """Prefixes under which a table that every Moodle has is visible in this database."""
    suffix = "config_plugins"
    names = connection.introspection.table_names()
    return sorted(name[: -len(suffix)] for name in names if name.endswith(suffix))
