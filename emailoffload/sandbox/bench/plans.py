"""What the queries of a page cost: how often, how long, which plan the server has for them, how many rows it reads.

A page that is quick today is not enough: a plan that reads a whole table is a finding however small the table still is.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

_QUESTION: Final = re.compile(r"\s*\(?\s*(SELECT|WITH)\b", re.I)
_OFFSET: Final = re.compile(r"\bLIMIT\s+(\d+)\s*,|\bOFFSET\s+(\d+)", re.I)
_VALUES: Final = re.compile(r"\b(IN\s*)\((?:\s*%s\s*,?)+\)", re.I)


@dataclass(frozen=True, slots=True)
class Limits:
    """Beyond what something is a finding."""

    scan: int = 10_000
    """Rows of a table that is read from end to end."""
    counted: int = 21_000
    """Rows that a query reads whose LIMIT stops it in time: a count up to a cap reads 10,000, and these once more."""
    examined: int = 250_000
    """Rows that one query reads in whatever way. The search for a text reads the newest 200,000 mails, on purpose."""
    offset: int = 10_000
    """Rows that are skipped. A page number is bounded by the cap of counts."""
    queries: int = 60
    """Queries of a page."""
    page_ms: float = 300.0
    """A page's time, at the 95th percentile."""
    search_ms: float = 50.0
    """The database's part of a search by something that an index finds."""


@dataclass(slots=True)
class Query:
    """One statement of a page, with its times in seconds, one for each time that the page was asked for."""

    alias: str
    sql: str
    params: Any
    times: list[float] = field(default_factory=list)
    examined: int = 0
    """Rows that the server reads for it."""
    plan: str = ""
    """How it reads each table, shortly."""
    findings: list[str] = field(default_factory=list)

    @property
    def ms(self) -> float:
        """The median of its times, in milliseconds."""
        return statistics.median(self.times) * 1000 if self.times else 0.0

    @property
    def shape(self) -> str:
        """The SQL without what differs from one page to the next."""
        return _VALUES.sub(r"\1(…)", self.sql)


class Recorder:
    """Notes the statements that are executed while it is on."""

    def __init__(self) -> None:
        self.queries: list[Query] = []

    def __call__(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        """Execute a statement and note it; called by Django."""
        began = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            took = time.perf_counter() - began
            self.queries.append(Query(context["connection"].alias, sql, params, [took]))


@contextmanager
def recorded() -> Iterator[list[Query]]:
    """The statements executed during the block, on whichever database."""
    recorder = Recorder()
    with ExitStack() as stack:
        for connection in connections.all():
            stack.enter_context(connection.execute_wrapper(recorder))
        yield recorder.queries


def judge(query: Query, limits: Limits) -> None:
    """Fill in the plan, the rows that are read and the findings of a query; it is executed once more.

    Only questions are judged, and only where the server is MariaDB or MySQL.
    """
    connection = connections[query.alias]
    if connection.vendor != "mysql" or not _QUESTION.match(query.sql):
        return
    steps = _explained(connection, query)
    query.plan = "; ".join(
        f"{table}: {access}{f' {key}' if key else ''} ~{rows:,}" for table, access, key, rows in steps
    )
    query.examined = _examined(connection, query)
    limited = "LIMIT" in query.sql
    for table, access, key, rows in steps:
        # What is in angle brackets is a result that the server keeps meanwhile; how it came about has lines of its own.
        whole = access in {"ALL", "index"} and not table.startswith("<")
        if whole and rows > limits.scan and not (limited and query.examined <= limits.counted):
            how = f"the index {key}" if access == "index" else "the table"
            query.findings.append(f"full scan: reads {how} of {table} from end to end, about {rows:,} rows")
    if query.examined > limits.examined:
        query.findings.append(f"reads {query.examined:,} rows")
    for match in _OFFSET.finditer(query.sql):
        if int(match[1] or match[2]) > limits.offset:
            query.findings.append(f"skips {int(match[1] or match[2]):,} rows (OFFSET)")


def _explained(connection: BaseDatabaseWrapper, query: Query) -> list[tuple[str, str, str, int]]:
    """For each table of a query: its name in it, how it is accessed, by which index, how many rows are expected."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {query.sql}", query.params)
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    # With a filter of row ids MariaDB writes "range|filter", two indexes, and "11 (1%)".
    return [
        (
            str(row["table"]),
            str(row["type"]).split("|")[0],
            str(row["key"] or ""),
            int(str(row["rows"] or 0).split()[0]),
        )
        for row in rows
        if row["table"]
    ]


def _examined(connection: BaseDatabaseWrapper, query: Query) -> int:
    """How many rows the server reads for a query, by its own counters."""
    with connection.cursor() as cursor:
        before = _reads(cursor)
        own = _reads(cursor) - before  # what asking for the counters costs
        before += own
        cursor.execute(query.sql, query.params)
        cursor.fetchall()
        return max(0, _reads(cursor) - before - own)


def _reads(cursor: Any) -> int:
    cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%%'", [])
    return sum(int(value) for _name, value in cursor.fetchall())


def merged(runs: Sequence[Sequence[Query]]) -> list[Query]:
    """The queries of several runs of a page as those of one, each with all its times.

    Runs may differ a little, since a page asks for some things only now and then: what the first run asked counts.
    """
    found = [Query(query.alias, query.sql, query.params, list(query.times)) for query in runs[0]]
    for run in runs[1:]:
        if [query.shape for query in run] == [query.shape for query in found]:
            for query, other in zip(found, run, strict=True):
                query.times += other.times
    return found
