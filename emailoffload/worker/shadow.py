"""Shadow mode: what we would have sent is recorded, and later compared with what Moodle did to the row.

Nothing is claimed and nothing that a mail says is kept. A *shadow* is one mail owed of one row, named by the
row and its due time. What Moodle does shows in the row alone (facts §2.6, §7.2): it counts a reminder and sets
the time of the next one, or deletes the row with the last mail; it sets `sent` in IOMAD's queue.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from django.conf import settings
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from emailoffload.moodle import claims, targets
from emailoffload.outbox.intents import moment
from emailoffload.outbox.models import Claim, Shadow
from emailoffload.outbox.states import ClaimState
from emailoffload.sources.protocol import Candidate, Row

WAITING, SENT, UNTOUCHED, GONE, CHANGED = "waiting", "sent", "untouched", "gone", "changed"
MOST_WAITING = 100_000
"""Shadows that wait for their comparison at most; beyond that no more are recorded."""
MOST_COMPARED = 20_000
"""Shadows that one pass looks at, the longest due first."""
CHUNK = 1000
PATIENCE = dt.timedelta(hours=2)
"""A row that Moodle left as it was for so long after it was due, and three periods of its cron, is *untouched*."""
KEPT = dt.timedelta(days=14)
"""How long after its due time a comparison is kept."""

COUNTED, LAST_REMOVED, QUEUE_SENT = "counted", "last_removed", "queue_sent"
NOT_HANDLED, ROW_GONE, OTHER_VALUES, CLAIMED_BY_US = (
    "not_handled",
    "row_gone",
    "other_values",
    "claimed_by_us",
)
MEANINGS: Final[Mapping[str, Promise]] = {
    COUNTED: _("Moodle counted the reminder and set the time of the next one, as foreseen."),
    LAST_REMOVED: _("It was the last mail owed, and Moodle removed the row, as it does when it sends that."),
    QUEUE_SENT: _("IOMAD marked the mail as sent, as foreseen."),
    NOT_HANDLED: _(
        "Hours after it was due Moodle has not touched the row: its cron did not run, was far behind, or passed it "
        "over. We would have sent a mail here."
    ),
    ROW_GONE: _(
        "Moodle removed the row without counting a mail: the learner left, the activity was completed, or the kind "
        "of mail was switched off meanwhile."
    ),
    OTHER_VALUES: _("Somebody changed the row in another way: a reset, a person, another program."),
    CLAIMED_BY_US: _("We claimed it ourselves after all, because the rule was changed meanwhile."),
}
"""What was seen of a row, by the codes of `Shadow.detail`."""

_HELD = (ClaimState.CLAIMED, ClaimState.RELEASING)


def recorded(source: str, rows: Sequence[Row]) -> set[int]:
    """The ids of those rows that have a shadow for their present due time; one query per thousand."""
    due = {row.id: moment(row.due) for row in rows}
    found = set()
    for ids in _chunks(list(due)):
        known = Shadow.objects.filter(source=source, row_id__in=ids).values_list("row_id", "due_at")
        found |= {row_id for row_id, due_at in known if due[row_id] == due_at}
    return found


def record(candidates: Sequence[Candidate]) -> int:
    """Store a shadow of each candidate that has none yet; returns for how many there was room."""
    if not candidates:
        return 0
    waiting = Shadow.objects.filter(verdict=WAITING).order_by()[:MOST_WAITING].count()
    fit = candidates[: max(0, MOST_WAITING - waiting)]
    now = timezone.now()
    Shadow.objects.bulk_create(
        [_shadow(candidate, now) for candidate in fit], batch_size=CHUNK, ignore_conflicts=True
    )
    return len(fit)


def _shadow(candidate: Candidate, now: dt.datetime) -> Shadow:
    return Shadow(
        source=candidate.source,
        row_id=candidate.row_id,
        template=candidate.template[:100],
        before=dict(candidate.before),
        user_id=candidate.user_id,
        activity_id=candidate.activity_id,
        course_id=candidate.course_id,
        company_id=candidate.company_id,
        mails=min(len(candidate.mails), 32767),
        is_last=candidate.is_last,
        due_at=moment(candidate.due),
        seen_at=now,
    )


def compare(now: dt.datetime | None = None) -> dict[str, int]:
    """Compare shadows whose due time has passed with Moodle's rows; returns counts.

    Keys: shadows_compared, shadows_forgotten. Some three queries per thousand shadows. Raises database errors;
    what was compared until then stays.
    """
    now = now or timezone.now()
    due = Shadow.objects.filter(verdict=WAITING, due_at__lte=now).order_by("due_at", "pk")
    compared = 0
    for ids in _chunks(list(due.values_list("pk", flat=True)[:MOST_COMPARED])):
        compared += _settle(list(Shadow.objects.filter(pk__in=ids)), now)
    return {"shadows_compared": compared, "shadows_forgotten": _forget(now)}


def _settle(shadows: Sequence[Shadow], now: dt.datetime) -> int:
    verdicts: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for source in sorted({shadow.source for shadow in shadows}):
        of_source = [shadow for shadow in shadows if shadow.source == source]
        row_ids = {shadow.row_id for shadow in of_source}
        rows = claims.values(source, row_ids)
        # Claims are read after the rows: whoever claimed what was read here had stored it by then.
        claimed, in_progress = _claims(source, row_ids)
        for shadow in of_source:
            owed = _owed(shadow.row_id, shadow.before)
            if owed in in_progress:
                continue
            ours = (CHANGED, CLAIMED_BY_US) if owed in claimed else None
            found = ours or verdict(shadow, rows.get(shadow.row_id), now)
            if found:
                verdicts[found].append(shadow.pk)
    for (word, detail), ids in verdicts.items():
        Shadow.objects.filter(pk__in=ids, verdict=WAITING).update(
            verdict=word, detail=detail, compared_at=now
        )
    return sum(len(ids) for ids in verdicts.values())


Owed = tuple[int, tuple[tuple[str, int | None], ...]]
"""One mail owed: the row with the values that were read."""


def _owed(row_id: int, before: Mapping[str, int | None]) -> Owed:
    return row_id, tuple(sorted(before.items()))


def _claims(source: str, row_ids: Collection[int]) -> tuple[set[Owed], set[Owed]]:
    """What we claimed of these rows, and what somebody is claiming now."""
    made: set[Owed] = set()
    meant: set[Owed] = set()
    rows = Claim.objects.filter(source=source, row_id__in=row_ids, state__in=[*_HELD, ClaimState.INTENDED])
    for row_id, before, state in rows.values_list("row_id", "before", "state"):
        (made if state in _HELD else meant).add(_owed(row_id, before))
    return made, meant


def verdict(shadow: Shadow, found: claims.Values | None, now: dt.datetime) -> tuple[str, str] | None:
    """What Moodle did to a row that holds `found` now (None: it is gone): verdict and detail; None to wait."""
    overdue = now - max(shadow.due_at, shadow.seen_at) > _patience()
    queue = shadow.source == targets.IOMAD_QUEUE
    if found is None:
        # IOMAD keeps what it sent; the plugin deletes the row with the last mail.
        return (SENT, LAST_REMOVED) if shadow.is_last and not queue else (GONE, ROW_GONE)
    if queue:
        sent, modified = found
        if sent is not None:
            return SENT, QUEUE_SENT
        if modified != shadow.before["modifiedtime"]:
            return CHANGED, OTHER_VALUES
    else:
        counted, at = found[0] or 0, found[1] or 0
        was, due = shadow.before["emailsent"] or 0, shadow.before["emailtime"] or 0
        if counted > was and at > due:
            return SENT, COUNTED
        if (counted, at) != (was, due):
            return CHANGED, OTHER_VALUES
    return (UNTOUCHED, NOT_HANDLED) if overdue else None


def _patience() -> dt.timedelta:
    return max(PATIENCE, dt.timedelta(seconds=3 * settings.MOODLE_CRON_PERIOD_SECONDS))


def _forget(now: dt.datetime) -> int:
    """Delete old comparisons, some thousands at a time; returns how many."""
    done = (SENT, UNTOUCHED, GONE, CHANGED)
    old = Shadow.objects.filter(verdict__in=done, due_at__lt=now - KEPT)
    ids = list(old.order_by().values_list("pk", flat=True)[: 5 * CHUNK])
    if ids:
        Shadow.objects.filter(pk__in=ids).delete()
    return len(ids)


def _chunks(ids: Sequence[int]) -> list[Sequence[int]]:
    return [ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)]
