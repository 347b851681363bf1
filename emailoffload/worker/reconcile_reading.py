"""What a reconciliation reads: a batch of claims with their mails, Moodle's rows, and what evidence there is."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings

from emailoffload.moodle import claims, evidence, models, variants
from emailoffload.moodle.evidence import Notice, TaskRun
from emailoffload.moodle.schema import chunks
from emailoffload.moodle.targets import REENGAGEMENT, TARGETS
from emailoffload.moodle.types import EMAILUSER_TIME
from emailoffload.outbox.models import Claim, Email
from emailoffload.outbox.states import LEFT, ClaimState, EmailState
from emailoffload.worker.reconcile_verdicts import LONGEST_RUN, Columns, Found, Held, Side

JUDGED = (ClaimState.CLAIMED, ClaimState.RELEASED)
"""Claims that are settled; what is being claimed or handed back is judged once it is."""
PATIENCE_SECONDS = 3600
"""Moodle's cron may be this late, or three of its periods, before something counts as not picked up."""
_WITHHELD = frozenset({EmailState.SUPPRESSED, EmailState.CANCELLED})


@dataclass(frozen=True, slots=True)
class Site:
    """What is read once a pass."""

    shift: int
    """Seconds that Moodle's database is ahead of our clock."""
    readable: evidence.Readable
    silent: bool
    """A patch of the site mails without a notification, so that a missing one says nothing (facts §2.11)."""
    last_run: Mapping[str, int]
    runs: Mapping[str, Sequence[TaskRun] | None]


def read_site(sources: Iterable[str], since: datetime) -> Site:
    """The clock, the tasks' runs since a time, and which evidence is readable. Raises Moodle's database errors."""
    readable = evidence.readable()
    names = sorted(sources)
    start = int(since.timestamp())
    return Site(
        shift=evidence.now() - int(time.time()),
        readable=readable,
        silent=variants.detect().company_cc,
        last_run={name: evidence.last_run(name) for name in names},
        runs={name: evidence.runs(name, start) if readable.task_log else None for name in names},
    )


@dataclass(frozen=True, slots=True)
class Item:
    """One claim with all that is judged about it."""

    claim: Claim
    held: Held
    row: Found
    side: Side


def read(found: Sequence[Claim], site: Site) -> list[Item]:
    """Everything about these claims, in some ten queries; claims that changed meanwhile are left out.

    Raises database errors.
    """
    rows = _rows(found)
    mails = _mails([claim.pk for claim in found])
    still = dict(Claim.objects.filter(pk__in=[c.pk for c in found]).values_list("pk", "state"))
    settled = [claim for claim in found if still.get(claim.pk) == claim.state]
    later = _later(settled)
    held = {claim.pk: _held(claim, mails[claim.pk], later, site.shift) for claim in settled}
    sides = _sides(settled, held, rows, site)
    return [
        Item(
            claim,
            held[claim.pk],
            _written(claim.source, rows.get((claim.source, claim.row_id))),
            sides[claim.pk],
        )
        for claim in settled
    ]


def _rows(found: Sequence[Claim]) -> dict[tuple[str, int], claims.Values]:
    return {
        (source, row_id): values
        for source in {claim.source for claim in found}
        for row_id, values in claims.values(source, {c.row_id for c in found if c.source == source}).items()
    }


def _written(source: str, values: claims.Values | None) -> Found:
    return None if values is None else values[: len(TARGETS[source].written)]


# --- our side ---


@dataclass(slots=True)
class _Mails:
    total: int = 0
    left: int = 0
    open: int = 0
    reasons: set[str] = field(default_factory=set)
    subjects: set[str] = field(default_factory=set)
    subjects_left: set[str] = field(default_factory=set)


def _mails(claim_ids: Collection[int]) -> defaultdict[int, _Mails]:
    found: defaultdict[int, _Mails] = defaultdict(_Mails)
    rows = Email.objects.filter(claim__in=claim_ids)
    for claim_id, state, reason, role, subject in rows.values_list(
        "claim_id", "state", "reason", "role", "subject"
    ):
        mails = found[claim_id]
        mails.total += 1
        if state in LEFT:
            mails.left += 1
        elif state in _WITHHELD:
            mails.reasons.add(reason)
        else:
            mails.open += 1
        # An erased subject matches no notification: it is not known, and its absence says nothing.
        if role == "user" and subject:
            mails.subjects.add(evidence.comparable(subject))
            if state in LEFT:
                mails.subjects_left.add(evidence.comparable(subject))
    return found


Later = Mapping[tuple[str, int], Sequence[tuple[int, Columns, Columns]]]
"""Claims that are ours, by row: id, before and after."""


def _later(found: Sequence[Claim]) -> Later:
    """All claims that we hold of the rows of these claims."""
    result: defaultdict[tuple[str, int], list[tuple[int, Columns, Columns]]] = defaultdict(list)
    for source in {claim.source for claim in found}:
        mine = [claim for claim in found if claim.source == source]
        others = Claim.objects.filter(
            source=source, row_id__in={claim.row_id for claim in mine}, state=ClaimState.CLAIMED
        )
        for row_id, pk, before, after in others.order_by("pk").values_list("row_id", "pk", "before", "after"):
            result[source, row_id].append((pk, before, after))
    return result


def _held(claim: Claim, mails: _Mails, later: Later, shift: int) -> Held:
    released = claim.state == ClaimState.RELEASED
    made = claim.claimed_at or claim.created_at
    return Held(
        source=claim.source,
        released=released,
        before=claim.before,
        after=claim.after,
        due=int(claim.due_at.timestamp()),
        claimed_at=int(made.timestamp()) + shift,
        settled_at=int(claim.settled_at.timestamp()) + shift if claim.settled_at else 0,
        completiontime=claim.completiontime,
        is_last=claim.is_last,
        left=mails.left,
        mails=mails.total,
        withheld=frozenset() if mails.left or mails.open else frozenset(mails.reasons),
        subjects=frozenset(mails.subjects if released else mails.subjects_left),
        after_us=[
            (before, after)
            for pk, before, after in later.get((claim.source, claim.row_id), ())
            if pk > claim.pk
        ],
    )


# --- Moodle's side ---


def _sides(
    found: Sequence[Claim],
    held: Mapping[int, Held],
    rows: Mapping[tuple[str, int], claims.Values],
    site: Site,
) -> dict[int, Side]:
    now = int(time.time()) + site.shift
    activities = _activities({claim.activity_id for claim in found if claim.source == REENGAGEMENT})
    deleted = _deleted({claim.user_id for claim in found if (claim.source, claim.row_id) not in rows})
    notices = _notices(found, held, now, site)
    explained = _explained(found, held, notices or {})
    patience = max(PATIENCE_SECONDS, 3 * settings.MOODLE_CRON_PERIOD_SECONDS)
    sides = {}
    for claim in found:
        delay, mode = activities.get(claim.activity_id, (None, None))
        of_user = None if notices is None else notices.get(claim.user_id, ())
        sides[claim.pk] = Side(
            now=now,
            delay=delay,
            remindable=claim.source != REENGAGEMENT or mode == EMAILUSER_TIME,
            user_deleted=claim.user_id in deleted,
            notices=of_user if claim.source == REENGAGEMENT else None,
            telling=not site.silent,
            explained=explained.get(claim.pk, 0),
            runs=site.runs.get(claim.source),
            last_run=site.last_run.get(claim.source, 0),
            patience=patience,
            margin=settings.CLAIM_MARGIN_SECONDS,
        )
    return sides


def _activities(ids: Iterable[int]) -> dict[int, tuple[int, int]]:
    """Delay and mode by activity."""
    return {
        row[0]: (row[1], row[2])
        for part in chunks(ids)
        for row in models.Reengagement.objects.filter(id__in=part).values_list(
            "id", "emaildelay", "emailuser"
        )
    }


def _deleted(user_ids: Collection[int]) -> set[int]:
    """Those of the users that are deleted."""
    there = {
        user_id
        for part in chunks(user_ids)
        for user_id in models.User.objects.filter(id__in=part, deleted=0).values_list("id", flat=True)
    }
    return set(user_ids) - there


def _notices(
    found: Sequence[Claim], held: Mapping[int, Held], now: int, site: Site
) -> dict[int, list[Notice]] | None:
    """The plugin's notifications of the learners, since the first of the claims can have led to one."""
    if not site.readable.notifications:
        return None
    asked = [claim for claim in found if claim.source == REENGAGEMENT and held[claim.pk].subjects]
    if not asked:
        return {}
    since = min(max(held[c.pk].due, held[c.pk].claimed_at) for c in asked) - settings.CLAIM_MARGIN_SECONDS
    return evidence.notices({claim.user_id for claim in asked}, since, now + settings.CLAIM_MARGIN_SECONDS)


def _explained(
    found: Sequence[Claim], held: Mapping[int, Held], notices: Mapping[int, Sequence[Notice]]
) -> dict[int, int]:
    """By claim: how many notifications with its subject the user's handed back reminders of that time explain."""
    asked = [
        c
        for c in found
        if c.source == REENGAGEMENT and c.state == ClaimState.CLAIMED and notices.get(c.user_id)
    ]
    if not asked:
        return {}
    returned: defaultdict[int, list[tuple[int, str]]] = defaultdict(list)
    rows = Email.objects.filter(
        role="user",
        claim__source=REENGAGEMENT,
        claim__state=ClaimState.RELEASED,
        claim__user_id__in={claim.user_id for claim in asked},
    )
    for user_id, due_at, subject in rows.values_list("claim__user_id", "claim__due_at", "subject"):
        returned[user_id].append((int(due_at.timestamp()), evidence.comparable(subject)))
    return {
        claim.pk: sum(
            1
            for due, subject in returned[claim.user_id]
            if subject in held[claim.pk].subjects and abs(due - held[claim.pk].due) <= LONGEST_RUN
        )
        for claim in asked
    }
