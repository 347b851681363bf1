"""Rows of IOMAD's queue in the real site's database: company 1, its user 15 and its manager 16."""

from __future__ import annotations

import time
from typing import Any

from emailoffload.moodle.formatting.phpserialize import PhpObject
from emailoffload.sources.iomad_queue import scan
from emailoffload.sources.iomad_queue.source import QueueSource
from emailoffload.sources.protocol import Candidate, Clock, Decision, RenderedMail
from tests.conftest import Moodle
from tests.iomad.php import write

USER, MANAGER, COMPANY, COURSE, TOP = 15, 16, 1, 4, 1
"""Ids on the site; TOP is the company's own department."""
USER_ADDRESS, MANAGER_ADDRESS, NOREPLY = "iom1@lab.example", "iommgr@lab.example", "noreply@lab.example"
COMPANY_NAME = 'Lab & Co "Ltd"'
PLAIN_USERS = range(17, 60)
"""Learners that belong to no company."""


def template(**values: Any) -> dict[str, Any]:
    """A stored template with nobody but the user, as IOMAD stores it."""
    stored: dict[str, Any] = {
        "id": "9", "companyid": "1", "name": "user_create", "lang": "en", "disabled": 0,
        "disabledmanager": "1", "disabledsupervisor": "1", "emailto": "", "emailtoother": "", "emailcc": "",
        "emailccother": "", "emailfrom": "", "emailfromother": "", "emailreplyto": "",
        "emailreplytoother": "", "emailfromothername": "",
    }  # fmt: skip
    return stored | values


def headers(*lines: str, more: dict[Any, Any] | None = None, **values: Any) -> str:
    """The column `headers` with these lines, more keys and a template of these values."""
    stored: dict[Any, Any] = dict(enumerate(lines))
    return write({**stored, **(more or {}), "template": PhpObject(template(**values))})


def put(moodle: Moodle, **values: Any) -> int:
    """Put one row into the queue, due ten seconds ago; returns its id."""
    now = int(time.time())
    row = {
        "templatename": "user_create", "modifiedtime": now - 10, "sent": None, "subject": "Welcome",
        "body": "<p>Hello</p>", "varsreplaced": 1, "companyid": COMPANY, "courseid": COURSE, "userid": USER,
        "senderid": -20, "headers": headers(), "due": now - 10,
    }  # fmt: skip
    return moodle.insert("mdl_email", **(row | values))


def empty(moodle: Moodle) -> None:
    """Nothing waits and nothing was sent."""
    moodle.execute("DELETE FROM mdl_email")


def clock(*, margin: int = 30) -> Clock:
    """The times of a pass that begins now."""
    return Clock(int(time.time()), margin=margin, cron_period=300)


def decide(*, parity: str = "default") -> dict[int, Decision]:
    """What a pass decides about every waiting row, by its id."""
    now = int(time.time())
    source = QueueSource(parity=parity)
    rows = list(scan.due_rows(now + 900))
    found = source.decide(rows, clock())
    assert [each.row_id for each in found] == [row.id for row in rows]
    return {each.row_id: each for each in found}


def candidate(decision: Decision) -> Candidate:
    """The candidate of a row that is to be claimed."""
    assert decision.candidate is not None, (decision.reason, decision.detail)
    return decision.candidate


def mails(*, parity: str = "default") -> tuple[RenderedMail, ...]:
    """The mails of the only waiting row."""
    (decision,) = decide(parity=parity).values()
    return candidate(decision).mails


def addresses(*, parity: str = "default") -> list[str]:
    """Whom the only waiting row goes to, in order."""
    return [mail.to_address for mail in mails(parity=parity)]
