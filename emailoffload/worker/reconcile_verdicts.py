"""What a claim and Moodle's row say together: pure functions of what was read. The verdicts are `reconcile_words`.

What Moodle writes to a reminder's row (facts §2.5, §2.6): when it mails it, `emailsent + 1` and `emailtime` = start
of the run + delay, so later than the due time + delay; with the last mail it deletes the row; at completion it
deletes the row or sets `completed`. A claim writes neither (`moodle.claims`), so what the row holds tells who wrote
it. IOMAD writes `sent = modifiedtime` = the time at which it mailed the row (facts §7.2), and a person who asks for
it again empties `sent` (facts §7.6).

All times are Moodle's seconds; ours are shifted by the difference between the two databases' clocks before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from emailoffload.moodle.evidence import Notice, TaskRun
from emailoffload.moodle.targets import IOMAD_QUEUE, TARGETS
from emailoffload.sources import reasons
from emailoffload.sources.reengagement.timing import TWO_DAYS
from emailoffload.worker import reconcile_words as words

LONGEST_RUN = 3 * 3600
"""Seconds that a run of Moodle's mails on at most, as far as evidence is looked for."""
BY_THE_ROW = frozenset({reasons.ROW_RESTORED, reasons.ROW_CHANGED})
"""Reasons for which a mail was withheld because the row seemed to be Moodle's again."""

Columns = Mapping[str, int | None]
Found = tuple[int | None, ...] | None
"""What a row holds in the columns that a claim writes; None: it is gone."""


@dataclass(frozen=True, slots=True)
class Held:
    """A claim, as far as it is judged; `after_us` are the later claims of the same row, oldest first."""

    source: str
    released: bool
    before: Columns
    after: Columns
    due: int
    claimed_at: int
    settled_at: int
    """When it was handed back; 0 otherwise."""
    completiontime: int
    is_last: bool
    left: int
    """Mails that have left or may have left."""
    mails: int
    withheld: frozenset[str]
    """Reasons of the suppressed mails, where no mail has left and none may still leave; else empty."""
    subjects: frozenset[str] = frozenset()
    """Subjects of the mails to the learner, made comparable."""
    after_us: Sequence[tuple[Columns, Columns]] = ()
    """Their `before` and `after`."""


@dataclass(frozen=True, slots=True)
class Side:
    """Moodle's side of one claim."""

    now: int
    delay: int | None
    """The activity's `emaildelay` now; None: the activity is gone, or there is none."""
    remindable: bool = True
    """The activity still sends reminders after a delay."""
    user_deleted: bool = False
    notices: Sequence[Notice] | None = None
    """Notifications for the learner; None: not readable."""
    telling: bool = True
    """A reminder that Moodle sends leaves a notification on this site."""
    explained: int = 0
    """How many of them a reminder that was handed back for the same learner explains."""
    runs: Sequence[TaskRun] | None = None
    """Runs of the task as far as they are on record; None: not readable."""
    last_run: int = 0
    patience: int = 3600
    margin: int = 30


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, what was observed (a code of `reconcile_words.DETAILS`), and the moment of a notification."""

    verdict: str
    detail: str = ""
    notified: int | None = None


_AGREES = Judgement(words.AGREES)


def judge(held: Held, row: Found, side: Side) -> Judgement:
    """The verdict about one claim whose row holds `row`, in the order of `Target.written`."""
    found = _without_later_claims(held, row)
    if held.released:
        return _released(held, found, side)
    if held.source == IOMAD_QUEUE:
        return _claimed_mail(held, found, side)
    seen = _claimed_reminder(held, found, side)
    if seen.verdict != words.DOUBLE and held.left:
        notified = _same_notice(held, side)
        if notified is not None:
            return Judgement(words.DOUBLE, words.NOTICE, notified)
    return seen


def _values(held: Held, columns: Columns) -> Found:
    return tuple(columns.get(name) for name in TARGETS[held.source].written)


def _without_later_claims(held: Held, row: Found) -> Found:
    """What the row held before those of our later claims that it still shows."""
    found = row
    for before, after in reversed(held.after_us):
        if found is not None and found == _values(held, after):
            found = _values(held, before)
    return found


def _went_on_with_us(held: Held) -> bool:
    """Whether a later claim of ours was made on the very values that this one wrote."""
    ours = _values(held, held.after)
    if held.source == IOMAD_QUEUE:
        return any(before.get("modifiedtime") == held.after["modifiedtime"] for before, _ in held.after_us)
    return any(_values(held, before) == ours for before, _ in held.after_us)


# --- reminders that we hold ---


def _claimed_reminder(held: Held, found: Found, side: Side) -> Judgement:
    if _went_on_with_us(held):
        return _AGREES
    if found == _values(held, held.after):
        return _ours(held, side)
    if found is None:
        return _claimed_and_gone(held, side)
    if found == _values(held, held.before):
        return Judgement(words.DOUBLE, words.ROW_BACK) if held.left else _awaited(held, side)
    sent, at = found[0] or 0, found[1] or 0
    due = held.before["emailtime"] or 0
    if sent == (held.before["emailsent"] or 0) + 1 and _is_moodles(held, at, due, side):
        # The very reminder that we claimed, written by a run: by values that no claim writes.
        return Judgement(words.DOUBLE, words.OVERWRITTEN) if held.left else _AGREES
    if sent > (held.after["emailsent"] or 0) and _is_moodles(held, at, held.after["emailtime"] or 0, side):
        return _AGREES
    return Judgement(words.TOUCHED, words.OTHER_VALUES)


def _is_moodles(held: Held, emailtime: int, due: int, side: Side) -> bool:
    """Whether a run of Moodle's can have written this `emailtime` for a reminder that was due at `due`.

    It writes its own start + delay, and its start lies after the due time and not in the future. The delay may
    have been shortened since: then the one of the claim counts.
    """
    if side.delay is None:
        return emailtime > due
    delay = side.delay if held.is_last else max(side.delay, (held.after["emailtime"] or 0) - held.due)
    return emailtime > due and emailtime - delay <= side.now + side.margin


def _delay_is_known(held: Held, side: Side) -> bool:
    """Whether the activity's delay is still the one that our claim was made with, so that it tells a run's start."""
    if side.delay is None:
        return False
    basis = (held.after["emailtime"] or 0) - side.delay
    return held.is_last or held.due <= basis <= max(held.due, held.claimed_at) + side.margin


def _ours(held: Held, side: Side) -> Judgement:
    """The row is as we wrote it: then Moodle sends nothing, and we must have an answer for each mail."""
    if not held.mails:
        return Judgement(words.LOSS, words.NO_MAIL)
    if held.withheld & BY_THE_ROW and side.remindable:
        return Judgement(words.LOSS, words.WITHHELD)
    return _AGREES


def _claimed_and_gone(held: Held, side: Side) -> Judgement:
    """Moodle deletes a claimed row at completion, or at its next reminder, where the learner has left."""
    if not held.before.get("completed"):
        next_due = None if held.is_last else held.after["emailtime"]
        if held.completiontime < side.now or (next_due is not None and next_due < side.now):
            return _AGREES
    return _gone(side, words.LAST_GONE if held.before.get("completed") else words.ROW_GONE)


def _gone(side: Side, otherwise: str) -> Judgement:
    if side.user_deleted:
        return Judgement(words.GONE, words.USER_DELETED)
    return Judgement(words.GONE, otherwise if side.delay is not None else words.ACTIVITY_GONE)


def _same_notice(held: Held, side: Side) -> int | None:
    """When Moodle created a notification that only its own mail of this reminder explains; None: no sign.

    A run that mails a row which we claimed writes the row, and then the notification, after our claim; a run
    that never saw our claim, after the due time. From the next due time on it is the next reminder's.
    """
    start = max(held.due, held.claimed_at) - side.margin
    end = start + LONGEST_RUN
    if not held.is_last:
        end = min(end, held.after["emailtime"] or 0)
    same = _notices(held, side, start, end)
    return same[side.explained] if len(same) > side.explained else None


def _notices(held: Held, side: Side, start: int, end: int) -> list[int]:
    """Moments of the notifications with the subject of our mail, in a span of time."""
    return [
        notice.at
        for notice in side.notices or ()
        # Ours may begin with the site's prefix for subjects, which Moodle adds after the notification.
        if start <= notice.at <= end
        and notice.subject
        and any(subject.endswith(notice.subject) for subject in held.subjects)
    ]


# --- mails of IOMAD's queue that we hold ---


def _claimed_mail(held: Held, found: Found, side: Side) -> Judgement:
    ours = held.after["sent"]
    if _went_on_with_us(held):
        return _AGREES
    if found == _values(held, held.after):
        return _ours(held, side)
    if found is None:
        return _gone_mail(side)
    if found == (None, ours):
        return (
            _AGREES  # a person asked IOMAD for the mail again: a new mail, which the next claim or run sends
        )
    if found == _values(held, held.before):
        return Judgement(words.DOUBLE, words.ROW_BACK) if held.left else _awaited(held, side)
    sent = _iomads_time(found)
    if (ours or 0) < sent <= side.now + side.margin:
        return _sent_by_iomad(held, sent, side) if held.left else _AGREES
    return Judgement(words.TOUCHED, words.OTHER_VALUES)


def _iomads_time(found: tuple[int | None, ...]) -> int:
    """When IOMAD last marked a row as sent, also where it waits again since; 0 where it did not."""
    sent, modified = found
    return (modified or 0) if sent in (None, modified) else 0


def _sent_by_iomad(held: Held, sent: int, side: Side) -> Judgement:
    """IOMAD mailed a row of ours: a run that had it in memory, or a later one because a person asked for it."""
    if side.runs and side.runs[0].start <= held.claimed_at:
        spanning = any(
            run.start <= held.claimed_at + side.margin and run.end >= sent - side.margin for run in side.runs
        )
        return Judgement(words.DOUBLE, words.QUEUE_SPANNED) if spanning else _AGREES
    return Judgement(words.DOUBLE, words.QUEUE_OVERWRITTEN)


def _gone_mail(side: Side) -> Judgement:
    return Judgement(words.GONE, words.USER_DELETED if side.user_deleted else words.ROW_GONE)


# --- what was handed back ---


def _released(held: Held, found: Found, side: Side) -> Judgement:
    if found == _values(held, held.before):
        return _awaited(held, side)
    if found == _values(held, held.after):
        return Judgement(words.LOSS, words.STILL_OURS)
    return (
        _released_mail(held, found, side)
        if held.source == IOMAD_QUEUE
        else _released_reminder(held, found, side)
    )


def _awaited(held: Held, side: Side) -> Judgement:
    """The row has its former values: Moodle will send, or should have."""
    if held.source != IOMAD_QUEUE and held.due + TWO_DAYS < side.now:
        return Judgement(words.LOSS, words.TOO_LATE)
    since = max(held.due, held.settled_at or held.claimed_at)
    if side.now <= since + side.patience:
        return Judgement(words.WAITING, words.NOT_YET)
    runs = [run for run in side.runs or () if run.start > since]
    if runs and all(run.failed for run in runs):
        return Judgement(words.OVERDUE, words.RUN_FAILED)
    return Judgement(
        words.OVERDUE, words.PASSED_OVER if side.last_run > since + side.margin else words.NOT_RUN
    )


def _released_reminder(held: Held, found: Found, side: Side) -> Judgement:
    back_at = held.settled_at - side.margin
    notified = next(iter(_notices(held, side, back_at, side.now + side.margin)), None)
    if found is None:
        if notified is not None:
            return Judgement(words.PICKED_UP, words.NOTIFIED, notified)
        first = not held.before["emailsent"] and held.completiontime < side.now
        if held.is_last or held.before.get("completed") or first:
            return Judgement(words.PICKED_UP, words.LAST_REMOVED)
        return _gone(side, words.ROW_GONE)
    sent, at = found[0] or 0, found[1] or 0
    was, due = held.before["emailsent"] or 0, held.before["emailtime"] or 0
    if sent <= was or not _is_moodles(held, at, due, side):
        return Judgement(words.TOUCHED, words.OTHER_VALUES)
    if notified is not None:
        return Judgement(words.PICKED_UP, words.NOTIFIED, notified)
    if sent == was + 1 and side.delay is not None and _delay_is_known(held, side):
        start = at - side.delay
        if start > due + TWO_DAYS:
            return Judgement(words.LOSS, words.TOO_LATE)
        if _is_missing(held, start, side):
            return Judgement(words.LOSS, words.NO_NOTICE)
    return Judgement(words.PICKED_UP, words.COUNTED)


KEPT_BY_MOODLE = 6 * 86400
"""Moodle deletes read notifications after seven days unless set otherwise."""


def _is_missing(held: Held, start: int, side: Side) -> bool:
    """Whether a run that began at `start` must have left a notification by now, if it sent the reminder."""
    return (
        side.notices is not None
        and side.telling
        and bool(held.subjects)
        and side.now - KEPT_BY_MOODLE < start < side.now - LONGEST_RUN
    )


def _released_mail(held: Held, found: Found, side: Side) -> Judgement:
    if found is None:
        return _gone_mail(side)
    if _iomads_time(found) > (held.before["modifiedtime"] or 0):
        return Judgement(words.PICKED_UP, words.QUEUE_SENT)
    return Judgement(words.TOUCHED, words.OTHER_VALUES)
