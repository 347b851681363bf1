"""Whom Moodle has deleted is erased here too, RETAIN_DELETED_USER_DAYS after we first saw it.

Moodle keeps the row of a deleted user and sets its flag; when it did so is not among the columns that we may read, so
the days count from when a pass first saw the flag. Somebody who is restored before that is left alone. Users who are
not in Moodle's table at all are not taken for deleted: a wrong database would look the same.

Two walks look for them, a piece in each pass: along the users whom claims are about, and along mails that went to
somebody else, such as a manager. A row of `State` remembers both places; the ends lead back to the beginnings.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db.models import F

from emailoffload.moodle import models as moodle
from emailoffload.outbox import shared, transitions
from emailoffload.outbox.models import AuditEntry, Claim, Email, Forgotten, State
from emailoffload.outbox.persons import ErasedPerson
from emailoffload.outbox.states import EmailState
from emailoffload.sources import reasons
from emailoffload.worker import overdue
from emailoffload.worker.privacy import forget, person, steps

MEMORY: Final = "deleted_users"
ACTOR: Final = "worker"
PAGE: Final = 1000
PAGES: Final = 20
"""Pages of each walk in one pass."""


def follow(now: datetime, go_on: steps.GoOn) -> dict[str, int]:
    """Look for deleted users for a while, and erase whose time is over; returns counts.

    Keys: deleted_seen, deleted_erased, deleted_waiting (mails of theirs that could not be touched yet). Raises errors
    of Moodle's database; what was done until then stays.
    """
    counts = {"deleted_seen": 0, "deleted_erased": 0, "deleted_waiting": 0}
    if not settings.RETAIN_DELETED_USER_DAYS:
        return counts
    due = now - timedelta(days=settings.RETAIN_DELETED_USER_DAYS)
    row = State.objects.filter(name=MEMORY).first()
    places: dict[str, Any] = dict(row.value) if row else {}
    try:
        _walk_users(places, now, counts, go_on)
        _erase_due(due, now, counts, go_on)
        _walk_recipients(places, due, now, counts, go_on)
    finally:
        if row is None or row.value != places:
            shared.put(MEMORY, places)
    return counts


def deleted_among(ids: Collection[int]) -> set[int]:
    """Those of these users whom Moodle has deleted, by its flag; a query per thousand."""
    todo = sorted(ids)
    found: set[int] = set()
    for start in range(0, len(todo), PAGE):
        part = moodle.User.objects.filter(pk__in=todo[start : start + PAGE], deleted=1)
        found |= set(part.values_list("pk", flat=True))
    return found


def _walk_users(places: dict[str, Any], now: datetime, counts: dict[str, int], go_on: steps.GoOn) -> None:
    for _ in range(PAGES):
        if not go_on():
            return
        # The index on users yields each of them once.
        rows = Claim.objects.filter(user_id__gt=places.get("user", 0)).order_by("user_id")
        ids = list(rows.values_list("user_id", flat=True).distinct()[:PAGE])
        if ids:
            counts["deleted_seen"] += _note(ids, deleted_among(ids), now)
        places["user"] = ids[-1] if len(ids) == PAGE else 0
        if not places["user"]:
            return


def _note(ids: Collection[int], deleted: Collection[int], now: datetime) -> int:
    """Write down who of these is deleted, and who is not any more; returns how many are new."""
    known = {row.user_id: row for row in ErasedPerson.objects.filter(user_id__in=ids)}
    fresh = [
        ErasedPerson(user_id=user_id, deleted_seen_at=now) for user_id in sorted(set(deleted) - known.keys())
    ]
    ErasedPerson.objects.bulk_create(fresh, ignore_conflicts=True)
    again = [row.pk for row in known.values() if row.user_id in deleted and row.deleted_seen_at is None]
    ErasedPerson.objects.filter(pk__in=again).update(deleted_seen_at=now)
    back = [row.pk for row in known.values() if row.user_id not in deleted and row.deleted_seen_at]
    ErasedPerson.objects.filter(pk__in=back).update(deleted_seen_at=None)
    # Of somebody who was erased at their wish there may be mails since.
    erased = [row.user_id for row in known.values() if row.user_id in deleted and row.erased_at]
    since = Claim.objects.filter(user_id__in=erased, forgotten_at__isnull=True)
    once_more = set(since.values_list("user_id", flat=True).distinct()) if erased else set()
    ErasedPerson.objects.filter(user_id__in=once_more).update(erased_at=None)
    return len(fresh) + len(again)


def _erase_due(due: datetime, now: datetime, counts: dict[str, int], go_on: steps.GoOn) -> None:
    after = 0
    while go_on():
        rows = ErasedPerson.objects.filter(erased_at__isnull=True, deleted_seen_at__lte=due, pk__gt=after)
        found = list(rows.order_by("pk")[:PAGE])
        if not found:
            return
        still = deleted_among([row.user_id for row in found])
        for row in found:
            if not go_on():
                return
            if row.user_id not in still:
                ErasedPerson.objects.filter(pk=row.pk).update(deleted_seen_at=None)
                continue
            done = person.erase(row.user_id, Forgotten.MOODLE, now, go_on)
            counts["deleted_waiting"] += len(done.waiting)
            if not done.waiting:
                counts["deleted_erased"] += 1
                AuditEntry.objects.create(
                    actor=ACTOR,
                    action="erase_person",
                    object_type="person",
                    object_id=str(row.user_id),
                    details={"because": Forgotten.MOODLE, **done.numbers()},
                )
        after = found[-1].pk


def _walk_recipients(
    places: dict[str, Any], due: datetime, now: datetime, counts: dict[str, int], go_on: steps.GoOn
) -> None:
    """Mails about others that went to somebody whom Moodle has deleted: managers, holders of a role."""
    for _ in range(PAGES):
        if not go_on():
            return
        first = int(places.get("mail", 0))
        last = Email.objects.filter(pk__gt=first).order_by("pk").values_list("pk", flat=True)[:PAGE]
        ids = list(last)
        if not ids:
            places["mail"] = 0
            return
        window = Email.objects.filter(pk__gt=first, pk__lte=ids[-1], recipient_id__isnull=False)
        others = window.filter(forgotten_at__isnull=True).exclude(recipient_id=F("user_id"))
        to = dict(others.values_list("pk", "recipient_id"))
        people = {user_id for user_id in to.values() if user_id is not None}
        if people:
            gone = deleted_among(people)
            counts["deleted_seen"] += _note(people, gone, now)
            seen = ErasedPerson.objects.filter(user_id__in=gone, deleted_seen_at__lte=due)
            over = set(seen.values_list("user_id", flat=True))
            _forget_to([pk for pk, user_id in to.items() if user_id in over], now)
        places["mail"] = ids[-1]


def _forget_to(ids: Collection[int], now: datetime) -> None:
    """Empty mails that went to deleted users; failed ones are stopped before, as nobody would send them any more.

    Not while the fallback may still hand their claims back: a stopped mail would keep the others of its claim here.
    """
    failed = Email.objects.filter(pk__in=ids, state=EmailState.FAILED, lease="")
    young = set(failed.filter(state_at__gte=now - overdue.RECENT).values_list("pk", flat=True))
    todo = set(ids) - young
    stop = list(failed.filter(pk__in=todo).values_list("pk", flat=True))
    transitions.move(stop, EmailState.CANCELLED, now=now, reason=reasons.USER_DELETED, detail="")
    forget.mails(todo, Forgotten.MOODLE, now)
