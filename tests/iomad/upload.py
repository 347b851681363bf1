"""A bulk upload of users, as a site has it: accounts in company 1, and their mails in IOMAD's queue.

Also the product's commands as processes of their own, with nothing but environment settings, on this test's
databases; and what time does to what a killed process leaves.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.db import connections
from django.utils import timezone

from emailoffload.outbox.models import Claim, Email, Lease
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.sandbox.email_cron import SimulatedEmailCron
from emailoffload.sandbox.moodle_side import mysql_lock
from emailoffload.sandbox.ses_server import SandboxSES
from tests import settings as test_settings
from tests.conftest import Moodle
from tests.credentials.secret import CORE
from tests.iomad import queue

ROOT = Path(__file__).resolve().parents[2]
SITE = "https://learn.school.example"


@dataclass(slots=True)
class Upload:
    """What was uploaded. Rows are those of IOMAD's queue, by id."""

    created: list[int] = field(default_factory=list)
    """Rows of `user_create`, each with a password of its own."""
    others: list[int] = field(default_factory=list)
    recipients: Counter[tuple[int, str]] = field(default_factory=Counter)
    """Who is owed a mail, as (row, address)."""
    passwords: list[str] = field(default_factory=list)

    @property
    def rows(self) -> set[int]:
        """All rows."""
        return {*self.created, *self.others}


def users(moodle: Moodle, count: int) -> list[tuple[int, str]]:
    """(id, address) of `count` new accounts with their context and their place in company 1."""
    given = {
        "username": "concat('upload', s.seq)",
        "email": "concat('upload', s.seq, '@pupils.example')",
        "firstname": "concat('Nora', s.seq)",
        "idnumber": "''",
    }
    columns = [name for (name,) in moodle.rows(
        "SELECT column_name FROM information_schema.columns"
        " WHERE table_schema = DATABASE() AND table_name = 'mdl_user' AND column_name <> 'id'"
    )]  # fmt: skip
    values = ", ".join(given.get(name, f"u.{name}") for name in columns)
    moodle.execute(
        f"INSERT INTO mdl_user ({', '.join(columns)})"
        f" SELECT {values} FROM mdl_user u JOIN seq_1_to_{count} s WHERE u.id = {queue.USER}"
    )
    for table, row in (
        ("mdl_context (contextlevel, instanceid, depth, path)", "30, id, 2, concat('/1/', 100000 + id)"),
        ("mdl_company_users (companyid, userid, managertype, departmentid, suspended)",
         f"{queue.COMPANY}, id, 0, {queue.TOP}, 0"),
    ):  # fmt: skip
        moodle.execute(f"INSERT INTO {table} SELECT {row} FROM mdl_user WHERE username LIKE 'upload%%'", ())
    found = moodle.rows("SELECT id, email FROM mdl_user WHERE username LIKE 'upload%%' ORDER BY id", ())
    assert len(found) == count
    return [(user, address) for user, address in found]


def upload(moodle: Moodle, count: int, *, padding: int = 0) -> Upload:
    """Create users; each gets a welcome mail with a password, every second one also a course's mail.

    One in ten of the welcome mails goes to the company's manager too, as IOMAD's default is, one in twenty to
    the three Cc addresses of the site's own template, and one in ten of the courses' to its To address.
    `padding` bytes lengthen the texts. What was sent before is forgotten.
    """
    moodle.execute("DELETE FROM mdl_email WHERE sent IS NOT NULL")
    last = moodle.value("SELECT COALESCE(MAX(id), 0) FROM mdl_email")
    now = int(time.time())
    made = Upload()
    rows: list[tuple[Any, ...]] = []
    owed: list[list[str]] = []
    plain = queue.headers(emailfromothername="{Company_Name}")
    managed = queue.headers(disabledmanager="0", emailfromothername="{Company_Name}")
    copied = queue.headers(
        f"Cc:{queue.MANAGER_ADDRESS}", "Cc:cc1@third.example", "Cc:cc2@third.example",
        emailcc=str(queue.MANAGER), emailccother="cc1@third.example,cc2@third.example",
    )  # fmt: skip
    course = queue.headers(name="user_added_to_course")
    course_to = queue.headers(
        "To:to1@third.example", "reply-to:reply@third.example", name="user_added_to_course",
        emailtoother="to1@third.example", emailreplytoother="reply@third.example",
    )  # fmt: skip
    filler = f"<p>{'Häuser und Wälder. ' * (padding // 20)}</p>"
    for n, (user, address) in enumerate(users(moodle, count)):
        secret = f"{CORE}-{n:04d}"
        made.passwords.append(secret)
        headers, more = plain, []
        if n % 10 == 3:
            headers, more = managed, [queue.MANAGER_ADDRESS]
        elif n % 20 == 7:
            headers, more = copied, [queue.MANAGER_ADDRESS, "cc1@third.example", "cc2@third.example"]
        body = (
            f'<p>Dear Nora{n + 1} Mad &amp; "q",</p><p>user upload{n + 1} at <a href="{SITE}/login/">lab</a>,'
            f" your password is {secret}</p>{filler}<p>--</p><p>Sig of Lab</p>"
        )
        rows.append(("user_create", now - 60, "Welcome & co", body, user, headers, now - 60))
        owed.append([address, *more])
        if n % 2:
            headers, more = (course_to, ["to1@third.example"]) if n % 20 == 5 else (course, [])
            body = f"<p>Nora: your course {SITE}/course/view.php?id=4</p>{filler}"
            rows.append(("user_added_to_course", now - 60, "Added to course", body, user, headers, now - 60))
            owed.append([address, *more])
    with moodle.connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO mdl_email (templatename, modifiedtime, sent, subject, body, varsreplaced, companyid,"
            " courseid, userid, senderid, headers, due) VALUES (%s, %s, NULL, %s, %s, 1, 1, 4, %s, -20, %s, %s)",
            rows,
        )
    waiting = moodle.rows("SELECT id, templatename FROM mdl_email WHERE id > %s ORDER BY id", [last])
    for (row, template), addresses in zip(waiting, owed, strict=True):
        (made.created if template == "user_create" else made.others).append(row)
        made.recipients.update((row, address) for address in addresses)
    return made


# --- processes ---


def environment(ses: SandboxSES, **settings: object) -> dict[str, str]:
    """What an admin would set: this test's databases, the sandbox as SES, and these settings."""
    server, name = test_settings.SERVER, str(connections["default"].settings_dict["NAME"])
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "offloadsite.settings",
        "DATABASE_URL": server.url(name, *test_settings.APP_ACCOUNT),
        "AWS_ENDPOINT_URL_SESV2": ses.url,
        **{name: str(value) for name, value in settings.items()},
    }


def manage(ses: SandboxSES, *args: str, **settings: object) -> subprocess.Popen[str]:
    """Start `manage.py …`."""
    return subprocess.Popen(
        [sys.executable, "manage.py", *args],
        cwd=ROOT,
        env=environment(ses, **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def report(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a command said with `--json`; it ended well."""
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, (out, errors[-3000:])
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


# --- afterwards ---


def claimed(moodle: Moodle) -> set[int]:
    """Rows that do not wait with IOMAD any more."""
    return {row[0] for row in moodle.rows("SELECT id FROM mdl_email WHERE sent IS NOT NULL")}


def time_passes() -> None:
    """An hour later, as far as leases, intents and retries are concerned."""
    past = timezone.now() - dt.timedelta(hours=1)
    Lease.objects.exclude(token="").update(expires_at=past)
    Claim.objects.filter(state=ClaimState.INTENDED).update(created_at=past)
    Email.objects.exclude(lease="").update(leased_until=past)
    Email.objects.filter(state=EmailState.QUEUED).update(next_try_at=past)


def iomads_cron() -> Counter[tuple[int, str]]:
    """One run of IOMAD's cron over what waits; returns whom it mailed, as (row, address)."""
    mailed: Counter[tuple[int, str]] = Counter()

    def connect() -> Any:
        return test_settings.SERVER.connect(test_settings.MOODLE_DATABASE)

    def mail(sent: dict[str, Any]) -> None:
        mailed[sent["row_id"], sent["address"]] += 1

    cron = SimulatedEmailCron(
        connect,
        prefix="mdl_",
        paramstyle="format",
        lock=mysql_lock(connect, dbname=test_settings.MOODLE_DATABASE, prefix="mdl_"),
        mail=mail,
        mail_seconds=0,
    )
    run = cron.run_queue()
    assert not run.locked_out
    cron.connection.close()
    return mailed
