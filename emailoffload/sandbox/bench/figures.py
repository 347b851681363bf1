"""The benchmarks themselves; each returns its figures and the lines that a person reads."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from emailoffload.sandbox.bench.stage import (
    MOODLE,
    OURS,
    PEER,
    Stage,
    accepted_mails,
    fresh,
    go,
    outcome,
    queued,
    reminders,
    sandbox_ses,
)

WORKER = "emailoffload.sandbox.bench.worker"
REMINDERS, QUEUE = "reengagement", "iomad_queue"


@dataclass
class Figures:
    """What one benchmark measured."""

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    fine: bool = True
    """False: what was to be shown did not hold."""


def claims(made: Stage, *, rows: int, rounds: int) -> Figures:
    """Claim rate: the product's own function against one UPDATE per row, same server, table and account.

    Twice: on the table in the server's default row format, and compressed as Moodle creates its tables. A
    compressed table costs the server most of the time, whoever writes to it.
    """
    figure = Figures("claims", {"rows": rows})
    for row_format in ("DYNAMIC", "COMPRESSED"):
        made.server.run(f"ALTER TABLE mdl_reengagement_inprogress ROW_FORMAT={row_format}", MOODLE)
        _inprogress(made, rows, "UNIX_TIMESTAMP() + 600 + seq % 300")
        process = made.start(WORKER, "claims", rows, rounds)
        go(process)
        found = outcome(process)
        ratio = found["batched"] / found["single"]
        figure.values[row_format.lower()] = {**found, "ratio": ratio}
        figure.lines += [
            f"{row_format.lower()} table",
            f"  row at a time, autocommit      {found['single']:>10,.0f} rows/s",
            f"  claims.apply, batches of 500   {found['batched']:>10,.0f} rows/s   {ratio:.0f} times",
        ]
    return figure


def scan(made: Stage, *, rows: int, rounds: int) -> Figures:
    """What a pass costs when nothing is due, against the bare scan."""
    fresh(made)
    _inprogress(made, rows, "UNIX_TIMESTAMP() + 7 * 86400 + seq % 86400")
    with sandbox_ses(made, 0) as env:
        process = made.start(WORKER, "scan", rounds, env=env)
        go(process)
        found = outcome(process)
    ratio = found["pass"] / found["bare"]
    return Figures(
        "scan",
        {**found, "ratio": ratio, "rows": rows},
        [
            f"bare scan of {rows:,} rows   {found['bare'] * 1000:>8.0f} ms",
            f"a whole pass over them       {found['pass'] * 1000:>8.0f} ms   {ratio:.2f} times",
        ],
    )


def throughput(made: Stage, *, mails: int, latency_ms: int, rounds: int, peer: bool) -> Figures:
    """Due reminders, from the first claim until SES has accepted the last, beside django-post_office."""
    ours: list[dict[str, float]] = []
    sending: list[float] = []
    theirs: list[dict[str, float]] = []
    for number in range(rounds):
        ours.append(_ours(made, mails, latency_ms))
        sending.append(_sending(made, mails, latency_ms))
        if peer:
            # Two thread counts, since which one serves it best depends on the machine.
            theirs.append(_peer(made, mails, latency_ms, threads=32 if number % 2 == 0 else 64))
    rate = statistics.median(one["rate"] for one in ours)
    values: dict[str, Any] = {
        "mails": mails,
        "latency_ms": latency_ms,
        "rate": rate,
        "rates": [one["rate"] for one in ours],
        "sending_rate": statistics.median(sending),
        "sending_rates": sending,
        "cpu_ms": statistics.median(one["cpu_ms"] for one in ours),
        "peak_mib": max(one["peak_mib"] for one in ours),
        "claiming_s": statistics.median(one["claiming"] for one in ours),
    }
    lines = [
        f"Email Offload, claim to accepted  {rate:>8,.0f} mails/s   {values['cpu_ms']:.2f} ms CPU per mail,"
        f" peak {values['peak_mib']:.0f} MiB a process (runs: {', '.join(f'{r:,.0f}' for r in values['rates'])})",
        f"Email Offload, sending only       {values['sending_rate']:>8,.0f} mails/s"
        f"   (runs: {', '.join(f'{r:,.0f}' for r in sending)})",
    ]
    if theirs:
        best = max(one["rate"] for one in theirs)
        whole = max(one["whole_rate"] for one in theirs)
        values |= {
            "peer_rates": [one["rate"] for one in theirs],
            "peer_best": best,
            "peer_whole_best": whole,
            "ratio": rate / whole,
            "sending_ratio": values["sending_rate"] / best,
        }
        lines.append(
            f"django-post_office, queue to sent {whole:>8,.0f} mails/s   its best of {len(theirs)}, without"
            f" rendering; claim to accepted is {rate / whole:.1f} times that"
        )
        lines.append(
            f"django-post_office, sending only  {best:>8,.0f} mails/s   its best of {len(theirs)};"
            f" our sending is {values['sending_ratio']:.1f} times that"
        )
    return Figures("throughput", values, lines)


def queue(made: Stage, *, mails: int, latency_ms: int, rounds: int) -> Figures:
    """IOMAD's queue after an upload of users: one pass claims all, two processes send."""
    found = []
    for _ in range(rounds):
        fresh(made)
        queued(made, mails)
        found.append(_claim_then_send(made, mails, latency_ms, QUEUE))
    claimed, accepted = (statistics.median(column) for column in zip(*found, strict=True))
    return Figures(
        "queue",
        {"rows": mails, "latency_ms": latency_ms, "claimed_rate": claimed, "accepted_rate": accepted},
        [
            f"{mails:,} rows of IOMAD's queue, claimed in one pass {claimed:>8,.0f} rows/s",
            f"accepted at {latency_ms} ms, two processes            {accepted:>8,.0f} mails/s",
        ],
    )


def feedback(made: Stage, *, mails: int, count: int, latency_ms: int, rounds: int) -> Figures:
    """SES's events: drained from a queue and applied, with many emails in the database."""
    fresh(made)
    accepted_mails(made, mails)
    found = []
    for number in range(rounds):
        with _event_queue(made, mails, count, 2 * number, latency_ms) as env:
            process = made.start(WORKER, "feedback", mails, count, 2 * number, env=env)
            go(process)
            found.append(outcome(process))
    drained = [one["drained"] for one in found]
    values = {
        "emails": mails, "events": count, "latency_ms": latency_ms, "drained": statistics.median(drained),
        "drained_runs": drained, "applied": statistics.median(one["applied"] for one in found),
        "cpu_ms": statistics.median(one["cpu"] for one in found) / count * 1000,
        "peak_mib": max(one["peak_mib"] for one in found),
    }  # fmt: skip
    return Figures(
        "feedback",
        values,
        [
            f"events drained from the queue and applied {values['drained']:>8,.0f} events/s   {mails:,} emails,"
            f" queue at {latency_ms} ms, {values['cpu_ms']:.2f} ms CPU per event"
            f" (runs: {', '.join(f'{rate:,.0f}' for rate in drained)})",
            f"events applied, without a queue           {values['applied']:>8,.0f} events/s",
        ],
    )


@contextmanager
def _event_queue(made: Stage, mails: int, count: int, lot: int, latency_ms: int) -> Iterator[dict[str, str]]:
    """A full event queue in a process of its own; yields the environment that points to it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "emailoffload.sandbox.bench.event_queue",
         *map(str, (mails, count, lot, latency_ms))],
        cwd=settings.BASE_DIR, env=made.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
        yield {"AWS_ENDPOINT_URL_SQS": url, "SES_EVENTS_QUEUE_URL": f"{url}/123456789012/events"}
    finally:
        process.terminate()
        process.wait(10)


def lateness(made: Stage, *, mails: int, latency_ms: int) -> Figures:
    """How long after its due time a reminder is sent, under a real `qcluster` with the product's schedules."""
    fresh(made)
    reminders(made, mails, f"UNIX_TIMESTAMP() + 45 + n() * 120 DIV {mails}")
    with sandbox_ses(made, latency_ms) as env:
        made.env |= env
        made.manage("offloadschedules")
        subprocess.run(
            [sys.executable, "manage.py", "shell", "-c",
             "from django_q.tasks import async_task; async_task('emailoffload.worker.tasks.intercept')"],
            cwd=settings.BASE_DIR, env=made.env, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        cluster = subprocess.Popen(
            [sys.executable, "manage.py", "qcluster"], cwd=settings.BASE_DIR, env=made.env,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            until = time.monotonic() + 260
            while time.monotonic() < until:
                time.sleep(2)
                sent = made.rows("SELECT COUNT(*) FROM emailoffload_email WHERE state = 'accepted'", OURS)
                if sent[0][0] >= mails:
                    break
        finally:
            cluster.terminate()
            cluster.wait(60)
    late = [
        float(row[0])
        for row in made.rows(
            "SELECT TIMESTAMPDIFF(MICROSECOND, e.due_at, a.started_at) / 1e6 FROM emailoffload_attempt a"
            " JOIN emailoffload_email e ON e.id = a.email_id WHERE a.number = 1",
            OURS,
        )
    ]
    if len(late) < mails:
        raise RuntimeError(f"only {len(late)} of {mails} reminders were sent")
    median, p95 = statistics.median(late), sorted(late)[int(len(late) * 0.95)]
    return Figures(
        "lateness",
        {"mails": mails, "median_s": median, "p95_s": p95, "max_s": max(late), "min_s": min(late)},
        [
            f"sending starts after the due time: median {median:.2f} s, 95 % {p95:.2f} s, worst {max(late):.2f} s"
        ],
    )


def _inprogress(made: Stage, rows: int, due: str) -> None:
    made.server.run(
        "TRUNCATE mdl_reengagement_inprogress; INSERT INTO mdl_reengagement_inprogress"
        " (reengagement, userid, completiontime, emailtime, emailsent, completed)"
        f" SELECT 12 + seq % 10, 3 + seq % 500, UNIX_TIMESTAMP() + 90 * 86400, {due}, 0, 0 FROM seq_1_to_{int(rows)}",
        MOODLE,
    )


def _ours(made: Stage, mails: int, latency_ms: int) -> dict[str, float]:
    fresh(made)
    reminders(made, mails, "UNIX_TIMESTAMP() - 60 - n() % 30")
    with sandbox_ses(made, latency_ms) as env:
        processes = [made.start(WORKER, "work", role, mails, REMINDERS, env=env) for role in ("both", "send")]
        started = time.time()
        go(*processes)
        found = [outcome(process) for process in processes]
    accepted = made.rows(
        "SELECT COUNT(*), COUNT(DISTINCT claim_id), UNIX_TIMESTAMP(MAX(accepted_at)) FROM emailoffload_email"
        " WHERE state = 'accepted'",
        OURS,
    )[0]
    if accepted[0] != mails or accepted[1] != mails:
        raise RuntimeError(f"{accepted[0]} of {mails} mails were accepted")
    return {
        "rate": mails / (float(accepted[2]) - started),
        "cpu_ms": sum(one["cpu"] for one in found) / mails * 1000,
        "peak_mib": max(one["peak_mib"] for one in found),
        "claiming": found[0]["claimed_at"] - started,
    }


def _sending(made: Stage, mails: int, latency_ms: int) -> float:
    """Mails per second from the first attempt to the last acceptance, when all have been claimed before."""
    fresh(made)
    reminders(made, mails, "UNIX_TIMESTAMP() - 60 - n() % 30")
    return _claim_then_send(made, mails, latency_ms, REMINDERS)[1]


def _claim_then_send(made: Stage, mails: int, latency_ms: int, source: str) -> tuple[float, float]:
    """(rows claimed per second by one process, then mails accepted per second from two)."""
    with sandbox_ses(made, latency_ms) as env:
        claiming = made.start(WORKER, "work", "claim", mails, source, env=env)
        begun = time.time()
        go(claiming)
        claimed = outcome(claiming)["claimed_at"] - begun
        processes = [made.start(WORKER, "work", "send", mails, source, env=env) for _ in range(2)]
        started = time.time()
        go(*processes)
        for process in processes:
            outcome(process)
    last = made.rows("SELECT UNIX_TIMESTAMP(MAX(accepted_at)) FROM emailoffload_email", OURS)[0][0]
    return mails / claimed, mails / (float(last) - started)


def _peer(made: Stage, mails: int, latency_ms: int, threads: int) -> dict[str, float]:
    made.server.run(f"DROP DATABASE IF EXISTS {PEER}; CREATE DATABASE {PEER} CHARACTER SET utf8mb4")
    with sandbox_ses(made, latency_ms) as env:
        process = made.start(
            "emailoffload.sandbox.bench.peer",
            mails,
            env={
                **env,
                "DJANGO_SETTINGS_MODULE": "emailoffload.sandbox.bench.peer_settings",
                "BENCH_PEER_URL": made.server.url(PEER),
                "BENCH_PEER_THREADS": str(threads),
            },
        )
        go(process)
        found = outcome(process)
    if found["sent"] != mails:
        raise RuntimeError(f"the peer sent {found['sent']} of {mails} mails")
    return {
        "rate": mails / found["seconds"],
        "whole_rate": mails / (found["seconds"] + found["queueing"]),
        "peak_mib": found["peak_mib"],
    }
