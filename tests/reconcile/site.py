"""Claims of both sources on the restored site, Moodle's crons beside them, and what a reconciliation says."""

from __future__ import annotations

import html
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from emailoffload.outbox.models import Claim, Email
from emailoffload.outbox.reconciliation import ReconcileFinding
from emailoffload.sandbox.email_cron import SimulatedEmailCron
from emailoffload.sandbox.moodle_cron import SimulatedCron
from emailoffload.worker import dispatch, reconcile
from tests.conftest import Moodle
from tests.fallback.site import claimed

Mail = dict[str, Any]
TASKS = {"reengagement": r"mod_reengagement\task\cron_task", "iomad_queue": r"local_email\task\cron_task"}


def sent(moodle: Moodle, count: int = 2, *, source: str = "reengagement") -> list[int]:
    """Rows that we claimed and whose mails have left."""
    claimed(moodle, count, source=source)
    assert dispatch.run(until_empty=True).sent == count
    return list(Claim.objects.order_by("row_id").values_list("row_id", flat=True))


def notify(moodle: Moodle, shift: int = 0) -> Callable[[Mail], None]:
    """What `message_send` stores for each mail of the plugin to a learner (facts §5.2)."""

    def stored(mail: Mail) -> None:
        if mail["role"] != "user" or mail.get("source"):
            return
        ours = Email.objects.filter(claim__row_id=mail["row_id"], role="user").first()
        notification(moodle, mail["user_id"], ours.subject if ours else "Another", mail["timesent"] + shift)

    return stored


def notification(moodle: Moodle, user_id: int, subject: str, at: int) -> None:
    """One notification of the plugin, with its subject as Moodle escapes it."""
    moodle.insert(
        "mdl_notifications",
        useridfrom=-20,
        useridto=user_id,
        subject=html.escape(subject, quote=True),
        component="mod_reengagement",
        eventtype="mod_reengagement",
        timecreated=at,
    )


def logged(moodle: Moodle, source: str, start: float, end: float, *, failed: bool = False) -> None:
    """A run in Moodle's log of tasks."""
    moodle.insert(
        "mdl_task_log",
        type=0,
        component=TASKS[source].split("\\")[0],
        classname=TASKS[source],
        userid=0,
        timestart=start,
        timeend=end,
        dbreads=0,
        dbwrites=0,
        result=int(failed),
        output="",
    )


def cron(
    moodle: Moodle,
    source: str = "reengagement",
    *,
    later: int = 0,
    mail: Callable[[Mail], None] | None = None,
) -> None:
    """One run of Moodle's task, `later` seconds from now; it notifies and logs as Moodle does."""
    begun = time.time() + later
    common: dict[str, Any] = {
        "prefix": "mdl_",
        "paramstyle": "format",
        "lock": None,
        "mail": mail or notify(moodle),
        "mail_seconds": 0,
        "now": lambda: time.time() + later,
    }
    if source == "reengagement":
        run = SimulatedCron(
            lambda: moodle.server.connect(moodle.database),
            enrolled=lambda cmid, user: True,
            start_users=False,
            **common,
        ).run_reengagement()
        assert not run.aborted
    else:
        SimulatedEmailCron(lambda: moodle.server.connect(moodle.database), **common).run_queue()
    logged(moodle, source, begun, time.time() + later)


def verdicts(days: int | None = None) -> list[tuple[str, str]]:
    """Reconcile everything; the open findings as (verdict, detail), by row."""
    result = reconcile.run(days, whole=True)
    assert (result.complete, result.refused, result.busy) == (True, "", False)
    rows = ReconcileFinding.objects.filter(closed_at__isnull=True)
    found = list(rows.order_by("claim__row_id", "claim_id").values_list("verdict", "detail"))
    assert sum(result.counts.values()) == result.claims
    assert len(found) == result.claims - result.counts["agrees"]
    return found


def ago(moodle: Moodle, seconds: int) -> None:
    """Let everything have happened earlier: the claims, and the times that their rows hold."""
    for claim in Claim.objects.all():
        for values in (claim.before, claim.after):
            for name in ("emailtime", "modifiedtime", "sent"):
                if values.get(name):
                    values[name] -= seconds
        back = timedelta(seconds=seconds)
        claim.due_at -= back
        claim.created_at -= back
        claim.claimed_at = claim.claimed_at - back if claim.claimed_at else None
        claim.settled_at = claim.settled_at - back if claim.settled_at else None
        claim.completiontime -= seconds if claim.completiontime else 0
        claim.save()
        if claim.source == "reengagement":
            moodle.execute(
                "UPDATE mdl_reengagement_inprogress SET emailtime = emailtime - %s WHERE id = %s",
                [seconds, claim.row_id],
            )
        else:
            moodle.execute(
                "UPDATE mdl_email SET sent = sent - %s, modifiedtime = modifiedtime - %s, due = due - %s WHERE id = %s",
                [seconds, seconds, seconds, claim.row_id],
            )
