"""Mails that may have left or not: what is known of them, and what follows at their deadline (design §6).

An event of SES's settles an uncertain mail at once (`feedback.inbox`), and so does a person (`actions.settle`). At its
deadline, UNCERTAIN_AFTER_SECONDS after it became uncertain:

1. Where SES's silence shows that SES took none of its tries (`feedback.evidence`), it is sent once more through SES,
   whatever the policy. The new try is not covered by that evidence: it would need evidence of its own.
2. Otherwise UNCERTAIN_POLICY decides: `hold` leaves it to a person; `resend` sends it once more through SES and `smtp`
   once more by SMTP, which may be a second copy. The policy acts once on a mail.

Where neither acts, or the mail is not owed any more, it stays uncertain and a person decides.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, cast

from django.conf import settings
from django.db import transaction
from django.db.models import Count
from django.utils import timezone

from emailoffload.delivery import health, smtp
from emailoffload.feedback.evidence import NotTaken, evidence_comes, no_send_event
from emailoffload.outbox import hourchanges, switches, transitions
from emailoffload.outbox.models import Attempt, AuditEntry, Claim, Email
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.worker import eligibility, smtp_route, supply

S = EmailState
BATCH = 500
"""Mails looked at by one pass."""
ASK_AGAIN = timedelta(minutes=5)
"""When Moodle is asked again about a mail, where it could not be asked."""
LOOK_AGAIN = timedelta(hours=1)
"""When evidence is looked for again, after the deadline: the queue of events may have been behind."""
LATE_EVIDENCE = timedelta(days=2)
"""How long after the deadline evidence is looked for; no mail is owed for longer."""
NEVER = timedelta(days=3650)
"""Nothing acts on a mail by itself: its `next_try_at` lies so far away."""

Next = Literal["wait", "hold", "resend", "smtp"]
WAYS: tuple[Next, ...] = ("resend", "smtp")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of an uncertain mail."""

    until: datetime
    """More is waited for until then."""
    may_have_left: int
    """How many of its tries have no answer."""
    not_taken: NotTaken | None = None
    """Why SES took none of them, where that shows."""


def deadline(email: Email) -> datetime:
    """Until when evidence on an uncertain mail is waited for."""
    return email.state_at + timedelta(seconds=settings.UNCERTAIN_AFTER_SECONDS)


def ruled_out(email: Email) -> bool:
    """Whether this uncertain mail was looked at for the last time and is left to a person."""
    return email.next_try_at > timezone.now() + NEVER / 2


def evidence(emails: Collection[Email]) -> dict[int, Evidence]:
    """What is known of these uncertain mails, by id; a handful of queries. All that decides is asked for here."""
    silent = no_send_event(list(emails), timezone.now())
    tries = Attempt.objects.filter(email__in=[email.pk for email in emails], outcome=transitions.NO_ANSWER)
    left = dict(tries.order_by().values_list("email_id").annotate(Count("pk")))
    return {
        email.pk: Evidence(deadline(email), left.get(email.pk, 0), silent.get(email.pk)) for email in emails
    }


def decide(known: Evidence, now: datetime) -> Next:
    """What is to be done with a mail of which this is known. The policy's try, a second one, is its last."""
    if now < known.until:
        return "wait"
    if known.not_taken:
        return "resend"
    return "hold" if known.may_have_left > 1 else cast(Next, settings.UNCERTAIN_POLICY)


def run() -> dict[str, int]:
    """Act on the mails whose deadline is over; returns how many are sent once more.

    Nothing is done while sending is paused, or no way is open that could be taken: no SMTP server, SES's breaker open.
    Raises database errors.
    """
    nothing = {"uncertain_resent": 0}
    ways = _open_ways()
    if not ways or switches.pause().sends:
        return nothing
    now = timezone.now()
    late = now - timedelta(seconds=settings.UNCERTAIN_AFTER_SECONDS)
    # The index on state and next try ends the look early: what is done with has its next try far ahead.
    due = Email.objects.filter(state=S.UNCERTAIN, next_try_at__lte=now, state_at__lte=late)
    emails = list(due.order_by("next_try_at")[:BATCH])
    known = evidence(emails)
    chosen = {email.pk: decide(known[email.pk], now) for email in emails}
    moved: set[int] = set()
    for way in ways:
        todo = _owed([pk for pk, each in chosen.items() if each == way], now)
        moved |= _send_once_more(todo, way, known, now)
    _put_off([pk for pk, each in chosen.items() if each in WAYS and each not in ways], now + ASK_AGAIN, now)
    _put_off([email.pk for email in emails if _may_still_show(email, chosen, now)], now + LOOK_AGAIN, now)
    _put_off([pk for pk in chosen if pk not in moved], now + NEVER, now)
    return {"uncertain_resent": len(moved)}


def _open_ways() -> list[Next]:
    """The ways that a mail could be sent once more now."""
    wanted = {cast(Next, settings.UNCERTAIN_POLICY)}
    if evidence_comes():
        wanted.add("resend")
    closed = {"resend": lambda: health.breaker() is not None, "smtp": lambda: not smtp.configured()}
    return [way for way in WAYS if way in wanted and not closed[way]()]


def _may_still_show(email: Email, chosen: Mapping[int, Next], now: datetime) -> bool:
    return chosen[email.pk] == "hold" and evidence_comes() and now < deadline(email) + LATE_EVIDENCE


def _owed(ids: Sequence[int], now: datetime) -> set[int]:
    """Those that Moodle still owes; the others would leave `uncertain` for a state that says that nothing left."""
    # With a deadline to come, so that nothing is sent where Moodle cannot be asked.
    jobs = [replace(job, deadline_at=now + ASK_AGAIN) for job in supply.load(ids)]
    checked = eligibility.check(jobs, now, eligibility.Sources())
    _put_off([job.email_id for later in checked.postponed.values() for job in later], now + ASK_AGAIN, now)
    return {job.email_id for job in checked.send}


def _put_off(ids: Collection[int], until: datetime, now: datetime) -> None:
    Email.objects.filter(pk__in=ids, state=S.UNCERTAIN, next_try_at__lte=now).update(next_try_at=until)


def _send_once_more(
    ids: Collection[int], way: Next, known: Mapping[int, Evidence], now: datetime
) -> set[int]:
    """Queue those whose claim is still ours; returns their ids."""
    with transaction.atomic():
        # Claims before their emails, as a hand-back locks them.
        of = Email.objects.filter(pk__in=ids).values_list("claim_id", flat=True)
        claims = Claim.objects.select_for_update().filter(pk__in=set(of), state=ClaimState.CLAIMED)
        ours = list(claims.order_by("pk").values_list("pk", flat=True))
        mails = Email.objects.select_for_update().filter(pk__in=ids, claim__in=ours, state=S.UNCERTAIN)
        mine = list(mails.values_list("pk", flat=True))
        if way == "smtp":
            Email.objects.filter(pk__in=mine).update(**smtp_route.set_aside(now))
            hourchanges.emails(mine)
        else:
            soon = now + timedelta(seconds=settings.SEND_DEADLINE_SECONDS)
            transitions.move(
                mine, S.QUEUED, now=now, route="ses", reason="", detail="", next_try_at=now, deadline_at=soon
            )
        AuditEntry.objects.bulk_create(_audit(pk, known[pk].not_taken) for pk in mine)
    return set(mine)


def _audit(email_id: int, not_taken: NotTaken | None) -> AuditEntry:
    """Why a mail is sent once more, for people who ask later."""
    entry = AuditEntry(
        actor="worker",
        action="uncertain_policy",
        object_type="email",
        object_id=str(email_id),
        details={"policy": settings.UNCERTAIN_POLICY},
    )
    if not_taken:
        entry.action = "uncertain_not_taken"
        entry.details = {name: at.isoformat() for name, at in asdict(not_taken).items()}
    return entry
