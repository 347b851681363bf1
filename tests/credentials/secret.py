"""A password that a mail carries, every form in which it could turn up, and where to look for it."""

from __future__ import annotations

import base64
import html
import time
from typing import Any

from django.db import connection

from emailoffload.outbox import intents
from emailoffload.outbox.models import Email
from emailoffload.sources.protocol import Candidate, RenderedMail

CORE = "Kq7vWolkenbruch42"
PASSWORD = f'Zü"&<{CORE}>=/+'
"""Its middle looks the same in text, JSON, HTML, addresses and quoted-printable, however often it is escaped."""


def forms() -> list[bytes]:
    """The password's middle as it is, in hexadecimal, in UTF-16, and within base64 of a longer text."""
    raw = CORE.encode()
    found = {raw, raw.hex().encode(), raw.hex().upper().encode(), CORE.encode("utf-16-le")}
    for before in range(3):
        # The first and the last characters depend on the neighbours.
        found.add(base64.b64encode(b"x" * before + raw)[4:-4])
    return sorted(found)


def found_in(data: bytes | str) -> list[bytes]:
    """The forms of the password that are in these data."""
    data = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
    return [form for form in forms() if form in data]


def store(*, source: str = "iomad_queue", template: str = "user_create", sensitive: bool = True) -> Email:
    """A claimed row of IOMAD's queue whose mail says the password, as an interceptor leaves it."""
    now = int(time.time())
    mail = RenderedMail(
        role="user",
        to_address="nora@example.org",
        to_name="Nora Newcomer",
        from_address="noreply@school.example",
        from_name="School",
        reply_to_address="noreply@school.example",
        reply_to_name="Do not reply",
        subject="Your new account",
        text=f"Dear Nora,\nyour password is {PASSWORD}\n",
        html=f"<p>Dear Nora, your password is <b>{html.escape(PASSWORD)}</b></p>",
        recipient_id=3,
        sensitive=sensitive,
    )
    candidate = Candidate(
        source=source, row_id=4711, before={"sent": None, "modifiedtime": now - 60},
        after={"sent": now - 1, "modifiedtime": now - 1}, under_lock=True, due=now - 60, user_id=3,
        user_name="Nora Newcomer", user_email="nora@example.org", activity_id=0, activity_name="", cmid=0,
        course_id=0, course_name="", ordinal=1, is_last=True, completiontime=0, company_id=1,
        company_name="Northwind", mails=(mail,), template=template,
    )  # fmt: skip
    claim = intents.intend([candidate], None).claims[4711]
    intents.settle([claim.pk], [])
    return Email.objects.get(claim_id=claim.pk)


def database_dump() -> bytes:
    """Every value of every column of every table of our database, one after the other."""
    values: list[bytes] = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            values += [_bytes(value) for row in cursor.fetchall() for value in row]
    return b"\n".join(values)


def _bytes(value: Any) -> bytes:
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else str(value).encode()
