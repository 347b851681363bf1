"""Whatever stands in Moodle's tables: a pass comes to its end, and the rows beside a bad one are handled as ever."""

from __future__ import annotations

import time
from typing import Any

import pytest

from emailoffload.outbox.models import Claim, Email, RowError
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.sources import reasons
from emailoffload.worker import intercept
from tests.conftest import Moodle
from tests.iomad import queue
from tests.reengagement.test_decisions import ACTIVITY, soon

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
BIG, FAR = 2**63 - 1, 10**14
NASTY = "<script>owned()</script>\u202e\x00\x1b[2J'\"`;--\\%s{}"
GIANT = "<p>" + "<b>x</b>" * 400_000
INPROGRESS = ("mdl_reengagement_inprogress", "id")
USER = ("mdl_user", "id")
REMINDERS: list[tuple[str, dict[str, Any]]] = [
    ("row", {"completiontime": BIG}),
    ("row", {"completiontime": -BIG}),
    ("row", {"emailsent": -5}),
    ("row", {"emailsent": 2**15 - 1}),
    ("row", {"userid": BIG}),
    ("user", {"firstname": NASTY[:100], "lastname": NASTY[:100], "city": NASTY[:120]}),
    ("user", {"firstname": "😀" * 100, "lastname": "\u202e" * 100}),
    ("user", {"timezone": NASTY[:100], "lang": "../../etc/passwd"}),
    ("user", {"timezone": "-9999999999"}),
    ("user", {"email": "a@example.org\r\nBcc: everybody@example.net"}),
    ("user", {"email": "<script>@example.org"}),
    ("user", {"firstaccess": BIG, "lastlogin": -BIG, "timecreated": FAR}),
]
ROWS: list[dict[str, Any]] = [
    {"subject": NASTY, "body": NASTY},
    {"subject": "x\r\nBcc: everybody@example.net", "body": "<p>Hello</p>"},
    {"body": GIANT},
    {"modifiedtime": -BIG, "due": FAR * 1000},
    {"courseid": BIG, "senderid": -BIG},
    {"userid": BIG},
    {"companyid": BIG},
    {"headers": "a:999999999:{" * 50},
    {"headers": 'O:8:"stdClass":1:{s:1:"x";R:1;}'},
    {"templatename": NASTY[:100]},
]
LOOK = {"row": "mdl_reengagement_inprogress", "user": "mdl_user"}


def change(moodle: Moodle, table: str, pk: int, values: dict[str, Any]) -> None:
    """Write values as somebody with every right in Moodle's database could."""
    sets = ", ".join(f"{name} = %s" for name in values)
    moodle.execute(f"UPDATE {table} SET {sets} WHERE id = %s", [*values.values(), pk])


@pytest.mark.mariadb
def test_no_reminder_row_and_no_user_ends_a_pass_or_keeps_others_from_being_claimed(
    moodle: Moodle, ses: SandboxSES
) -> None:
    found = soon(moodle, len(REMINDERS) + 2)
    bad, good = found[: len(REMINDERS)], found[len(REMINDERS) :]
    assert len(good) == 2
    for (row, user), (which, values) in zip(bad, REMINDERS, strict=True):
        change(moodle, LOOK[which], row if which == "row" else user, values)
    began = time.monotonic()
    result = intercept.run()
    assert not result.refused
    assert time.monotonic() - began < 20
    claimed = set(Claim.objects.values_list("row_id", flat=True))
    assert {row for row, _ in good} <= claimed
    assert result.claimed + result.errors + sum(result.left.values()) <= len(found) + result.errors
    for email in Email.objects.all():
        assert "\n" not in email.address and "\r" not in email.address and "<" not in email.address
    assert not [each for each in RowError.objects.values_list("detail", flat=True) if "owned" in each]


@pytest.mark.mariadb
@pytest.mark.parametrize("delay", [BIG, -BIG, FAR])
def test_a_delay_that_fits_no_claim_leaves_its_rows_with_moodle_and_ends_no_pass(
    moodle: Moodle, ses: SandboxSES, delay: int
) -> None:
    rows = [row for row, _ in soon(moodle)]
    change(moodle, "mdl_reengagement", ACTIVITY, {"emaildelay": delay})
    result = intercept.run()
    assert (result.refused, result.left) == ("", {reasons.BROKEN_ROW: 3})
    assert sorted(RowError.objects.values_list("row_id", flat=True)) == rows


@pytest.mark.mariadb
def test_no_activity_however_giant_or_odd_keeps_another_from_being_claimed(
    moodle: Moodle, ses: SandboxSES
) -> None:
    (row, _), *others = soon(moodle)
    columns = [line[0] for line in moodle.rows("SHOW COLUMNS FROM mdl_reengagement")]
    values = moodle.rows("SELECT * FROM mdl_reengagement WHERE id = %s", [ACTIVITY])[0]
    odd = dict(zip(columns, values, strict=True)) | {
        "name": NASTY[:200],
        "emailcontent": GIANT,
        "emailsubject": NASTY[:200],
    }
    odd.pop("id")
    module = moodle.insert("mdl_reengagement", **odd)
    change(moodle, "mdl_reengagement_inprogress", row, {"reengagement": module})
    result = intercept.run()
    assert not result.refused
    assert {row for row, _ in others} <= set(Claim.objects.values_list("row_id", flat=True))


@pytest.mark.mariadb
def test_no_row_of_iomads_queue_ends_a_pass_or_keeps_others_from_being_claimed(
    moodle: Moodle, ses: SandboxSES
) -> None:
    queue.empty(moodle)
    first = queue.put(moodle)
    bad = {queue.put(moodle, **values) for values in ROWS}
    last = queue.put(moodle)
    result = intercept.run(source="iomad_queue")
    assert not result.refused
    claimed = set(Claim.objects.values_list("row_id", flat=True))
    assert {first, last} <= claimed <= {first, last, *bad}
    for email in Email.objects.all():
        assert "\n" not in email.subject and "\r" not in email.subject
    assert not [
        each for each in RowError.objects.values_list("detail", flat=True) if "owned" in each or "Bcc" in each
    ]
