"""Charts: right for nothing, for one, for very much; every number in the table too."""

from __future__ import annotations

import re

import pytest
from django.template.loader import render_to_string
from hypothesis import given, settings
from hypothesis import strategies as st

from emailoffload.dashboard import charts
from emailoffload.dashboard.charts import Group, Item

GROUPS = [Group("delivered", "delivered"), Group("problem", "problem")]


def item(delivered: int, problem: int = 0, label: str = "10 Mar, 14:00") -> Item:
    counts = {"delivered": delivered, "problem": problem}
    where = {key: f"/emails/?state={key}&x=<1>" for key, number in counts.items() if number}
    return Item(label, "14:00", counts, where, "/emails/?all" if delivered + problem else "")


def drawn(items: list[Item], kind: str = "columns") -> str:
    whole = item(sum(i.counts["delivered"] for i in items), sum(i.counts["problem"] for i in items))
    chart = getattr(charts, kind)("c", "A chart", items, GROUPS, whole)
    return render_to_string(f"offload/_chart_{kind}.html", {"chart": chart})


@pytest.mark.parametrize("kind", ["columns", "bars"])
@pytest.mark.parametrize("numbers", [[], [0], [1], [0, 0, 0], [1, 10**9], [10**12] * 62])
def test_a_chart_of_nothing_of_one_and_of_very_much_is_drawn(kind: str, numbers: list[int]) -> None:
    html = drawn([item(number) for number in numbers], kind)
    assert len(re.findall(r"<rect class=\"seg delivered\" x=", html)) == sum(
        1 for number in numbers if number
    )
    assert "nan" not in html.lower() and "inf" not in re.findall(r'(?:x|y|width|height)="([^"]*)"', html)
    assert ("No mail in this period." in html) == (not any(numbers))


@pytest.mark.parametrize(
    ("largest", "top"),
    [(0, 1), (1, 1), (2, 2), (3, 5), (9, 10), (10, 10), (11, 20), (101, 200), (10**9, 10**9)],
)
def test_the_top_line_is_a_round_number_that_is_not_too_small(largest: int, top: int) -> None:
    assert charts.ceiling(largest) == top


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (9999, "9,999"),
        (10_000, "10 k"),
        (25_500, "25.5 k"),
        (1_500_000, "1.5 M"),
        (2 * 10**9, "2 bn"),
    ],
)
def test_a_number_at_an_axis_is_short(number: int, text: str) -> None:
    assert charts.compact(number) == text


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), min_size=1, max_size=62))
def test_no_segment_leaves_the_picture_and_none_that_counts_is_invisible(
    pairs: list[tuple[int, int]],
) -> None:
    items = [item(*pair) for pair in pairs]
    chart = charts.columns("c", "t", items, GROUPS, item(1))
    assert len(chart.segments) == sum(1 for pair in pairs for number in pair if number)
    for part in chart.segments:
        assert float(part.height) >= 1 and float(part.y) >= 0
        assert float(part.y) + float(part.height) <= chart.height + 0.2
        assert float(part.x) >= 0 and float(part.x) + float(part.width) <= 100.01


def test_every_number_of_the_picture_is_in_the_table_with_the_same_address() -> None:
    html = drawn([item(12, 3), item(0, 0, "10 Mar, 15:00"), item(7, 0, "10 Mar, 16:00")])
    picture, table = html.split("<details")
    for address in re.findall(r'<a href="([^"]+)" tabindex="-1">', picture):
        assert f'href="{address}"' in table
    assert ">12</a>" in table and ">3</a>" in table and "15 mails" not in table
    assert "<x" not in html and "&lt;1&gt;" in html


def test_a_picture_has_a_name_a_description_and_nothing_that_the_policy_forbids() -> None:
    for kind in ("columns", "bars"):
        html = drawn([item(12, 3)], kind)
        assert "<title" in html and "style=" not in html and "<script" not in html and " on" not in html
    assert '<desc id="c-about">15 mails in all. Most: 10 Mar, 14:00, 15.</desc>' in drawn([item(12, 3)])


def test_the_keyboard_is_led_through_the_table_and_not_through_each_column() -> None:
    html = drawn([item(12, 3)])
    picture = html[html.index('<svg class="drawn"') : html.index("</svg>", html.index('<svg class="drawn"'))]
    assert picture.count("<a ") == picture.count('tabindex="-1"') == 2


def test_steps_that_are_put_together_lose_nothing() -> None:
    from datetime import UTC, datetime, timedelta

    steps = [(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=n), {"a": n, "b": 1}) for n in range(366)]
    merged = charts.merged(steps, 62)
    assert len(merged) <= 62
    assert sum(counts["a"] for _at, counts in merged) == sum(range(366))
    assert sum(counts["b"] for _at, counts in merged) == 366
    assert merged[0][0] == steps[0][0]
