"""What the database account may do in Moodle's database: SELECT of listed columns, UPDATE of what a claim writes (P3).

The list follows from `models.py`; `manage.py moodlegrants` prints it as statements, the suite's own account
has exactly these, and `manage.py doctor` compares them with what the account really has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.db.backends.base.base import BaseDatabaseWrapper

from emailoffload.moodle import evidence, models
from emailoffload.moodle.schema import readable_columns
from emailoffload.moodle.targets import IOMAD_QUEUE, REENGAGEMENT, TARGETS

MODULE_COLUMNS = ("id", "course", "name")
"""Columns of each activity plugin's own table that *activitynames* needs (facts §4.6)."""
_MORE_MODULE_COLUMNS = {"folder": ("display",)}
"""A folder that is shown on the course page has no page of its own, so it is not linked."""

_ONLY_FOR: Mapping[str, Mapping[str, frozenset[str] | None]] = {
    REENGAGEMENT: {"reengagement": None, "reengagement_inprogress": None},
    IOMAD_QUEUE: {
        "email": None,
        "email_template": None,
        "department": None,
        "company": frozenset({"emailprofileid"}),
        "company_users": frozenset({"managertype", "departmentid", "suspended"}),
    },
}
"""What one source cannot work without and the others can, by source and table; None is the whole table."""

_MODULE_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")


def _named(prefix: str, name: str) -> str:
    """A table of ours under another prefix than this process's own setting."""
    own = models.table("")
    return prefix + name[len(own) :]


def module_tables(prefix: str, names: Iterable[str]) -> dict[str, str]:
    """The own table of each activity plugin, by plugin name; what cannot be a plugin's name is left out."""
    known = {_named(prefix, model._meta.db_table) for model in models.MODELS}
    tables = {name: prefix + name for name in sorted(set(names)) if _MODULE_NAME.match(name)}
    return {name: table for name, table in tables.items() if table not in known}


def module_columns(plugin: str) -> tuple[str, ...]:
    """The columns of an activity plugin's own table that are read."""
    return MODULE_COLUMNS + _MORE_MODULE_COLUMNS.get(plugin, ())


def expected_columns(*, iomad: bool, prefix: str | None = None) -> dict[str, set[str]]:
    """The columns we read that every supported site has, by full table name; with IOMAD's tables or without.

    What only some sites have (`models.OPTIONAL_COLUMNS`, Totara's table) is not among them.
    """
    prefix = models.table("") if prefix is None else prefix
    result = {}
    for model in models.MODELS:
        table = model._meta.db_table
        if table in models.OPTIONAL_TABLES and not (iomad and table in models.IOMAD_TABLES):
            continue
        result[_named(prefix, table)] = {
            column for column in models.columns_of(model) if (table, column) not in models.OPTIONAL_COLUMNS
        }
    return result


def evidence_columns(prefix: str) -> dict[str, set[str]]:
    """The columns of `moodle.evidence`, which the product can do without, by full table name."""
    return {prefix + name: set(columns) for name, columns in evidence.COLUMNS.items()}


def required(
    prefix: str,
    columns: Mapping[str, set[str]],
    modules: Iterable[str] = (),
    *,
    with_evidence: bool = False,
) -> dict[str, dict[str, list[str]]]:
    """What the account needs on a site: privilege → columns in a fixed order, by full table name.

    `columns` maps full table names to the columns that exist; tables and columns that do not exist are left
    out. `modules` are the installed activity plugins (`modules.name`), whose names *activitynames* links;
    `with_evidence` adds what the product can do without (`moodle.evidence`).
    """
    result: dict[str, dict[str, list[str]]] = {}
    for model in models.MODELS:
        table = _named(prefix, model._meta.db_table)
        readable = [column for column in models.columns_of(model) if column in columns.get(table, ())]
        if readable:
            result[table] = {"SELECT": readable}
    for target in TARGETS.values():
        claimed = result.get(_named(prefix, target.table))
        if claimed:
            claimed["UPDATE"] = [column for column in target.written if column in claimed["SELECT"]]
    for plugin, table in module_tables(prefix, modules).items():
        if set(module_columns(plugin)) <= columns.get(table, set()):
            result[table] = {"SELECT": list(module_columns(plugin))}
    if with_evidence:
        for name, wanted in evidence.COLUMNS.items():
            more = [column for column in wanted if column in columns.get(prefix + name, ())]
            if more:
                result.setdefault(prefix + name, {}).setdefault("SELECT", []).extend(more)
    return result


def statements(
    account: str,
    database: str,
    prefix: str,
    columns: Mapping[str, set[str]],
    modules: Iterable[str] = (),
    *,
    with_evidence: bool = False,
) -> list[str]:
    """The GRANT statements for one site, one a table, without a closing semicolon.

    `account` is written as SQL takes it (`'offload'@'10.0.0.5'`); the rest as in `required`.
    """
    return [
        f"GRANT {_privileges(wanted)} ON {_quoted(database)}.{_quoted(table)} TO {account}"
        for table, wanted in required(prefix, columns, modules, with_evidence=with_evidence).items()
    ]


def _privileges(wanted: Mapping[str, list[str]]) -> str:
    return ", ".join(
        f"{privilege} ({', '.join(_quoted(column) for column in names)})"
        for privilege, names in wanted.items()
    )


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


@dataclass(frozen=True, slots=True)
class GrantFindings:
    """What the account lacks and what it has beyond need, each in words that a database admin can act on."""

    missing: list[str]
    excess: list[str]


_GRANT = re.compile(r"GRANT (?P<what>.+?) ON (?P<on>\S.*?) TO (?P<to>.+)\Z", re.S)
_PRIVILEGE = re.compile(r"(?P<name>[A-Z][A-Z ]*[A-Z])(?:\s*\((?P<columns>[^)]*)\))?")
_OBJECT = re.compile(r"`?(?P<database>\*|[^`]+)`?\.`?(?P<table>\*|[^`]+)`?\Z")


def _columns(text: str) -> set[str]:
    return {name.strip().strip("`") for name in text.split(",")}


def excess_of(lines: Iterable[str], database: str, prefix: str, modules: Iterable[str] = ()) -> list[str]:
    """What lines of SHOW GRANTS give beyond what `moodlegrants --evidence` prints, whether or not it exists."""
    everything = {_named(prefix, m._meta.db_table): set(models.columns_of(m)) for m in models.MODELS}
    everything |= {name: set(module_columns(p)) for p, name in module_tables(prefix, modules).items()}
    for table, names in evidence_columns(prefix).items():
        everything[table] = everything.get(table, set()) | names
    allowed = required(prefix, everything, modules, with_evidence=True)
    found: list[str] = []
    for line in lines:
        match = _GRANT.match(line)
        if not match:
            found.append(f"the role in: {line}")
            continue
        if "GRANT OPTION" in match["to"]:
            found.append(f"the right to pass on its privileges on {match['on']}")
        where = _OBJECT.match(match["on"])
        wanted = allowed.get(where["table"], {}) if where and where["database"] == database else {}
        for privilege in _PRIVILEGE.finditer(match["what"]):
            name, columns = privilege["name"], privilege["columns"]
            if name == "USAGE":
                continue
            if columns is None:
                found.append(f"{name} on {match['on'].replace('`', '')}")
                continue
            beyond = _columns(columns) - set(wanted.get(name, ()))
            if beyond:
                found.append(f"{name} ({', '.join(sorted(beyond))}) on {match['on'].replace('`', '')}")
    return found


def _needed(source: str | None, table: str, column: str) -> bool:
    """Whether a source (None: any) needs a column of a table, which is named without prefix."""
    if source is None:
        return True
    for other, tables in _ONLY_FOR.items():
        columns = tables.get(table, frozenset())
        if other != source and (columns is None or column in columns):
            return False
    return True


def missing_of(
    granted: Mapping[str, Mapping[str, frozenset[str]]],
    prefix: str,
    *,
    iomad: bool,
    source: str | None = None,
) -> list[str]:
    """What is lacking: `granted` maps full table names to columns to the privileges held on them.

    With `source` only what that source cannot do without.
    """
    lacking: list[str] = []
    for table, wanted in required(prefix, expected_columns(iomad=iomad, prefix=prefix)).items():
        held, name_of = granted.get(table, {}), table.removeprefix(prefix)
        for privilege, names in wanted.items():
            absent = [
                name
                for name in names
                if privilege not in held.get(name, frozenset()) and _needed(source, name_of, name)
            ]
            if absent:
                lacking.append(f"{privilege} ({', '.join(absent)}) on {table}")
    return lacking


def check_grants(connection: BaseDatabaseWrapper, modules: Iterable[str] = ()) -> GrantFindings:
    """Compare what the connected account may do with what it should, for the doctor.

    A column without any privilege is invisible to the account, so "missing" names columns that every
    supported Moodle has and that this account cannot use. SQLite has no privileges: nothing is found there.
    Raises the database's own errors when it cannot be reached.
    """
    if connection.vendor != "mysql":
        return GrantFindings([], [])
    prefix = models.table("")
    held = readable_columns(connection)
    with connection.cursor() as cursor:
        cursor.execute("SHOW GRANTS FOR CURRENT_USER")
        lines = [str(row[0]) for row in cursor.fetchall()]
    database = str(connection.settings_dict["NAME"])
    iomad = bool(models.IOMAD_TABLES & held.keys()) or _has_iomad(connection, held)
    return GrantFindings(
        missing=missing_of(held, prefix, iomad=iomad),
        excess=excess_of(lines, database, prefix, modules),
    )


def _has_iomad(connection: BaseDatabaseWrapper, held: Mapping[str, Mapping[str, frozenset[str]]]) -> bool:
    """Whether the plugin local_iomad is installed, as far as the account can see."""
    if not {"plugin", "name"} <= held.get(models.table("config_plugins"), {}).keys():
        return False
    return (
        models.ConfigPlugin.objects.using(connection.alias)
        .filter(plugin="local_iomad", name="version")
        .exists()
    )
