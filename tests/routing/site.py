"""Rules on the restored site, and Moodle's crons beside them."""

from __future__ import annotations

import time
from typing import Any

from emailoffload.policy.models import RoutingRule
from emailoffload.sandbox.email_cron import SimulatedEmailCron
from emailoffload.sandbox.moodle_cron import SimulatedCron
from tests.conftest import Moodle


def rule(name: str = "rule", **values: Any) -> RoutingRule:
    """A stored rule: on, for the whole site and everybody, unless said otherwise."""
    return RoutingRule.objects.create(name=name, **values)


def reminders(moodle: Moodle) -> None:
    """One run of the plugin's task, at a time when what is soon due is due."""
    cron = SimulatedCron(
        lambda: moodle.server.connect(moodle.database),
        prefix="mdl_",
        paramstyle="format",
        lock=None,
        mail=lambda mail: None,
        mail_seconds=0,
        enrolled=lambda cmid, user: True,
        now=lambda: time.time() + 900,
        start_users=False,
    )
    assert not cron.run_reengagement().aborted


def queue(moodle: Moodle) -> None:
    """One run of the task that mails IOMAD's queue."""
    SimulatedEmailCron(
        lambda: moodle.server.connect(moodle.database),
        prefix="mdl_",
        paramstyle="format",
        lock=None,
        mail=lambda mail: None,
        mail_seconds=0,
    ).run_queue()
