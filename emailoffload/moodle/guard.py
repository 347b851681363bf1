"""A last guard on the connection to Moodle's database: nothing but reads passes, except from `claims`.

Column grants are the real protection; this one also holds for the sample Moodle (SQLite has no grants) and
makes a mistake loud in development.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from emailoffload.moodle.router import MoodleIsReadOnly
from emailoffload.moodle.targets import TARGETS

_READING = frozenset(
    {"SELECT", "SHOW", "SET", "PRAGMA", "EXPLAIN", "SAVEPOINT", "RELEASE", "ROLLBACK", "BEGIN", "COMMIT"}
)
_UPDATE = re.compile(r"UPDATE\s+[`\"]?(?P<table>\w+)[`\"]?\s+SET\s", re.I)
_writing: ContextVar[bool] = ContextVar("moodle_writing", default=False)


@contextmanager
def writing() -> Iterator[None]:
    """Allow UPDATE statements of the tables that are claimed from; used by `claims.apply` alone."""
    token = _writing.set(True)
    try:
        yield
    finally:
        _writing.reset(token)


def refuse_writes(
    execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    """Execute a statement unless it would change something. Raises MoodleIsReadOnly."""
    word = sql.lstrip("( \n\t").split(None, 1)[0].upper()
    if word not in _READING and not (_writing.get() and _is_claim(sql)):
        raise MoodleIsReadOnly(f"{word} is refused on Moodle's database; claims.py alone writes to it")
    return execute(sql, params, many, context)


def _is_claim(sql: str) -> bool:
    """Whether a statement updates a table that is claimed from, and that alone."""
    match = _UPDATE.match(sql)
    return match is not None and match["table"] in {target.table for target in TARGETS.values()}


def install(sender: object, connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Put the guard on each new connection to Moodle's database (signal `connection_created`)."""
    if connection.alias == "moodle" and refuse_writes not in connection.execute_wrappers:
        connection.execute_wrappers.append(refuse_writes)
