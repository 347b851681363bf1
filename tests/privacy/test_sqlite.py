"""The same on SQLite, where most sites begin: nothing of what went is left in its files."""

from __future__ import annotations

from pathlib import Path

from tests.processes import on_sqlite

SCRIPT = """
import django; django.setup()
from django.core.management import call_command
from django.db import connection
assert connection.vendor == "sqlite"
call_command("migrate", verbosity=0)
call_command("samplemoodle", "create", verbosity=0)
from emailoffload.outbox.models import Claim, Content, Email
from emailoffload.worker.privacy import retention
from tests.privacy.rows import claim, mail
old, older, young = mail(100), mail(500), mail(1, user_id=7, address="bob@example.org", name="Bob", subject="Hello Bob")
mail(900)
print(retention.run(budget=60).as_dict())
call_command("person", "erase", "7", "--yes", "--reason", "Ticket 4711")
print(sorted(Email.objects.values_list("address", flat=True)), Content.objects.count(), Claim.objects.count())
"""


def test_the_ladder_and_an_erasure_work_on_sqlite_and_nothing_is_left_in_its_files(tmp_path: Path) -> None:
    out = on_sqlite(SCRIPT, tmp_path).stdout
    assert "'contents': 3" in out and "'claims_emptied': 2" in out and "'records': 1" in out
    assert "['', '', 'ada@example.org'] 0" in out
    files = b"".join(path.read_bytes() for path in tmp_path.glob("offload.sqlite3*"))
    assert b"bob@example.org" not in files and b"Hello Bob" not in files
