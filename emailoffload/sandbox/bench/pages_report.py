"""What `bench seed` and `bench pages` found, as lines for people."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

Found = Mapping[str, Any]
SQL_SHOWN: Final = 400


def seeding(made: Found) -> str:
    """How a database was filled."""
    what = f"{made['emails']:,} emails up to {made['until']} (seed {made['seed']})"
    if made["there_already"]:
        return f"seed: {what} are there already"
    return f"seed: {what} made in {made['seconds']:,.0f} s, {sum(made['rows'].values()):,} rows in all"


def fine(found: Found) -> bool:
    """Whether there are no findings."""
    return not found["not_measured"] and not any(_counts(page) for page in found["pages"])


def _counts(page: Found) -> bool:
    return bool(page["findings"]) and not page["excused"]


def lines(found: Found, *, plans: bool = False) -> Iterator[str]:
    """A table of the pages, then the findings with the queries at fault; `plans`: of each page the slowest queries."""
    pages = found["pages"]
    yield (
        f"pages: {found['emails']:,} emails, {found['runs']} runs of each page after a warm cache; load"
        f" {found['load']:.1f} at the beginning, {os.getloadavg()[0]:.1f} at the end"
    )
    width = max((len(_name(page)) for page in pages), default=10)
    yield f"  {'page':<{width}}  {'p50':>7} {'p95':>7} {'CPU':>6}  {'queries':>7} {'in them':>8} {'slowest':>8}   (ms)"
    for page in pages:
        mark = "  ← finding" if _counts(page) else "  (excused)" if page["findings"] else ""
        yield (
            f"  {_name(page):<{width}}  {page['p50']:>7.0f} {page['p95']:>7.0f} {page['cpu']:>6.0f}"
            f"  {page['queries']:>7}"
            f" {page['database']:>8.1f} {page['slowest']:>8.1f}{mark}"
        )
        if plans:
            for query in page["plans"]:
                yield from _query(query)
    wrong = [page for page in pages if _counts(page)]
    if pages:
        slowest = max(pages, key=lambda page: float(page["p95"]))
        yield f"slowest page: {_name(slowest)}, {slowest['p95']:.0f} ms at p95"
    yield f"findings: {len(wrong)} of {len(pages)} pages"
    for page in wrong:
        yield f"  {_name(page)}  {page['path']}"
        for finding in dict.fromkeys(page["findings"]):
            yield f"    {finding}"
        for query in page["plans"]:
            if query["findings"]:
                yield from _query(query)
    for page in pages:
        if page["findings"] and page["excused"]:
            yield f"excused: {_name(page)}: {'; '.join(dict.fromkeys(page['findings']))}"
            yield f"    {page['excused']}"
    for name in found["not_measured"]:
        yield f"  not measured: the page “{name}” is in no line of sandbox/bench/addresses.py"


def _name(page: Found) -> str:
    return f"{page['name']}: {page['what']}" if page["what"] else str(page["name"])


def _query(query: Found) -> Iterator[str]:
    sql = query["sql"]
    place = sql.find(" FROM ")
    # The columns say little; where they are many, the text begins with what is read.
    text = f"SELECT …{sql[place:]}" if place > SQL_SHOWN // 4 else sql
    shown = text if len(text) <= SQL_SHOWN else f"{text[:SQL_SHOWN]} …"
    yield f"      {query['ms']:.1f} ms, reads {query['rows']:,} rows ({query['database']}): {query['plan']}"
    yield f"        {shown}"
