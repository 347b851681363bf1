"""The alert rules, the Grafana dashboard and docs/operations.md name what there is, and say what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml

from emailoffload.monitoring.families import FAMILIES, PREFIX
from emailoffload.worker import alarm_conditions

DOCS = Path(__file__).resolve().parents[2] / "docs"
GENERAL = {"up"}
"""Metrics of Prometheus itself."""
NOT_SHOWN = {
    "build_info", "section_up", "doctor_age_seconds", "counts_age_seconds", "ses_account_age_seconds",
    "ses_account_problem", "ses_sending_enabled", "events_queue_error", "reputation_mails", "reputation_stops",
    "iomad_watch_age_seconds", "claims_created_total",
}  # fmt: skip
"""What is for alerts or for a closer look, and has no panel."""


def rules() -> list[dict[str, Any]]:
    """Every rule of the example."""
    groups = yaml.safe_load((DOCS / "monitoring" / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries() -> Iterator[str]:
    """Every expression of the dashboard's panels, with the variables that Grafana fills in filled in."""
    board = json.loads((DOCS / "monitoring" / "grafana-dashboard.json").read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"].replace("$job", "email-offload")


RULES, QUERIES = rules(), list(queries())
EXPRESSIONS = [rule["expr"] for rule in RULES] + QUERIES


def selectors(expression: Any) -> Iterator[Any]:
    """Every choice of a metric in an expression."""
    if isinstance(expression, promql.VectorSelector):
        yield expression
        return
    for name in ("expr", "lhs", "rhs", "vector_selector"):
        inner = getattr(expression, name, None)
        if inner is not None:
            yield from selectors(inner)
    for inner in getattr(expression, "args", None) or ():
        yield from selectors(inner)


@cache
def anchors() -> frozenset[str]:
    """The addresses of the headings of docs/operations.md, as GitHub makes them."""
    titles = re.findall(r"^#{2,4} (.+)$", (DOCS / "operations.md").read_text(), re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles)


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_an_expression_is_promql_and_its_metrics_and_labels_exist(text: str) -> None:
    found = list(selectors(promql.parse(text)))
    assert found
    for selector in found:
        name = selector.name
        if name in GENERAL:
            continue
        assert name.startswith(PREFIX), name
        family = FAMILIES[name.removeprefix(PREFIX)]
        used = {matcher.name for matcher in selector.matchers.matchers}
        assert used <= {*family.labels, "job", "instance"}, name


def test_a_metric_that_an_expression_must_name_is_found_in_it() -> None:
    found = list(
        selectors(promql.parse('max(rate(a_total[5m])) / (min by (x) (b{c="d"}) > 1) or time() - e'))
    )
    assert sorted(selector.name for selector in found) == ["a_total", "b", "e"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_to_do_and_names_a_section_of_the_documentation(rule: dict[str, Any]) -> None:
    assert rule["alert"].startswith("EmailOffload") and rule["labels"]["severity"] in {"warning", "critical"}
    notes = rule["annotations"]
    assert set(notes) == {"summary", "action", "runbook"} and len(notes["action"]) > 30
    page, _, anchor = notes["runbook"].partition("#")
    assert page == "docs/operations.md"
    wanted = set(alarm_conditions.TITLES) if anchor == "{{ $labels.code }}" else {anchor}
    assert wanted <= anchors()


def test_no_two_alerts_have_one_name() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(names) == len(set(names))


def test_every_alarm_has_a_section_that_says_what_it_means_and_what_to_do() -> None:
    page = (DOCS / "operations.md").read_text()
    part = page.partition("\n## Every alarm and what to do\n")[2].partition("\n## ")[0]
    sections = dict(re.findall(r"^### (\w+)\n\n(.+?)(?=^### |\Z)", part, re.MULTILINE | re.DOTALL))
    assert set(alarm_conditions.TITLES) <= set(sections)
    assert alarm_conditions.TITLES.keys() == {"test"}.union(*(c.codes for c in alarm_conditions.CONDITIONS))
    for code in sections.keys() - {"test"}:
        assert "*Means*:" in sections[code], code
        assert "*Do*:" in sections[code] or "*If" in sections[code] or "cure" in sections[code], code


def test_every_metric_that_says_that_something_is_wrong_has_an_alert() -> None:
    alerted = {s.name.removeprefix(PREFIX) for rule in RULES for s in selectors(promql.parse(rule["expr"]))}
    assert {
        "database_up", "worker_heartbeat_age_seconds", "outbox_oldest_due_age_seconds", "migrations_missing",
        "alarms_open", "ses_breaker_open_seconds", "pass_last_outcome", "section_up", "paused", "open_claims",
    } <= alerted  # fmt: skip


def test_the_dashboard_can_be_imported_and_shows_every_figure_that_people_ask_for() -> None:
    board = json.loads((DOCS / "monitoring" / "grafana-dashboard.json").read_text())
    assert {each["name"] for each in board["templating"]["list"]} == {"datasource", "job"}
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids)) and all(panel["title"] for panel in board["panels"])
    taken = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24
        taken |= cells
    shown = {s.name.removeprefix(PREFIX) for text in QUERIES for s in selectors(promql.parse(text))}
    assert FAMILIES.keys() - shown <= NOT_SHOWN
