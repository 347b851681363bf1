"""The same dispatchers on SQLite, where the sample site keeps its outbox."""

from __future__ import annotations

from pathlib import Path

from tests.fake_ses import FakeSes
from tests.processes import on_sqlite

SCRIPT = """
import django; django.setup()
from django.core.management import call_command
from django.db import connection
from emailoffload.outbox.models import Attempt, Email
from emailoffload.sources import registry
from tests.outbox.factory import queue_emails
assert connection.vendor == "sqlite"
call_command("migrate", verbosity=0)
class Source:
    def recheck(self, views, now): return []
registry.get = lambda name: Source()
queue_emails(200)
connection.close()
import multiprocessing
from emailoffload.worker import dispatch
fork = multiprocessing.get_context("fork")
queue = fork.SimpleQueue()
children = [fork.Process(target=lambda: queue.put(dispatch.run(until_empty=True).sent)) for _ in range(2)]
[child.start() for child in children]
print(sum(queue.get() for _ in children))
[child.join() for child in children]
print(set(Email.objects.values_list("state", "lease", "attempts")), Email.objects.exclude(message_id="").count())
print(set(Attempt.objects.values_list("outcome", "number", "http_status")), Attempt.objects.count())
"""


def test_two_dispatchers_on_sqlite_send_each_mail_exactly_once(ses: FakeSes, tmp_path: Path) -> None:
    done = on_sqlite(SCRIPT, tmp_path, ses=ses.url)
    assert done.stdout.splitlines() == [
        "200",
        "{('accepted', '', 1)} 200",
        "{('accepted', 1, 200)} 200",
    ]
    assert len(ses.times()) == 200 and set(ses.times().values()) == {1}
