"""A process of the product under measurement: `python -m emailoffload.sandbox.bench.worker WHAT …`.

It prepares, says `ready`, waits for a line, works, and prints one JSON object.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import django


def cost() -> dict[str, float]:
    """What this process has used: CPU seconds and peak memory in MiB."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"cpu": used.ru_utime + used.ru_stime, "peak_mib": used.ru_maxrss / 1024}


def wait_for_go() -> None:
    """Say that we are ready and wait until all are."""
    print("ready", flush=True)
    sys.stdin.readline()


def claims(rows: int, rounds: int) -> dict[str, Any]:
    """Row-at-a-time UPDATEs against the product's claim function, round by round, on the same table."""
    from django.db import connections

    from emailoffload.moodle import claims, guard

    connection, source = connections["moodle"], "reengagement"
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, emailsent, emailtime, completed FROM mdl_reengagement_inprogress ORDER BY id"
        )
        found = [tuple(row) for row in cursor.fetchall()]
    swaps = [claims.Swap(i, (s, e, c), (s + 1, e + 604800, c)) for i, s, e, c in found]
    few = swaps[: rows // 20]
    wait_for_go()
    single, batched = [], []
    for _ in range(rounds):
        started = time.perf_counter()
        with guard.writing(), connection.cursor() as cursor:
            for swap in few:
                cursor.execute(
                    "UPDATE mdl_reengagement_inprogress SET emailsent = %s, emailtime = %s"
                    " WHERE id = %s AND emailsent = %s AND emailtime = %s",
                    [*swap.after[:2], swap.row_id, *swap.before[:2]],
                )
        single.append(len(few) / (time.perf_counter() - started))
        for begin in range(0, len(few), 500):
            claims.apply(source, [swap.reversed() for swap in few[begin : begin + 500]])
        started = time.perf_counter()
        for begin in range(0, len(swaps), 500):
            part = swaps[begin : begin + 500]
            if len(claims.apply(source, part)) != len(part):
                raise RuntimeError("a claim was lost though nobody competed")
        batched.append(len(swaps) / (time.perf_counter() - started))
        for begin in range(0, len(swaps), 500):
            claims.apply(source, [swap.reversed() for swap in swaps[begin : begin + 500]])
    return {"single": statistics.median(single), "batched": statistics.median(batched)}


def scan(rounds: int) -> dict[str, Any]:
    """A bare scan for due rows against a whole pass that finds nothing due."""
    from django.conf import settings
    from django.db import connections

    from emailoffload.worker import intercept

    connection = connections["moodle"]
    intercept.run()
    wait_for_go()
    bare, passes = [], []
    for _ in range(rounds):
        started = time.perf_counter()
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT id, reengagement, userid, completiontime, emailtime, emailsent, completed"
                " FROM mdl_reengagement_inprogress WHERE emailtime < %s",
                [int(time.time()) + settings.CLAIM_LEAD_SECONDS],
            )
            if cursor.fetchall():
                raise RuntimeError("something is due")
        bare.append(time.perf_counter() - started)
        started = time.perf_counter()
        result = intercept.run()
        passes.append(time.perf_counter() - started)
        if result.refused or result.busy or result.seen:
            raise RuntimeError(f"the pass did not run as it should: {result.as_dict()}")
    return {"bare": statistics.median(bare), "pass": statistics.median(passes)}


def work(role: str, expected: int, source: str) -> dict[str, Any]:
    """One worker process: `claim` claims, `send` sends, `both` does one after the other."""
    from emailoffload.outbox.models import Email
    from emailoffload.worker import dispatch, intercept

    wait_for_go()
    started = cost()["cpu"]
    claimed = 0.0
    if role in ("both", "claim"):
        result = intercept.run(source=source)
        claimed = time.time()
        if result.claimed != expected:
            raise RuntimeError(f"{expected} were to be claimed: {result.as_dict()}")
    until = time.monotonic() + (0 if role == "claim" else 300)
    while Email.objects.filter(state="accepted").count() < expected and time.monotonic() < until:
        if not dispatch.run(until_empty=True).sent:
            time.sleep(0.02)
    return {**cost(), "cpu": cost()["cpu"] - started, "claimed_at": claimed, "ended_at": time.time()}


def feedback(mails: int, count: int, lot: int) -> dict[str, Any]:
    """Drain the event queue, then apply as many events of another lot without a queue."""
    from emailoffload.feedback import inbox
    from emailoffload.sandbox.bench.events import bodies
    from emailoffload.worker import feedback as listening

    others = [inbox.Message(body) for body in bodies(mails, count, lot + 1)]
    wait_for_go()
    begun, used = time.perf_counter(), cost()["cpu"]
    result = listening.run(until_empty=True)
    drained = time.perf_counter() - begun
    used = cost()["cpu"] - used
    if result.received.events != count or result.refused or result.trouble or result.undeleted:
        raise RuntimeError(f"{count} events were to be drained: {result.as_dict()}")
    begun = time.perf_counter()
    for start in range(0, len(others), listening.AT_ONCE):
        applied = inbox.receive(others[start : start + listening.AT_ONCE])
        if applied.unmatched or applied.problems:
            raise RuntimeError(f"events were not applied: {applied.as_dict()}")
    seconds = time.perf_counter() - begun
    return {**cost(), "drained": count / drained, "applied": len(others) / seconds, "cpu": used}


def main() -> None:
    """Do what the first argument says."""
    django.setup()
    what, *numbers = sys.argv[1:]
    jobs: dict[str, Callable[[], dict[str, Any]]] = {
        "claims": lambda: claims(int(numbers[0]), int(numbers[1])),
        "scan": lambda: scan(int(numbers[0])),
        "feedback": lambda: feedback(*map(int, numbers)),
        "work": lambda: work(numbers[0], int(numbers[1]), numbers[2]),
    }
    print(json.dumps(jobs[what]()))


if __name__ == "__main__":
    main()
