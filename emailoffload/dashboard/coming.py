"""What Moodle has planned for a user, and who will send it: the forecast of a pass, in words."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from django.conf import settings
from django.db.models import Max
from django.db.utils import Error as DatabaseFailure
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from emailoffload.dashboard import moodle_away, people, untaken, words
from emailoffload.dashboard.paging import MAX_ID
from emailoffload.dashboard.sentences import Tone, joined
from emailoffload.moodle import models as moodle
from emailoffload.moodle.errors import MoodleProblem, translated
from emailoffload.moodle.schema import readable
from emailoffload.moodle.targets import IOMAD_QUEUE, REENGAGEMENT
from emailoffload.moodle.types import EMAILUSER_COMPLETION, EMAILUSER_TIME, InProgress, QueueRow
from emailoffload.sources import reasons as codes
from emailoffload.sources import registry
from emailoffload.sources.protocol import Row
from emailoffload.sources.reengagement import outlook
from emailoffload.worker.forecast import Forecast, foresee

MOST: Final = 50
"""Mails listed of each source."""
LOOKED_AT: Final = 4 * MOST
"""Rows of a user that are read at most: those of activities that mail nobody are among them."""
SCAN_AT_ONCE: Final = 1_000_000
"""Up to this many rows of `reengagement_inprogress`, which has no index on users, it is read at once."""


@dataclass(frozen=True, slots=True)
class Item:
    """One mail that Moodle has planned: what, when, and in a word and a sentence who sends it."""

    source: str
    what: str
    course: str
    due: datetime | None
    """Aware; of a mail at completion, when the activity completes; None where Moodle's time is none."""
    answer: str
    sentence: str
    tone: Tone
    ordinal: int = 0
    """Which reminder it is, of how many; 0 where that says nothing."""
    of: int = 0
    routing: str = ""
    """The question for the page *Routing*, where a rule decides."""


@dataclass(slots=True)
class Coming:
    """What was found. `problem` and `cure` say why no pass can claim anything of a source."""

    items: list[Item] = field(default_factory=list)
    problem: str = ""
    cure: str = ""
    reachable: bool = True


@dataclass(frozen=True, slots=True)
class _Activity:
    name: str
    course: int
    remindercount: int
    emailuser: int


def is_quick() -> bool:
    """Whether Moodle's table of reminders is small enough to be read with every view of a user."""
    newest = people.ask(lambda: moodle.InProgress.objects.aggregate(most=Max("id"))["most"] or 0, 0)
    return newest.reachable and newest.value <= SCAN_AT_ONCE


def of(
    user_id: int,
    *,
    reminders: bool,
    companies: Collection[int] | None,
    deleted: bool = False,
    unreached: SafeString | str = "",
) -> Coming:
    """What is coming up for a user, soonest first.

    `deleted`: it is a deleted user; `unreached`: why Moodle mails them no reminders, as a sentence.
    `reminders`: whether the viewer may know of those. Of IOMAD's queue they see mails of `companies`; None: all.
    Some hundred small queries on Moodle's database for any number of mails, one of them reading the table of reminders.
    """
    coming = Coming()
    if not 0 < user_id <= MAX_ID:
        return coming
    try:
        with translated():
            if reminders:
                _reminders(user_id, coming, deleted=deleted, unreached=unreached)
            _queue(user_id, companies, coming)
    except (MoodleProblem, DatabaseFailure) as failure:
        moodle_away.note(failure)
        return Coming(reachable=False)
    coming.items.sort(key=lambda item: item.due or timezone.now())
    return coming


def _reminders(user_id: int, coming: Coming, *, deleted: bool, unreached: SafeString | str) -> None:
    rows = [row for row in registry.of_user(REENGAGEMENT, user_id, LOOKED_AT) if isinstance(row, InProgress)]
    activities = _activities({row.reengagement for row in rows})
    courses = _courses(activity.course for activity in activities.values())
    timed: list[InProgress] = []
    for row in rows:
        activity = activities.get(row.reengagement)
        if activity is None:
            continue
        if activity.emailuser == EMAILUSER_TIME and row.emailsent < activity.remindercount:
            timed.append(row)
        elif activity.emailuser == EMAILUSER_COMPLETION and not row.completed:
            course = courses.get(activity.course, "")
            due = _moment(row.completiontime)
            coming.items.append(
                Item(REENGAGEMENT, activity.name, course, due, *_at_completion(deleted, unreached))
            )
    forecasts = _foreseen(REENGAGEMENT, timed[:MOST], coming)
    for row, found in zip(timed, forecasts, strict=False):
        activity = activities[row.reengagement]
        coming.items.append(
            Item(
                REENGAGEMENT,
                activity.name,
                courses.get(activity.course, ""),
                _moment(row.due),
                *told(found),
                ordinal=row.emailsent + 1,
                of=activity.remindercount,
                routing=_question(found, user=user_id, activity=row.reengagement),
            )
        )


def _at_completion(deleted: bool, unreached: SafeString | str) -> tuple[str, SafeString, Tone]:
    """Who sends a mail of an activity that mails at its completion (facts §2.5: nobody, for who is deleted)."""
    if deleted:
        nobody = untaken.because(_("Moodle sends nothing either"), codes.USER_DELETED)
        return _("Nobody"), nobody, untaken.tone(codes.USER_DELETED)
    why = _("%(why)s.") % {"why": outlook.MEANINGS[outlook.ON_COMPLETION]}
    return _("Moodle"), joined(why, unreached), "quiet"


def _queue(user_id: int, companies: Collection[int] | None, coming: Coming) -> None:
    if not readable(moodle.QueuedEmail):
        return
    rows = [
        row
        for row in registry.of_user(IOMAD_QUEUE, user_id, MOST)
        if isinstance(row, QueueRow) and (companies is None or row.companyid in companies)
    ]
    courses = _courses(row.courseid or 0 for row in rows)
    for row, found in zip(rows, _foreseen(IOMAD_QUEUE, rows, coming), strict=True):
        what = words.template(row.template) if row.template else _("a mail without a template")
        course = courses.get(row.course_id or 0, "")
        asked = _question(found, user=user_id, company=row.company_id, template=row.template)
        coming.items.append(Item(IOMAD_QUEUE, what, course, _moment(row.due), *told(found), routing=asked))


def _question(found: Forecast, **known: int | str | None) -> str:
    """What the page *Routing* is to be asked, where a rule is the reason."""
    return (
        urlencode({name: value for name, value in known.items() if value})
        if untaken.is_ruled(found.reason)
        else ""
    )


def _foreseen(source: str, rows: Sequence[Row], coming: Coming) -> Sequence[Forecast]:
    """The forecasts; where no pass can begin, that Moodle has all of them, and why."""
    try:
        return foresee(source, rows)
    except MoodleProblem as problem:
        coming.problem, coming.cure = str(problem), problem.cure
        return [Forecast(row, False, "") for row in rows]


def told(found: Forecast) -> tuple[str, SafeString, Tone]:
    """Who sends a mail that is coming: a word, a sentence, and the tone of both."""
    if not found.claimed:
        if found.reason in codes.MOODLE_SENDS_NOTHING:
            nobody = untaken.because(_("Moodle sends nothing either"), found.reason)
            return _("Nobody"), nobody, untaken.tone(found.reason)
        return _("Moodle"), untaken.because(_("it is left to Moodle"), found.reason), "quiet"
    if found.barred:
        why = _("it is claimed and recorded, and nothing is sent, because the user's address is suppressed.")
        return _("Nobody"), joined(why), "bad"
    others = found.others_only and _("The user gets none: only the mails to others go out.")
    tone: Tone = "warn" if found.until or others else "good"
    return _("We"), joined(_when(found), others or "", _unless(found)), tone


def _when(found: Forecast) -> str:
    if found.row.due <= timezone.now().timestamp():
        return _("it is due: the next pass claims it, unless Moodle's cron sends it before.")
    minutes = max(1, settings.CLAIM_LEAD_SECONDS // 60)
    return ngettext(
        "it is claimed during the last %(minutes)d minute before it is due, and sent then.",
        "it is claimed during the last %(minutes)d minutes before it is due, and sent then.",
        minutes,
    ) % {"minutes": minutes}


def _unless(found: Forecast) -> str:
    if not found.until:
        return ""
    return untaken.because(_("At this moment Moodle would send it"), found.until)


def _activities(ids: Collection[int]) -> Mapping[int, _Activity]:
    rows = moodle.Reengagement.objects.filter(pk__in=ids)
    columns = ("id", "name", "course", "remindercount", "emailuser")
    return {pk: _Activity(*values) for pk, *values in rows.values_list(*columns)}


def _courses(ids: Iterable[int]) -> Mapping[int, str]:
    return dict(moodle.Course.objects.filter(pk__in=set(ids) - {0}).values_list("id", "fullname"))


def _moment(seconds: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
