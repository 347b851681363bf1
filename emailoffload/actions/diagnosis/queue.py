"""The doctor's looks at IOMAD's mail queue: its version, its cron task and lock, the guard mode, IOMAD's delay.

On a site without IOMAD each of them says so and is content.
"""

from __future__ import annotations

import time
from datetime import timedelta

from django.conf import settings
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from emailoffload.actions.diagnosis.finding import Found, Look, ok, warning
from emailoffload.moodle import cronlock, errors, iomad, variants
from emailoffload.moodle.targets import IOMAD_QUEUE
from emailoffload.outbox import guardstate
from emailoffload.worker import cronguard
from emailoffload.worker.guard_timing import YIELD_EVERY

LATE_RUNS = 3
"""IOMAD's task runs every five minutes; one that has missed this many runs is not running."""

SILENCE = timedelta(minutes=5)
"""A watch that has said nothing for so long is not there: while it looks it says so every fifteen seconds."""


def _absent() -> Found | None:
    """What every look says on a site without IOMAD; None on others."""
    if variants.detect().iomad:
        return None
    return ok(_("This Moodle has no IOMAD, so it has no such queue."))


def source() -> Found:
    """Mails of the queue can be claimed."""
    try:
        errors.require_ready(IOMAD_QUEUE)
    except errors.IomadAbsent:
        return ok(_("This Moodle has no IOMAD, so it has no such queue."))
    except errors.MoodleProblem as found:
        return warning(_("Mails of IOMAD's queue stay with IOMAD. %(why)s") % {"why": found}, found.cure)
    if not iomad.language_readable():
        return warning(
            _(
                "Our account may not read the language of IOMAD's templates: mails that need them stay with IOMAD."
            ),
            _("Have what `manage.py moodlegrants` prints executed once more; its last statement grants it."),
        )
    return ok(variants.detect_queue().why)


def cron() -> Found:
    """IOMAD's task is there, enabled, and runs."""
    absent = _absent()
    if absent:
        return absent
    task = cronguard.task()
    if task is None:
        return warning(
            _("Moodle's list of scheduled tasks has no cron_task of local_email."),
            _("Finish Moodle's upgrade or reset its scheduled tasks; mails already due stay with IOMAD."),
        )
    if task.disabled:
        return warning(
            _("The scheduled task of local_email is disabled: IOMAD sends nothing, and nothing is claimed."),
            _("Switch it on under Site administration, Server, Tasks, Scheduled tasks."),
        )
    if task.timestarted:
        return ok(_("IOMAD's task is marked as running."))
    period = settings.MOODLE_CRON_PERIOD_SECONDS
    patience = LATE_RUNS * period + (YIELD_EVERY if settings.MOODLE_CRON_GUARD == "hold" else 0)
    silence = time.time() - task.lastruntime
    if not task.lastruntime:
        return warning(_("IOMAD's task has never run."), _("Let Moodle's cron run, every minute."))
    if silence > patience:
        return warning(
            _("IOMAD's task ran last %(hours)s hours ago.") % {"hours": number_format(silence / 3600, 1)},
            _("Look after Moodle's cron: it sends what stays with IOMAD and removes old mails."),
        )
    text = ngettext("IOMAD's task ran %(n)d second ago.", "IOMAD's task ran %(n)d seconds ago.", silence)
    return ok(text % {"n": silence})


def guard() -> Found:
    """The lock of IOMAD's task can be had, and somebody watches the queue."""
    absent = _absent()
    if absent:
        return absent
    state = guardstate.load()
    if state is None or state.last_look is None or timezone.now() - state.last_look > SILENCE:
        return warning(
            _("Nobody watches IOMAD's queue: its mails are claimed late or stay with IOMAD."),
            _("The watch runs in the worker (`manage.py qcluster`): start it, or look at its log."),
        )
    values, task = {"mode": settings.MOODLE_CRON_GUARD}, cronguard.task()
    if cronlock.lock_availability().kind is None or task is None:
        return ok(
            _("The cron lock cannot be held here, so MOODLE_CRON_GUARD=%(mode)s does nothing.") % values
        )
    with cronlock.CronLock(task.classname) as lock:
        taken = lock.acquired and lock.still_held()
    if taken:
        return ok(
            _("MOODLE_CRON_GUARD is %(mode)s; the lock of IOMAD's task was taken and given back.") % values
        )
    if state.held_since:
        return ok(_("MOODLE_CRON_GUARD is %(mode)s; the worker holds the lock of IOMAD's task.") % values)
    return ok(_("MOODLE_CRON_GUARD is %(mode)s; at this moment a run has the lock of IOMAD's task.") % values)


def delay() -> Found:
    """Mails are due late enough where the lock cannot be had."""
    absent = _absent()
    if absent:
        return absent
    seconds = iomad.queue_delay()
    values = {"seconds": seconds, "least": settings.CLAIM_MARGIN_SECONDS + 2 * settings.QUEUE_POLL_SECONDS}
    if cronlock.lock_availability().kind is not None:
        return ok(
            _("IOMAD's delay is %(seconds)d s; the cron lock can be shared, so none is needed.") % values
        )
    if seconds < values["least"]:
        return warning(
            _("The cron lock cannot be shared and IOMAD's delay is %(seconds)d s: its mails stay with IOMAD.")
            % values,
            _(
                "Set IOMAD's email delay (iomad_emaildelay) to %(least)d s or more: mails are then claimed ahead."
            )
            % values,
        )
    return ok(_("IOMAD's delay is %(seconds)d s: its mails are claimed before they are due.") % values)


LOOKS = [
    Look("queue.source", gettext_lazy("IOMAD's mail queue"), source, ("moodle.reachable",)),
    Look("queue.cron", gettext_lazy("IOMAD's cron task"), cron, ("moodle.reachable",)),
    Look(
        "queue.guard",
        gettext_lazy("Watch over IOMAD's queue"),
        guard,
        ("moodle.reachable", "database.migrated"),
    ),
    Look("queue.delay", gettext_lazy("IOMAD's delay"), delay, ("moodle.reachable",)),
]
