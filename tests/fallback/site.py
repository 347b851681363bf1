"""Due reminders and queue mails that are claimed, and what a failing cloud makes of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from emailoffload.outbox.models import Claim, Email
from emailoffload.policy.models import CopyRule
from emailoffload.worker import intercept
from tests.claims.queue import queued
from tests.conftest import Moodle
from tests.reengagement.test_decisions import soon

REMINDERS = "SELECT id, emailsent, emailtime, completed FROM mdl_reengagement_inprogress ORDER BY id"
QUEUE = "SELECT id, sent, modifiedtime FROM mdl_email ORDER BY id"
Rows = list[tuple[Any, ...]]


def claimed(
    moodle: Moodle,
    count: int = 1,
    *,
    policy: str = "moodle",
    source: str = "reengagement",
    copies: int = 0,
    due: int = -60,
) -> Rows:
    """Have `count` rows that were due a minute ago claimed under this policy; returns the rows as they were."""
    for number in range(copies):
        CopyRule.objects.create(name=f"copy {number}", kind="fixed", value=f"hr{number}@example.org")
    if source == "reengagement":
        soon(moodle, count, due=due)
    else:
        moodle.execute("UPDATE mdl_email SET sent = 1 WHERE sent IS NULL")
        queued(moodle, count, due=due)
    before = rows(moodle, source)
    result = intercept.run(source=source)
    assert result.claimed == count, result.left
    Claim.objects.update(fallback=policy)
    assert rows(moodle, source) != before
    return before


def rows(moodle: Moodle, source: str = "reengagement") -> Rows:
    """What Moodle's rows hold."""
    return moodle.rows(REMINDERS if source == "reengagement" else QUEUE)


def deadline_over(**changes: Any) -> None:
    """Let the deadline of every mail be over, a moment ago."""
    now = timezone.now()
    Email.objects.update(deadline_at=now - timedelta(seconds=1), next_try_at=now, **changes)


def tried(reason: str = "EndpointConnectionError") -> None:
    """The same, after a try in which nothing was transmitted."""
    deadline_over(attempts=1, reason=reason)


def ends() -> list[tuple[str, str]]:
    """(state, reason) of every mail, in order."""
    return list(Email.objects.order_by("pk").values_list("state", "reason"))
