"""Pages of long tables: by key, never by OFFSET, never with an unbounded COUNT (perf-facts)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.db.models import Model, QuerySet
from django.http import QueryDict

COUNT_CAP = 10_000
MAX_ID = 2**63 - 1

M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Page(Generic[M]):
    """Rows of one page, newest first, and the keys that lead to its neighbours (None: there is none)."""

    rows: Sequence[M]
    older_than: int | None
    newer_than: int | None


@dataclass(frozen=True, slots=True)
class Capped:
    """A count that stops at a cap: `value` rows, or more than that."""

    value: int
    more: bool


def key(params: QueryDict, name: str) -> int | None:
    """A row id given in the address; anything that cannot be one counts as not given."""
    raw = params.get(name, "")
    if not (raw.isascii() and raw.isdigit()):
        return None
    number = int(raw[:20])
    return number if 0 < number <= MAX_ID else None


def page(rows: QuerySet[M, Any], params: QueryDict, size: int) -> Page[M]:
    """The page that `before` or `after` in the address names, at most `size` rows ordered by descending id.

    One query: it reads one row more than it shows, which tells whether there is a further page.
    """
    before, after = key(params, "before"), key(params, "after")
    if after is not None:
        found = list(rows.filter(pk__gt=after).order_by("pk")[: size + 1])
        further, shown = len(found) > size, found[:size][::-1]
        older = shown[-1].pk if shown else after + 1
        return Page(shown, older, shown[0].pk if further and shown else None)
    if before is not None:
        rows = rows.filter(pk__lt=before)
    found = list(rows.order_by("-pk")[: size + 1])
    further, shown = len(found) > size, found[:size]
    newer = None if before is None else (shown[0].pk if shown else before - 1)
    return Page(shown, shown[-1].pk if further else None, newer)


def capped_count(rows: QuerySet[M, Any], cap: int = COUNT_CAP) -> Capped:
    """How many rows there are; counting stops just above `cap`."""
    found = rows.order_by()[: cap + 1].count()
    return Capped(min(found, cap), found > cap)
