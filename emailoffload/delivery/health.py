"""Is delivery likely, and for how many mails? Asked before anything is claimed (design §3.3, promise P5).

The breaker is a row of the table State: what refused us, and until when nobody tries. It opens when SES
refuses the account or cannot be reached, which all processes judge by the same tries, and closes with the first mail
that SES takes. A used-up 24-hour quota opens it for a minute at a time: then GetAccount is asked, and no mail is
tried before it says that there is room.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone

from emailoffload.delivery import errors, rate
from emailoffload.delivery.errors import Outcome
from emailoffload.outbox import content, shared, transitions
from emailoffload.outbox.models import Attempt, Email, State
from emailoffload.outbox.states import EmailState

log = logging.getLogger(__name__)
BREAKER = "ses_breaker"
SHORTEST, LONGEST = 30.0, 300.0
"""Seconds that the breaker stays open: the first time, and at most (doubled each time in between)."""
QUOTA_SECONDS = 60.0
"""The same for the 24-hour quota, each time: it frees itself bit by bit, and asking GetAccount costs nothing."""
STUCK_SECONDS = 180.0
"""Mails that are due for so long, while nothing is sent at all, mean that no dispatcher is at work."""
NO_ANSWER = 10
"""So many tries in a row without an answer say that SES cannot be reached."""
FEW_NO_ANSWER, FEW_SECONDS = 3, 60.0
"""Fewer say so where they spread over so many seconds: a small site has few mails."""
NO_ANSWER_IS_OLD = 3600.0
"""Tries of longer ago say nothing about SES now."""
TRIES_LOOKED_AT = 200
MOST_QUEUED = 200_000
"""However fast the account is, the outbox holds no more than this."""
MOST_PROBES = 20
"""While nobody knows whether SES takes mails again, the outbox holds no more than this, to find out."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """Why and until when (UNIX seconds) nobody sends. `open` is False once somebody may try again."""

    code: str
    why: str
    open_until: float
    times: int
    kind: str = ""
    """The outcome's kind."""
    since: float = 0.0
    """When it opened first, of these times in a row."""

    @property
    def open(self) -> bool:
        """Whether sending is stopped now. A clock set back does not stop it for longer than LONGEST."""
        return 0 < self.open_until - time.time() <= LONGEST


def breaker() -> Breaker | None:
    """The breaker if it is open or half open (its time is over and nobody has sent since), else None."""
    row = State.objects.filter(name=BREAKER).first()
    return Breaker(**row.value) if row and row.value else None


def trip(outcome: Outcome) -> Breaker:
    """Open the breaker because of `outcome`; each time in a row for twice as long, but for the 24-hour quota."""
    last = breaker()
    if last and last.open:
        return last
    times = last.times + 1 if last else 1
    seconds = min(LONGEST, SHORTEST * 2 ** min(times - 1, 10))
    if outcome.kind == "quota":
        seconds = QUOTA_SECONDS
        # What was known of the quota may not be true any more: others send with the same account.
        rate.expire()
    now = time.time()
    since = (last.since if last else 0.0) or now
    opened = Breaker(outcome.code, outcome.message, now + seconds, times, outcome.kind, since)
    shared.put(BREAKER, asdict(opened))
    log.log(
        # The passes say the same each time.
        logging.WARNING if times == 1 else logging.INFO,
        "Amazon SES takes no mail (%s). The breaker is open for %.0f s (%d in a row): nothing is claimed or sent; then "
        "mails are tried, one at a time. %s",
        outcome.code,
        seconds,
        times,
        outcome.message,
    )
    return opened


def close() -> None:
    """SES takes mails again."""
    gone, _by_model = State.objects.filter(name=BREAKER).delete()
    if gone:
        log.warning("Amazon SES takes mails again: the breaker is closed, claiming and sending go on.")


def no_answer(kind: str, code: str) -> bool:
    """Whether an outcome (its kind and code) means that SES was not reached, or that it did not answer as it should."""
    return kind in {"not_transmitted", transitions.NO_ANSWER} and code not in _OUR_OWN


_OUR_OWN = frozenset({"stopped", content.UnknownKey.code, transitions.INTERRUPTED})
"""Error codes of tries that ended so for reasons of ours."""


def unanswered() -> bool:
    """Whether the newest tries that ended, of whichever process and pass, all had no answer; one query.

    There must be NO_ANSWER of them, or FEW_NO_ANSWER that spread over FEW_SECONDS.
    """
    newest = Attempt.objects.order_by("-pk").values_list(
        "route", "outcome", "error_code", "http_status", "started_at", "finished_at"
    )
    too_old = timezone.now() - timedelta(seconds=NO_ANSWER_IS_OLD)
    ends: list[datetime] = []
    first: datetime | None = None
    for route, kind, code, status, started_at, finished_at in newest[:TRIES_LOOKED_AT]:
        if route != "ses" or finished_at is None:
            continue
        if no_answer(kind, code):
            if finished_at < too_old:
                break
            ends.append(finished_at)
            first = min(first or started_at, started_at)
        elif status:
            break
    if first is None or len(ends) < FEW_NO_ANSWER:
        return False
    return len(ends) >= NO_ANSWER or (max(ends) - first).total_seconds() >= FEW_SECONDS


def refusal(known: rate.Known) -> Outcome | None:
    """Why no mail could be sent now, judged by what is known of the account; None when it is fine.

    Credentials that may send but not read the account are fine: `known.problem` says so, and the rate is then
    the last known one or a careful one.
    """
    problem = known.problem
    may_not_read = {"AccessDenied", "AccessDeniedException"}
    if problem and problem.kind in {"account", "not_transmitted"} and problem.code not in may_not_read:
        return problem
    account = known.account
    if account and not problem and not account.sending_enabled:
        return Outcome("account", "SendingDisabled", errors.ACCOUNT["SendingDisabled"])
    if rate.available_24h(known) == 0:
        return Outcome("quota", errors.DAILY_QUOTA, errors.QUOTA[errors.DAILY_QUOTA])
    return None


def healthy() -> tuple[bool, str]:
    """Whether mails can be sent now, and if not, why and what cures it."""
    stopped = breaker()
    if stopped and stopped.open:
        return False, f"{stopped.code}: {stopped.why}"
    known = rate.known()
    refused = refusal(known)
    if refused:
        return False, f"{refused.code}: {refused.message}"
    since = stuck_since()
    if since:
        return False, (
            f"{NOT_DRAINING}: Mails are due since {since:%Y-%m-%d %H:%M:%S} UTC and nothing is sent: "
            "no dispatcher is at work, or sending is paused."
        )
    return True, ""


NOT_DRAINING = "NotDraining"


def stuck_since() -> datetime | None:
    """Since when free mails are due while nobody sends; None while the outbox drains, however slowly.

    A dispatcher that works off a backlog begins attempts all the time, so old mails alone say nothing. Two queries.
    """
    now = timezone.now()
    patience = timedelta(seconds=STUCK_SECONDS)
    free = Email.objects.filter(state=EmailState.QUEUED, next_try_at__lt=now - patience, lease="")
    oldest = free.order_by("next_try_at").values_list("next_try_at", flat=True).first()
    if oldest is None:
        return None
    newest = Attempt.objects.order_by("-pk").values_list("route", "started_at")[:TRIES_LOOKED_AT]
    # By SMTP goes only what nobody else has sent in time: that is no sign of a dispatcher.
    return None if any(route == "ses" and at > now - patience for route, at in newest) else oldest


@dataclass(slots=True)
class Room:
    """How many more mails may be claimed now: ordinary ones, and ones with credentials."""

    ordinary: int
    sensitive: int
    short: bool = False
    """It is the 24-hour quota that limits them: what finds no room now may not find any for hours."""

    @property
    def used_up(self) -> bool:
        """Whether nothing more may be claimed at all."""
        return self.ordinary <= 0 and self.sensitive <= 0

    def take(self, mails: int, *, sensitive: bool) -> bool:
        """Make use of room for a claim's mails; False, and nothing is used, where there is not enough."""
        if mails > (self.sensitive if sensitive else self.ordinary):
            return False
        self.ordinary -= mails
        self.sensitive -= mails
        return True


def room() -> Room:
    """How many more mails may be claimed now.

    The outbox holds at most what can leave within SEND_DEADLINE_SECONDS at the account's rate, at most what
    the 24-hour quota still allows, and only a few mails until SES has taken one after the breaker was open.
    The last SENSITIVE_QUOTA_RESERVE percent of the quota are for mails with credentials alone (design §3.3).
    """
    known = rate.known()
    limit = min(MOST_QUEUED, int(known.rate * settings.SEND_DEADLINE_SECONDS))
    if breaker() is not None:
        limit = min(limit, MOST_PROBES)
    ordinary = sensitive = limit
    short = False
    left = rate.available_24h(known)
    if left is not None:
        ordinary = min(limit, left - rate.reserved_24h(known))
        sensitive = min(limit, left)
        short = ordinary < limit
    states = [EmailState.PREPARED, EmailState.QUEUED, EmailState.SENDING]
    waiting = Email.objects.filter(state__in=states).order_by()[: limit + 1].count()
    return Room(max(0, ordinary - waiting), max(0, sensitive - waiting), short)
