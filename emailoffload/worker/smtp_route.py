"""The SMTP route's part of the outbox: mails set aside for it, and the sending of them.

A mail that is to go by SMTP is `queued`, carries the route `smtp` and the lease WANTED: no dispatcher takes it, and
it stays so over any crash. Sending takes it from there with a lease of its own, marks it `sending` with an
attempt before the first byte leaves, and records the answer, one mail at a time: a process that is killed
leaves one mail *uncertain*, and the others set aside.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet, Value
from django.db.models.functions import Concat
from django.utils import timezone

from emailoffload.delivery import smtp
from emailoffload.delivery.errors import Outcome
from emailoffload.outbox import content, hourchanges, switches, transitions
from emailoffload.outbox.models import Claim, Content, Email
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.outbox.transitions import Ended
from emailoffload.worker import eligibility, killpoints, lease, stopping
from emailoffload.worker.patience import Patience
from emailoffload.worker.senders import Job

S = EmailState
ROUTE = "smtp"
WANTED = "smtp-wanted"
HELD = "held:"
"""Before the cause, in the reason of a mail that waits for a person; `dashboard.reasons` knows it too."""
LONGEST_CAUSE = 50
FOREVER = timedelta(days=3650)
AGAIN = timedelta(seconds=50)
"""How long a mail waits after a try that transmitted nothing: until the next pass."""
BATCH = 50
DOWN = frozenset({"account", "not_transmitted"})
"""Outcomes that say nothing about this mail: the server takes none now."""


def want(causes: dict[int, str], now: datetime, *, only_waiting: bool = True) -> set[int]:
    """Set emails aside for SMTP, each with its cause (a reason code, by email id); returns the ids of those that are.

    Passed over are mails that somebody holds, and those whose claim is not ours any more. With `only_waiting`
    a failed mail must still have the reason that it was judged by, which is then its cause.
    """
    done: set[int] = set()
    with transaction.atomic():
        # Claims before their emails, as a hand-back locks them.
        of = Email.objects.filter(pk__in=causes).values_list("claim_id", flat=True)
        claims = Claim.objects.select_for_update().filter(pk__in=set(of), state=ClaimState.CLAIMED)
        ours = list(claims.order_by("pk").values_list("pk", flat=True))
        mails = Email.objects.select_for_update().filter(
            pk__in=causes, claim__in=ours, state__in=[S.QUEUED, S.FAILED], lease=""
        )
        by_cause: dict[str, list[int]] = {}
        for pk, state, reason in mails.values_list("pk", "state", "reason"):
            if state == S.FAILED and only_waiting and reason != causes[pk]:
                continue
            by_cause.setdefault(causes[pk][:LONGEST_CAUSE], []).append(pk)
        for cause, ids in by_cause.items():
            done |= set(ids)
            Email.objects.filter(pk__in=ids).update(**set_aside(now), reason=cause)
        hourchanges.emails(done)
    return done


def set_aside(now: datetime) -> dict[str, Any]:
    """The columns of a mail that is set aside for SMTP."""
    return {
        "state": S.QUEUED,
        "state_at": now,
        "route": ROUTE,
        "lease": WANTED,
        "leased_until": now + FOREVER,
        "next_try_at": now,
        "deadline_at": now + timedelta(seconds=settings.SEND_DEADLINE_SECONDS),
    }


def wanted() -> QuerySet[Email]:
    """Mails that are set aside for SMTP."""
    return Email.objects.filter(state=S.QUEUED, lease=WANTED)


def taken() -> QuerySet[Email]:
    """Mails of this route that a pass has taken, and not given back in time."""
    return Email.objects.filter(
        state=S.QUEUED,
        route=ROUTE,
        next_try_at__lte=timezone.now(),
        lease__gt="",
        leased_until__lt=timezone.now(),
    )


def hold_expired(now: datetime, detail: str, *, all_of_them: bool = False) -> int:
    """Leave mails that SMTP did not take until their deadline to a person; returns how many.

    `all_of_them`: whatever their deadline, because there is no SMTP route any more.
    """
    late = wanted() if all_of_them else wanted().filter(deadline_at__lte=now)
    ids = list(late.values_list("pk", flat=True)[:2000])
    with transaction.atomic():
        held = (
            wanted()
            .filter(pk__in=ids)
            .update(
                state=S.FAILED,
                state_at=now,
                reason=Concat(Value(HELD), F("reason")),
                detail=detail[:500],
                lease="",
                leased_until=None,
            )
        )
        hourchanges.emails(ids)
    return held


@dataclass(frozen=True, slots=True)
class _Letter:
    """One mail that is ours to send: what the recheck needs, its cause, and until when SMTP is tried."""

    job: Job
    cause: str
    deadline_at: datetime


class Sending:
    """One pass over what is set aside. `counts`: smtp, uncertain, failed, suppressed, held, smtp_retried."""

    def __init__(self, held: lease.Held, until: float) -> None:
        self.held = held
        self.until = until
        """When the pass ends (monotonic)."""
        self.token = uuid.uuid4().hex
        self.patience = Patience()
        self.counts: Counter[str] = Counter()
        self.problem: Outcome | None = None
        """Why the server takes nothing now."""

    def go(self) -> None:
        """Send until nothing is left, the time is over, or the server takes nothing."""
        take_back()
        sources = eligibility.Sources()
        with smtp.Connection() as server:
            while self._goes_on() and not switches.pause().sends:
                ids = self._take()
                if not ids:
                    break
                try:
                    for letter in self._checked(ids, sources):
                        if not self._goes_on():
                            break
                        self._send(letter, server, ids)
                finally:
                    give_back(ids, self.token)
        if self.problem:
            self.counts["held"] += hold_expired(timezone.now(), self.problem.message)

    def _goes_on(self) -> bool:
        over = stopping.requested() or time.monotonic() >= self.until
        return not over and self.problem is None and self.held.beat()

    def _until(self) -> datetime:
        """No dialogue with a server lasts longer: a dozen answers, each waited for as long as the setting allows."""
        return timezone.now() + timedelta(
            seconds=max(settings.LEASE_SECONDS, 12 * settings.SMTP_TIMEOUT_SECONDS)
        )

    def _take(self) -> list[int]:
        now = timezone.now()
        due = wanted().filter(next_try_at__lte=now).order_by("next_try_at")
        ids = list(due.values_list("pk", flat=True)[:BATCH])
        if ids and wanted().filter(pk__in=ids).update(lease=self.token, leased_until=self._until()) != len(
            ids
        ):
            ids = list(Email.objects.filter(pk__in=ids, lease=self.token).values_list("pk", flat=True))
        return ids

    def _checked(self, ids: Sequence[int], sources: eligibility.Sources) -> list[_Letter]:
        """Those that may still leave; the others are settled. Moodle is asked as before any send."""
        now = timezone.now()
        letters = _load(ids, now)
        gone = set(ids) - set(letters)
        self.counts["failed"] += transitions.move(
            gone, S.FAILED, now=now, lease=self.token, reason="content_missing"
        )
        checked = eligibility.check([letter.job for letter in letters.values()], now, sources)
        for reason, barred in checked.suppressed.items():
            self.counts["suppressed"] += transitions.move(
                [job.email_id for job in barred], S.SUPPRESSED, now=now, lease=self.token, reason=reason
            )
        later = [job.email_id for jobs in checked.postponed.values() for job in jobs]
        give_back(later, self.token, now + AGAIN)
        return [letters[job.email_id] for job in checked.send]

    def _send(self, letter: _Letter, server: smtp.Connection, ids: Sequence[int]) -> None:
        """One mail: mark, transmit, record. Nothing is marked while there is no connection."""
        job = letter.job
        self.problem = server.open()
        if self.problem:
            self.counts["smtp_retried"] += 1
            give_back(ids, self.token, timezone.now() + AGAIN)
            return
        try:
            parts = content.open_body(job.key_id, job.body)
        except content.ContentError as error:
            transitions.move(
                [job.email_id], S.FAILED, now=timezone.now(), lease=self.token, reason=error.code,
                detail=str(error)[:500],
            )  # fmt: skip
            self.counts["failed"] += 1
            return
        transitions.extend(ids, self.token, self._until())
        now = timezone.now()
        item = [(job.email_id, job.attempt)]
        if not transitions.mark_sending(
            item, self.token, self.held.holder, now=now, until=self._until(), route=ROUTE
        ):
            return
        killpoints.reached("smtp_before_send")
        outcome = server.send(parts, job.ref)
        killpoints.reached("smtp_after_send")
        if outcome.kind in DOWN:
            self.problem = outcome
        killpoints.reached("smtp_before_record")
        self._record(letter, outcome)

    def _record(self, letter: _Letter, outcome: Outcome) -> None:
        now = timezone.now()
        pk = letter.job.email_id
        state, reason, next_try = S.QUEUED, letter.cause, now
        match outcome.kind:
            case "accepted":
                state = S.SENT_SMTP
                self.counts["smtp"] += 1
            case "unknown":
                state, reason = S.UNCERTAIN, outcome.code
                self.counts["uncertain"] += 1
            case "permanent":
                state, reason = S.FAILED, outcome.code
                self.counts["failed"] += 1
            case _ if now >= letter.deadline_at:
                state, reason = S.FAILED, f"{HELD}{letter.cause}"
                self.counts["held"] += 1
            case _:
                next_try = now + AGAIN
                self.counts["smtp_retried"] += 1
        ended = Ended(
            pk, state, outcome.kind, now, next_try, reason, outcome.code, outcome.message, outcome.message_id
        )

        def write() -> None:
            with transaction.atomic():
                if state == S.SENT_SMTP:
                    # That the server took it is a fact, also where recovery has meanwhile called it uncertain.
                    transitions.move(
                        [pk],
                        S.SENT_SMTP,
                        now=now,
                        accepted_at=now,
                        reason=letter.cause,
                        detail="",
                        route=ROUTE,
                    )
                transitions.record([ended], self.token, self.held.holder, now=now)
                if state == S.QUEUED:
                    # In the same transaction: no dispatcher sees it without a lease.
                    back = Email.objects.filter(pk=pk, state=S.QUEUED, lease="", route=ROUTE)
                    back.update(lease=WANTED, leased_until=now + FOREVER)

        self.patience.again(write)


def take_back() -> int:
    """Set aside again what a pass that died had taken; returns how many."""
    ids = list(taken().values_list("pk", flat=True)[:2000])
    return taken().filter(pk__in=ids).update(lease=WANTED, leased_until=timezone.now() + FOREVER)


def give_back(ids: Collection[int], token: str, next_try_at: datetime | None = None) -> None:
    """Set aside again what this pass has taken and not sent."""
    later = {} if next_try_at is None else {"next_try_at": next_try_at}
    mine = Email.objects.filter(pk__in=ids, state=S.QUEUED, lease=token)
    mine.update(lease=WANTED, leased_until=timezone.now() + FOREVER, **later)


def _load(ids: Sequence[int], now: datetime) -> dict[int, _Letter]:
    """What sending these needs, in order. The recheck is told that their deadline is over, which it was for SES."""
    rows = Content.objects.filter(email_id__in=ids).values_list(
        "email_id", "email__claim_id", "email__source", "email__role", "email__ref", "email__attempts",
        "email__due_at", "email__deadline_at", "email__created_at", "key_id", "body", "email__resend_of_id",
        "email__reason",
    )  # fmt: skip
    found = {
        pk: _Letter(
            Job(pk, claim_id, source, role, ref.hex, attempts + 1, due_at, now, created_at, key_id, bytes(body),
                original is not None),
            cause,
            deadline_at,
        )
        for pk, claim_id, source, role, ref, attempts, due_at, deadline_at, created_at, key_id, body, original,
            cause in rows
    }  # fmt: skip
    return {pk: found[pk] for pk in ids if pk in found}
