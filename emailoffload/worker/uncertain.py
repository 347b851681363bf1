"""Mails that may have left or not: what is known of them, and what follows at their deadline (design §6).

An uncertain mail is settled by evidence, by a person (`actions.settle`) or, UNCERTAIN_AFTER_SECONDS after it became
uncertain, by UNCERTAIN_POLICY: `hold` leaves it to a person; `resend` sends it once more through SES and `smtp` once
more by SMTP, which may be a second copy. The policy acts once on a mail. Where that try has no answer either,
or the mail is not owed any more, it stays uncertain and a person decides.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, cast

from django.conf import settings
from django.db import transaction
from django.db.models import Count
from django.utils import timezone

from emailoffload.delivery import health, smtp
from emailoffload.outbox import switches, transitions
from emailoffload.outbox.models import Attempt, AuditEntry, Claim, Email
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.worker import eligibility, smtp_route, supply

S = EmailState
BATCH = 500
"""Mails looked at by one pass."""
ASK_AGAIN = timedelta(minutes=5)
"""When Moodle is asked again about a mail, where it could not be asked."""
NEVER = timedelta(days=3650)
"""The policy does not act on a mail: its `next_try_at` lies so far away."""

Next = Literal["wait", "hold", "resend", "smtp"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of an uncertain mail: until when more is waited for, and how many of its tries may have left."""

    until: datetime
    may_have_left: int


def deadline(email: Email) -> datetime:
    """Until when evidence on an uncertain mail is waited for."""
    return email.state_at + timedelta(seconds=settings.UNCERTAIN_AFTER_SECONDS)


def ruled_out(email: Email) -> bool:
    """Whether the policy has looked at this uncertain mail and leaves it to a person."""
    return email.next_try_at > timezone.now() + NEVER / 2


def evidence(emails: Collection[Email]) -> dict[int, Evidence]:
    """What is known of these uncertain mails, by id; one query. All that decides about them is asked for here."""
    tries = Attempt.objects.filter(email__in=[email.pk for email in emails], outcome=transitions.NO_ANSWER)
    left = dict(tries.order_by().values_list("email_id").annotate(Count("pk")))
    return {email.pk: Evidence(deadline(email), left.get(email.pk, 0)) for email in emails}


def decide(known: Evidence, now: datetime) -> Next:
    """What is to be done with a mail of which this is known: a second try is the last."""
    if now < known.until:
        return "wait"
    policy = cast(Next, settings.UNCERTAIN_POLICY)
    return "hold" if known.may_have_left > 1 else policy


def run() -> dict[str, int]:
    """Have the policy act on the mails whose deadline is over; returns how many go which way.

    Nothing is done while the way is closed: sending paused, no SMTP server, SES's breaker open. Raises database
    errors.
    """
    policy = cast(Next, settings.UNCERTAIN_POLICY)
    nothing = {"uncertain_resent": 0}
    if policy == "hold" or switches.pause().sends:
        return nothing
    if not smtp.configured() if policy == "smtp" else health.breaker() is not None:
        return nothing
    now = timezone.now()
    late = now - timedelta(seconds=settings.UNCERTAIN_AFTER_SECONDS)
    # The index on state and next try ends the look early: what the policy is done with has its next try far ahead.
    due = Email.objects.filter(state=S.UNCERTAIN, next_try_at__lte=now, state_at__lte=late)
    emails = list(due.order_by("next_try_at")[:BATCH])
    known = evidence(emails)
    todo = [email.pk for email in emails if decide(known[email.pk], now) == policy]
    moved = _send_once_more(_owed(todo, now), policy, now)
    _put_off([email.pk for email in emails if email.pk not in moved], now + NEVER, now)
    return {"uncertain_resent": len(moved)}


def _owed(ids: Sequence[int], now: datetime) -> set[int]:
    """Those that Moodle still owes; the others would leave `uncertain` for a state that says that nothing left."""
    # With a deadline to come, so that nothing is sent where Moodle cannot be asked.
    jobs = [replace(job, deadline_at=now + ASK_AGAIN) for job in supply.load(ids)]
    checked = eligibility.check(jobs, now, eligibility.Sources())
    _put_off([job.email_id for later in checked.postponed.values() for job in later], now + ASK_AGAIN, now)
    return {job.email_id for job in checked.send}


def _put_off(ids: Collection[int], until: datetime, now: datetime) -> None:
    Email.objects.filter(pk__in=ids, state=S.UNCERTAIN, next_try_at__lte=now).update(next_try_at=until)


def _send_once_more(ids: Collection[int], policy: Next, now: datetime) -> set[int]:
    """Queue those whose claim is still ours; returns their ids."""
    with transaction.atomic():
        # Claims before their emails, as a hand-back locks them.
        of = Email.objects.filter(pk__in=ids).values_list("claim_id", flat=True)
        claims = Claim.objects.select_for_update().filter(pk__in=set(of), state=ClaimState.CLAIMED)
        ours = list(claims.order_by("pk").values_list("pk", flat=True))
        mails = Email.objects.select_for_update().filter(pk__in=ids, claim__in=ours, state=S.UNCERTAIN)
        mine = list(mails.values_list("pk", flat=True))
        if policy == "smtp":
            Email.objects.filter(pk__in=mine).update(**smtp_route.set_aside(now))
        else:
            soon = now + timedelta(seconds=settings.SEND_DEADLINE_SECONDS)
            transitions.move(
                mine, S.QUEUED, now=now, route="ses", reason="", detail="", next_try_at=now, deadline_at=soon
            )
        AuditEntry.objects.bulk_create(
            AuditEntry(
                actor="worker",
                action="uncertain_policy",
                object_type="email",
                object_id=str(pk),
                details={"policy": policy},
            )
            for pk in mine
        )
    return set(mine)
