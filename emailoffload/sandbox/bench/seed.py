"""Fill a database with the records of a large site: `python -m emailoffload.sandbox.bench.seed EMAILS SEED`.

It runs where `seeded.place` leads it, says on standard error what it makes, and ends with one line of JSON.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import django

MARK: Final = "bench_seed"
"""The table that says that everything in this database was made here, and from what."""
ADMINISTRATOR, BOUND = "bench", "bench-company"
"""Accounts for the pages: one who may do everything, and one who may, but is bound to a company."""
CONTENTS: Final = 300
"""The newest mails, whose content is stored."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What the mark says. `version` stands for the shape of our tables; `until` is the newest moment in the data."""

    emails: int
    seed: int
    version: str
    until: str
    finished: bool

    @property
    def moment(self) -> datetime:
        """`until`, aware."""
        return datetime.fromisoformat(self.until)


def version() -> str:
    """A digest of the shape of our tables and of the SQL that fills: with either of them changed, the data are old."""
    from django.apps import apps
    from django.db import connection

    from emailoffload.sandbox.bench.seed_plan import Plan
    from emailoffload.sandbox.bench.seed_rows import statements

    digest = hashlib.sha256()
    with connection.schema_editor(collect_sql=True, atomic=False) as editor:
        for model in apps.get_app_config("emailoffload").get_models():
            editor.create_model(model)
    for sql in [*editor.collected_sql, *editor.deferred_sql]:
        digest.update(str(sql).encode())
    for _name, sql in statements(Plan(1000, 1, datetime(2026, 1, 1, tzinfo=UTC))):
        digest.update(sql.encode())
    return digest.hexdigest()[:16]


def mark() -> Mark | None:
    """What the mark of the product's database says; None where there is none. Raises ValueError for a foreign one."""
    from django.db import connection

    if MARK not in connection.introspection.table_names():
        return None
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT value FROM {MARK}")
        row = cursor.fetchone()
    if row is None:
        raise ValueError(f"the table {MARK} is empty")
    return Mark(**json.loads(row[0]))


def refusal() -> str:
    """Why this database must not be written to; '' where it may be."""
    from django.db import connection

    if connection.vendor != "mysql" or not getattr(connection, "mysql_is_mariadb", False):
        return "A seeded database is a MariaDB: it is filled from MariaDB's own sequences."
    tables = connection.introspection.table_names()
    try:
        made = mark() is not None
    except (ValueError, TypeError) as error:
        return f"The database has a table {MARK} that was not made here: {error}"
    if tables and not made:
        return (
            f"The database {connection.settings_dict['NAME']} has tables already, and they were not made by this"
            " command. Name an empty database: everything in it is replaced."
        )
    return ""


def fill(emails: int, seed: int) -> dict[str, Any]:
    """Fill the database; one that was filled from the same numbers already stays as it is.

    Ends with {"refused": why} where the database is not ours to write to.
    """
    if why := refusal():
        return {"refused": why}
    wanted = version()
    there = mark()
    if there and (there.emails, there.seed, there.version, there.finished) == (emails, seed, wanted, True):
        return {"emails": emails, "seed": seed, "until": there.until, "there_already": True, "seconds": 0.0}
    started = time.monotonic()
    until = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    _empty()
    _remember(Mark(emails, seed, wanted, until.isoformat(), finished=False))
    _tables()
    rows = _rows(emails, seed, until)
    _beside(until)
    _remember(Mark(emails, seed, wanted, until.isoformat(), finished=True))
    return {
        "emails": emails, "seed": seed, "until": until.isoformat(), "there_already": False,
        "seconds": time.monotonic() - started, "rows": rows,
    }  # fmt: skip


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _empty() -> None:
    """Drop every table. `refusal` has seen to it that they are ours."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SET foreign_key_checks = 0")
        for table in connection.introspection.table_names():
            cursor.execute(f"DROP TABLE {connection.ops.quote_name(table)}")
        cursor.execute("SET foreign_key_checks = 1")
        # Before anything else: a database that we began to fill is ours to fill anew.
        cursor.execute(f"CREATE TABLE {MARK} (value TEXT NOT NULL)")


def _remember(mark: Mark) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {MARK}")
        cursor.execute(f"INSERT INTO {MARK} (value) VALUES (%s)", [json.dumps(asdict(mark))])


def _tables() -> None:
    from django.core.management import call_command

    _say("tables …")
    call_command("migrate", verbosity=0, skip_checks=True, interactive=False)


def _rows(emails: int, seed: int, until: datetime) -> dict[str, int]:
    """Run the statements on a connection of their own, whose session forgives what a site's must not."""
    from django.db import connection

    from emailoffload.sandbox.bench.seed_plan import Plan
    from emailoffload.sandbox.bench.seed_rows import OWN, SESSION, statements

    made: dict[str, int] = {}
    fresh = connection.copy()
    try:
        with fresh.cursor() as cursor:
            cursor.execute(SESSION)
            for name, sql in statements(Plan(emails, seed, until)):
                began = time.monotonic()
                # Without arguments: percent signs are the SQL's own.
                cursor.execute(sql)
                if name:
                    made[name] = cursor.rowcount
                    _say(f"{name:<22}{cursor.rowcount:>12,} rows {time.monotonic() - began:>8.1f} s")
            for table in OWN:
                cursor.execute(f"DROP TABLE IF EXISTS {table}")
            cursor.execute("SET optimizer_switch = DEFAULT")
            for table in fresh.introspection.table_names():
                cursor.execute(f"ANALYZE TABLE {fresh.ops.quote_name(table)}")
                cursor.fetchall()
    finally:
        fresh.close()
    return made


def _beside(until: datetime) -> None:
    """What is no matter of numbers: accounts, contents, rules, and the small facts that a worker keeps fresh."""
    from django.contrib.auth.models import Group, User

    from emailoffload.outbox.models import Lease
    from emailoffload.policy.models import CopyRule, GroupCompany, RoutingRule

    User.objects.create_superuser(ADMINISTRATOR)
    bound = User.objects.create_user(BOUND)
    group = Group.objects.create(name="Company 1")
    GroupCompany.objects.create(group=group, company_id=1, company_name="Company 1")
    bound.groups.add(group)
    for number in range(1, 31):
        CopyRule.objects.create(
            name=f"Copies to training {number}", company_id=number, kind="fixed", value="t@x.example"
        )
        RoutingRule.objects.create(name=f"Company {number}", company_id=number, mode="on", fallback="moodle")
    for name in ("intercept", "dispatch", "recover", "feedback"):
        Lease.objects.create(
            name=name, holder="mail-1:4711:9f2c01ab", beat_at=until, expires_at=until + timedelta(minutes=2)
        )
    _contents()
    _facts(until)


def _contents() -> None:
    from emailoffload.outbox import content
    from emailoffload.outbox.models import Content, Email
    from emailoffload.sandbox.bench.body import BODY

    sealed = []
    for email in Email.objects.order_by("-pk")[:CONTENTS]:
        key_id, body = content.seal(
            content.Parts(
                email.address, email.name, "noreply@learn.example.org", "Learn", "noreply@learn.example.org", "",
                email.subject, "Please complete it.", BODY,
            )
        )  # fmt: skip
        sealed.append(Content(email=email, key_id=key_id, body=body))
    Content.objects.bulk_create(sealed)


def _facts(until: datetime) -> None:
    """Shared facts: how far hourly counts and the queue of events have come, what the last comparison found."""
    from emailoffload.feedback import queuestate
    from emailoffload.outbox import rollups, shared
    from emailoffload.worker import reconcile

    queuestate.save(queuestate.QueueState(polled_at=until, event_at=until, drained_at=until))
    shared.put(rollups.STATE, {"until": until.isoformat()})
    found = {
        "finished_at": until.isoformat(),
        "days": 7,
        "claims": 1000,
        "counts": {"agrees": 990},
        "evidence": {},
    }
    shared.put(reconcile.MEMORY, {"sweep": None, "last": found})


if __name__ == "__main__":
    django.setup()
    print(json.dumps(fill(int(sys.argv[1]), int(sys.argv[2]))))
