"""The same leases on SQLite, where the sample site keeps them."""

from __future__ import annotations

from pathlib import Path

from tests.processes import on_sqlite

SCRIPT = """
import django, sys; django.setup()
from django.core.management import call_command
from django.db import connection
from emailoffload.outbox.models import Lease
from emailoffload.worker import lease
assert connection.vendor == "sqlite"
call_command("migrate", verbosity=0)
import multiprocessing
connection.close()
fork = multiprocessing.get_context("fork")
def ask(queue, barrier):
    barrier.wait()
    queue.put(lease.take("intercept") is not None)
queue, barrier = fork.SimpleQueue(), fork.Barrier(4)
children = [fork.Process(target=ask, args=(queue, barrier)) for _ in range(4)]
[child.start() for child in children]
print(sorted(queue.get() for _ in children))
[child.join() for child in children]
Lease.objects.update(expires_at="2001-01-01T00:00:00Z")
held = lease.take("intercept")
held._beaten -= 3600
print(held.beat(), lease.take("intercept"), lease.running(["intercept"]))
"""


def test_exactly_one_process_gets_a_lease_on_sqlite_and_an_expired_one_is_taken_over(tmp_path: Path) -> None:
    done = on_sqlite(SCRIPT, tmp_path)
    assert done.stdout.splitlines() == ["[False, False, False, True]", "True None {'intercept'}"]
