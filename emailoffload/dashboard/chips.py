"""The filters that are set, as words, each with the address without it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import QueryDict
from django.utils import timezone
from django.utils.translation import gettext as _

from emailoffload.dashboard import dates, reasons, words
from emailoffload.dashboard.filters import GROUPS, EmailFilter

PLACE = ("before", "after", "view")
"""Keys of the address that are no filters: the place in the list, the saved view that it came from."""


@dataclass(frozen=True, slots=True)
class Chip:
    """One filter: what it is, what it is set to, and the query string without it."""

    label: str
    value: str
    without: str


def query_of(params: QueryDict, names: Any) -> QueryDict:
    """The filters of an address alone, without those that are empty."""
    kept = QueryDict(mutable=True)
    for name in names:
        values = [value for value in params.getlist(name) if value.strip()]
        if values:
            kept.setlist(name, list(dict.fromkeys(values)))
    return kept


def without(params: QueryDict, name: str, value: str | None = None) -> str:
    """The query string without a filter, or without one of its values; it shows all where nothing is left."""
    kept = params.copy()
    values = [] if value is None else [each for each in kept.getlist(name) if each != value]
    kept.setlist(name, values)
    return "?" + (kept.urlencode() or "view=0")


def chips(filters: EmailFilter) -> list[Chip]:
    """A chip for each filter that is set, one for each chosen state; of valid filters only."""
    params = query_of(filters.data, filters.filters)
    found: list[Chip] = []
    for name in filters.filters:
        label = str(filters.form.fields[name].label)
        if name == "state":
            found += [
                Chip(label, state_name(code), without(params, name, code)) for code in params.getlist(name)
            ]
        elif params.get(name):
            value = filters.form.cleaned_data.get(name)
            found.append(Chip(label, _shown(filters, name, value), without(params, name)))
    return found


def state_name(code: str) -> str:
    """A state, or a group of states, in words."""
    return str(GROUPS[code][0]) if code in GROUPS else words.state(code)


def _shown(filters: EmailFilter, name: str, value: Any) -> str:
    if isinstance(value, datetime):
        local = timezone.localtime(value)
        return f"{dates.minute(local)} {local.tzname()}"
    if name in ("date_from", "date_to"):
        return dates.day(value)
    choices = getattr(filters.form.fields[name], "choices", None)
    if choices:
        return str(dict(choices).get(value, value))
    if name == "reason":
        return reasons.meaning(value)
    if name == "template":
        return words.template(value)
    if name in ("course", "activity") and str(value).isdigit():
        return _("number %(id)s") % {"id": value}
    return str(value)
