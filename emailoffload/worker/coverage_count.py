"""What the count of coverage finds in Moodle and in our records: every activity and every kind of IOMAD mail.

Whether a mail can be claimed is asked of the sources themselves (`outlooks`), the same code that a pass runs.
Activities are looked at some hundred at a time; what is kept of each is one `Item`.
"""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from django.conf import settings
from django.db.models import Count, Model, Q, QuerySet
from django.utils import timezone

from emailoffload.delivery import message
from emailoffload.moodle import cronlock, errors, iomad, models, variants
from emailoffload.moodle.targets import IOMAD_QUEUE, REENGAGEMENT
from emailoffload.moodle.types import Activity
from emailoffload.outbox.figures import LeftRow
from emailoffload.outbox.models import Email
from emailoffload.outbox.states import EmailState
from emailoffload.sources import reasons, registry, volumes
from emailoffload.sources.iomad_queue.source import QueueSource
from emailoffload.sources.protocol import Clock
from emailoffload.sources.reengagement.outlook import Outlook
from emailoffload.sources.reengagement.source import ReengagementSource

ACTIVITIES_AT_ONCE: Final = 200
OURS_WINDOW: Final = 50_000
"""Ids of our own tables per statement."""
_NEAR: Final = 1000
"""Rows stored side by side may have ids in another order than times: so many are looked at for the first one."""
SENT_DAYS, LEFT_DAYS = 30, 7
NAMED: Final = 5
"""Companies that are named, of those that have a kind of mail switched off."""
WENT_OUT: Final = (
    EmailState.ACCEPTED, EmailState.DELAYED, EmailState.DELIVERED, EmailState.OPENED, EmailState.CLICKED,
    EmailState.BOUNCED, EmailState.COMPLAINED, EmailState.SENT_SMTP,
)  # fmt: skip
"""States of mails that went out through us."""
BELL_PREFERENCE: Final = "message_provider_mod_reengagement_mod_reengagement_enabled"

Alive = Callable[[], None]
"""Says that the pass is alive; raises where it has to stop."""


@dataclass(slots=True)
class Item:
    """One activity, or one kind of IOMAD mail, as it was counted. It is stored: see `stored`."""

    source: str
    activity_id: int = 0
    template: str = ""
    name: str = ""
    cmid: int = 0
    course_id: int = 0
    course_name: str = ""
    reason: str = ""
    """Why some or all of its mails stay with Moodle, whatever the rules say; '' where none do."""
    detail: str = ""
    owed: int = 0
    """Of an activity: reminders that a learner gets in the end; of a kind of mail: companies of the site."""
    claimable: int = 0
    """How many of them can be claimed; of a kind of mail: companies for which it can."""
    reminders: int = 0
    delay: int = 0
    duration: int = 0
    waiting: int = 0
    """Learners on the way; of a kind of mail: rows that nobody has sent."""
    day: int = 0
    """Mails owed within 24 hours."""
    week: int = 0
    """Mails owed within 7 days; of a kind of mail: rows of the last 7 days."""
    week_claimable: int = 0
    sent: int = 0
    """Mails that went out through us in the last 30 days."""
    left: list[tuple[str, int]] = field(default_factory=list)
    """Rows that passes left to Moodle in the last 7 days, by reason."""
    companies: list[str] = field(default_factory=list)
    """Some of the companies for which it cannot be claimed."""


@dataclass(slots=True)
class Counted:
    """What a whole count found."""

    items: list[Item] = field(default_factory=list)
    sources: dict[str, dict[str, str]] = field(default_factory=dict)
    """The sources that the site has: why nothing of it can be claimed, as `text`, `cure` and `code`, or nothing."""
    other_ways: list[str] = field(default_factory=list)
    """By which ways beside email Moodle notifies learners of reminders by default: popup, airnotifier …"""
    bell_users: int = 0
    """Users who chose the bell for reminders themselves."""
    lock: bool = True
    """Whether Moodle's cron lock can be shared here."""


def count(alive: Alive) -> Counted:
    """Look at everything; some ten queries per two hundred activities, and one per window of the large tables.

    Raises MoodleProblem where Moodle's database cannot be asked, and errors of our own database.
    """
    errors.check_reachable()
    variant = variants.detect()
    found = Counted(lock=cronlock.lock_availability().kind is not None)
    now = int(time.time())
    ours = _ours(alive)
    for name in registry.installed(variant):
        problem, readable = _problem(name)
        found.sources[name] = problem
        if not readable:
            continue
        if name == REENGAGEMENT:
            found.items += _activities(found, variant, now, alive)
        elif name == IOMAD_QUEUE:
            found.items += _kinds(found, now, alive)
    for item in found.items:
        key = item.source, item.activity_id, item.template
        item.sent = ours.sent[key]
        item.left = ours.left[key].most_common()
    return found


def _problem(name: str) -> tuple[dict[str, str], bool]:
    """Why nothing of a source can be claimed, and whether it can be read all the same."""
    try:
        errors.require_ready(name)
    except errors.MoodleUnreachable:
        raise
    except errors.MoodleProblem as problem:
        words = {"text": str(problem), "cure": problem.cure, "code": problem.code}
        return words, isinstance(problem, errors.UnsupportedVariant)
    return {}, True


# --- activities ---


def _activities(found: Counted, variant: variants.Variant, now: int, alive: Alive) -> Iterator[Item]:
    source = ReengagementSource(parity=settings.RENDER_PARITY, variant=variant)
    found.other_ways = sorted(source.other_ways())
    chose = models.UserPreference.objects.filter(name=BELL_PREFERENCE, value__contains="popup")
    found.bell_users = chose.count()
    waiting: defaultdict[int, volumes.Waiting] = defaultdict(volumes.Waiting)
    for window in volumes.reminders(now):
        alive()
        for activity_id, numbers in window.items():
            waiting[activity_id] += numbers
    clock = Clock(now, settings.CLAIM_MARGIN_SECONDS, settings.MOODLE_CRON_PERIOD_SECONDS)
    ids = list(models.Reengagement.objects.order_by("id").values_list("id", flat=True))
    for start in range(0, len(ids), ACTIVITIES_AT_ONCE):
        alive()
        for activity, outlook in source.outlooks(ids[start : start + ACTIVITIES_AT_ONCE], clock):
            yield _of_activity(activity, sendable(outlook), waiting[activity.id])


def sendable(outlook: Outlook) -> Outlook:
    """The same, or that it cannot be claimed because SES would not take one of its mails."""
    if all(message.sendable(mail) for mail in outlook.mails):
        return outlook
    return Outlook(reasons.UNSENDABLE, "", outlook.owed)


def _of_activity(activity: Activity, outlook: Outlook, waiting: volumes.Waiting) -> Item:
    claimable = outlook.claimable / outlook.owed if outlook.owed else 0
    course = activity.course
    return Item(
        REENGAGEMENT,
        activity.id,
        name=activity.name,
        cmid=activity.cmid or 0,
        course_id=course.id if course else 0,
        course_name=course.fullname if course else "",
        reason=outlook.reason,
        detail=outlook.detail[:200],
        owed=outlook.owed,
        claimable=outlook.claimable,
        reminders=activity.remindercount,
        delay=activity.emaildelay,
        duration=activity.duration,
        waiting=waiting.learners,
        day=waiting.day,
        week=waiting.week,
        week_claimable=round(waiting.week * claimable),
    )


# --- kinds of IOMAD mail ---


def _kinds(found: Counted, now: int, alive: Alive) -> Iterator[Item]:
    source = QueueSource(parity=settings.RENDER_PARITY)
    queued: defaultdict[iomad.Kind, volumes.Queued] = defaultdict(volumes.Queued)
    for window in volumes.queued(now):
        alive()
        for kind, numbers in window.items():
            queued[kind] += numbers
    companies = dict(models.Company.objects.values_list("id", "name"))
    own = {name.lower() for name in models.EmailTemplate.objects.values_list("name", flat=True).distinct()}
    names = sorted(iomad.BUILT_IN | own | {name for _company, name in queued if name})
    off = Q(disabled=1) | Q(disabledmanager=1) | Q(disabledsupervisor=1)
    flagged = models.EmailTemplate.objects.filter(off).values_list("companyid", "name").distinct()
    asked = {(company, name.lower()) for company, name in flagged} | queued.keys()
    asked |= {(company, name) for name in names for company in list(companies)[:1]}
    looked = source.outlooks(asked)
    late = "" if _in_time(found) else reasons.LOCK_UNAVAILABLE
    by_name: defaultdict[str, dict[int, str]] = defaultdict(dict)
    rows: defaultdict[str, dict[int, volumes.Queued]] = defaultdict(dict)
    for (company, name), reason in looked.items():
        by_name[name][company] = reason
    for (company, name), numbers in queued.items():
        rows[name][company] = numbers
    for name in names:
        yield of_kind(name, companies, by_name[name], rows[name], late)


def of_kind(
    name: str,
    companies: Mapping[int, str],
    barred: Mapping[int, str],
    rows: Mapping[int, volumes.Queued],
    late: str,
) -> Item:
    """One kind of mail: `barred` says by company why its mails stay with IOMAD ('': they do not; companies that
    are missing there have nothing against it), `late` why those of every company do."""
    off = {company: reason for company, reason in barred.items() if reason and company in companies}
    item = Item(IOMAD_QUEUE, template=name, owed=len(companies), claimable=len(companies) - len(off))
    shop = sum(each.shop for each in rows.values())
    item.waiting = sum(each.waiting for each in rows.values())
    item.day = sum(each.day for each in rows.values())
    item.week = sum(each.recent for each in rows.values())
    item.week_claimable = sum(
        each.recent - each.shop for company, each in rows.items() if not barred.get(company)
    )
    if off:
        item.reason = Counter(off.values()).most_common(1)[0][0]
        item.companies = sorted(companies[company] for company in off)[:NAMED]
    if shop and (shop == item.week or not off):
        item.reason = reasons.SHOP_ADMIN
        item.claimable = 0 if shop == item.week else min(item.claimable, item.owed - 1)
    if late and item.claimable:
        item.reason, item.claimable, item.week_claimable = late, 0, 0
    return item


def _in_time(found: Counted) -> bool:
    """Whether mails of the queue can be claimed at all: under the lock, or ahead where IOMAD's own delay is long
    enough (design §3.1)."""
    least = settings.CLAIM_MARGIN_SECONDS + 2 * settings.QUEUE_POLL_SECONDS
    return found.lock or iomad.queue_delay() >= least


# --- our own records ---

Key = tuple[str, int, str]
"""(source, activity id or 0, template in lower case)"""


@dataclass(slots=True)
class _Ours:
    sent: Counter[Key] = field(default_factory=Counter)
    left: defaultdict[Key, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))


def _ours(alive: Alive) -> _Ours:
    result = _Ours()
    now = timezone.now()
    mails = Email.objects.filter(state__in=WENT_OUT)
    for row in _grouped(mails, "created_at", now - dt.timedelta(days=SENT_DAYS), alive):
        result.sent[_key(row)] += row["number"]
    for row in _grouped(
        LeftRow.objects.all(), "first_seen", now - dt.timedelta(days=LEFT_DAYS), alive, "reason"
    ):
        result.left[_key(row)][row["reason"]] += row["number"]
    return result


def _key(row: Mapping[str, Any]) -> Key:
    return row["source"], row["activity_id"] or 0, row["template"].lower()


def _grouped(
    rows: QuerySet[Any], at: str, since: dt.datetime, alive: Alive, *more: str
) -> Iterator[dict[str, Any]]:
    """Rows since a time by source, activity and template (and `more`), through the primary key in windows."""
    model: type[Model] = rows.model
    every = model._default_manager.all()
    near = every.filter(**{f"{at}__gte": since}).order_by(at).values_list("pk", flat=True)[:_NEAR]
    first = min(near, default=None)
    last = every.order_by("-pk").values_list("pk", flat=True).first()
    if first is None or last is None:
        return
    for start in range(first, last + 1, OURS_WINDOW):
        alive()
        window = rows.filter(pk__gte=start, pk__lt=start + OURS_WINDOW, **{f"{at}__gte": since})
        yield from (
            window.order_by().values("source", "activity_id", "template", *more).annotate(number=Count("pk"))
        )
