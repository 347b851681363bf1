"""The inbox: each event stored once, matched with its mail and applied, before anybody acknowledges it.

Steps, for up to some hundred messages at once:
1. read them (`parse`), outside of any transaction;
2. in one transaction: leave out what is stored already; find the mails, by SES's message id, else by ours; lock
   them; store the events; fold *all* events of each mail into its row (`fold`, `outbox.reported`); tell
   suppression and reputation; record what was no event;
3. return: now, and not before, the messages may be deleted or answered with 200.

A process that dies before step 3 gets the same messages again and finds them stored. A message that alone makes
step 2 fail is found by halving and recorded as a problem, so that it blocks nothing; a database that is away
makes the whole call fail, so that nothing is acknowledged.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, Literal
from uuid import UUID

from django.db import DatabaseError, DataError, IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from emailoffload.feedback import reputation, suppression, testmail, told
from emailoffload.feedback.fold import SENT_TWICE, Folded, Sent, fold
from emailoffload.feedback.models import Event, EventProblem
from emailoffload.feedback.parse import Parsed, Unreadable, parse
from emailoffload.outbox import bulk, content, reported
from emailoffload.outbox.deadlocks import survive
from emailoffload.outbox.models import Claim, Email
from emailoffload.outbox.states import ClaimState, EmailState

logger = logging.getLogger(__name__)
S = EmailState

FIRST_LOOK = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(hours=6)
GIVE_UP_AFTER = timedelta(days=3)
"""How long the mail of an event is looked for; then the event stays, without a mail."""
LATER = timedelta(minutes=1)
"""When the event of a mail that somebody is handing back is applied."""
KEPT_BYTES = 64 * 1024
"""Of a message that is no event."""
AHEAD = timedelta(hours=1)
"""An event of a time later than this from now happened now: only a wrong clock, or a forger, says otherwise."""
COLLISIONS = 5
LOOKS = 500
"""Events looked at again in one transaction."""


@dataclass(frozen=True, slots=True)
class Message:
    """What came from the queue or was posted to the webhook, verified; `body` as it came."""

    body: bytes = field(repr=False)
    origin: Literal["queue", "webhook"] = "queue"


@dataclass(slots=True)
class Received:
    """What became of messages: counts."""

    messages: int = 0
    events: int = 0
    """New ones, stored now."""
    repeated: int = 0
    """Stored before."""
    silent: int = 0
    """Messages by which SES tries a topic, or tells of something else than mails."""
    problems: int = 0
    """Messages that are no events, kept as problems."""
    unmatched: int = 0
    """New events whose mail is not known, or not yet."""
    changed: int = 0
    """Emails whose rows changed."""
    doubles: int = 0
    """Emails of which it turned out that the recipient may have them twice."""

    def add(self, other: Received) -> None:
        """Add another's counts."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    def as_dict(self) -> dict[str, int]:
        """The counts under stable keys."""
        return asdict(self)


@dataclass(slots=True)
class _Problem:
    reason: str
    detail: str
    message: Message


@dataclass(slots=True)
class _Read:
    """What some messages say."""

    events: dict[str, tuple[Parsed, str]] = field(default_factory=dict)
    """By key: the event and how it came."""
    problems: list[_Problem] = field(default_factory=list)
    counts: Received = field(default_factory=Received)


def receive(messages: Sequence[Message], *, now: datetime | None = None) -> Received:
    """Store and apply what these messages say; when it returns they may be acknowledged.

    One transaction, several only where a message makes it fail. Raises database errors, and then nothing of these
    messages is to be acknowledged; what was stored before is found again.
    """
    now = now or timezone.now()
    read = _read(messages)
    try:
        return survive(lambda: _collide(lambda: _store(read, now)))
    except (DataError, IntegrityError) as error:
        return _halve(messages, error, now)
    except DatabaseError:
        raise
    except Exception as error:
        # Broad on purpose: whatever one message makes of this code is recorded on that message.
        return _halve(messages, error, now)


def _halve(messages: Sequence[Message], error: Exception, now: datetime) -> Received:
    if len(messages) > 1:
        middle = len(messages) // 2
        result = receive(messages[:middle], now=now)
        result.add(receive(messages[middle:], now=now))
        return result
    name = type(error).__name__
    logger.error(
        "An event of Amazon SES's could not be stored (%s). It is kept on the page “Unreadable events”; the others "
        "were stored.",
        name,
    )
    read = _Read(counts=Received(messages=1, problems=1))
    read.problems.append(
        _Problem("error", _("It could not be stored (%(name)s).") % {"name": name}, messages[0])
    )
    return survive(lambda: _collide(lambda: _store(read, now)))


def _collide(work: Callable[[], Received]) -> Received:
    """Do it again where another process has just stored one of the same events."""
    for number in range(COLLISIONS):
        try:
            return work()
        except IntegrityError:
            if number == COLLISIONS - 1:
                raise
            time.sleep(0.01 * 2**number)
    raise AssertionError("unreachable")


def _read(messages: Sequence[Message]) -> _Read:
    read = _Read(counts=Received(messages=len(messages)))
    for message in messages:
        try:
            found = parse(message.body)
        except Unreadable as why:
            read.problems.append(_Problem(why.reason, why.detail, message))
            read.counts.problems += 1
            continue
        read.counts.silent += not found
        for each in found:
            key = each.key
            read.counts.repeated += key in read.events
            read.events.setdefault(key, (each, message.origin))
    return read


def _store(read: _Read, now: datetime) -> Received:
    counts = Received(**read.counts.as_dict())
    with transaction.atomic():
        if read.events:
            _store_events(read, now, counts)
        if read.problems:
            _store_problems(read.problems, now)
    return counts


def _store_events(read: _Read, now: datetime, counts: Received) -> None:
    stored = Event.objects.filter(key__in=list(read.events)).values_list("key", flat=True)
    known = set(stored)
    counts.repeated += len(known)
    new = {key: found for key, found in read.events.items() if key not in known}
    if not new:
        return
    owners = _match({key: (each.message_id, each.ref, each.address) for key, (each, _) in new.items()})
    emails = _lock(owners.values())
    held = _held(emails.values())
    found = {key: pk for key, pk in owners.items() if pk in emails}
    rows = [_row(key, *new[key], found.get(key), held, now) for key in new]
    bulk.insert(Event, rows)
    # Nobody below asks for their keys, and reading them back costs as much as storing them.
    events = [Event(**row) for row in rows]
    for event in events:
        event.email = emails.get(event.email_id) if event.email_id else None
    _apply([email for pk, email in emails.items() if pk not in held], now, counts)
    counts.events += len(events)
    real = [event for event in events if not testmail.is_test(event.ref)]
    counts.unmatched += sum(1 for event in real if event.email is None)
    suppression.consider(real)
    reputation.count(real)


def _row(
    key: str, parsed: Parsed, origin: str, email_id: int | None, held: Collection[int], now: datetime
) -> dict[str, Any]:
    again = None
    if email_id in held:
        again = now + LATER
    elif email_id is None and not parsed.foreign and not testmail.is_test(parsed.ref):
        again = now + FIRST_LOOK
    return {
        "key": key,
        "type": parsed.type.value,
        "at": now if parsed.at > now + AHEAD else parsed.at,
        "received_at": now,
        "message_id": parsed.message_id,
        "ref": parsed.ref,
        "address": parsed.address,
        "identity": parsed.identity,
        "kind": parsed.kind,
        "subkind": parsed.subkind,
        "status": parsed.status,
        "diagnostic": parsed.diagnostic,
        "email_id": email_id,
        "match_again_at": again,
        "noted": testmail.is_test(parsed.ref),
        "origin": origin,
    }


def _match(wanted: dict[Any, tuple[str, str, str]]) -> dict[Any, int]:
    """Which email each is about, by (SES's message id, our id, recipient); by message id, else by our id.

    Our id is in a header, which a copy has too that somebody forwards through the same account: by it a mail is
    found only if the recipient, where one is named, is its own.
    """
    ids = sorted({message_id for message_id, _, _ in wanted.values() if message_id})
    by_id = dict(Email.objects.filter(message_id__in=ids).order_by("pk").values_list("message_id", "pk"))
    refs = sorted({UUID(ref) for message_id, ref, _ in wanted.values() if ref and message_id not in by_id})
    by_ref: dict[str, tuple[int, str]] = {}
    for start in range(0, len(refs), 1000):
        rows = Email.objects.filter(ref__in=refs[start : start + 1000]).values_list("ref", "pk", "address")
        by_ref |= {ref.hex: (pk, suppression.key(address)) for ref, pk, address in rows}
    found = {}
    for key, (message_id, ref, address) in wanted.items():
        if owner := by_id.get(message_id):
            found[key] = owner
        elif ref in by_ref and (not address or suppression.key(address) == by_ref[ref][1]):
            found[key] = by_ref[ref][0]
    return found


_NEEDED = (
    *reported.COLUMNS,
    "claim",
    "route",
    "sensitive",
    "company_id",
    "created_at",
    "lease",
    "leased_until",
    "forgotten_at",
)
"""Columns of emails that are looked at, or written."""


def _lock(ids: Iterable[int]) -> dict[int, Email]:
    emails = Email.objects.select_for_update().filter(pk__in=sorted(set(ids))).order_by("pk")
    return {email.pk: email for email in emails.only(*_NEEDED)}


def _held(emails: Iterable[Email]) -> set[int]:
    """The mails whose state is not to be touched now: Moodle is just getting them back, or SMTP is taking them.

    What the other side does is decided already; its end is recorded first, then the event is seen beside it.
    """
    emails = list(emails)
    waiting = {email.claim_id for email in emails if email.state in (S.QUEUED, S.FAILED)}
    back = set(
        Claim.objects.filter(pk__in=waiting, state=ClaimState.RELEASING).values_list("pk", flat=True)
        if waiting
        else []
    )
    return {
        email.pk
        for email in emails
        if (email.claim_id in back and email.state in (S.QUEUED, S.FAILED))
        or (email.state == S.SENDING and email.route == "smtp")
    }


def _apply(emails: Sequence[Email], now: datetime, counts: Received) -> None:
    """Fold all events of these locked mails into their rows."""
    by_id = {email.pk: email for email in emails}
    facts, was_noted = told.facts(by_id)
    gone = {email.pk: told.remembered(email, facts[email.pk]) for email in emails}
    for pk, known in gone.items():
        facts[pk] += known
    answers = told.answers([email for email in emails if told.differ(email, facts[email.pk])])
    reports: list[tuple[Email, reported.Reported]] = []
    now_noted: set[int] = set()
    for email in emails:
        own = answers.get(email.pk, email.message_id)
        before = email.reason
        folded = fold(
            Sent(EmailState(email.state), email.state_at, email.reason, email.detail, own, email.accepted_at),
            facts[email.pk],
        )
        if gone[email.pk] and before == SENT_TWICE and not folded.reason:
            folded = replace(folded, reason=SENT_TWICE)  # the other send's events are gone
        if email.forgotten_at:
            folded = replace(
                folded, detail=""
            )  # what was emptied stays so; the event has the words for its time
        now_noted |= {pk for pk in folded.noted if pk > 0}
        counts.doubles += folded.double and before != folded.reason
        reports.append((email, _report(folded)))
    changed = reported.apply(reports, now)
    counts.changed += len(changed)
    if now_noted - was_noted:
        Event.objects.filter(pk__in=now_noted - was_noted).update(noted=True)


_said = attrgetter(*reported.COLUMNS)


def _report(folded: Folded) -> reported.Reported:
    return reported.Reported(*_said(folded))


def _store_problems(problems: Sequence[_Problem], now: datetime) -> None:
    """Keep what was no event; the same again only counts up."""
    times = Counter(_digest(problem.message) for problem in problems)
    known = set(EventProblem.objects.filter(digest__in=times).values_list("digest", flat=True))
    rows = {}
    for problem in problems:
        digest = _digest(problem.message)
        if digest in known or digest in rows:
            continue
        key_id, body = content.seal_bytes(problem.message.body[:KEPT_BYTES])
        rows[digest] = EventProblem(
            digest=digest, origin=problem.message.origin, reason=problem.reason[:40],
            detail=problem.detail[:255], size=len(problem.message.body), key_id=key_id, body=body,
            first_seen=now, last_seen=now, times=times[digest],
        )  # fmt: skip
    EventProblem.objects.bulk_create(rows.values())
    for row in EventProblem.objects.select_for_update().filter(digest__in=known).only("times"):
        row.times += times[row.digest]
        row.last_seen = now
        row.save(update_fields=["times", "last_seen"])


def _digest(message: Message) -> str:
    return hashlib.sha256(message.body).hexdigest()


def look_again(limit: int = LOOKS, *, now: datetime | None = None) -> Received:
    """Look again for the mails of up to `limit` events whose time has come, and apply those that are found.

    Each time without a find makes the pause longer; after GIVE_UP_AFTER the event is kept without a mail.
    `events` of the answer are those looked at. Raises database errors; nothing is changed then.
    """
    now = now or timezone.now()
    return survive(lambda: _collide(lambda: _look_again(limit, now)))


def _look_again(limit: int, now: datetime) -> Received:
    counts = Received()
    with transaction.atomic():
        due = Event.objects.select_for_update().filter(match_again_at__lte=now).order_by("match_again_at")
        events = list(due[:limit])
        counts.events = len(events)
        if not events:
            return counts
        searched = {
            event.pk: (event.message_id, event.ref, event.address)
            for event in events
            if event.email_id is None
        }
        owners = {event.pk: event.email_id for event in events if event.email_id} | _match(searched)
        emails = _lock(owners.values())
        held = _held(emails.values())
        for event in events:
            event.email_id = owners.get(event.pk)
            event.match_again_at = _next_look(event, held, now)
            event.match_tries += 1
            counts.unmatched += event.email_id is None
        Event.objects.bulk_update(events, ["email_id", "match_again_at", "match_tries"])
        _apply([email for pk, email in emails.items() if pk not in held], now, counts)
        # What is noted of them, and whose mail it was, is known only now.
        suppression.consider(events, now=now)
        reputation.matched([event for event in events if event.pk in searched], emails)
    return counts


def _next_look(event: Event, held: Collection[int], now: datetime) -> datetime | None:
    if event.email_id in held:
        return now + LATER
    if event.email_id is not None or event.received_at < now - GIVE_UP_AFTER:
        return None
    pause = FIRST_LOOK * 2.0 ** min(event.match_tries + 1, 20)
    return now + min(LONGEST_PAUSE, pause)
