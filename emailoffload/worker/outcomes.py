"""What follows from the outcome of an attempt (design §6, the table)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.utils.translation import gettext_noop as _

from emailoffload.delivery import errors
from emailoffload.outbox.models import Email
from emailoffload.outbox.states import EmailState
from emailoffload.outbox.transitions import Ended
from emailoffload.worker.senders import Job, Result

if TYPE_CHECKING:
    from emailoffload.worker.dispatch import DispatchResult

DEADLINE = "deadline"
IDENTITY = "identity"
"""Reason of mails whose sender's identity SES has not verified."""
REFUSED = "refused"
"""Reason of mails that SES refused with an error that has no words here; the attempt has its code."""
FIRST_DELAY = {"not_transmitted": 2.0, "throttled": 1.0, "identity": 30.0}
LONGEST_DELAY = 60.0
ACCOUNT_DELAY = 30.0


def delay(kind: str, attempt: int) -> timedelta:
    """How long to wait after `attempt` failed tries: doubled each time, and spread."""
    seconds = min(LONGEST_DELAY, FIRST_DELAY[kind] * 2 ** min(attempt - 1, 10))
    return timedelta(seconds=seconds * random.uniform(0.5, 1.5))  # noqa: S311


def follow(result: Result, now: datetime) -> Ended:
    """Where an email goes after this result, and what its attempt's row says."""
    job, outcome, at = result.job, result.outcome, result.at
    if outcome is None:
        return Ended(
            job.email_id, EmailState.QUEUED, "not_transmitted", at, now, code="stopped",
            message=_('The dispatcher was stopped before it sent this.'),
        )  # fmt: skip
    state, reason, next_try = EmailState.QUEUED, outcome.code, now
    match outcome.kind:
        case "accepted":
            state, reason = EmailState.ACCEPTED, ""
        case "unknown":
            state = EmailState.UNCERTAIN
        case "permanent":
            state = EmailState.FAILED
            if outcome.http_status and outcome.code not in errors.PERMANENT:
                reason = REFUSED
        case "account" | "quota":
            reason, next_try = f"account:{outcome.code}", now + timedelta(seconds=ACCOUNT_DELAY)
        case "not_transmitted" | "throttled" | "identity":
            if outcome.kind == "identity":
                reason = IDENTITY
            if now >= job.deadline_at:
                state, reason = EmailState.FAILED, reason if outcome.kind == "identity" else DEADLINE
            else:
                # The last try is at the deadline itself.
                next_try = min(now + delay(outcome.kind, job.attempt), job.deadline_at)
    return Ended(
        job.email_id, state, outcome.kind, at, next_try, reason, outcome.code, outcome.message,
        outcome.message_id, outcome.request_id, outcome.http_status,
    )  # fmt: skip


def count(ended: Sequence[Ended], result: DispatchResult) -> None:
    """Add these ends to the pass's counts."""
    for item in ended:
        match item.state:
            case EmailState.ACCEPTED:
                result.sent += 1
            case EmailState.UNCERTAIN:
                result.uncertain += 1
            case EmailState.FAILED:
                result.failed += 1
            case EmailState.QUEUED if item.code != "stopped":
                result.retried += 1


def postpone(jobs: Sequence[Job], reason: str, lease: str, now: datetime) -> int:
    """Moodle could not be asked about these: ask again soon, later the longer it lasts; returns how many."""
    overdue = max((now - job.due_at).total_seconds() for job in jobs)
    wait = timedelta(seconds=min(LONGEST_DELAY, max(5.0, overdue / 2)))
    ours = Email.objects.filter(pk__in=[job.email_id for job in jobs], state=EmailState.QUEUED, lease=lease)
    return ours.update(next_try_at=now + wait, reason=reason, lease="", leased_until=None)
