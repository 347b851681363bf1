"""Which mails the cloud did not take in time, and why: what the fallback has to deal with.

| What | When | Cause |
|---|---|---|
| queued; a try failed, SES takes nothing now, or sending is paused | its deadline is over | what that said |
| queued and nobody touched it | a second deadline is over | `deadline` |
| queued, and SES refuses the whole account | it is due | SES's code |
| failed for a cause that does not lie in the mail's address | at once | the code it failed with |
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q, QuerySet

from emailoffload.delivery import errors, health
from emailoffload.outbox import switches
from emailoffload.outbox.models import Claim, Email
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.worker.outcomes import DEADLINE, IDENTITY, REFUSED

S = EmailState
MOST = 500
"""Mails looked at by one round."""
PAUSED = "paused"
DRAIN = "drain"
BY_ALL = frozenset(
    {
        DEADLINE,
        IDENTITY,
        REFUSED,
        "message_too_large",
        *errors.PERMANENT,
    }
)
BY_MOODLE = frozenset({"content_missing", "content_key", "content_damaged"})
"""Causes that only Moodle, which renders the mail itself, can cure."""
CURABLE = BY_ALL | BY_MOODLE
RECENT = timedelta(days=2)
"""What failed longer ago is a person's by now: a mail that comes out of the blue helps nobody."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known about the cloud at this moment."""

    paused: bool
    account: str = ""
    """SES's code, where it refuses the whole account."""
    trouble: str = ""
    """SES's code, where it takes nothing now for any reason."""
    at_once: bool = False
    """What is due is dealt with whatever its deadline: the worker is to be stopped."""


@dataclass(slots=True)
class Case:
    """One claim with its overdue mails, and the reason code by which each is."""

    claim_id: int
    policy: str
    row: tuple[str, int]
    causes: dict[int, str] = field(default_factory=dict)
    final: bool = True
    """Its time is over: where no other route takes it, a person must decide."""
    late: bool = True
    """A second deadline is over: nothing is waited for any more."""

    @property
    def cause(self) -> str:
        """The cause of the first mail, for the record of what happens to the whole claim."""
        return next(iter(self.causes.values()))


def situation(*, at_once: bool = False) -> Situation:
    """Ask our own database; two or three queries."""
    stopped = health.breaker()
    code = stopped.code if stopped else ""
    account = code if stopped and stopped.kind in errors.WHOLE_ACCOUNT else ""
    return Situation(switches.pause().sends, account, code, at_once)


def find(now: datetime, seen: Situation, above: int = 0) -> tuple[list[Case], int]:
    """The cases among the next MOST overdue mails with an id beyond `above`, and the last id looked at (0: no more)."""
    rows = list(
        _emails(now, seen)
        .filter(pk__gt=above, claim__state=ClaimState.CLAIMED)
        .order_by("pk")
        .values_list("pk", "claim_id", "state", "reason", "deadline_at")[:MOST]
    )
    claims = Claim.objects.filter(pk__in={row[1] for row in rows})
    cases = {
        pk: Case(pk, policy, (source, row_id))
        for pk, policy, source, row_id in claims.values_list("pk", "fallback", "source", "row_id")
    }
    second = timedelta(seconds=settings.SEND_DEADLINE_SECONDS)
    for pk, claim_id, state, reason, deadline_at in rows:
        case = cases[claim_id]
        case.causes[pk] = reason if state == S.FAILED else _cause(reason, seen)
        over = state == S.FAILED or deadline_at <= now
        case.final = case.final and over
        case.late = case.late and deadline_at + second <= now
    return list(cases.values()), rows[-1][0] if len(rows) == MOST else 0


def _emails(now: datetime, seen: Situation) -> QuerySet[Email]:
    queued = Q(state=S.QUEUED, lease="", next_try_at__lte=now + timedelta(minutes=5))
    over = Q(deadline_at__lte=now)
    if seen.at_once or seen.account:
        over |= Q(due_at__lte=now)
    elif not (seen.paused or seen.trouble):
        late = now - timedelta(seconds=settings.SEND_DEADLINE_SECONDS)
        over &= (Q(attempts__gt=0) & ~Q(reason="")) | Q(deadline_at__lte=late)
    failed = Q(state=S.FAILED, reason__in=CURABLE, state_at__gte=now - RECENT, due_at__gte=now - RECENT)
    return Email.objects.filter((queued & over) | failed)


def _cause(reason: str, seen: Situation) -> str:
    if seen.paused:
        return PAUSED
    if seen.account:
        return f"account:{seen.account}"
    return reason or seen.trouble or (DRAIN if seen.at_once else DEADLINE)


def by_smtp(causes: Iterable[str]) -> bool:
    """Whether SMTP can cure these: not where what the mail says cannot be read."""
    return not BY_MOODLE.intersection(causes)
