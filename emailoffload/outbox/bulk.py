"""Many rows into a table of ours with few statements, without the ORM's cost for every field of every row."""

from __future__ import annotations

import datetime as dt
import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from django.db import connection, models

MAX_ROWS = 500
"""Rows per statement. SQLite takes 32,766 values a statement, a claim has about thirty."""


Row = Mapping[str, Any]
"""The values of one new row by the model's attribute names; foreign keys by their ids."""


def insert(model: type[models.Model], rows: Sequence[Row]) -> None:
    """Insert rows, keys left to the database; call it inside a transaction.

    All rows name the same attributes; those that they leave out get the field's default, which must be nothing,
    a number or a plain word. Nothing but the values is used: no `pre_save` hooks, no signals. Raises KeyError for an
    attribute that the model does not have, or one left out that needs a value; IntegrityError like any INSERT.
    """
    with connection.cursor() as cursor:
        for sql, values in _statements(model, rows):
            cursor.execute(sql, values)


def insert_with_ids(model: type[models.Model], rows: Sequence[Row]) -> list[int]:
    """As `insert`, for a model with a unique `ref`; returns the keys that the database gave, in the rows' order."""
    if not connection.features.can_return_rows_from_bulk_insert:
        insert(model, rows)
        known = ids_by_ref(model, [row["ref"] for row in rows])
        return [known[row["ref"]] for row in rows]
    quote = connection.ops.quote_name
    found: dict[Any, int] = {}
    with connection.cursor() as cursor:
        for sql, values in _statements(model, rows):
            # By reference, because no database promises the order of what it returns.
            cursor.execute(f"{sql} RETURNING {quote('ref')}, {quote('id')}", values)
            found.update(cursor.fetchall())
    stored = _converter(next(field for field in model._meta.concrete_fields if field.attname == "ref"))
    return [found[stored(row["ref"])] for row in rows]


def _statements(model: type[models.Model], rows: Sequence[Row]) -> Iterator[tuple[str, list[Any]]]:
    if not rows:
        return
    quote = connection.ops.quote_name
    fields = [field for field in model._meta.concrete_fields if field is not model._meta.auto_field]
    names = ", ".join(quote(str(field.column)) for field in fields)
    if unknown := rows[0].keys() - {field.attname for field in fields}:
        raise KeyError(f"{model.__name__} has no {', '.join(sorted(unknown))}")
    columns = [
        (
            field.attname,
            None if field.attname in rows[0] else _literal(field.get_default()),
            _converter(field),
        )
        for field in fields
    ]
    for start in range(0, len(rows), MAX_ROWS):
        part = rows[start : start + MAX_ROWS]
        marks, varying = [], []
        for attname, default, convert in columns:
            literal = _constant(part, attname) if default is None else default
            marks.append(literal or "%s")
            if not literal:
                varying.append((attname, convert))
        values = [convert(row[attname]) for row in part for attname, convert in varying]
        one = "(" + ", ".join(marks) + ")"
        yield (
            f"INSERT INTO {quote(model._meta.db_table)} ({names}) VALUES " + ", ".join([one] * len(part)),  # noqa: S608
            values,
        )


_WORD = re.compile(r"[A-Za-z0-9_]*\Z", re.ASCII)


def _literal(value: Any) -> str:
    """SQL for nothing, a number or a text that is one plain word; '' for everything else."""
    if value is None:
        return "NULL"
    if isinstance(value, int):
        return str(int(value))
    return f"'{value}'" if isinstance(value, str) and _WORD.match(value) else ""


def _constant(rows: Sequence[Row], attname: str) -> str:
    """SQL for a value that all rows share, where it can stand in the text; else ''."""
    first = rows[0][attname]
    literal = _literal(first)
    return literal if literal and all(row[attname] == first for row in rows) else ""


def _same(value: Any) -> Any:
    return value


def _converter(field: models.Field[Any, Any]) -> Callable[[Any], Any]:
    """How a field's values are written; the few kinds that need more than the driver does by itself."""
    if isinstance(field, models.DateTimeField):
        return _times()
    if isinstance(field, models.UUIDField):
        native = connection.features.has_native_uuid_field
        return lambda value: str(value) if native else value.hex
    if isinstance(field, models.JSONField):
        return lambda value: json.dumps(value, ensure_ascii=False)
    if isinstance(field, models.CharField | models.TextField):
        # Members of TextChoices are strings; the driver wants plain ones.
        return lambda value: None if value is None else str(value)
    return _same


def _times() -> Callable[[dt.datetime | None], Any]:
    """Batches repeat the same few times, so each is converted once."""
    known: dict[dt.datetime | None, Any] = {None: None}

    def convert(value: dt.datetime | None) -> Any:
        if value not in known:
            known[value] = connection.ops.adapt_datetimefield_value(value)
        return known[value]

    return convert


def ids_by_ref(model: type[models.Model], refs: Sequence[uuid.UUID]) -> dict[uuid.UUID, int]:
    """The keys that the database gave to rows, by their references; one query per thousand."""
    found: dict[uuid.UUID, int] = {}
    for start in range(0, len(refs), 1000):
        part = refs[start : start + 1000]
        found.update(model._default_manager.filter(ref__in=part).values_list("ref", "pk"))
    return found
