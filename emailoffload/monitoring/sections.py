"""What the metrics are read from, in sections: if one cannot be read, the others are there all the same.

Each section yields samples: (name of a family, values of its labels, value). Every query is bounded and goes through an
index, so that a scrape costs milliseconds at ten million mails. Nobody but our own database is asked.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Final, TypeVar, cast

from django.conf import settings
from django.db import models

from emailoffload.actions import checkup
from emailoffload.delivery import health, rate
from emailoffload.feedback import claimstop, queuestate, rates
from emailoffload.feedback.models import Alarm, Event, Suppression
from emailoffload.monitoring import standing
from emailoffload.outbox import guardstate, rollups, switches
from emailoffload.outbox.models import Claim, Email, RowError, Run
from emailoffload.outbox.reconciliation import ReconcileFinding
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.worker import alarm_conditions, reconcile_words, runs

T = TypeVar("T")
M = TypeVar("M", bound=models.Model)
Sample = tuple[str, tuple[str, ...], float]
DAY: Final = timedelta(hours=24)
HOUR: Final = timedelta(hours=1)
MOST, MOST_QUEUED = 10_000, 50_000
"""How far is counted."""
OUTCOMES: Final = ("ok", "errors", "refused", "failed", "interrupted")
NEWEST: Final = 6
"""Passes of a kind that are looked at for one that has ended: as many as there are dispatchers may be running."""
WAITING: Final = {
    EmailState.PREPARED: MOST, EmailState.QUEUED: MOST_QUEUED, EmailState.SENDING: MOST, EmailState.UNCERTAIN: MOST,
    EmailState.FAILED: MOST,
}  # fmt: skip
VERDICTS: Final = ("ok", "warning", "problem", "unknown")
SLOW_SECONDS: Final = 60.0
"""What changes slowly, or is made anew each minute only, is read again after so long."""


def worker(now: datetime) -> Iterator[Sample]:
    """Signs of life, the newest passes, what the doctor found."""
    yield "migrations_missing", (), standing.missing_migrations()
    if last := alarm_conditions.last_sign():
        yield "worker_heartbeat_age_seconds", (), _age(last, now)
    for kind in runs.KINDS:
        newest = Run.objects.filter(kind=kind).order_by("-id")
        found = list(newest.values_list("started_at", "finished_at", "outcome")[:NEWEST])
        if not found:
            continue
        yield "pass_last_start_timestamp_seconds", (kind,), found[0][0].timestamp()
        ended = next(((begun, end, how) for begun, end, how in found if end is not None), None)
        if ended is None:
            continue
        begun, end, how = ended
        yield "pass_last_duration_seconds", (kind,), max(0.0, (end - begun).total_seconds())
        for outcome in OUTCOMES:
            yield "pass_last_outcome", (kind, outcome), float(how == outcome)
    look = checkup.known()
    if look.at:
        yield "doctor_age_seconds", (), _age(look.at, now)
        verdicts = Counter(finding.verdict for finding in look.findings)
        for verdict in VERDICTS:
            yield "doctor_findings", (verdict,), verdicts[verdict]


def outbox(now: datetime) -> Iterator[Sample]:
    """What waits, and how late it is."""
    for state, most in WAITING.items():
        yield "outbox_emails", (state.value,), _count(Email.objects.filter(state=state), most)
    oldest = standing.oldest_due(now)
    yield "outbox_oldest_due_age_seconds", (), _age(oldest, now) if oldest else 0.0
    for claim_state in (ClaimState.INTENDED, ClaimState.RELEASING):
        yield "open_claims", (claim_state.value,), _count(Claim.objects.filter(state=claim_state), MOST)
    yield "row_errors_day", (), _count(RowError.objects.filter(last_seen__gte=now - DAY), MOST)
    asking = ReconcileFinding.objects.filter(closed_at=None, verdict__in=sorted(reconcile_words.NEEDS_PERSON))
    yield "findings_open", (), _count(asking, MOST)
    pause = switches.pause()
    yield "paused", ("claims",), float(pause.claims)
    yield "paused", ("sends",), float(pause.sends)
    guard = guardstate.load()
    if guard and guard.last_look:
        yield "iomad_watch_age_seconds", (), _age(guard.last_look, now)


def counts(now: datetime) -> Iterator[Sample]:
    """Totals and days, from the hourly counts that the worker keeps."""
    until = rollups.counted_until()
    if until is None:
        return
    yield "counts_age_seconds", (), _age(until, now)
    yield from _kept("counts", lambda: list(_counted(now)))


def _counted(now: datetime) -> Iterator[Sample]:
    # The hour that runs belongs to the day.
    first, end = now - DAY, now + HOUR
    for kind, name in (("email", "emails"), ("claim", "claims")):
        for source, by_state in rollups.by_source(kind, first, end).items():
            for state, number in by_state.items():
                yield f"{name}_day", (source, state), number
        # None while old hours are still being counted: a counter that leaps by all that was there before would be taken
        # for as many new ones.
        for source, number in (rollups.ever(kind, now) or {}).items():
            yield f"{name}_created_total", (source,), number
    for source, by_reason in rollups.by_source("left", first, end).items():
        for reason, number in by_reason.items():
            yield "left_to_moodle_day", (source, reason), number


def ses(now: datetime) -> Iterator[Sample]:
    """The account as the worker read it last, and the breaker."""
    broken = health.breaker()
    state = "closed" if broken is None else "open" if broken.open else "half_open"
    for each in ("closed", "open", "half_open"):
        yield "ses_breaker", (each,), float(each == state)
    since = broken.since if broken else 0.0
    yield "ses_breaker_open_seconds", (), max(0.0, now.timestamp() - since) if since else 0.0
    yield "ses_sends_granted_total", (), rate.granted_so_far()
    known = rate.remembered()
    yield "ses_account_problem", (), float(known.problem is not None)
    if known.account is None:
        return
    yield "ses_account_age_seconds", (), max(0.0, now.timestamp() - known.read_at)
    yield "ses_sending_enabled", (), float(known.account.sending_enabled)
    yield "ses_max_send_rate", (), known.account.max_send_rate
    yield "ses_allowed_send_rate", (), known.rate
    free, quota = rate.available_24h(known), known.account.max_24h
    yield "ses_sent_24h", (), known.account.sent_24h if quota is None or free is None else quota - free
    if quota is not None:
        yield "ses_quota_24h", (), quota
        yield "ses_quota_reserve", (), rate.reserved_24h(known)


def events(now: datetime) -> Iterator[Sample]:
    """The queue of SES's events as it was seen last, and the newest event, by whichever way it came."""
    newest = Event.objects.order_by("-pk").values_list("received_at", flat=True).first()
    if newest:
        yield "events_last_age_seconds", (), _age(newest, now)
    if not settings.SES_EVENTS_QUEUE_URL:
        return
    seen = queuestate.load()
    yield "events_queue_error", (), float(seen.error_at is not None)
    if seen.polled_at is None:
        return
    yield "events_queue_poll_age_seconds", (), _age(seen.polled_at, now)
    yield "events_queue_waiting", (), seen.waiting
    yield "events_queue_in_flight", (), seen.in_flight
    empty = seen.drained_at or seen.polled_at
    yield "events_queue_backlog_age_seconds", (), _age(empty, now) if seen.waiting else 0.0


def reputation(now: datetime) -> Iterator[Sample]:
    """Rates of the account, what they stop, and who gets no mail."""
    stops = claimstop.known(now)
    yield "reputation_stops", ("account",), float(stops.account)
    yield "reputation_stops", ("identity",), len(stops.identities)
    yield "reputation_stops", ("company",), len(stops.companies)
    yield from _kept("reputation", lambda: list(_rates(now)))


def _rates(now: datetime) -> Iterator[Sample]:
    for each in rates.account_rates(now):
        yield "reputation_mails", (each.window,), each.mails
        yield "reputation_bounce_ratio", (each.window,), each.bounces
        yield "reputation_complaint_ratio", (each.window,), each.complained
    suppressed = Suppression.objects.filter(active_key__isnull=False)
    yield "suppressed_addresses", (), _count(suppressed, MOST_QUEUED)


def alarms(now: datetime) -> Iterator[Sample]:
    """Open alarms; every code that there is, also where none is open."""
    found = list(Alarm.objects.filter(ended_at=None).order_by("-id").values_list("code", "level")[:MOST])
    by_code = Counter(code for code, _level in found)
    by_level = Counter(level for _code, level in found)
    for code in sorted({*alarm_conditions.TITLES, *by_code} - {"test"}):
        yield "alarms_open", (code,), by_code[code]
    for level in Alarm.Level.values:
        yield "alarms_open_by_level", (level,), by_level[level]


Section = Callable[[datetime], Iterator[Sample]]
SECTIONS: Final[dict[str, Section]] = {
    "worker": worker, "outbox": outbox, "counts": counts, "ses": ses, "events": events, "reputation": reputation,
    "alarms": alarms,
}  # fmt: skip
_memory: dict[str, tuple[float, object]] = {}


def forget() -> None:
    """Read everything anew next time."""
    _memory.clear()


def _kept(name: str, read: Callable[[], T]) -> T:
    """What `read` returned, for SLOW_SECONDS; the same process reads it again afterwards."""
    at, value = _memory.get(name, (0.0, None))
    if value is not None and time.monotonic() - at < SLOW_SECONDS:
        return cast("T", value)
    fresh = read()
    _memory[name] = (time.monotonic(), fresh)
    return fresh


def _age(moment: datetime, now: datetime) -> float:
    return max(0.0, (now - moment).total_seconds())


def _count(rows: models.QuerySet[M], most: int) -> int:
    return rows.order_by()[:most].count()
