"""`bench seed` and `bench pages`: a database of a large site in small, and the measurement of pages upon it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.db.models import QuerySet
from django.utils import timezone

from emailoffload.outbox.models import RowError
from emailoffload.sandbox.bench import addresses, pages, pages_report, plans, seed
from tests import mariadb
from tests.processes import ROOT

pytestmark = [pytest.mark.whole, pytest.mark.mariadb]
DATABASE = "offload_bench_pages"
EMAILS = 3000


def bench(*args: str) -> tuple[int, dict[str, Any]]:
    """Run `manage.py bench … --json`: its exit status and its report."""
    process = subprocess.run(
        [sys.executable, "manage.py", "bench", *args, "--json"],
        cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert process.stdout, process.stderr
    return process.returncode, json.loads(process.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def seeded(server: mariadb.Server) -> Iterator[str]:
    """The address of a database with 3,000 emails, made by the command."""
    server.run(f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci")
    url = server.url(DATABASE)
    status, found = bench("seed", "--emails", str(EMAILS), "--database", url)
    assert status == 0
    assert not found["seed"]["there_already"]
    assert found["seed"]["rows"]["emails"] == EMAILS
    yield url
    server.run(f"DROP DATABASE {DATABASE}")


def rows(server: mariadb.Server, sql: str) -> list[tuple[Any, ...]]:
    connection = server.connect(DATABASE)
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())
    finally:
        connection.close()


def test_a_seeded_site_is_like_a_real_one(server: mariadb.Server, seeded: str) -> None:
    states = dict(rows(server, "SELECT state, COUNT(*) FROM emailoffload_email GROUP BY state"))
    arrived = sum(states[state] for state in ("delivered", "opened", "clicked"))
    assert 0.94 < arrived / EMAILS < 0.98
    assert {"bounced", "suppressed", "queued", "prepared", "released"} <= states.keys()
    companies = dict(rows(server, "SELECT company_id, COUNT(*) FROM emailoffload_email GROUP BY company_id"))
    assert len(companies) > 30 and companies[1] > 10 * companies[40]
    ((days, late),) = rows(
        server,
        "SELECT DATEDIFF(MAX(created_at), MIN(created_at)), SUM(created_at > NOW()) FROM emailoffload_email",
    )
    assert 380 < days < 405 and late == 0
    ((backward,),) = rows(
        server,
        "SELECT COUNT(*) FROM emailoffload_email a JOIN emailoffload_email b ON b.id = a.id + 1"
        " WHERE b.created_at < a.created_at",
    )
    assert backward == 0
    ((resends,),) = rows(
        server,
        "SELECT COUNT(*) FROM emailoffload_email a JOIN emailoffload_email b ON b.id = a.resend_of_id"
        " AND b.claim_id = a.claim_id",
    )
    assert resends > 10


def test_hourly_counts_of_a_seeded_site_equal_a_recount(server: mariadb.Server, seeded: str) -> None:
    for kind, table, column, key in (
        ("email", "emailoffload_email", "created_at", "state"),
        ("claim", "emailoffload_claim", "created_at", "state"),
        ("left", "emailoffload_leftrow", "first_seen", "reason"),
    ):
        counted = rows(
            server,
            f"SELECT DATE_FORMAT({column}, '%Y-%m-%d %H'), source, IFNULL(company_id, 0), {key}, COUNT(*)"
            f" FROM {table} GROUP BY 1, 2, 3, 4",
        )
        stored = rows(
            server,
            "SELECT DATE_FORMAT(hour, '%Y-%m-%d %H'), source, company_id, `key`, number FROM emailoffload_hourcount"
            f" WHERE kind = '{kind}'",
        )
        assert counted and sorted(counted) == sorted(stored)
        for unit in ("hour", "day"):
            ((total,),) = rows(
                server,
                f"SELECT SUM(number) FROM emailoffload_countsum WHERE kind = '{kind}' AND unit = '{unit}'",
            )
            assert total == sum(number for *_what, number in stored)


def test_what_was_made_already_stays_and_what_others_made_is_refused(
    server: mariadb.Server, seeded: str
) -> None:
    before = rows(server, "CHECKSUM TABLE emailoffload_email")
    status, found = bench("seed", "--emails", str(EMAILS), "--database", seeded)
    assert (status, found["seed"]["there_already"]) == (0, True)
    assert rows(server, "CHECKSUM TABLE emailoffload_email") == before
    server.run(
        f"CREATE OR REPLACE DATABASE {DATABASE}_real; CREATE TABLE {DATABASE}_real.emailoffload_email (id INT)"
    )
    try:
        status, found = bench("seed", "--emails", "60", "--database", server.url(f"{DATABASE}_real"))
        assert status == 1
        assert "they were not made by this command" in found["refused"]
    finally:
        server.run(f"DROP DATABASE {DATABASE}_real")


def test_pages_are_measured_with_their_queries(seeded: str) -> None:
    status, found = bench("pages", "--database", seeded, "--runs", "2", "--only", "alarms")
    measured = {page["what"]: page for page in found["pages"]["pages"]}
    assert {"", "open", "past, a kind that none has"} <= measured.keys()
    assert all(page["queries"] > 2 and page["plans"] and page["p95"] > 0 for page in measured.values())
    assert status == (0 if pages_report.fine(found["pages"]) else 1)


@pytest.mark.django_db
def test_the_suites_own_database_is_never_filled() -> None:
    assert "they were not made by this command" in seed.refusal()
    assert "refused" in seed.fill(100, 1)
    assert "no seeded database" in pages.measure(1)["refused"]


def findings(question: QuerySet[Any]) -> list[str]:
    """What is found against a query, for tables of more than a hundred rows."""
    with plans.recorded() as queries:
        list(question)
    for query in queries:
        plans.judge(query, plans.Limits(scan=100, counted=130, examined=250, offset=50))
    assert len(queries) == 1
    return queries[0].findings


@pytest.mark.django_db
def test_a_query_that_reads_a_whole_table_is_found_out() -> None:
    now = timezone.now()
    RowError.objects.bulk_create(
        RowError(
            source="reengagement", row_id=n, reason="broken", detail=f"{n}", first_seen=now, last_seen=now
        )
        for n in range(300)
    )
    (scan,) = findings(RowError.objects.filter(detail="5"))[:1]
    assert scan.startswith("full scan: reads the table of emailoffload_rowerror")
    assert any(
        "full scan" in each for each in findings(RowError.objects.filter(detail__contains="x").order_by("pk"))
    )
    assert any("full scan" in each for each in findings(RowError.objects.values("source").distinct()))
    assert findings(RowError.objects.order_by("-pk").filter(detail="none")[:5]) == ["reads 301 rows"]
    assert any("OFFSET" in each for each in findings(RowError.objects.order_by("-pk")[60:65]))
    assert findings(RowError.objects.filter(pk=5)) == []
    with plans.recorded() as queries:
        RowError.objects.order_by()[:60].count()
    plans.judge(queries[0], plans.Limits(scan=100, counted=130))
    assert queries[0].findings == []  # a count that stops at its cap is no scan
    assert findings(RowError.objects.order_by("-pk")[:5]) == []
    assert findings(RowError.objects.filter(source="reengagement", row_id=7)) == []


def test_a_finding_is_told_with_the_query_at_fault() -> None:
    query = {"sql": "SELECT x FROM y", "plan": "y: ALL ~9", "rows": 9, "ms": 1.5, "database": "default"}
    page = {
        "name": "emails", "what": "", "path": "/emails/", "p50": 1.0, "p95": 2.0, "cpu": 1.0, "queries": 1,
        "database": 1.0, "slowest": 1.0, "excused": "",
        "findings": ["full scan"], "plans": [query | {"findings": ["full scan"]}],
    }  # fmt: skip
    found = {"emails": 9, "runs": 1, "load": 0.0, "pages": [page], "not_measured": []}
    text = "\n".join(pages_report.lines(found))
    assert "findings: 1 of 1 pages" in text and "SELECT x FROM y" in text and "← finding" in text
    assert not pages_report.fine(found)
    assert pages_report.fine(found | {"pages": [page | {"findings": []}]})
    assert pages_report.fine(found | {"pages": [page | {"excused": "known"}]})
    assert "excused: emails: full scan" in "\n".join(
        pages_report.lines(found | {"pages": [page | {"excused": "known"}]})
    )
    assert not pages_report.fine(found | {"pages": [], "not_measured": ["new-page"]})


def test_no_page_of_the_dashboard_is_forgotten() -> None:
    import inspect

    table = inspect.getsource(addresses)
    names = set(addresses.forgotten({}))
    assert len(names) > 30
    assert [name for name in sorted(names) if f'"{name}"' not in table] == []


def test_the_95th_percentile_is_a_time_that_was_measured() -> None:
    assert pages.percentile([float(n) for n in range(1, 21)], 0.95) == 19.0
    assert pages.percentile([5.0], 0.95) == 5.0
