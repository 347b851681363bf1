"""Moves of emails from state to state: set-based, each guarded by the state that the move may start from.

What moves is in `states.TRANSITIONS`; every statement here filters by it, so that a move that somebody else
made first is never undone. The statements of the sending path are written by hand: the ORM's `bulk_update`
costs 0.2 ms a row, a tenth of what a mail may cost (perf-facts).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import F, Q

from emailoffload.outbox import hourchanges
from emailoffload.outbox.models import Attempt, Email
from emailoffload.outbox.states import EmailState, sources_of

S = EmailState
_EMAILS = Email._meta.db_table
_ATTEMPTS = Attempt._meta.db_table
INTERRUPTED = "interrupted"
"""Reason and error code of a send whose process died before its answer was recorded."""
NO_ANSWER = "unknown"
"""Outcome of an attempt that may have left."""
NOT_ARRIVED = "not_arrived"
"""Outcome of such an attempt once a person has found out that it did not."""


@dataclass(frozen=True, slots=True)
class Ended:
    """One attempt that ended: what goes into its row, and where its email goes."""

    email_id: int
    state: EmailState
    outcome: str
    finished_at: datetime
    next_try_at: datetime
    reason: str = ""
    code: str = ""
    message: str = ""
    message_id: str = ""
    request_id: str = ""
    http_status: int | None = None


def move(
    ids: Collection[int], new: EmailState, *, now: datetime, lease: str | None = None, **columns: Any
) -> int:
    """Move the emails that may go to `new`, and free them; returns how many moved.

    `lease` moves only those that still carry it; `columns` are set with the state.
    """
    query = Email.objects.filter(pk__in=ids, state__in=sources_of(new))
    if lease is not None:
        query = query.filter(lease=lease)
    with transaction.atomic():
        moved = query.update(state=new, state_at=now, **{"lease": "", "leased_until": None} | columns)
        if moved:
            hourchanges.emails(ids)
    return moved


def lease_due(
    limit: int, lease: str, *, now: datetime, until: datetime, sensitive_first: bool = False
) -> list[int]:
    """Lease up to `limit` emails whose time has come, the longest due first; returns their ids.

    Where the database can, rows that another dispatcher is leasing at this moment are passed over. With
    `sensitive_first` mails with credentials come before all others.
    """
    skip = connection.features.has_select_for_update_skip_locked
    with transaction.atomic():
        due = Email.objects.filter(state=S.QUEUED, next_try_at__lte=now, lease="").order_by("next_try_at")
        if sensitive_first:
            # Sorted, all that is due is looked at: nothing is locked before the UPDATE below.
            ids = list(due.order_by("-sensitive", "next_try_at").values_list("pk", flat=True)[:limit])
        else:
            ids = list(due.select_for_update(skip_locked=skip).values_list("pk", flat=True)[:limit])
        if not ids:
            return []
        free = Email.objects.filter(pk__in=ids, state=S.QUEUED, lease="")
        if free.update(lease=lease, leased_until=until) == len(ids):
            return ids
        return list(Email.objects.filter(pk__in=ids, lease=lease).values_list("pk", flat=True))


def due(most: int, *, now: datetime) -> int:
    """How many free emails are due, counted up to `most`."""
    free = Email.objects.filter(state=S.QUEUED, next_try_at__lte=now, lease="")
    return free.order_by()[:most].count()


def extend(ids: Collection[int], lease: str, until: datetime) -> None:
    """Keep those of these emails that are leased to `lease` for longer."""
    Email.objects.filter(pk__in=ids, lease=lease).update(leased_until=until)


def unlease(ids: Collection[int], lease: str) -> int:
    """Give back those of these emails that are leased to `lease` and not yet being sent; returns how many."""
    return Email.objects.filter(pk__in=ids, lease=lease, state=S.QUEUED).update(lease="", leased_until=None)


def mark_sending(
    items: Sequence[tuple[int, int]],
    lease: str,
    holder: str,
    *,
    now: datetime,
    until: datetime,
    route: str = "ses",
    noted: bool = False,
) -> set[int]:
    """Record that these emails are about to be transmitted: state `sending`, and a row for each attempt.

    `items` are (email id, number of this attempt); `noted`: the caller notes their hours itself
    (`hourchanges`), in the same transaction. Returns the ids that were still ours; only they may be
    sent. One transaction: after a crash there is an attempt for every mail that may have left.
    """
    ids = [email_id for email_id, _ in items]
    with transaction.atomic():
        ours = Email.objects.filter(pk__in=ids, state=S.QUEUED, lease=lease)
        won = set(ids)
        changed = ours.update(
            state=S.SENDING,
            state_at=now,
            attempts=F("attempts") + 1,
            leased_until=until,
            reason="",
            detail="",
        )
        if changed != len(ids):
            still = Email.objects.filter(pk__in=ids, state=S.SENDING, lease=lease)
            won = set(still.values_list("pk", flat=True))
        if won:
            _begin_attempts(won, holder, now, route)
            if not noted:
                hourchanges.emails(won)
    return won


def _begin_attempts(email_ids: set[int], holder: str, now: datetime, route: str) -> None:
    """A row for each attempt, numbered by its email's own count, in one statement.

    An attempt that is there already is left alone: this may be asked again after a commit whose answer was lost.
    """
    ids = ",".join(str(int(email_id)) for email_id in sorted(email_ids))
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {_ATTEMPTS} (email_id, number, route, started_at, outcome, error_code, error_message,"  # noqa: S608
            " request_id, message_id, holder)"
            " SELECT e.id, e.attempts, %s, %s, 'in_flight', '', '', '', '', %s"
            f" FROM {_EMAILS} e WHERE e.id IN ({ids}) AND NOT EXISTS"
            f" (SELECT 1 FROM {_ATTEMPTS} a WHERE a.email_id = e.id AND a.number = e.attempts)",
            [route, sql_time(now), holder],
        )


def record(
    ended: Sequence[Ended],
    lease: str,
    holder: str,
    *,
    now: datetime,
    noted: bool = False,
) -> None:
    """Record how attempts ended, in one transaction and three statements however many they are.

    An acceptance is a fact even where recovery has meanwhile called the send uncertain, or an event of SES
    has moved the email on; every other end counts only while the email is still ours. `noted`: the
    caller notes their hours itself (`hourchanges`), in the same transaction.
    """
    if not ended:
        return
    accepted = [item for item in ended if item.state == S.ACCEPTED]
    others = [item for item in ended if item.state != S.ACCEPTED]
    with transaction.atomic():
        if accepted:
            _record_accepted(accepted, now)
        if others:
            _record_others(others, lease, now)
        _record_attempts(ended, holder)
        if not noted:
            hourchanges.emails([item.email_id for item in ended])


def _record_accepted(accepted: Sequence[Ended], now: datetime) -> None:
    # Queued again, by a person or on evidence, it is not sent again; unless Moodle is just getting it back.
    pending = (
        f"(state IN ('{S.SENDING}', '{S.UNCERTAIN}') OR (state = '{S.QUEUED}' AND lease NOT LIKE 'r%%'))"
    )
    # MariaDB evaluates assignments from left to right, so what depends on the old state comes first.
    update_each(
        _EMAILS,
        "id",
        [item.email_id for item in accepted],
        {
            "message_id": [item.message_id for item in accepted],
            "accepted_at": [sql_time(item.finished_at) for item in accepted],
        },
        f"reason = CASE WHEN {pending} THEN '' ELSE reason END, "
        f"lease = CASE WHEN {pending} THEN '' ELSE lease END, "
        f"leased_until = CASE WHEN {pending} THEN NULL ELSE leased_until END, "
        f"state_at = CASE WHEN {pending} THEN %s ELSE state_at END, "
        f"state = CASE WHEN {pending} THEN '{S.ACCEPTED}' ELSE state END",
        [sql_time(now)],
        "1 = 1",
        [],
        keep={"accepted_at"},  # an event of SES's may have told it first
    )


def _record_others(others: Sequence[Ended], lease: str, now: datetime) -> None:
    update_each(
        _EMAILS,
        "id",
        [item.email_id for item in others],
        {
            "state": [item.state.value for item in others],
            "reason": [item.reason[:60] for item in others],
            "detail": [item.message[:500] for item in others],
            "next_try_at": [sql_time(item.next_try_at) for item in others],
        },
        "state_at = %s, lease = '', leased_until = NULL",
        [sql_time(now)],
        f"state = '{S.SENDING}' AND lease = %s",
        [lease],
    )


def _record_attempts(ended: Sequence[Ended], holder: str) -> None:
    update_each(
        _ATTEMPTS,
        "email_id",
        [item.email_id for item in ended],
        {
            "outcome": [item.outcome for item in ended],
            "finished_at": [sql_time(item.finished_at) for item in ended],
            "error_message": [item.message[:500] for item in ended],
            "http_status": [item.http_status for item in ended],
            "request_id": [item.request_id for item in ended],
            "message_id": [item.message_id for item in ended],
            "error_code": [item.code[:100] for item in ended],
        },
        "",
        [],
        f"holder = %s AND (outcome = 'in_flight' OR error_code = '{INTERRUPTED}')",
        [holder],
    )


def sql_time(value: datetime) -> Any:
    if value.tzinfo is UTC:
        # What the line below comes to for our own times, which are UTC as the connection's are.
        return value.replace(tzinfo=None).isoformat(" ")
    return connection.ops.adapt_datetimefield_value(value)


def update_each(
    table: str,
    key: str,
    keys: Sequence[int],
    columns: dict[str, list[Any]],
    constant: str,
    constant_values: Sequence[Any],
    guard: str,
    guard_values: Sequence[Any],
    keep: Collection[str] = (),
) -> None:
    """One UPDATE that gives each row of `keys` its own values (CASE), and all of them the constants.

    Columns of `keep` are set only where they are NULL.
    A column whose values are all equal is set without a CASE. Names and conditions are this module's own.
    """
    sets: list[str] = []
    values: list[Any] = []
    for name, column in columns.items():
        form = f"{name} = COALESCE({name}, {{}})" if name in keep else f"{name} = {{}}"
        if all(value == column[0] for value in column):
            sets.append(form.format("%s"))
            values.append(column[0])
            continue
        # Keys are numbers of ours and stand in the text: a parameter each would cost more than all the rest.
        cases = " ".join(f"WHEN {int(number)} THEN %s" for number in keys)
        sets.append(form.format(f"CASE {key} {cases} END"))
        values += column
    if constant:
        sets.append(constant)
    values += [*constant_values, *guard_values]
    numbers = ",".join(str(int(number)) for number in keys)
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {table} SET {', '.join(sets)} WHERE {key} IN ({numbers}) AND {guard}",  # noqa: S608
            values,
        )


def interrupted(now: datetime, limit: int = 2000) -> tuple[int, int]:
    """Settle what dead dispatchers left; returns (leases cleared, sends that are now uncertain).

    A queued email whose lease is over is free again: nothing of it was transmitted. One in `sending` may have
    left or not: its attempt's outcome is unknown and it waits as `uncertain` (promise P6).
    """
    over = Q(leased_until__lt=now)
    # Ids first: an UPDATE without the primary key would lock every row that it looks at.
    # What is leased was due, which keeps the look within the index of what is due.
    # Mails of the SMTP route stay out of the dispatchers' reach; the fallback finds them itself.
    due = Email.objects.filter(over, state=S.QUEUED, next_try_at__lte=now, lease__gt="").exclude(route="smtp")
    queued = list(due.values_list("pk", flat=True)[:limit])
    cleared = Email.objects.filter(over, pk__in=queued, state=S.QUEUED).update(lease="", leased_until=None)
    with transaction.atomic():
        silent = Email.objects.filter(over | Q(leased_until__isnull=True), state=S.SENDING)
        sending = list(silent.select_for_update().values_list("pk", flat=True)[:limit])
        uncertain = move(sending, S.UNCERTAIN, now=now, reason=INTERRUPTED)
        Attempt.objects.filter(email__in=sending, outcome="in_flight").update(
            outcome="unknown", error_code=INTERRUPTED, finished_at=now
        )
    return cleared, uncertain
