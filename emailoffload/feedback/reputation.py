"""How many of the mails bounced or were complained of, by hour, sender's domain and company.

Counting is part of the transaction that stores events, so that each stored event counts once. Whoever counts holds
the row LOCK of State: a recount (`rebuild`) sees each event either stored and counted, or not at all. An event that
finds its mail later is counted without a company first and moved then (`matched`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, F
from django.db.models.functions import TruncHour
from django.utils import timezone

from emailoffload.feedback import testmail
from emailoffload.feedback.models import Event, EventType, ReputationHour
from emailoffload.outbox.deadlocks import survive
from emailoffload.outbox.models import Email, State

LOCK = "reputation_count"
KEPT = timedelta(days=90)
"""How long hours are kept, and how far back a recount goes; rates need the last 14 days."""
COLUMNS = ("sends", "deliveries", "permanent_bounces", "transient_bounces", "complaints", "rejects")
UNCOUNTED = frozenset({"OnAccountSuppressionList"})
"""Sub-types of bounces and complaints that SES makes up instead of sending, and does not hold against the account
(SES developer guide, "Contents of event data that Amazon SES publishes to Amazon SNS")."""
AT_ONCE = 500
_COLUMN_OF = {
    EventType.SEND.value: "sends",
    EventType.DELIVERY.value: "deliveries",
    EventType.COMPLAINT.value: "complaints",
    EventType.REJECT.value: "rejects",
}

Key = tuple[datetime, str, int]
"""Hour, sender's domain, company (0: none, or not known)."""


def count(events: Sequence[Event]) -> None:
    """Add newly stored events to their hours; `email` is loaded where there is one.

    Call it last in the transaction that stored them. A handful of statements, however many events.
    """
    found: dict[Key, Counter[str]] = {}
    for event in events:
        company = (event.email.company_id if event.email else None) or 0
        _note(found, event, company, 1)
    if found:
        _lock()
        _add(found)


def matched(events: Iterable[Event], emails: Mapping[int, Email]) -> None:
    """These events, counted without a company, have found their mails (by id): give them to the mails' companies.

    Call it last in the transaction that matched them.
    """
    moves: dict[tuple[Key, int], Counter[str]] = {}
    for event in events:
        email = emails.get(event.email_id or 0)
        column = column_of(event.type, event.kind, event.subkind)
        if email and email.company_id and column and not testmail.is_test(event.ref):
            moves.setdefault((_key(event, 0), email.company_id), Counter())[column] += 1
    if not moves:
        return
    _lock()
    for ((hour, identity, _), company), counts in sorted(moves.items(), key=lambda move: move[0]):
        enough = {f"{column}__gte": number for column, number in counts.items()}
        without = ReputationHour.objects.filter(hour=hour, identity=identity, company_id=0, **enough)
        # An hour that is not kept any more has nothing to give.
        if without.update(**{column: F(column) - number for column, number in counts.items()}):
            _add({(hour, identity, company): counts})


def column_of(type_: str, kind: str, subkind: str) -> str:
    """The column that an event counts in; '' where it counts in none."""
    if subkind in UNCOUNTED:
        return ""
    if type_ == EventType.BOUNCE:
        return "permanent_bounces" if kind == "permanent" else "transient_bounces"
    return _COLUMN_OF.get(type_, "")


def rebuild(now: datetime | None = None) -> int:
    """Count all events of the last KEPT anew, in one transaction; returns the number of rows made.

    Events that arrive meanwhile wait for it and are added then.
    """
    kept = KEPT
    if settings.RETAIN_EVENTS_DAYS:
        # Of the last day before they go some are gone already.
        kept = min(kept, timedelta(days=settings.RETAIN_EVENTS_DAYS - 1))
    since = _hour((now or timezone.now()) - kept)
    return survive(lambda: _rebuild(since))


def prune(now: datetime) -> int:
    """Delete the hours that are not kept any more; returns how many rows. One statement."""
    return ReputationHour.objects.filter(hour__lt=_hour(now - KEPT)).delete()[0]


def _rebuild(since: datetime) -> int:
    with transaction.atomic():
        _lock()
        ReputationHour.objects.all().delete()
        rows = (
            Event.objects.filter(at__gte=since)
            .exclude(ref__startswith=testmail.PREFIX)
            .order_by()
            .values_list(
                TruncHour("at", tzinfo=UTC), "identity", "email__company_id", "type", "kind", "subkind"
            )
            .annotate(Count("pk"))
        )
        found: dict[Key, Counter[str]] = {}
        for hour, identity, company, type_, kind, subkind, number in rows:
            column = column_of(type_, kind, subkind)
            if column:
                found.setdefault((hour, identity, company or 0), Counter())[column] += number
        _add(found)
    return len(found)


def _note(found: dict[Key, Counter[str]], event: Event, company: int, number: int) -> None:
    column = column_of(event.type, event.kind, event.subkind)
    if column:
        found.setdefault(_key(event, company), Counter())[column] += number


def _key(event: Event, company: int) -> Key:
    return _hour(event.at), event.identity, company


def _hour(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _lock() -> None:
    """Wait for whoever counts, until the end of the transaction."""
    row = State.objects.select_for_update().filter(name=LOCK)
    if not list(row):
        State.objects.bulk_create([State(name=LOCK)], ignore_conflicts=True)
        list(row)


def _add(found: Mapping[Key, Counter[str]]) -> None:
    """Add to the rows, or make them. The database adds, so that names that it takes for equal share a row."""
    quote = connection.ops.quote_name
    names = ("hour", "identity", "company_id", *COLUMNS)
    on_conflict: Callable[[str], str]
    if connection.vendor == "mysql":
        head, on_conflict = "ON DUPLICATE KEY UPDATE", lambda name: f"{name} + VALUES({name})"
    else:
        target = ", ".join(map(quote, names[:3]))
        table = quote(ReputationHour._meta.db_table)
        head, on_conflict = (
            f"ON CONFLICT ({target}) DO UPDATE SET",
            lambda name: f"{table}.{name} + excluded.{name}",
        )
    sums = ", ".join(f"{quote(name)} = {on_conflict(quote(name))}" for name in COLUMNS)
    rows = sorted(found.items(), key=lambda item: item[0])
    for start in range(0, len(rows), AT_ONCE):
        part = rows[start : start + AT_ONCE]
        marks = ", ".join(["(" + ", ".join(["%s"] * len(names)) + ")"] * len(part))
        sql = (
            f"INSERT INTO {quote(ReputationHour._meta.db_table)} ({', '.join(map(quote, names))}) "  # noqa: S608
            f"VALUES {marks} {head} {sums}"
        )
        values = [
            value
            for (hour, identity, company), counts in part
            for value in (
                connection.ops.adapt_datetimefield_value(hour),
                identity,
                company,
                *(counts[column] for column in COLUMNS),
            )
        ]
        with connection.cursor() as cursor:
            cursor.execute(sql, values)
