"""What an activity's own settings come to: whether its reminders can be claimed, before any learner is looked at.

A pass and the page *Coverage* ask the same functions, so that the page cannot say what a pass does not do:
`unselected` puts the condition of `scan.due_rows` into words, `barred` is the part of a pass's decision that
concerns the activity alone, and `outlook` renders with the pass's own code for a learner about whom nothing is
special. Pure functions: no query.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from emailoffload.moodle.formatting.errors import Unrenderable
from emailoffload.moodle.types import (
    EMAILUSER_COMPLETION,
    EMAILUSER_NEVER,
    EMAILUSER_TIME,
    RECIPIENT_BOTH,
    RECIPIENT_USER,
    Activity,
    InProgress,
    Learner,
    SiteConfig,
    User,
)
from emailoffload.sources import reasons
from emailoffload.sources.protocol import Clock, RenderedMail
from emailoffload.sources.reengagement import timing
from emailoffload.sources.reengagement.recipients import Extra, Recipients
from emailoffload.sources.reengagement.texts import PreparedActivity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.utils.functional import Promise

from django.utils.translation import gettext_lazy as _

ON_COMPLETION: Final = "on_completion"
NEVER_MAILS: Final = "never_mails"
MODE_UNKNOWN: Final = "mode_unknown"
NO_REMINDERS: Final = "no_reminders"
MEANINGS: Final[Mapping[str, Promise]] = {
    ON_COMPLETION: _(
        "the activity mails at its completion, which Moodle does in one step: a claim could not stop it"
    ),
    NEVER_MAILS: _("the activity is set to mail nobody"),
    MODE_UNKNOWN: _("the activity's setting of when to mail is none that the plugin's form offers"),
    NO_REMINDERS: _("the activity's reminder count is 0, so Moodle mails nobody"),
}
"""Why a pass does not even look at an activity's rows; in words, as `sources.reasons` has the others."""
MOST_REMINDERS: Final = 1000
"""Reminders of one learner that are gone through at most; the plugin's form allows 40."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the settings come to for an enrolled learner about whom nothing is special."""

    reason: str = ""
    """Why some or all of the reminders stay with Moodle; '' where all can be claimed."""
    detail: str = ""
    owed: int = 0
    """Reminders that Moodle would send such a learner in the end."""
    claimable: int = 0
    """How many of them can be claimed."""
    mails: tuple[RenderedMail, ...] = field(default=(), repr=False)
    """What one reminder yields."""


def unselected(emailuser: int, remindercount: int) -> str:
    """Why rows of an activity are not due for the plugin's mailing phase at all (facts §2.6), nor for a pass;
    '' if they are."""
    if emailuser == EMAILUSER_COMPLETION:
        return ON_COMPLETION
    if emailuser == EMAILUSER_NEVER:
        return NEVER_MAILS
    if emailuser != EMAILUSER_TIME:
        return MODE_UNKNOWN
    return "" if remindercount > 0 else NO_REMINDERS


def lacking(activity: Activity | None) -> str:
    """What of the activity's place in Moodle is missing or going (facts §2.4); '' for nothing."""
    if activity is None or activity.cmid is None or activity.context_path is None:
        return reasons.NO_COURSE_MODULE
    if activity.course is None:
        return reasons.NO_COURSE
    return reasons.MODULE_BEING_DELETED if activity.deletioninprogress else ""


def barred(activity: Activity) -> str:
    """Why no mail of an activity that has its place in Moodle can be claimed, whoever the learner is (facts
    §2.8, §2.11); '' if nothing speaks against it."""
    if activity.emailrecipient == RECIPIENT_BOTH:
        return reasons.RECIPIENT_BOTH
    if activity.emailrecipient != RECIPIENT_USER:
        return reasons.RECIPIENT_MANAGER
    return reasons.SUPPRESS_COURSE_COMPLETE if activity.suppresstarget < 0 else ""


def reminders(duration: int, remindercount: int, emaildelay: int, clock: Clock) -> tuple[int, int, str]:
    """A learner's way through an activity, each reminder claimed a little ahead: how many Moodle would send,
    how many of them can be claimed, and why not all.

    Rows are born with both times counted from the same second (facts §2.3). Seconds; `clock` gives margin and
    cron period, its time does not matter.
    """
    owed = claimable = 0
    start = 0
    for sent in range(min(remindercount, MOST_REMINDERS)):
        due = start + (sent + 1) * emaildelay
        row = InProgress(0, 0, 0, start + duration, due, sent, 0)
        ahead = Clock(due - clock.margin - 1, clock.margin, clock.cron_period)
        plan = timing.plan(row, remindercount, emaildelay, ahead)
        if plan == reasons.COMPLETES_FIRST:
            break
        owed += 1
        if isinstance(plan, str):
            return owed, claimable, plan
        claimable += 1
        if plan.is_last:
            break
    return owed, claimable, ""


def typical_learner(site: SiteConfig) -> Learner:
    """A learner about whom nothing is special: no preferences, no groups, an empty profile, an address that
    every check lets pass."""
    home = site.get("mnet_localhost_id")
    return Learner(
        User(
            id=1,
            mnethostid=int(home) if home.isdecimal() else 1,
            firstname="Learner",
            lastname="Example",
            email="learner@example.org",
            lang=site.lang,
        )
    )


def outlook(
    activity: Activity,
    prepared: PreparedActivity | Unrenderable | None,
    recipients: Recipients,
    learner: Learner,
    clock: Clock,
) -> Outlook:
    """What a pass would do with the reminders of this activity to `learner` (`typical_learner`).

    `prepared` is what the pass made of the activity's texts; None where it has no course.
    """
    reason = lacking(activity) or unselected(activity.emailuser, activity.remindercount) or barred(activity)
    if reason:
        return Outlook(reason)
    if isinstance(prepared, Unrenderable):
        return Outlook(prepared.reason, prepared.detail)
    assert prepared is not None
    try:
        mails, refusal = recipients.mails(prepared, learner, Extra())
    except Unrenderable as error:
        return Outlook(error.reason, error.detail)
    if not mails:
        return Outlook(
            refusal.reason if refusal else reasons.NOBODY_TO_MAIL, refusal.detail if refusal else ""
        )
    owed, claimable, why = reminders(activity.duration, activity.remindercount, activity.emaildelay, clock)
    return Outlook(why, "", owed, claimable, mails)
