"""Measure every page of a seeded database: `python -m emailoffload.sandbox.bench.pages RUNS [ONLY]`.

The pages are asked for through the whole of the product: its WSGI application, middleware and templates, as logged-in
people, on a clock that stands where the data end. It ends with one line of JSON.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import islice
from math import ceil
from typing import Any, Final
from unittest import mock

import django

WARM: Final = 2
"""Times that a page is asked for before it is measured."""


@dataclass(slots=True)
class Measured:
    """What one page costs. Times are milliseconds; `slowest` is the query that takes longest, by its median."""

    name: str
    what: str
    path: str
    p50: float = 0.0
    p95: float = 0.0
    cpu: float = 0.0
    """What our own process computes; on a busy machine it says more than the time that passes."""
    queries: int = 0
    database: float = 0.0
    slowest: float = 0.0
    findings: list[str] = field(default_factory=list)
    excused: str = ""
    plans: list[dict[str, Any]] = field(default_factory=list)
    """Of each kind of query that reads most, or was found at fault: SQL, plan, rows read, milliseconds."""


def percentile(times: list[float], share: float) -> float:
    """The smallest of `times` that at least `share` of them do not exceed."""
    return sorted(times)[max(0, ceil(share * len(times)) - 1)]


@contextmanager
def _clock(until: datetime) -> Iterator[None]:
    """The product's clock goes on from where the data end: “the last 24 hours” have mails however old the data are."""
    from django.utils import timezone

    behind = timezone.now() - until
    real = timezone.now
    with mock.patch.object(timezone, "now", side_effect=lambda: real() - behind):
        yield


def measure(runs: int, only: str = "") -> dict[str, Any]:
    """Measure the pages whose name or filters contain `only`, each `runs` times.

    Ends with {"refused": why} where the database is no seeded one.
    """
    from emailoffload.sandbox.bench import addresses, seed
    from emailoffload.worker import rollups

    mark = seed.mark()
    if mark is None or not mark.finished:
        return {"refused": "There is no seeded database here. Fill one: manage.py bench seed"}
    if mark.version != seed.version():
        return {"refused": "The database was filled by another version. Fill it anew: manage.py bench seed"}
    _permitted()
    with _clock(mark.moment):
        # What the worker's pass would have remembered.
        rollups.run(budget=0)
        seen = addresses.examples(mark.emails, mark.moment)
        every = list(addresses.addresses(seen))
        names = Counter(address.name for address in every)
        found = []
        for number, address in enumerate(every):
            if only in f"{address.name} {address.what}":
                _progress(f"{number + 1} of {len(every)}: {address.name} {address.what}")
                found.append(_page(address, runs))
        missing = [] if only else addresses.forgotten(names)
    _progress("")
    return {
        "emails": mark.emails,
        "until": mark.until,
        "runs": runs,
        "load": os.getloadavg()[0],
        "pages": [asdict(each) for each in found],
        "not_measured": missing,
    }


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _permitted() -> None:
    """Give the person who is bound to a company every permission there is, also those that came after the filling."""
    from django.apps import apps
    from django.contrib.auth.management import create_permissions
    from django.contrib.auth.models import Permission

    from emailoffload.sandbox.bench.seed import BOUND

    for config in apps.get_app_configs():
        create_permissions(config, verbosity=0)
    _user(BOUND).user_permissions.set(Permission.objects.all())


def _fresh() -> None:
    """What a worker would have learned from SES a moment ago: no page shall ask SES in this measurement."""
    from emailoffload.delivery import rate, ses
    from emailoffload.outbox import shared

    account = ses.Account(
        sending_enabled=True, max_send_rate=100.0, max_24h=1_000_000, sent_24h=20_000, production=True
    )
    shared.put(rate.ACCOUNT, {"account": asdict(account), "granted": 0, "read_at": time.time()})


def _page(address: Any, runs: int) -> Measured:
    from django.test import Client

    from emailoffload.sandbox.bench import plans
    from emailoffload.sandbox.bench.seed import ADMINISTRATOR, BOUND

    measured = Measured(address.name, address.what, address.path, excused=address.excused)
    if not address.path:
        measured.findings.append("there is no page of this name")
        return measured
    client = Client(HTTP_HOST="localhost", raise_request_exception=False)
    client.force_login(_user(BOUND if address.bound else ADMINISTRATOR))
    limits = plans.Limits(page_ms=address.limit_ms) if address.limit_ms else plans.Limits()
    _fresh()
    times: list[float] = []
    computed: list[float] = []
    recordings: list[list[plans.Query]] = []
    for number in range(WARM + runs):
        if address.anew:
            address.anew()
        with plans.recorded() as queries:
            began, busy = time.perf_counter(), time.process_time()
            status, size = _ask(client, address)
            took, busy = time.perf_counter() - began, time.process_time() - busy
        if (status >= 400 and status != address.also) or not size:
            measured.findings.append(f"answered {status}" if size else f"answered {status} with nothing")
            return measured
        if number >= WARM:
            times.append(took * 1000)
            computed.append(busy * 1000)
            recordings.append(queries)
    queries = plans.merged(recordings)
    for query in queries:
        plans.judge(query, limits)
    measured.p50, measured.p95 = statistics.median(times), percentile(times, 0.95)
    measured.cpu = statistics.median(computed)
    measured.queries = max(len(recording) for recording in recordings)
    measured.database = statistics.median(
        sum(q.times[0] for q in recording) * 1000 for recording in recordings
    )
    measured.slowest = max((query.ms for query in queries), default=0.0)
    measured.plans = [
        {
            "sql": query.sql, "plan": query.plan, "rows": query.examined, "ms": query.ms,
            "findings": query.findings, "database": query.alias,
        }
        for query in sorted(queries, key=lambda query: (-len(query.findings), -query.ms))[:3]
    ]  # fmt: skip
    for query in queries:
        measured.findings += query.findings
    if measured.p95 > limits.page_ms:
        measured.findings.append(f"takes {measured.p95:.0f} ms at p95")
    if measured.queries > limits.queries:
        measured.findings.append(f"makes {measured.queries} queries")
    if address.search and measured.database > limits.search_ms:
        measured.findings.append(f"a search that takes the database {measured.database:.0f} ms")
    return measured


def _user(name: str) -> Any:
    from django.contrib.auth import get_user_model

    return get_user_model().objects.get(username=name)


def _ask(client: Any, address: Any) -> tuple[int, int]:
    """Ask for a page; its status, and how many bytes came. Of a file only the first lines are read."""
    response = client.post(address.path) if address.lines else client.get(address.path)
    if not response.streaming:
        return response.status_code, len(response.content)
    size = lines = 0
    for piece in islice(response.streaming_content, 10_000):
        size += len(piece)
        lines += piece.count(b"\n")
        if address.lines and lines >= address.lines:
            break
    response.close()
    return response.status_code, size


if __name__ == "__main__":
    django.setup()
    print(json.dumps(measure(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")))
