"""Addresses that get no mail: how events lead to that, how people add and lift, how it ends by itself.

What events lead to is `judgement`'s answer over *all* facts about an address, written here into its row; so late,
repeated and out-of-order events end in the same. A row is active while `active_key` holds its address (unique:
an address is suppressed once at a time). Afterwards it stays as history: `removed_by` names who lifted it, and is
empty where it ended by itself.

Whether SES's own list has the address is in `agreement`; `worker.suppressions` keeps both lists the same. For a row
that is over, *agreed* means that neither list has it.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import F, Max, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from emailoffload.feedback.judgement import Fact, Judgement, judge, permanent
from emailoffload.feedback.models import Event, EventType, Suppression
from emailoffload.outbox.models import AuditEntry

Reason = Suppression.Reason
Agreement = Suppression.Agreement
FROM_EVENT, FROM_SES, FROM_PERSON = "event", "ses", "person"
SES: Final = "Amazon SES"
"""In `removed_by` and `added_by`: its own list said so."""
EXPIRED, DELIVERED, GONE_AT_SES = "expired", "delivered", "gone_at_ses"
"""In `removal_reason`, where no person gave one."""
BATCH = 1000
_BARRING = (EventType.BOUNCE, EventType.COMPLAINT)
_ARRIVAL = (EventType.DELIVERY, EventType.OPEN, EventType.CLICK, EventType.COMPLAINT)


class Refused(ValueError):
    """It cannot be done; the text says why, for people."""


def key(address: str) -> str:
    """An address as rows and SES have it: lower case, the domain in ASCII."""
    local, at, domain = address.strip().lower().rpartition("@")
    if not domain.isascii():
        with contextlib.suppress(UnicodeError):  # nothing can be sent there, so nothing is suppressed
            domain = domain.encode("idna").decode()
    return local + at + domain


def active(now: datetime | None = None) -> Q:
    """The rows whose addresses get no mail now."""
    not_over = Q(until__isnull=True) | Q(until__gt=now or timezone.now())
    return not_over & Q(active_key__isnull=False)


def suppressed(addresses: Iterable[str], now: datetime | None = None) -> dict[str, Suppression]:
    """Those of the addresses that get no mail now, by `key`; a query per thousand."""
    wanted = sorted({key(address) for address in addresses} - {""})
    found: dict[str, Suppression] = {}
    for start in range(0, len(wanted), BATCH):
        for row in Suppression.objects.filter(active(now), active_key__in=wanted[start : start + BATCH]):
            found[row.address] = row
    return found


def consider(events: Sequence[Event], *, now: datetime | None = None) -> int:
    """Judge the addresses of new events anew; returns how many are suppressed that were not.

    Call it in the transaction that stored the events and applied them to their mails. Raises IntegrityError where
    another process suppresses the same address at this moment: the transaction is to be run again. Two processes
    that store transient bounces of one address at the same moment may each miss the other's; the next bounce counts
    both.
    """
    now = now or timezone.now()
    told = {event.address for event in events if event.type in _BARRING}
    arrived = {event.address for event in events if event.type in _ARRIVAL} - told - {""}
    if arrived:
        waiting = Suppression.objects.filter(active_key__in=arrived, reason=Reason.TRANSIENT)
        told.update(waiting.values_list("address", flat=True))
    # SES takes no other addresses, and a database may take them for their neighbours without accents.
    told = {address for address in told if address and address.isascii()}
    return _judge_anew(sorted(told), now) if told else 0


@dataclass(slots=True)
class _Past:
    """What ended former suppressions of one address."""

    lifted: datetime | None = None
    listed_after: datetime | None = None


def _judge_anew(addresses: Sequence[str], now: datetime) -> int:
    rows = {row.address: row for row in Suppression.objects.filter(active_key__in=addresses)}
    over = [address for address, row in rows.items() if row.until and row.until <= now]
    if over:
        expire(now, over)
        rows = {address: row for address, row in rows.items() if address not in over}
    past = _past(addresses, now)
    facts, events = _facts(addresses)
    arrived = _arrivals(address for address, found in facts.items() if _counts(found))
    new = []
    for address in addresses:
        before = past.get(address, _Past())
        answer = judge(
            facts.get(address, []),
            settings.TRANSIENT_BOUNCES,
            arrived=arrived.get(address),
            lifted=before.lifted,
            listed_after=before.listed_after,
        )
        if answer and answer.until and answer.until <= now:
            answer = None
        row = rows.get(address)
        bounced = bool(facts.get(address)) and address not in arrived
        if row is not None and row.event_id is None and answer is None and bounced:
            continue  # what it was judged by is erased, and another bounce is no sign that it works again
        if row is not None:
            _bring_up_to_date(row, answer, events)
        elif answer:
            new.append(_new(address, answer, events[answer.evidence]))
    Suppression.objects.bulk_create(new)
    return len(new)


def _past(addresses: Collection[str], now: datetime) -> dict[str, _Past]:
    found: dict[str, _Past] = defaultdict(_Past)
    lifted = Suppression.objects.filter(address__in=addresses, active_key__isnull=True).exclude(removed_by="")
    for row in lifted.only("address", "removed_at", "agreement", "checked_at"):
        past = found[row.address]
        # Until it is off SES's list, that the list has it is no news.
        off = now if row.agreement == Agreement.TO_REMOVE else row.checked_at
        past.lifted = max(filter(None, (past.lifted, row.removed_at)), default=None)
        past.listed_after = max(filter(None, (past.listed_after, off)), default=None)
    return found


def _facts(addresses: Collection[str]) -> tuple[dict[str, list[Fact]], dict[str, Event]]:
    """What is believed about each address, and the events by their keys."""
    facts: dict[str, list[Fact]] = defaultdict(list)
    events: dict[str, Event] = {}
    rows = Event.objects.filter(address__in=addresses, type__in=_BARRING, noted=False)
    found = list(
        rows.only(
            "key", "address", "at", "type", "kind", "subkind", "diagnostic", "email_id", "message_id"
        )
    )  # fmt: skip
    replies = _replies(found)
    for event in found:
        fact = Fact(event.key, event.at, event.type, event.kind, event.subkind)
        if (event.message_id, event.address) in replies and not permanent(fact):
            continue
        facts[event.address].append(fact)
        events[event.key] = event
    return facts, events


def _replies(events: Iterable[Event]) -> set[tuple[str, str]]:
    """Mails that are not known here and arrived, by message id and address: their transient bounces are replies.

    Those of known mails are noted by `fold`.
    """
    bounced = [
        event
        for event in events
        if event.email_id is None and event.message_id and event.type == EventType.BOUNCE
    ]
    if not bounced:
        return set()
    arrived = Event.objects.filter(address__in={event.address for event in bounced}, type__in=_ARRIVAL)
    ids = {event.message_id for event in bounced}
    return set(arrived.filter(message_id__in=ids).values_list("message_id", "address"))


def _counts(facts: Iterable[Fact]) -> bool:
    return bool(settings.TRANSIENT_BOUNCES) and any(fact.type == EventType.BOUNCE for fact in facts)


def _arrivals(addresses: Iterable[str]) -> dict[str, datetime]:
    """When a mail to each of these last arrived."""
    wanted = list(addresses)
    if not wanted:
        return {}
    rows = Event.objects.filter(address__in=wanted, type=EventType.DELIVERY, noted=False).order_by()
    return dict(rows.values("address").annotate(last=Max("at")).values_list("address", "last"))


def _new(address: str, answer: Judgement, event: Event) -> Suppression:
    return Suppression(
        address=address,
        active_key=address,
        origin=FROM_EVENT,
        agreement=_agreement(answer),
        **_columns(answer, event),
    )


def _columns(answer: Judgement, event: Event) -> dict[str, object]:
    return {
        "reason": answer.reason,
        "event_id": event.pk,
        "email_id": event.email_id,
        "detail": event.diagnostic,
        "since": answer.since,
        "until": answer.until,
    }


def _agreement(answer: Judgement) -> Agreement:
    if answer.until:
        return Agreement.OURS
    return Agreement.AGREED if answer.on_account_list else Agreement.TO_ADD


def _bring_up_to_date(row: Suppression, answer: Judgement | None, events: dict[str, Event]) -> None:
    """Make an active row say what the facts say; each change is lost if the row was lifted meanwhile."""
    mine = Suppression.objects.filter(pk=row.pk, active_key=row.address)
    if answer is None:
        if row.reason == Reason.TRANSIENT:
            mine.update(active_key=None, removed_at=timezone.now(), removal_reason=DELIVERED)
        return
    for_good = row.reason != Reason.TRANSIENT
    if row.reason == Reason.PERSON or (for_good and answer.until):
        return
    columns = _columns(answer, events[answer.evidence])
    if row.origin == FROM_SES:
        columns["since"] = min(row.since, answer.since)
        if row.reason == Reason.COMPLAINT:
            columns["reason"] = row.reason
    if not for_good and not answer.until:
        columns["agreement"] = _agreement(answer)
    elif answer.on_account_list and row.agreement == Agreement.TO_ADD:
        columns["agreement"] = Agreement.AGREED
    if any(getattr(row, name) != value for name, value in columns.items()):
        mine.update(**columns)


def expire(now: datetime, addresses: Collection[str] | None = None) -> int:
    """End what was to end by now, of these addresses or of all; returns how many."""
    over = Suppression.objects.filter(active_key__isnull=False, until__lte=now)
    if addresses is not None:
        over = over.filter(active_key__in=addresses)
    return over.update(active_key=None, removed_at=F("until"), removal_reason=EXPIRED)


def add(address: str, *, actor: str, reason: str, now: datetime | None = None) -> Suppression:
    """Suppress an address by a person's decision, with an audit entry.

    One that is suppressed for a while is from then on suppressed for good. Raises Refused: no address, no
    reason, or suppressed already.
    """
    now = now or timezone.now()
    address, reason = key(address), reason.strip()
    if not reason:
        raise Refused(_("A reason is needed."))
    try:
        validate_email(address)
    except ValidationError:
        address = ""
    if not address.isascii() or not 0 < len(address) <= 254:
        raise Refused(_("This is not an email address."))
    columns = {
        "reason": Reason.PERSON, "origin": FROM_PERSON, "detail": reason[:500], "since": now, "until": None,
        "added_by": actor[:150], "agreement": Agreement.TO_ADD, "checked_at": None, "event": None, "email": None,
    }  # fmt: skip
    try:
        with transaction.atomic():
            expire(now, [address])
            row = Suppression.objects.select_for_update().filter(active_key=address).first()
            if row is None:
                row = Suppression(address=address, active_key=address)
            elif row.reason != Reason.TRANSIENT:
                raise Refused(_("This address is suppressed already."))
            for name, value in columns.items():
                setattr(row, name, value)
            row.save()
            _audit("suppress", row, actor, reason)
    except IntegrityError:
        raise Refused(_("This address is suppressed already.")) from None
    return row


def lift(row_id: int, *, actor: str, reason: str, now: datetime | None = None) -> Suppression:
    """Let the address of an active row get mail again, with an audit entry; SES's list follows later.

    Raises Refused: no reason, or it is not suppressed (any more).
    """
    now = now or timezone.now()
    reason = reason.strip()
    if not reason:
        raise Refused(_("A reason is needed."))
    with transaction.atomic():
        row = Suppression.objects.select_for_update().select_related("event").filter(pk=row_id).first()
        if row is None or row.active_key is None:
            raise Refused(_("This address is not suppressed any more."))
        # SES's clock may be ahead of ours: what led here is over all the same.
        seen = row.event.at if row.event else now
        row.active_key, row.removed_at = None, max(now, seen)
        row.removed_by, row.removal_reason = actor[:150], reason[:500]
        # Also where it was still to be added: the request may be on its way.
        row.agreement = Agreement.AGREED if row.agreement == Agreement.OURS else Agreement.TO_REMOVE
        row.save()
        _audit("lift_suppression", row, actor, reason)
    return row


def _audit(action: str, row: Suppression, actor: str, reason: str) -> None:
    AuditEntry.objects.create(
        actor=actor[:150],
        action=action,
        object_type="suppression",
        object_id=str(row.pk),
        reason=reason[:500],
        details={"since": row.since.isoformat(), "why": str(row.reason)},
    )
