"""What sensitive mails said is erased once nobody needs it any more (design §5).

| State | Erased |
|---|---|
| delivered, opened, clicked, complained, released | at once |
| accepted, sent by SMTP, delayed, bounced, rejected | SENSITIVE_GRACE_SECONDS after acceptance |
| failed, uncertain, suppressed, cancelled | SENSITIVE_UNSENT_HOURS after they came to that |
| prepared, queued, sending, and whatever a dispatcher has leased | never: it is on its way |

The email stays on record, with the time of the erasure. Sensitive emails that are not erased yet are few, and
found by an index of their own.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from emailoffload.outbox.models import Content, Email
from emailoffload.outbox.states import EmailState

S = EmailState
AT_ONCE = (S.DELIVERED, S.OPENED, S.CLICKED, S.COMPLAINED, S.RELEASED)
AFTER_ACCEPTANCE = (S.ACCEPTED, S.SENT_SMTP, S.DELAYED, S.BOUNCED, S.REJECTED)
UNSENT = (S.FAILED, S.UNCERTAIN, S.SUPPRESSED, S.CANCELLED)
ON_ITS_WAY = (S.PREPARED, S.QUEUED, S.SENDING)
BATCH = 500
"""Emails per transaction: the rows are locked while it lasts."""


def due(now: datetime) -> Q:
    """Which emails' contents are to be erased by now, if they are sensitive."""
    accepted = now - timedelta(seconds=settings.SENSITIVE_GRACE_SECONDS)
    unsent = now - timedelta(hours=settings.SENSITIVE_UNSENT_HOURS)
    by_acceptance = Q(accepted_at__lte=accepted) | Q(accepted_at__isnull=True, state_at__lte=accepted)
    return (
        Q(state__in=AT_ONCE, state_at__lte=now)
        | Q(by_acceptance, state__in=AFTER_ACCEPTANCE)
        | Q(state__in=UNSENT, state_at__lte=unsent)
    )


def find(now: datetime, limit: int = BATCH) -> list[int]:
    """The first ids of sensitive emails that are to be erased by now."""
    stored = Email.objects.filter(due(now), sensitive=True, erased_at__isnull=True, lease="")
    return list(stored.order_by("pk").values_list("pk", flat=True)[:limit])


def erase(ids: Collection[int], *, now: datetime | None = None) -> int:
    """Erase what these emails said, as far as they are sensitive and not on their way; returns how many.

    Each body is overwritten before its row is deleted, and the email notes the time. Safe to repeat, and
    beside dispatchers and resends: the emails are locked first, and a resend takes its copy under the same
    lock. May be called inside a transaction, as when an event says that a mail was delivered.
    """
    todo = sorted(ids)
    now = now or timezone.now()
    return sum(_erase(todo[start : start + BATCH], now) for start in range(0, len(todo), BATCH))


def _erase(ids: list[int], now: datetime) -> int:
    # Looked at before anything is locked: rows that a dispatcher is working on are none of our business.
    seen = _erasable(Email.objects.filter(pk__in=ids))
    if not seen:
        return 0
    with transaction.atomic():
        sure = _erasable(Email.objects.select_for_update().filter(pk__in=seen))
        if sure:
            remove(sure, now)
    return len(sure)


def remove(ids: Collection[int], now: datetime) -> None:
    """Overwrite and delete what these mails said, sensitive or not, and note when.

    Call it in the transaction that has locked the emails and seen that nobody needs their contents any more.
    """
    _overwrite(ids)
    Content.objects.filter(pk__in=ids).delete()
    Email.objects.filter(pk__in=ids, erased_at__isnull=True).update(erased_at=now)


def _erasable(emails: QuerySet[Email]) -> list[int]:
    rows = emails.filter(sensitive=True, erased_at__isnull=True).order_by("pk")
    found = rows.values_list("pk", "state", "lease")
    return [pk for pk, state, lease in found if not lease and state not in ON_ITS_WAY]


def _overwrite(ids: Collection[int]) -> None:
    """Zeros of the same length: where a row's bytes stay in their place, the former ones are gone."""
    zeros = "zeroblob(length(body))" if connection.vendor == "sqlite" else "REPEAT(0x00, LENGTH(body))"
    numbers = ",".join(str(int(number)) for number in ids)
    table = Content._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {table} SET body = {zeros} WHERE email_id IN ({numbers})")  # noqa: S608


CHECKPOINT_MILLISECONDS = 1000


def clean_log() -> bool:
    """SQLite only: empty the write-ahead log, which still holds pages as they were before an erasure.

    Waits a second at most for readers; returns False where they were slower, then the next pass does it.
    Other servers clean up by themselves (docs/security.md). Call it outside of transactions.
    """
    if connection.vendor != "sqlite":
        return True
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout")
        patience = cursor.fetchone()[0]
        cursor.execute(f"PRAGMA busy_timeout = {CHECKPOINT_MILLISECONDS}")
        try:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            busy: int = cursor.fetchone()[0]
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {int(patience)}")
    return not busy
