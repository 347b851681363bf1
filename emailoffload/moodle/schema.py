"""Which of Moodle's columns the connected account can see, and how ids are sent in groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from emailoffload.moodle import models

CHUNK = 1000
"""Ids per statement."""

Granted = Mapping[str, Mapping[str, frozenset[str]]]
"""Full table name → column → the privileges held on it, in capitals."""


def readable_columns(connection: BaseDatabaseWrapper, tables: tuple[str, ...] | None = None) -> Granted:
    """The tables with our prefix (or those named) that this account can see, with its column privileges.

    MySQL and MariaDB show an account only the columns on which it has a privilege, whichever way it got it,
    so this is what can be used in fact. SQLite has no privileges: every column counts as usable.
    """
    result: dict[str, dict[str, frozenset[str]]] = {}
    if tables is not None and not tables:
        return result
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            marks = "table_name LIKE %s" if tables is None else f"table_name IN ({_marks(len(tables))})"
            args = (models.table("").replace("_", r"\_") + "%",) if tables is None else tables
            cursor.execute(
                "SELECT table_name, column_name, privileges FROM information_schema.columns"  # noqa: S608
                f" WHERE table_schema = DATABASE() AND {marks}",
                args,
            )
            rows = [(str(t), str(c), str(p).upper()) for t, c, p in cursor.fetchall()]
        else:
            cursor.execute(
                "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c"
                " WHERE m.type = 'table'"
            )
            wanted = None if tables is None else set(tables)
            rows = [(t, c, "SELECT,UPDATE") for t, c in cursor.fetchall() if wanted is None or t in wanted]
    for table, column, privileges in rows:
        result.setdefault(table, {})[column] = frozenset(part.strip() for part in privileges.split(","))
    return result


def readable(*wanted: type[models.MoodleTable]) -> bool:
    """Whether the account sees all these tables; a site without IOMAD or Totara has not all of ours."""
    names = tuple(model._meta.db_table for model in wanted)
    return readable_columns(connections["moodle"], names).keys() >= set(names)


def chunks(values: Iterable[int]) -> Iterator[list[int]]:
    """The distinct values in ascending order, in lists of at most `CHUNK`."""
    ordered = sorted(set(values))
    for start in range(0, len(ordered), CHUNK):
        yield ordered[start : start + CHUNK]


def _marks(count: int) -> str:
    return ", ".join(["%s"] * count)
