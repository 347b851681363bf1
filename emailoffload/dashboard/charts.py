"""Charts drawn on the server: where each rectangle stands, in numbers; the templates write them as SVG attributes.

Widths are percent of the picture and heights pixels, so that a chart fills any width and its text keeps its size.
No figure is in the picture alone: each chart has a description, and a table with the same numbers and links. The links
of the picture are for the pointer; the keyboard has those of the table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

HEIGHT: Final = 160
"""Pixels of the tallest column."""
ROOM: Final = 14
"""Pixels above it: segments that are too small to be seen are drawn a little larger."""
SMALLEST: Final = 2.0
WIDEST: Final = 8.0
LABELS: Final = 5


@dataclass(frozen=True, slots=True)
class Group:
    """What one colour stands for."""

    key: str
    label: str | Promise


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that a chart shows: a step of time, a source, a company.

    `addresses` lead to the rows behind each group's number, `address` to all of them; an empty one: to none.
    """

    label: str
    short: str
    counts: Mapping[str, int]
    addresses: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    at: datetime | None = None

    @property
    def total(self) -> int:
        """All its groups together."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Segment:
    """A rectangle: x and width in percent, y and height in pixels, as attributes take them."""

    group: str
    x: str
    width: str
    y: str
    height: str
    address: str
    label: str


@dataclass(frozen=True, slots=True)
class Cell:
    """A number of the table, and where its rows are."""

    number: int
    address: str


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: its name, all together, then each group."""

    item: Item
    total: Cell
    cells: Sequence[Cell]
    segments: Sequence[Segment] = ()


@dataclass(frozen=True, slots=True)
class Legend:
    """A colour, its words, its number in the whole chart, and where its rows are."""

    group: Group
    total: Cell


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart as the templates show it."""

    ident: str
    title: str
    description: str
    legend: Sequence[Legend]
    rows: Sequence[Row]
    total: int
    segments: Sequence[Segment] = ()
    ticks: Sequence[tuple[str, str]] = ()
    """Lines across: y in pixels, the number."""
    labels: Sequence[tuple[str, str, str]] = ()
    """Along the foot: x in percent, where the text is anchored, the text."""
    height: int = HEIGHT + ROOM


def columns(ident: str, title: str, items: Sequence[Item], groups: Sequence[Group], whole: Item) -> Chart:
    """Columns beside each other, one for each item, stacked by group; `whole` has the numbers of the legend.

    Zero is drawn as nothing, and anything else so that it can be seen, whatever the largest value is.
    """
    largest = max((item.total for item in items), default=0)
    top = ceiling(largest)
    step = 100 / max(1, len(items))
    width = min(WIDEST, step * 0.78)
    segments: list[Segment] = []
    for number, item in enumerate(items):
        floor = float(HEIGHT + ROOM)
        for group in groups:
            value = item.counts.get(group.key, 0)
            if not value:
                continue
            height = max(SMALLEST, value / top * HEIGHT)
            floor -= height
            x = (number + 0.5) * step - width / 2
            segments.append(_segment(group, item, x, width, max(0.0, floor), height))
    busiest = max(items, key=lambda item: item.total, default=None)
    return Chart(
        ident,
        title,
        _described(whole.total, busiest),
        _legend(groups, whole),
        [_row(item, groups) for item in items],
        whole.total,
        segments,
        _ticks(top),
        _labels(items, step),
    )


def bars(ident: str, title: str, items: Sequence[Item], groups: Sequence[Group], whole: Item) -> Chart:
    """Bars below each other, one for each item, stacked by group, the longest as wide as the picture."""
    largest = max((item.total for item in items), default=0) or 1
    rows = []
    for item in items:
        x, segments = 0.0, []
        for group in groups:
            value = item.counts.get(group.key, 0)
            if value:
                width = min(100 - x, max(0.4, 100 * value / largest))
                segments.append(_segment(group, item, x, width, 0, 14))
                x += width
        rows.append(_row(item, groups, segments))
    busiest = max(items, key=lambda item: item.total, default=None)
    return Chart(
        ident, title, _described(whole.total, busiest), _legend(groups, whole), rows, whole.total, height=14
    )


def ceiling(largest: int) -> int:
    """The number at the top line: 1, 2 or 5 with zeros, not below `largest`; at least 1."""
    power = int("1" + "0" * (len(str(largest)) - 1))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= max(1, largest))


def compact(number: int) -> str:
    """A number for a narrow place: 9,500 as it is, 25 k, 1.5 M."""
    if number < 10_000:
        return number_format(number, force_grouping=True)
    for size, text in ((10**9, _("%(n)s bn")), (10**6, _("%(n)s M")), (1000, _("%(n)s k"))):
        if number >= size:
            places = 0 if number % size == 0 else 1
            return text % {"n": number_format(round(number / size, places), places, force_grouping=True)}
    raise AssertionError  # pragma: no cover - one of the sizes fits


def merged(
    items: Sequence[tuple[datetime, Mapping[str, int]]], most: int
) -> list[tuple[datetime, dict[str, int]]]:
    """Steps put together so that there are at most `most`: each named by its first one, with the sums of all."""
    together = max(1, math.ceil(len(items) / most))
    found = []
    for first in range(0, len(items), together):
        sums: dict[str, int] = {}
        for _at, counts in items[first : first + together]:
            for key, number in counts.items():
                sums[key] = sums.get(key, 0) + number
        found.append((items[first][0], sums))
    return found


def _segment(group: Group, item: Item, x: float, width: float, y: float, height: float) -> Segment:
    label = _("%(what)s: %(number)s %(group)s") % {
        "what": item.label,
        "number": number_format(item.counts[group.key], force_grouping=True),
        "group": group.label,
    }
    address = item.addresses.get(group.key, "")
    return Segment(group.key, f"{x:.3f}", f"{width:.3f}", f"{y:.1f}", f"{height:.1f}", address, label)


def _row(item: Item, groups: Sequence[Group], segments: Sequence[Segment] = ()) -> Row:
    cells = [Cell(item.counts.get(group.key, 0), item.addresses.get(group.key, "")) for group in groups]
    return Row(item, Cell(item.total, item.address), cells, segments)


def _legend(groups: Sequence[Group], whole: Item) -> list[Legend]:
    return [
        Legend(group, Cell(whole.counts.get(group.key, 0), whole.addresses.get(group.key, "")))
        for group in groups
    ]


def _ticks(top: int) -> list[tuple[str, str]]:
    values = [0, top] if top == 1 else [0, top // 2, top] if top % 2 == 0 else [0, top]
    return [(f"{ROOM + HEIGHT - value / top * HEIGHT:.1f}", compact(value)) for value in values]


def _labels(items: Sequence[Item], step: float) -> list[tuple[str, str, str]]:
    every = max(1, math.ceil(len(items) / LABELS))
    found = []
    for number in range(0, len(items), every):
        middle = (number + 0.5) * step
        anchor = "start" if middle < 8 else "end" if middle > 92 else "middle"
        x = 0.0 if anchor == "start" else 100.0 if anchor == "end" else middle
        found.append((f"{x:.2f}", anchor, items[number].short))
    return found


def _described(total: int, busiest: Item | None) -> str:
    if not total or busiest is None:
        return _("No mail in this period.")
    text = ngettext(
        "%(total)s mail in all. Most: %(name)s, %(most)s.",
        "%(total)s mails in all. Most: %(name)s, %(most)s.",
        total,
    )
    return text % {
        "total": number_format(total, force_grouping=True),
        "name": busiest.label,
        "most": number_format(busiest.total, force_grouping=True),
    }
