"""Claims in our own database: intended before the claim is made, settled after it (design §3.4).

1. `intend` stores claims as *intended* with their mails as *prepared*, in one transaction.
2. The caller claims in Moodle's database.
3. `settle` marks what was won as *claimed* (mails *queued*) and what was not as *lost* (mails dropped).

A crash between the steps leaves intents that recovery settles by looking at Moodle's rows.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Case, Value, When
from django.utils import timezone

from emailoffload.moodle.targets import TARGETS
from emailoffload.outbox import bulk, content, deadlocks, hourchanges
from emailoffload.outbox.figures import CLAIMS, EMAILS, LeftRow
from emailoffload.outbox.models import Claim, Content, Email, Run
from emailoffload.outbox.states import ADDRESS_SUPPRESSED, ClaimState, EmailState
from emailoffload.sources import reasons
from emailoffload.sources.protocol import Candidate, RenderedMail

MAX_STATEMENT = 4 * 1024 * 1024
"""Bytes of contents per INSERT: servers refuse statements over max_allowed_packet, 16 MB by default; the
driver may double binary data."""
_FORGET_AT_ONCE = 1000
"""Mails of dropped claims that one pass forgets."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A claim that is stored as intended."""

    pk: int
    candidate: Candidate

    @property
    def source(self) -> str:
        """What it is claimed from."""
        return self.candidate.source

    @property
    def before(self) -> Mapping[str, int | None]:
        """The row's values as they were read."""
        return self.candidate.before

    @property
    def after(self) -> Mapping[str, int | None]:
        """The row's values as the claim writes them."""
        return self.candidate.after

    @property
    def row_id(self) -> int:
        """The row in Moodle."""
        return self.candidate.row_id

    @property
    def due_at(self) -> dt.datetime:
        """When it is due."""
        return moment(self.candidate.due)


@dataclass(frozen=True, slots=True)
class Intended:
    """What `intend` stored, and the rows that it left alone with the reason."""

    claims: dict[int, Stored]
    """Claims by Moodle's row id."""
    left: dict[int, str]
    """Reason codes by Moodle's row id."""


def intent_key(candidate: Candidate) -> str:
    """Names one mail owed: the row with the values read. Unique among claims that are intended or held."""
    return _key(candidate.source, candidate.row_id, candidate.before)


def _key(source: str, row_id: int, before: Mapping[str, int | None]) -> str:
    return f"{source}:{row_id}:" + ":".join(str(value) for value in _written(source, before))


def _written(source: str, values: Mapping[str, int | None]) -> tuple[int | None, ...]:
    """The values of the columns that a claim writes.

    What is only compared does not tell one mail from another: Moodle may mark a row as completed at any time,
    and the mail that is owed stays the same, with the same values to be written.
    """
    return tuple(values[name] for name in sorted(TARGETS[source].written))


def moment(seconds: int) -> dt.datetime:
    """Moodle's UNIX seconds as an aware datetime."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


Sealed = Mapping[int, Sequence[tuple[str, bytes]]]
"""What the mails of candidates say, as `content.seal` gives it, by Moodle's row id."""


def seal(candidates: Sequence[Candidate]) -> Sealed:
    """Seal the mails of candidates: the part of storing them that needs no database."""
    return {candidate.row_id: [content.seal(mail) for mail in candidate.mails] for candidate in candidates}


def intend(candidates: Sequence[Candidate], run: Run | None, sealed: Sealed | None = None) -> Intended:
    """Store the intent to claim, with the rendered mails, in one transaction; `sealed` saves sealing them here.

    Left alone are rows that another process is claiming, releasing or holds, and rows that were handed back to
    Moodle with these very values: claiming those again would take back what a person or a fallback gave away.
    """
    for _ in range(3):
        taken = taken_by_others(candidates)
        fresh = [candidate for candidate in candidates if candidate.row_id not in taken]
        try:
            return Intended(deadlocks.survive(partial(_store, fresh, run, sealed or seal(fresh))), taken)
        except IntegrityError:
            continue  # another process stored the same intent after we looked; look again
    return Intended({}, {candidate.row_id: reasons.CLAIM_IN_PROGRESS for candidate in candidates})


def taken_by_others(candidates: Sequence[Candidate]) -> dict[int, str]:
    """Rows that are to be left alone because of a claim that there is or was, with the reason; two queries."""
    keys = {intent_key(candidate): candidate.row_id for candidate in candidates}
    held = Claim.objects.filter(intent_key__in=list(keys)).values_list("intent_key", flat=True)
    taken = {keys[key]: reasons.CLAIM_IN_PROGRESS for key in held if key is not None}
    by_row = {candidate.row_id: candidate for candidate in candidates}
    others = Claim.objects.filter(
        source=candidates[0].source if candidates else "",
        row_id__in=list(by_row),
        state__in=[ClaimState.RELEASED, ClaimState.INTENDED, ClaimState.RELEASING],
    ).values_list("row_id", "state", "before")
    for row_id, state, before in others:
        if state != ClaimState.RELEASED:
            # Whether it was made is read from the row, which must not go on to the next reminder before.
            taken[row_id] = reasons.CLAIM_IN_PROGRESS
        elif _written(by_row[row_id].source, before) == _written(
            by_row[row_id].source, by_row[row_id].before
        ):
            taken.setdefault(row_id, reasons.HANDED_BACK)
    return taken


def _store(candidates: Sequence[Candidate], run: Run | None, sealed: Sealed) -> dict[int, Stored]:
    now = timezone.now()
    run_id = run.pk if run else None
    claims = [_claim(candidate, run_id, now) for candidate in candidates]
    emails = [
        _email(claim, mail, now, suppressed=number in candidate.suppressed)
        for claim, candidate in zip(claims, candidates, strict=True)
        for number, mail in enumerate(candidate.mails)
    ]
    with transaction.atomic():
        claim_ids = bulk.insert_with_ids(Claim, claims)
        owners = iter(emails)
        for claim_id, candidate in zip(claim_ids, candidates, strict=True):
            for _ in candidate.mails:
                next(owners)["claim_id"] = claim_id
        store_emails(emails, [body for candidate in candidates for body in sealed[candidate.row_id]])
        hourchanges.began(CLAIMS, [now] if claims else [])
    return {
        candidate.row_id: Stored(claim_id, candidate)
        for claim_id, candidate in zip(claim_ids, candidates, strict=True)
    }


def store_emails(emails: Sequence[bulk.Row], sealed: Sequence[tuple[str, bytes]]) -> list[int]:
    """Insert new emails with what they say, as `content.seal` gave it; returns their ids. Call it in a transaction."""
    ids = bulk.insert_with_ids(Email, emails)
    hourchanges.began(EMAILS, {row["created_at"] for row in emails})
    part: list[bulk.Row] = []
    size = 0
    for email_id, (key_id, body) in zip(ids, sealed, strict=True):
        if part and size + len(body) > MAX_STATEMENT:
            bulk.insert(Content, part)
            part, size = [], 0
        part.append({"email_id": email_id, "key_id": key_id, "body": body})
        size += len(body)
    bulk.insert(Content, part)
    return ids


def _claim(candidate: Candidate, run_id: int | None, now: dt.datetime) -> dict[str, Any]:
    return {
        "ref": uuid.uuid4(),
        "source": candidate.source,
        "row_id": candidate.row_id,
        "template": candidate.template[:100],
        "intent_key": intent_key(candidate),
        "state": ClaimState.INTENDED,
        "before": dict(candidate.before),
        "after": dict(candidate.after),
        "under_lock": candidate.under_lock,
        "user_id": candidate.user_id,
        "user_name": candidate.user_name[:255],
        "user_email": candidate.user_email[:254],
        "activity_id": candidate.activity_id,
        "activity_name": candidate.activity_name[:255],
        "cmid": candidate.cmid,
        "course_id": candidate.course_id,
        "course_name": candidate.course_name[:1333],
        "company_id": candidate.company_id,
        "company_name": candidate.company_name[:255],
        "ordinal": candidate.ordinal,
        "is_last": candidate.is_last,
        "completiontime": candidate.completiontime,
        "fallback": candidate.fallback,
        "run_id": run_id,
        "due_at": moment(candidate.due),
        "created_at": now,
    }


def _email(
    claim: dict[str, Any], mail: RenderedMail, now: dt.datetime, *, suppressed: bool
) -> dict[str, Any]:
    start = max(claim["due_at"], now)
    return {
        "ref": uuid.uuid4(),
        "source": claim["source"],
        "template": claim["template"],
        "role": mail.role,
        "origin": mail.origin[:120],
        "user_id": claim["user_id"],
        "recipient_id": mail.recipient_id,
        "activity_id": claim["activity_id"],
        "course_id": claim["course_id"],
        "company_id": claim["company_id"],
        "address": mail.to_address[:254],
        "name": mail.to_name[:255],
        "subject": mail.subject[:998],
        "sensitive": mail.sensitive,
        "state": EmailState.PREPARED,
        "state_at": now,
        "reason": ADDRESS_SUPPRESSED if suppressed else "",
        "created_at": now,
        "due_at": claim["due_at"],
        "next_try_at": claim["due_at"],
        "deadline_at": start + dt.timedelta(seconds=settings.SEND_DEADLINE_SECONDS),
    }


def settle(won: Collection[int], lost: Collection[int]) -> int:
    """Mark claims, by their ids, as won or lost, in one transaction; returns how many are now claimed.

    Mails of won claims are queued, those for suppressed addresses are suppressed at once. Mails of lost claims are
    dropped, nobody was promised them.
    """
    return deadlocks.survive(lambda: _settle(won, lost))


# What `intend` marked as suppressed is never queued, whoever settles the claim.
_PROMISED = Case(
    When(reason=ADDRESS_SUPPRESSED, then=Value(EmailState.SUPPRESSED)), default=Value(EmailState.QUEUED)
)


def _settle(won: Collection[int], lost: Collection[int]) -> int:
    now = timezone.now()
    with transaction.atomic():
        claimed = 0
        if won:
            claimed = Claim.objects.filter(pk__in=won, state=ClaimState.INTENDED).update(
                state=ClaimState.CLAIMED, claimed_at=now
            )
            if claimed < len(won):
                claimed += sum(
                    _wake(claim, now)
                    for claim in Claim.objects.select_for_update().filter(
                        pk__in=won, state=ClaimState.DROPPED
                    )
                )
            promised = Email.objects.filter(claim__in=won, state=EmailState.PREPARED)
            if claimed < len(won):
                promised = promised.filter(claim__state=ClaimState.CLAIMED)
            promised.update(state=_PROMISED, state_at=now)
            hourchanges.claims(won)
            hourchanges.emails_of(won)
            _no_longer_left(won)
        if lost:
            _lose(lost, now, "")
    return claimed


def _no_longer_left(won: Collection[int]) -> None:
    """Delete the records that these rows were left to Moodle (`worker.left`).

    By their ids, which an ordinary read finds: to delete by what hardly ever is there would lock the gaps.
    """
    claims = Claim.objects.filter(pk__in=won, state=ClaimState.CLAIMED)
    rows: dict[str, set[tuple[int, dt.datetime]]] = {}
    for source, row_id, due_at in claims.values_list("source", "row_id", "due_at"):
        rows.setdefault(source, set()).add((row_id, due_at))
    for source, keys in rows.items():
        known = LeftRow.objects.filter(source=source, row_id__in={row_id for row_id, _ in keys})
        ids = [pk for pk, *key in known.values_list("pk", "row_id", "due_at") if (key[0], key[1]) in keys]
        if ids:
            hourchanges.left_rows(ids)
            LeftRow.objects.filter(pk__in=ids).delete()


def _lose(claim_ids: Collection[int], now: dt.datetime, note: str) -> None:
    hourchanges.claims(claim_ids)
    hourchanges.emails_of(claim_ids)
    Email.objects.filter(claim__in=claim_ids, state=EmailState.PREPARED).delete()
    Claim.objects.filter(pk__in=claim_ids, state__in=[ClaimState.INTENDED, ClaimState.DROPPED]).update(
        state=ClaimState.LOST, settled_at=now, intent_key=None, note=note
    )


def give_up(claim_ids: Collection[int], restore: Callable[[Collection[int]], object]) -> set[int]:
    """Lose these claims, and have `restore` put the rows of those back that it is given; returns the others.

    The others have been settled by recovery since, so that their mails may have left. A row that another process
    has claimed with the same values, after recovery had dropped this intent, is not put back: it is that one's.
    One transaction around `restore`, so that recovery settles none meanwhile. Raises what `restore` raises; nothing
    is lost then.
    """

    def once() -> set[int]:
        with transaction.atomic():
            ours = Claim.objects.select_for_update().filter(
                pk__in=claim_ids, state__in=[ClaimState.INTENDED, ClaimState.DROPPED]
            )
            mine = list(ours.order_by("pk"))
            restore(
                [claim.pk for claim in mine if claim.state == ClaimState.INTENDED or not _successor(claim)]
            )
            _lose([claim.pk for claim in mine], timezone.now(), "")
        return set(claim_ids) - {claim.pk for claim in mine}

    return deadlocks.survive(once)


def _successor(claim: Claim) -> bool:
    """Whether another process means to claim, or has claimed, the row of this dropped intent with the same values."""
    key = _key(claim.source, claim.row_id, claim.before)
    return _same(Claim.objects.select_for_update().filter(intent_key=key).first(), claim)


def _same(holder: Claim | None, claim: Claim) -> bool:
    return holder is not None and _written(claim.source, holder.after) == _written(claim.source, claim.after)


def _wake(claim: Claim, now: dt.datetime) -> bool:
    """Settle a claim that recovery had dropped while its process, thought dead, was about to claim the row.

    Moodle's row holds its values. If meanwhile another process stored the same intent with the same values,
    the row is that one's: it holds the key, and will find its own values in the row too. Otherwise it is ours.
    """
    key = _key(claim.source, claim.row_id, claim.before)
    holder = Claim.objects.select_for_update().filter(intent_key=key).first()
    if _same(holder, claim):
        _lose([claim.pk], now, "another process holds this row")
        return False
    claim.state = ClaimState.CLAIMED
    claim.claimed_at, claim.settled_at, claim.note = now, None, "claimed by a process that was thought dead"
    claim.intent_key = key if holder is None else f"{key}:{claim.pk}"
    claim.save(update_fields=["state", "claimed_at", "settled_at", "note", "intent_key"])
    return True


def drop(claim_ids: Collection[int], note: str) -> int:
    """Give up intents whose row still holds its old values: nothing happened in Moodle; returns how many.

    Their mails stay *prepared* for a while (`forget_dropped`), because a process that was stopped between
    intent and claim might still wake up and claim the row: recovery looks at dropped claims again.
    """
    with transaction.atomic():
        dropped = Claim.objects.filter(pk__in=claim_ids, state=ClaimState.INTENDED).update(
            state=ClaimState.DROPPED, settled_at=timezone.now(), intent_key=None, note=note
        )
        hourchanges.claims(claim_ids)
    return dropped


def forget_dropped(before: dt.datetime) -> int:
    """Delete the prepared mails of claims that were dropped before a time; returns how many mails."""
    ids = list(
        Email.objects.filter(
            state=EmailState.PREPARED, claim__state=ClaimState.DROPPED, claim__settled_at__lt=before
        ).values_list("pk", flat=True)[:_FORGET_AT_ONCE]
    )
    with transaction.atomic():
        hourchanges.emails(ids)
        Email.objects.filter(pk__in=ids, state=EmailState.PREPARED).delete()
    return len(ids)
