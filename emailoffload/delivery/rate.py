"""How fast and how much we may send: one token bucket and one view of the account for all processes.

Both live in rows of the table State. The bucket is a "generic cell rate algorithm": the row holds the moment
up to which sending time is spent, by the database's clock, so that hosts need not agree about the time. The
rate is GetAccount's maximum send rate, capped by SES_MAX_SEND_RATE; GetAccount is asked once a minute by
whichever process needs it first.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import asdict, dataclass

from django.conf import settings
from django.db import OperationalError, transaction
from django.db.models.functions import Now

from emailoffload.delivery import pace, ses
from emailoffload.delivery.errors import Outcome
from emailoffload.outbox import deadlocks, shared
from emailoffload.outbox.models import State

BUCKET = "ses_rate"
ACCOUNT = "ses_account"
ACCOUNT_SECONDS = 60.0
"""How long GetAccount's answer is used."""
DAY_SECONDS = 86400.0
FAILURE_SECONDS = 10.0
"""How long to wait after a failed GetAccount before it is asked again."""
CAREFUL_RATE = 1.0
"""Mails per second while the account was never readable: the rate of a new SES account."""
BURST_SECONDS = 0.5
"""Less than the second that SES forgives: mails arrive unevenly, some later than they were granted."""


@dataclass(frozen=True, slots=True)
class Known:
    """What all processes know about the account.

    `rate` is mails per second, already capped, and lower for a while after SES throttled us (`pace`). `problem`
    says why the last GetAccount failed, '' when it did not; the other values are then those of the last good
    answer. `account` is None when there never was one.
    """

    rate: float
    account: ses.Account | None
    problem: Outcome | None = None
    granted: int = 0
    """Mails that the bucket had let through when the account was read."""
    read_at: float = 0.0
    """When the account was read last (UNIX seconds)."""


def grant(wanted: int, rate: float, spent_until: float, now: float) -> tuple[int, float, float]:
    """The bucket's arithmetic, on numbers only.

    `spent_until` and `now` are seconds of one clock. Returns (mails granted now, new `spent_until`, seconds
    until the next mail can be granted; 0 when all that was wanted is granted). Over any span of t seconds at
    most rate * t + max(1, rate * BURST_SECONDS) mails are granted.
    """
    burst = max(1.0, rate * BURST_SECONDS)
    start = max(spent_until, now - burst / rate)
    # The small addition forgives the rounding of large times; it never becomes a mail.
    available = max(0, math.floor((now - start) * rate + 1e-3))
    granted = min(wanted, available)
    start += granted / rate
    return granted, start, 0.0 if granted == wanted else max(0.001, start + 1 / rate - now)


def reserve(wanted: int, rate: float) -> tuple[int, float]:
    """Reserve up to `wanted` mails for all to see; returns (granted, seconds to wait for the next).

    What is reserved and not sent is lost to the bucket: at most a moment of sending.
    """
    try:
        return deadlocks.survive(lambda: _reserve(wanted, rate))
    except State.DoesNotExist:
        with suppress(OperationalError):
            # Made outside of the transaction that locks it: two that insert and then lock would deadlock.
            # Several that insert at the same moment may all the same; then one of them has made it.
            State.objects.bulk_create([State(name=BUCKET)], ignore_conflicts=True)
    return deadlocks.survive(lambda: _reserve(wanted, rate))


def _reserve(wanted: int, rate: float) -> tuple[int, float]:
    with transaction.atomic():
        row = _locked(BUCKET)
        now = row.now.timestamp()  # type: ignore[attr-defined]  # annotated in _locked
        spent = row.value.get("spent_until", 0.0)
        # A clock that was set back must not stop sending for as long as it was set back.
        spent = min(spent, now + BURST_SECONDS)
        granted, spent, wait = grant(wanted, rate, spent, now)
        if granted:
            row.value = {"spent_until": spent, "granted": row.value.get("granted", 0) + granted}
            row.save(update_fields=["value", "updated_at"])
    return granted, wait


def _locked(name: str) -> State:
    """The row, locked until the transaction ends, with the database's time as `now`. Raises DoesNotExist."""
    return State.objects.select_for_update().annotate(now=Now()).get(name=name)


def granted_so_far() -> int:
    """Mails that the bucket has let through, ever: the number only grows. One query."""
    row = State.objects.filter(name=BUCKET).first()
    return int(row.value.get("granted", 0)) if row else 0


def _capped(rate: float) -> float:
    limit = settings.SES_MAX_SEND_RATE
    return max(0.01, min(rate, limit) if limit else rate)


def _read() -> tuple[Known, float, float]:
    """What is on record: (known, when the account was read, or 0 if that does not count, when it last failed)."""
    rows = dict(State.objects.filter(name__in=[ACCOUNT, pace.NAME]).values_list("name", "value"))
    value = rows.get(ACCOUNT) or {}
    account = ses.Account(**value["account"]) if value.get("account") else None
    problem = Outcome(**value["problem"]) if value.get("problem") else None
    rate = account.max_send_rate if account else CAREFUL_RATE
    rate = max(0.01, _capped(rate) * pace.share(rows.get(pace.NAME), time.time()))
    read_at = float(value.get("read_at", 0))
    known = Known(rate, account, problem, int(value.get("granted", 0)), read_at)
    return known, 0.0 if value.get("expired") else read_at, float(value.get("failed_at", 0))


def known(max_age: float = ACCOUNT_SECONDS) -> Known:
    """What we know about the account; asks SES when the last answer is older than `max_age` seconds.

    Never raises: where SES does not answer, the last answer stays in use and `problem` says what happened.
    """
    current, read_at, failed_at = _read()
    now = time.time()
    if 0 <= now - read_at < max_age and not current.problem:
        return current
    if current.problem and 0 <= now - failed_at < min(FAILURE_SECONDS, max_age):
        return current
    granted = granted_so_far()
    answer = ses.get_account()
    if isinstance(answer, ses.Account):
        value = {"account": asdict(answer), "granted": granted, "read_at": now}
    else:
        account = asdict(current.account) if current.account else None
        value = {"account": account, "granted": current.granted, "read_at": current.read_at}
        # The time of the failure, not of the question: an endpoint that hangs for longer than FAILURE_SECONDS
        # would be asked by each batch of mails anew.
        value |= {"problem": asdict(answer), "failed_at": time.time()}
    shared.put(ACCOUNT, value)
    return _read()[0]


def remembered() -> Known:
    """What is on record of the account, however old; SES is never asked: for pages. One query."""
    return _read()[0]


def expire() -> None:
    """Have SES asked anew next time; until it answers, what is known stays in use."""
    with transaction.atomic():
        row = State.objects.select_for_update().filter(name=ACCOUNT).first()
        if row:
            row.value = row.value | {"expired": True}
            row.save(update_fields=["value", "updated_at"])


def forget() -> None:
    """Ask SES anew next time."""
    State.objects.filter(name=ACCOUNT).delete()


def available_24h(known: Known) -> int | None:
    """Mails that the 24-hour quota still allows; None where there is no limit or none is known.

    SES counted until the account was read; since then the bucket has. After a day in which the account could not be
    read that count says nothing any more: SES itself says then when it is enough.
    """
    if known.account is None or known.account.max_24h is None:
        return None
    if time.time() - known.read_at > DAY_SECONDS:
        return None
    since = max(0, granted_so_far() - known.granted)
    return max(0, known.account.max_24h - known.account.sent_24h - since)


def reserved_24h(known: Known) -> int:
    """Mails of the 24-hour quota that are kept for credentials; 0 where there is no limit or none is known."""
    if known.account is None or known.account.max_24h is None:
        return 0
    return math.ceil(known.account.max_24h * settings.SENSITIVE_QUOTA_RESERVE / 100)
