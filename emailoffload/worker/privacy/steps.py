"""The ladder's steps: each finds what is older than its time and lets it go, in small batches, the oldest first.

Rows are found in the order of their keys, which is that of their making but for neighbours: by an index that holds
only what is still to be done (contents, claims), or from the beginning of the table where what is done is gone
(events, records). So a step looks at what it changes, at the few rows that may not go yet, and at one batch more.
Nothing is remembered from pass to pass: what a pass does not come to, the next one finds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

from django.contrib.admin.models import LogEntry
from django.db import transaction
from django.db.models import Q

from emailoffload.feedback.models import Event, EventProblem, Suppression
from emailoffload.moodle import claims as moodle_claims
from emailoffload.outbox import deadlocks, hourchanges
from emailoffload.outbox.models import AuditEntry, Claim, Email, Forgotten, RowError
from emailoffload.outbox.persons import ErasedPerson
from emailoffload.outbox.states import EmailState
from emailoffload.worker.privacy import forget

PAGE: Final = 1000
"""Rows looked at by one query."""
LOOKED_AT: Final = 200
"""Of the oldest rows, to tell whether a step is behind."""
DELETED_AT_ONCE: Final = 500
GoOn = Callable[[], bool]
"""Whether there is time for another batch."""
S = EmailState


def contents(before: datetime, now: datetime, go_on: GoOn) -> int:
    """Erase what mails said that were made before a time; returns how many.

    Sensitive ones have rules of their own (`outbox.erasure`). A failed mail keeps it while a person may still send it:
    as long again from when it failed.
    """
    done, after = 0, 0
    while go_on():
        # The index of what is not erased yet: its rows come in the order of their ids.
        found = _unerased(after, PAGE)
        ripe = [row[0] for row in found if _ripe(row, before)]
        for start in range(0, len(ripe), forget.BATCH):
            done += forget.contents(ripe[start : start + forget.BATCH], now)
            if not go_on():
                return done
        if not _older(found, before):
            break
        after = found[-1][0]
    return done


Unerased = tuple[int, datetime, str, str, datetime]
"""Id, when it was made, state, lease, and since when it has the state."""


def _unerased(after: int, most: int) -> list[Unerased]:
    rows = Email.objects.filter(sensitive=False, erased_at__isnull=True, pk__gt=after).order_by("pk")
    return list(rows.values_list("pk", "created_at", "state", "lease", "state_at")[:most])


def _ripe(row: Unerased, before: datetime) -> bool:
    _pk, made, state, lease, since = row
    free = not lease and state not in forget.BUSY
    return made < before and free and (state != S.FAILED or since < before)


def oldest_content(before: datetime) -> datetime | None:
    """When the oldest mail was made that `contents` would let go of; None: none. Of the first LOOKED_AT, by index."""
    return min((row[1] for row in _unerased(0, LOOKED_AT) if _ripe(row, before)), default=None)


def oldest_names(before: datetime) -> datetime | None:
    """When the oldest claim was made that `addresses` would empty; None: none. Of the first LOOKED_AT, by index."""
    rows = Claim.objects.filter(forgotten_at__isnull=True).order_by("pk")
    found = rows.values_list("pk", "created_at", "state")[:LOOKED_AT]
    old = {pk: made for pk, made, state in found if made < before and state not in forget.MOVING}
    return min((old[pk] for pk in old.keys() - _in_use(old, before)), default=None)


def _older(found: Sequence[tuple[Any, ...]], before: datetime) -> bool:
    """Whether one of these rows (key, time, …) is older; rows after a page without one are younger."""
    return any(row[1] < before for row in found)


def events(before: datetime, now: datetime, go_on: GoOn) -> int:
    """Delete events that came before a time; returns how many.

    Kept are those that may still prove that an uncertain mail left: its own, and any that carry its id.
    """
    done, after = 0, 0
    while go_on():
        rows = Event.objects.filter(pk__gt=after).order_by("pk")
        found = list(rows.values_list("pk", "received_at", "email_id", "ref", "match_again_at")[:PAGE])
        old = [row for row in found if row[1] < before]
        needed = undecided({row[2] for row in old if row[2]}, {row[3] for row in old if row[3]})
        ripe = [
            pk
            for pk, _at, email_id, ref, again in old
            if again is None and email_id not in needed and (not ref or ref not in needed)
        ]
        forget.events(ripe)
        done += len(ripe)
        if not old:
            break
        after = found[-1][0]
    return done


def undecided(ids: Collection[int], refs: Collection[str]) -> set[int | str]:
    """Of these mails, by id or reference, those that are busy: their ids and references."""
    # One by one: joined by OR, no index is used.
    named = Q(pk__in=ids), Q(ref__in=[UUID(ref) for ref in refs])
    rows = [
        row for each in named for row in Email.objects.filter(each, forget.busy()).values_list("pk", "ref")
    ]
    return {pk for pk, _ref in rows} | {ref.hex for _pk, ref in rows}


def problems(before: datetime, now: datetime, go_on: GoOn) -> int:
    """Erase what unreadable messages said that last came before a time; returns how many. That they came stays."""
    done = 0
    old = EventProblem.objects.filter(last_seen__lt=before, body__isnull=False).order_by("last_seen")
    while go_on() and (ids := list(old.values_list("pk", flat=True)[:DELETED_AT_ONCE])):
        done += EventProblem.objects.filter(pk__in=ids).update(body=None, key_id="")
    return done


def row_errors(before: datetime, now: datetime, go_on: GoOn) -> int:
    """Delete errors with rows of Moodle that were last seen before a time; returns how many."""
    return _while_there_are(RowError, Q(last_seen__lt=before), "last_seen", go_on)


def addresses(before: datetime, now: datetime, go_on: GoOn) -> int:
    """Empty claims that are older than a time, together with their mails; returns how many claims.

    A claim is as old as its newest mail: one that was sent again lately stays whole.
    """
    done, after = 0, 0
    while go_on():
        rows = Claim.objects.filter(forgotten_at__isnull=True, pk__gt=after).order_by("pk")
        found = list(rows.values_list("pk", "created_at", "state")[:PAGE])
        old = [pk for pk, made, state in found if made < before and state not in forget.MOVING]
        for start in range(0, len(old), forget.BATCH):
            part = old[start : start + forget.BATCH]
            emptied, _mails = forget.claims(set(part) - _in_use(part, before), Forgotten.RETENTION, now)
            done += len(emptied)
            if not go_on():
                return done
        if not _older(found, before):
            break
        after = found[-1][0]
    return done


def _in_use(claim_ids: Collection[int], before: datetime) -> set[int]:
    """Those of the claims with a mail that is busy, younger than a time, or failed later than that."""
    young = Q(created_at__gte=before) | Q(state=S.FAILED, state_at__gte=before) | forget.busy()
    return set(Email.objects.filter(young, claim__in=claim_ids).values_list("claim_id", flat=True))


def suppressions(before: datetime, now: datetime, go_on: GoOn) -> int:
    """Delete suppressions that ended before a time, and of which SES's list knows; returns how many.

    Whoever is suppressed now stays so: the address is needed for nothing else than not to write to it.
    """
    settled = (Suppression.Agreement.AGREED, Suppression.Agreement.OURS)
    over = Q(active_key__isnull=True, removed_at__lt=before, agreement__in=settled)
    return _while_there_are(Suppression, over, "pk", go_on)


def records(before: datetime, now: datetime, go_on: GoOn) -> int:
    """Delete the claims that are older than a time, with their mails and attempts; returns how many claims.

    Only what was emptied before, and only where Moodle's row does not hold the values that we claimed it from: as long
    as it does, our record is what keeps the mail from being sent a second time. Raises Moodle's database errors;
    then nothing of the batch is deleted.
    """
    done, after = 0, 0
    while go_on():
        rows = Claim.objects.filter(pk__gt=after).order_by("pk")
        found = list(
            rows.only("pk", "created_at", "state", "source", "row_id", "before", "forgotten_at")[:PAGE]
        )
        old = [claim for claim in found if claim.created_at < before]
        ripe = [claim for claim in old if claim.forgotten_at and claim.state not in forget.MOVING]
        for start in range(0, len(ripe), forget.BATCH):
            part = ripe[start : start + forget.BATCH]
            needed = _in_use([claim.pk for claim in part], before)
            gone = [claim for claim in part if claim.pk not in needed]
            done += _delete_claims([claim.pk for claim in _moved_on(gone)])
            if not go_on():
                return done
        if not old:
            break
        after = found[-1].pk
    return done


def _moved_on(found: Sequence[Claim]) -> list[Claim]:
    """Those whose rows in Moodle do not hold the old values any more, or are gone."""
    rows = {
        source: moodle_claims.values(source, {claim.row_id for claim in found if claim.source == source})
        for source in sorted({claim.source for claim in found})
    }
    return [
        claim
        for claim in found
        if not moodle_claims.holds(claim.source, rows[claim.source].get(claim.row_id), claim.before)
    ]


def _delete_claims(ids: Sequence[int]) -> int:
    return deadlocks.survive(partial(_delete_claims_once, ids)) if ids else 0


def _delete_claims_once(ids: Sequence[int]) -> int:
    with transaction.atomic():
        locked = Claim.objects.select_for_update().filter(pk__in=ids, forgotten_at__isnull=False)
        mine = list(locked.exclude(state__in=forget.MOVING).order_by("pk").values_list("pk", flat=True))
        busy = Email.objects.select_for_update().filter(forget.busy(), claim__in=mine)
        mine = sorted(set(mine) - set(busy.values_list("claim_id", flat=True)))
        hourchanges.emails_of(mine)
        hourchanges.claims(mine)
        # A mail may be protected by the one that repeats it: both go.
        Email.objects.filter(claim__in=mine, resend_of__isnull=False).update(resend_of=None)
        Email.objects.filter(claim__in=mine).delete()
        Claim.objects.filter(pk__in=mine).delete()
    return len(mine)


def leftovers(before: datetime, now: datetime, go_on: GoOn) -> int:
    """Delete what else is of no use once its mails are gone: marks of erased persons, traces of unreadable messages.

    The newest unreadable message stays: it may have been the event of a mail that is still uncertain.
    """
    done = _while_there_are(ErasedPerson, Q(erased_at__lt=before), "pk", go_on)
    newest = EventProblem.objects.order_by("-last_seen").values_list("pk", flat=True).first()
    old = Q(last_seen__lt=before) & ~Q(pk=newest)
    return done + _while_there_are(EventProblem, old, "last_seen", go_on)


def audit(before: datetime, now: datetime, go_on: GoOn) -> int:
    """Delete what was done before a time from the audit log, and from Django's own log of its admin."""
    done = _while_there_are(AuditEntry, Q(at__lt=before), "at", go_on)
    return done + _while_there_are(LogEntry, Q(action_time__lt=before), "pk", go_on)


def _while_there_are(model: type[Any], which: Q, order: str, go_on: GoOn) -> int:
    done = 0
    rows = model._default_manager.filter(which).order_by(order)
    while go_on() and (ids := list(rows.values_list("pk", flat=True)[:DELETED_AT_ONCE])):
        done += _delete(model, ids)
    return done


def _delete(model: type[Any], ids: Sequence[int]) -> int:
    """Delete rows by their keys, some hundred at a time; returns how many."""
    for start in range(0, len(ids), DELETED_AT_ONCE):
        part = sorted(ids[start : start + DELETED_AT_ONCE])
        deadlocks.survive(model._default_manager.filter(pk__in=part).delete)
    return len(ids)
