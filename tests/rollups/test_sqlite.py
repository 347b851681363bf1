"""The same notes, passes and figures on SQLite, where most sites begin."""

from __future__ import annotations

from pathlib import Path

from tests.processes import on_sqlite

SCRIPT = """
import django; django.setup()
from datetime import timedelta
from django.core.management import call_command
from django.db import connection
from django.utils import timezone
assert connection.vendor == "sqlite"
call_command("migrate", verbosity=0)
from emailoffload.outbox import hourchanges, intents, rollups, transitions
from emailoffload.outbox.figures import HourChange
from emailoffload.outbox.models import Claim
from emailoffload.worker import rollups as passes
from tests.rollups.rows import in_the_counts, in_the_rows, store_claims, store_emails, store_left
hour = hourchanges.hour_of(timezone.now()) - timedelta(days=2)
passes.run()
claims = store_claims(3, hour, state="intended")
mails = [store_emails(2, hour, pk, state="prepared", company_id=None) for pk in claims]
store_left(2, hour)
intents.settle(claims[:2], claims[2:])
transitions.move(mails[0], "cancelled", now=timezone.now())
result = passes.run()
print(result.counted, result.repaired, HourChange.objects.count())
assert in_the_counts() == in_the_rows()
day = hour, hour + timedelta(hours=1)
print(rollups.totals("email", *day), rollups.totals("claim", *day), rollups.totals("left", *day))
print([found for _, found in rollups.series("email", *day, by="day")])
call_command("rollups", "--check")
"""


def test_on_sqlite_a_pass_makes_the_counts_those_of_the_rows(tmp_path: Path) -> None:
    assert on_sqlite(SCRIPT, tmp_path).stdout.splitlines() == [
        "3 0 0",
        "{'cancelled': 2, 'queued': 2} {'claimed': 2, 'lost': 1} {'not_enrolled': 2}",
        "[{'cancelled': 2, 'queued': 2}]",
        "Every count is that of its rows.",
    ]
