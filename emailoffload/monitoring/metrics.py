"""`/metrics`: the sections' samples as Prometheus reads them."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from django.db.utils import Error as DatabaseFailure
from django.utils import timezone
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from emailoffload import logs, version
from emailoffload.monitoring import reachable, sections
from emailoffload.monitoring.families import FAMILIES, Family
from emailoffload.monitoring.sections import Sample

log = logging.getLogger(__name__)
BELIEVED_SECONDS: Final = 1.0
"""How long an answer counts: many who ask at once cost no more than one."""


class DatabaseState(Collector):
    """Reads everything when it is asked; nothing is counted in this process."""

    def describe(self) -> Iterable[Metric]:
        """Every family, empty."""
        return [_empty(family) for family in FAMILIES.values()]

    def collect(self) -> Iterator[Metric]:
        """Families with their samples, in the order of the table; what there is nothing to say about is left out."""
        found: dict[str, list[tuple[tuple[str, ...], float]]] = defaultdict(list)
        for name, labels, value in _samples():
            found[name].append((labels, value))
        for family in FAMILIES.values():
            if family.name not in found:
                continue
            metric = _empty(family)
            for labels, value in found[family.name]:
                metric.add_metric(labels, value)
            yield metric


def _samples() -> Iterator[Sample]:
    yield "build_info", (version.current(),), 1
    ours = reachable.ours()
    yield "database_up", ("offload",), float(ours)
    yield "database_up", ("moodle",), float(reachable.moodle())
    now = timezone.now()
    for name, section in sections.SECTIONS.items():
        try:
            samples = list(section(now)) if ours else None
        except DatabaseFailure as error:
            samples = None
            log.error(
                "The metrics of the section %s could not be read from our database (%s). They are left out, and alerts "
                "that need them are blind; mail is not affected.",
                name,
                logs.named(error),
            )
        except Exception:
            # Broad on purpose: a fact that this version cannot read must not hide all others.
            samples = None
            log.exception(
                "The metrics of the section %s could not be read. They are left out, and alerts that need them are "
                "blind; mail is not affected. This is an error of ours: report it with this line.",
                name,
            )
        yield "section_up", (name,), float(samples is not None)
        yield from samples or ()


def _empty(family: Family) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    return kind(family.full_name, family.help, labels=family.labels)


_registry = CollectorRegistry(auto_describe=False)
_registry.register(DatabaseState())
_lock = threading.Lock()
_answers: dict[str, tuple[float, bytes]] = {}


def render(accept: str) -> tuple[bytes, str]:
    """The whole answer and its content type: the format that the header `accept` asks for, else Prometheus's text."""
    encode, content_type = choose_encoder(accept)
    with _lock:
        at, body = _answers.get(content_type, (0.0, b""))
        if not body or time.monotonic() - at >= BELIEVED_SECONDS:
            body = encode(_registry)
            if len(_answers) > len(content_type):
                _answers.clear()
            _answers[content_type] = (time.monotonic(), body)
    return body, content_type


def forget_answers() -> None:
    """Read anew next time what changes quickly, as a scrape does that comes half a minute after the last one."""
    _answers.clear()


def forget() -> None:
    """Read everything anew next time, as a process does that has just begun."""
    forget_answers()
    sections.forget()
    reachable.forget()
