"""The same rows in SQLite, as a small site has them: migrated forth and back, counted, shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.mariadb import Server
from tests.processes import on_sqlite
from tests.upgrade.old_site import CONTENT_KEY, GROWING, LAST, OldSite, plain

SCRIPT = f"""
import django; django.setup()
import json, sys
from django.conf import settings
from django.core.management import call_command
from django.db import connection
settings.CONTENT_KEYS, settings.ALLOWED_HOSTS = [{CONTENT_KEY!r}], ["testserver"]
assert connection.vendor == "sqlite"
call_command("migrate", "emailoffload", {LAST!r}, verbosity=0)
for app in ("auth", "admin", "sessions", "django_q"):
    call_command("migrate", app, verbosity=0)
old = json.load(open(settings.DATA_DIR / "rows.json"))
from tests.upgrade.old_site import plain
def read(cursor):
    found = {{}}
    for table, (names, _) in old.items():
        cursor.execute(f'SELECT {{names}} FROM {{table}} ORDER BY 1, 2')
        found[table] = [[plain(value) for value in row] for row in cursor.fetchall()]
    return found
def check():
    for table, rows in read(connection.cursor()).items():
        before = old[table][1]
        assert all(row in rows for row in before) if table in {GROWING!r} else rows == before, table
with connection.constraint_checks_disabled(), connection.cursor() as cursor:
    for table, (names, rows) in old.items():
        cursor.execute(f'DELETE FROM {{table}}')
        for row in rows:
            values = [bytes.fromhex(v["hex"]) if isinstance(v, dict) else v for v in row]
            cursor.execute(f'INSERT INTO {{table}} ({{names}}) VALUES ({{", ".join(["%s"] * len(row))}})', values)
connection.check_constraints()
check()
call_command("migrate", verbosity=0)
check()
call_command("migrate", "emailoffload", {LAST!r}, verbosity=0)
check()
call_command("migrate", verbosity=0)
check()
from django.contrib.auth.models import User
from django.test import Client
from emailoffload.outbox.models import Email
from emailoffload.worker import rollups
from tests.rollups.rows import in_the_counts, in_the_rows
rollups.run()
assert in_the_counts() == in_the_rows()
client = Client()
client.force_login(User.objects.get(username="root"))
one = Email.objects.get(state="bounced", role="manager").pk
pages = "/", "/emails/", f"/emails/{{one}}/", f"/emails/{{one}}/preview/", "/users/15093/", "/events/", "/audit/"
for address in pages:
    print(address.split("/")[-2], client.get(address).status_code)
"""


def test_a_filled_sqlite_database_is_upgraded_forth_and_back(
    server: Server, django_db_setup: None, tmp_path: Path
) -> None:
    old = OldSite(server)
    found: dict[str, tuple[str, list[list[Any]]]] = {}
    for table, columns in old.columns.items():
        if table != "django_migrations":
            ids = [number for number, (kind, *_) in enumerate(columns.values()) if kind == "uuid"]
            rows = [[plain(value) for value in row] for row in old.rows[table]]
            for row in rows:
                for number in ids:
                    row[number] = str(row[number]).replace("-", "")
            found[table] = (", ".join(f'"{name}"' for name in columns), rows)
    old.drop()
    (tmp_path / "rows.json").write_text(json.dumps(found))
    done = on_sqlite(SCRIPT, tmp_path)
    assert {line.rpartition(" ")[2] for line in done.stdout.splitlines()} == {"200"}, done.stdout
