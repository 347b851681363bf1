"""Lists of Django's admin over tables of millions of rows: what they count, search and filter by.

Django's own ways read the whole table: an exact count, the distinct values of a column for its filter, and an OR over
columns for a search. Here counts stop at a cap, a filter offers what a code may be, and a search asks one index after
the other. Only what an index finds is offered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.functional import Promise, cached_property

from emailoffload.dashboard.paging import COUNT_CAP, MAX_ID

FOUND_MOST = 1000
"""Rows that a search finds by each of its columns, the newest."""


class CappedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts at most up to a cap: an exact count of ten million rows takes a second (perf-facts)."""

    @cached_property
    def count(self) -> int:
        """Rows, at most `COUNT_CAP`; pages beyond it are reached by filters."""
        rows = self.object_list
        return rows.order_by()[:COUNT_CAP].count() if isinstance(rows, QuerySet) else len(rows)


def by(
    name: str,
    label: str | Promise,
    choices: Mapping[str, Any] | Iterable[tuple[str, Any]],
    newest: Callable[[str, str, int], list[int]] | None = None,
) -> type[admin.SimpleListFilter]:
    """A filter by an indexed column of codes that offers the codes there may be, without asking which there are.

    With `newest`, which finds ids by column, value and how many, it shows so many of the newest rows, `FOUND_MOST`.
    """
    offered = list(choices.items() if isinstance(choices, Mapping) else choices)

    class ByCode(admin.SimpleListFilter):
        title = label  # type: ignore[assignment]
        parameter_name = name

        def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
            return offered

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
            value = self.value()
            if value is None:
                return queryset
            if newest:
                return queryset.filter(pk__in=newest(name, value, FOUND_MOST))
            return queryset.filter(**{name: value})

    return ByCode


class SearchedByIndex:
    """A list with a search by exact values, each of which an index finds: `searched` names the columns.

    `beside` are further conditions of a column's index, such as the source before a row's number.
    """

    searched: tuple[str, ...] = ()
    beside: Mapping[str, Mapping[str, Any]] = {}

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        """What makes Django show the field to type into."""
        return self.searched

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """The rows in which one of the columns has the typed value; at most `FOUND_MOST` by each column."""
        text = search_term.strip()
        if not text:
            return queryset, False
        found: set[Any] = set()
        for name in self.searched:
            value = _value(queryset.model, name, text)
            if value is not None:
                rows = queryset.filter(**{name: value}, **self.beside.get(name, {}))
                found.update(rows.order_by("-pk").values_list("pk", flat=True)[:FOUND_MOST])
        return queryset.filter(pk__in=found), False


def _value(model: type[Model], name: str, text: str) -> str | int | None:
    """What is typed as a value of a column; None where the column cannot have it."""
    if model._meta.get_field(name).get_internal_type() == "CharField":
        return text
    if not (text.isascii() and text.isdigit()):
        return None
    number = int(text[:20])
    return number if number <= MAX_ID else None
