"""Many rows into a table of ours with few statements, without the ORM's cost for every field of every row."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from django.db import connection, models

MAX_ROWS = 500
"""Rows per statement. SQLite takes 32,766 values a statement, a claim has about thirty."""


def insert(model: type[models.Model], rows: Sequence[models.Model]) -> None:
    """Insert unsaved rows, keys left to the database; call it inside a transaction.

    Values are taken as they are set on the rows: foreign keys by their ids, no `pre_save` hooks, no signals.
    Raises IntegrityError like any INSERT.
    """
    columns = [
        (str(field.attname), str(field.column), _converter(field))
        for field in model._meta.concrete_fields
        if field is not model._meta.auto_field
    ]
    if not rows:
        return
    quote = connection.ops.quote_name
    names = ", ".join(quote(column) for _, column, _ in columns)
    with connection.cursor() as cursor:
        for start in range(0, len(rows), MAX_ROWS):
            part = rows[start : start + MAX_ROWS]
            marks, varying = [], []
            for attname, _, convert in columns:
                constant = _constant(part, attname)
                marks.append(constant or "%s")
                if not constant:
                    varying.append((attname, convert))
            values = [convert(getattr(row, attname)) for row in part for attname, convert in varying]
            one = "(" + ", ".join(marks) + ")"
            marks = [one] * len(part)
            cursor.execute(
                f"INSERT INTO {quote(model._meta.db_table)} ({names}) VALUES {', '.join(marks)}",  # noqa: S608
                values,
            )


_LITERALS: dict[Any, str] = {None: "NULL", "": "''"}


def _constant(rows: Sequence[models.Model], attname: str) -> str:
    """SQL for a value that all rows share, where that is nothing, an empty text or a number; else ''."""
    first = getattr(rows[0], attname)
    if type(first) in (int, bool):
        literal = str(int(first))
    elif first is None or type(first) is str:
        literal = _LITERALS.get(first, "")
    else:
        return ""
    return literal if all(getattr(row, attname) == first for row in rows) else ""


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
