"""Empty what claims and mails hold about people; ids, states and times stay, so that figures and verdicts do.

A mail that may still leave, or of which nobody knows whether it left, is *busy*: nothing of it is touched, because
sending, recovery and the answer to "was it sent?" need it. Claims are locked before their mails, as a hand-back does,
and everything about a batch goes in one transaction: a process that dies has emptied it or not.

Neither states nor reasons change here, so no hour has to be counted anew. `Claim.intent_key`, which keeps a row of
Moodle's from being claimed twice, stays too.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import partial
from typing import Final

from django.db import connection, transaction
from django.db.models import Q, QuerySet

from emailoffload.feedback.models import Event, Suppression
from emailoffload.outbox import deadlocks, erasure
from emailoffload.outbox.models import Attempt, Claim, Email, Forgotten
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.worker import killpoints

S = EmailState
BATCH: Final = 200
"""Claims or mails per transaction: their rows are locked while it lasts."""
BUSY: Final = (S.PREPARED, S.QUEUED, S.SENDING, S.UNCERTAIN)
MOVING: Final = (ClaimState.INTENDED, ClaimState.RELEASING)


def busy() -> Q:
    """The mails that are not to be touched now."""
    return Q(state__in=BUSY) | ~Q(lease="")


def contents(ids: Sequence[int], now: datetime) -> int:
    """Erase what these mails said, as far as they are not busy; returns how many."""
    return deadlocks.survive(partial(_contents, sorted(ids), now))


def _contents(ids: Sequence[int], now: datetime) -> int:
    with transaction.atomic():
        free = _free(Email.objects.filter(pk__in=ids, erased_at__isnull=True))
        if free:
            erasure.remove(free, now)
    return len(free)


def claims(ids: Collection[int], because: Forgotten, now: datetime) -> tuple[list[int], int]:
    """Empty these claims and all their mails, but none of which a mail is busy or that is just being made.

    Returns the ids of the claims that were emptied and how many mails they have. Safe to repeat.
    """
    done: list[int] = []
    mails = 0
    todo = sorted(ids)
    for start in range(0, len(todo), BATCH):
        of_batch, number = deadlocks.survive(partial(_claims, todo[start : start + BATCH], because, now))
        done += of_batch
        mails += number
    return done, mails


def _claims(ids: Sequence[int], because: Forgotten, now: datetime) -> tuple[list[int], int]:
    with transaction.atomic():
        locked = Claim.objects.select_for_update().filter(pk__in=ids).exclude(state__in=MOVING).order_by("pk")
        mine = set(locked.values_list("pk", flat=True))
        rows = Email.objects.select_for_update().filter(claim__in=mine).order_by("pk")
        mails = list(rows.values_list("pk", "claim_id", "state", "lease"))
        mine -= {claim for _pk, claim, state, lease in mails if lease or state in BUSY}
        _empty([pk for pk, claim, _state, _lease in mails if claim in mine], because, now)
        killpoints.reached("mails_emptied")
        emptied = Claim.objects.filter(pk__in=mine)
        emptied.update(user_name="", user_email="")
        emptied.filter(forgotten_at__isnull=True).update(forgotten_at=now)
    return sorted(mine), sum(claim in mine for _pk, claim, _state, _lease in mails)


def mails(ids: Collection[int], because: Forgotten, now: datetime) -> int:
    """Empty these mails, as far as they are not busy, and leave their claims; returns how many. Safe to repeat."""
    todo = sorted(ids)
    parts = (todo[start : start + BATCH] for start in range(0, len(todo), BATCH))
    return sum(deadlocks.survive(partial(_mails, part, because, now)) for part in parts)


def _mails(ids: Sequence[int], because: Forgotten, now: datetime) -> int:
    with transaction.atomic():
        free = _free(Email.objects.filter(pk__in=ids))
        _empty(free, because, now)
    return len(free)


def _free(rows: QuerySet[Email]) -> list[int]:
    locked = rows.select_for_update().order_by("pk").values_list("pk", "state", "lease")
    return [pk for pk, state, lease in locked if not lease and state not in BUSY]


def _empty(ids: Sequence[int], because: Forgotten, now: datetime) -> None:
    """Empty these locked mails: what they said, whom they went to, what servers answered, what SES reported."""
    if not ids:
        return
    erasure.remove(ids, now)
    events(list(Event.objects.filter(email__in=ids).values_list("pk", flat=True)))
    Attempt.objects.filter(email__in=ids).exclude(error_message="").update(error_message="")
    rows = Email.objects.filter(pk__in=ids)
    rows.update(address="", name="", subject="", detail="")
    rows.filter(forgotten_at__isnull=True).update(forgotten_at=now, forgotten_because=because)


def events(ids: Sequence[int]) -> None:
    """Delete events by their ids, BATCH at a time; a suppression that one of them led to stays, without it.

    By hand: the ORM looks for referring rows for every hundred, which takes more time than deleting.
    """
    for start in range(0, len(ids), BATCH):
        part = ids[start : start + BATCH]
        deadlocks.survive(partial(_events, part))


def _events(ids: Sequence[int]) -> None:
    numbers = ",".join(str(int(number)) for number in ids)
    with transaction.atomic():
        # Ids first: an UPDATE by the events would read, and lock, every suppression.
        led_to = list(Suppression.objects.filter(event__in=ids).values_list("pk", flat=True))
        if led_to:
            Suppression.objects.filter(pk__in=led_to).update(event=None)
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {Event._meta.db_table} WHERE id IN ({numbers})")  # noqa: S608
