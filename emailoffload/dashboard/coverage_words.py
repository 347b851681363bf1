"""Coverage in words: why mails of an activity or of a kind stay with Moodle, and what to change there, step by step.

Names of fields and pages in “ ” are those of the English forms of Moodle, of the plugin and of IOMAD.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from emailoffload.dashboard import companies
from emailoffload.dashboard.reasons import meaning
from emailoffload.moodle import refusals
from emailoffload.sources import reasons
from emailoffload.sources.reengagement import outlook
from emailoffload.worker.coverage_count import Item

Steps = tuple[Promise, ...]
NOBODY: Final = frozenset({outlook.NEVER_MAILS, outlook.NO_REMINDERS, outlook.MODE_UNKNOWN})
"""Reasons for which Moodle, too, mails nobody."""

_OPEN: Final = gettext_lazy("In Moodle, open the settings of the activity.")
_SAVE: Final = gettext_lazy("Save, then count again here.")
_NOTIFICATIONS: Final = gettext_lazy(
    "In Moodle, open “Site administration”, “Messaging”, “Notification settings”, and find “Re-engagement "
    "notifications”."
)
_TEXT: Final[Steps] = (
    _OPEN,
    gettext_lazy(
        "Simplify “Notification content (User)”, its subject, or the texts for third parties where there are some."
    ),
    _SAVE,
)

STEPS: Final[Mapping[str, Steps]] = {
    outlook.NO_REMINDERS: (
        _OPEN,
        gettext_lazy("If learners shall get mail, set “Reminder count” to 1 or more. Else leave it as it is."),
        _SAVE,
    ),
    outlook.MODE_UNKNOWN: (
        _OPEN,
        gettext_lazy("Choose “After delay” at “Notify user”, if learners shall get mail."),
        _SAVE,
    ),
    reasons.NO_COURSE_MODULE: (
        gettext_lazy(
            "In Moodle, look into the course's “Recycle bin” and restore the activity, if it was deleted by mistake."
        ),
        gettext_lazy(
            "If it is not there, have Moodle's database administrator remove the leftover record of the activity and "
            "its rows of learners: Moodle's own cron stops with an error at them."
        ),
    ),
    reasons.NO_COURSE: (
        gettext_lazy(
            "The course was removed and the activity was left behind. Have Moodle's database administrator remove the "
            "record and its rows of learners: Moodle's own cron stops with an error at them."
        ),
    ),
    reasons.MODULE_BEING_DELETED: (
        gettext_lazy(
            "Nothing, if it is meant to go. If it stays like this for more than a day, look under “Site "
            "administration”, “Server”, “Tasks”, “Ad hoc tasks” for the task that deletes it."
        ),
    ),
    reasons.RECIPIENT_BOTH: (
        _OPEN,
        gettext_lazy(
            "Change nothing and save. The setting came with a course restored from another site; the form offers "
            "mails to learners only, and saves that."
        ),
        gettext_lazy("Count again here."),
    ),
    reasons.SUPPRESS_COURSE_COMPLETE: (
        _OPEN,
        gettext_lazy(
            "At “Suppress notification if target activity complete”, choose an activity of the course as the target, "
            "for example the last one, instead of the completion of the course."
        ),
        _SAVE,
    ),
    "filter_unsupported": (
        gettext_lazy("In the course, open “More”, “Filters”, and switch the filter off that is named here."),
        gettext_lazy("Or take what the filter would change out of the text, in the settings of the activity."),
        gettext_lazy("Count again here."),
    ),
    "language_pack_unknown": _TEXT,
    "forceclean": _TEXT,
    "profile_shortname": (
        gettext_lazy(
            "In Moodle, open “Site administration”, “Users”, “User profile fields”, and give the field that is named "
            "here a short name of plain letters and digits."
        ),
        gettext_lazy("Use the new name in the texts of the activities, and count again here."),
    ),
    refusals.PROVIDER_DISABLED: (
        _NOTIFICATIONS,
        gettext_lazy("Switch them on, if learners shall get reminders; Moodle sends none either now."),
    ),
    refusals.EMAIL_PROCESSOR_DISABLED: (
        gettext_lazy(
            "In Moodle, open “Site administration”, “Messaging”, “Notification settings”, and enable “Email”; Moodle "
            "sends no reminder by email either now."
        ),
    ),
    refusals.PROCESSOR_LOCKED_OFF: (
        _NOTIFICATIONS,
        gettext_lazy("Allow “Email” for them: unlock it, or switch it on."),
    ),
    refusals.PREFERENCE_OFF: (
        _NOTIFICATIONS,
        gettext_lazy("Switch “Email” on. Learners who chose email themselves get reminders already."),
    ),
    refusals.PROCESSOR_LOCKED_MISSING: (
        _NOTIFICATIONS,
        gettext_lazy("Save the page as it is: that writes the setting that is missing."),
    ),
    refusals.NOEMAILEVER: (
        gettext_lazy(
            "Remove “noemailever” from Moodle's config.php and set MOODLE_NOEMAILEVER to off here, if this site shall "
            "send mail."
        ),
    ),
    refusals.SENDER_UNKNOWN: (
        gettext_lazy("In Moodle, open “Site administration”, “Server”, “Support contact”, and enter a support email."),
    ),
    refusals.SENDER_INVALID: (
        gettext_lazy(
            "In Moodle, correct “No-reply address” under “Site administration”, “Server”, “Email”, “Outgoing mail "
            "configuration”."
        ),
    ),
    refusals.SENDER_NAME_MARKUP: (
        gettext_lazy("In Moodle, use plain text for “Short name for site” in the settings of the front page."),
    ),
    refusals.CRON_USER_COMPANY: (
        gettext_lazy("In IOMAD, take the first site administrator out of the company with a mail server of its own."),
    ),
    refusals.NOREPLY_IS_USER: (
        gettext_lazy("Remove “noreplyuserid” from Moodle's config.php, or the third parties from the activity."),
    ),
    refusals.DIVERT_PATTERN: (
        gettext_lazy("Simplify “divertallemailsexcept” in Moodle's config.php, or remove it."),
    ),
    refusals.CHARSET_UNSUPPORTED: (
        gettext_lazy(
            "In Moodle, set the character set to UTF-8 under “Site administration”, “Server”, “Email”, “Outgoing mail "
            "configuration”."
        ),
    ),
    reasons.UNSENDABLE: (
        _OPEN,
        gettext_lazy("Look for an address of an unusual form in “Third-party recipients”, and for a very large text."),
        _SAVE,
    ),
    reasons.TEMPLATE_DISABLED: (
        gettext_lazy(
            "Nothing, if it is meant to be off: IOMAD deletes such mails unsent, so nobody else sends them either."
        ),
        gettext_lazy(
            "Else open “Email Templates” in the IOMAD dashboard, choose the company, and switch this template on."
        ),
    ),
    reasons.SHOP_ADMIN: (
        gettext_lazy(
            "Nothing: mails to the administrator of the shop, who is no user of the site, are IOMAD's own."
        ),
    ),
    reasons.LOCK_UNAVAILABLE: (
        gettext_lazy(
            "Let Moodle keep its locks in the database: remove “lock_factory” from its config.php, and compare "
            "MOODLE_LOCK_FACTORY here. “manage.py doctor” says what keeps the lock from being shared."
        ),
        gettext_lazy("Or set IOMAD's email delay to a minute or more: mails are then claimed before they are due."),
    ),
}  # fmt: skip
"""What to change, by reason; what is not here needs nothing, or has words of its own below."""


def span(seconds: int) -> str:
    """A time as Moodle's forms show it, in the largest unit that it is a whole number of."""
    units: tuple[tuple[int, Callable[[int], str]], ...] = (
        (604800, lambda n: ngettext("%(n)d week", "%(n)d weeks", n)),
        (86400, lambda n: ngettext("%(n)d day", "%(n)d days", n)),
        (3600, lambda n: ngettext("%(n)d hour", "%(n)d hours", n)),
        (60, lambda n: ngettext("%(n)d minute", "%(n)d minutes", n)),
        (1, lambda n: ngettext("%(n)d second", "%(n)d seconds", n)),
    )
    for length, words in units:
        if seconds and not seconds % length:
            return words(seconds // length) % {"n": seconds // length}
    return ngettext("%(n)d second", "%(n)d seconds", seconds) % {"n": seconds}


def why(item: Item) -> str:
    """Why some or all of its mails stay with Moodle, whatever the rules say, as a sentence; '' where none do."""
    if not item.reason:
        return ""
    if item.reason == reasons.COMPLETION_UNCLEAR:
        return _(
            "A reminder is due shortly before the activity completes (delay %(delay)s, duration %(duration)s). Whether "
            "Moodle counts it as the last one depends on seconds, so it is left to Moodle."
        ) % {"delay": span(item.delay), "duration": span(item.duration)}
    text = str(outlook.MEANINGS[item.reason]) if item.reason in outlook.MEANINGS else meaning(item.reason)
    sentence = text[:1].upper() + text[1:] + "."
    if item.detail:
        sentence = _("%(sentence)s It is about: %(detail)s.") % {"sentence": sentence, "detail": item.detail}
    if item.companies and 0 < item.claimable < item.owed:
        number = item.owed - item.claimable
        sentence += " " + ngettext(
            "So it is in %(n)d of %(all)d companies: %(names)s.",
            "So it is in %(n)d of %(all)d companies: %(names)s.",
            number,
        ) % {"n": number, "all": item.owed, "names": named(item.companies, number)}
    return sentence


def named(names: list[str], number: int) -> str:
    """The first names of `number` companies."""
    return companies.listed([*names, *[""] * (number - len(names))])


def steps(item: Item) -> list[str]:
    """What to change in Moodle so that it is offloaded, one step each; none where there is nothing to do."""
    if item.reason == outlook.ON_COMPLETION:
        return _after_delay(item)
    if item.reason == reasons.COMPLETION_UNCLEAR:
        return [
            str(_OPEN),
            _(
                "Set “Notification delay” to the same time as “Reengagement duration” (%(duration)s), or make it at "
                "least ten minutes shorter."
            )
            % {"duration": span(item.duration)},
            str(_SAVE),
        ]
    if item.reason == reasons.RECIPIENT_MANAGER:
        return [str(step) for step in STEPS[reasons.RECIPIENT_BOTH]]
    return [str(step) for step in STEPS.get(item.reason, ())]


def _after_delay(item: Item) -> list[str]:
    """From *on completion* to *after delay*: the mail of the same text at the same moment (facts §2.5, §2.6)."""
    values = {"duration": span(item.duration)}
    return [
        str(_OPEN),
        _("At “Notify user”, choose “After delay” instead of “On reengagement completion”."),
        _(
            "Set “Notification delay” to the same time as “Reengagement duration”, that is %(duration)s, and “Reminder "
            "count” to 1. New learners then get the same mail at the same moment as before."
        )
        % values,
        str(_SAVE),
    ]


def on_the_way(item: Item) -> str:
    """What changing *on completion* means for learners who have begun: their time was set then, with the delay that
    the form hides (facts §2.3); '' where it means nothing."""
    if item.reason != outlook.ON_COMPLETION or not item.waiting or item.delay == item.duration:
        return ""
    values = {"n": item.waiting, "delay": span(item.delay), "duration": span(item.duration)}
    if item.delay > item.duration:
        return (
            ngettext(
                "%(n)d learner is on the way already and keeps the time that was set at the start: the mail comes "
                "%(delay)s after it, not %(duration)s.",
                "%(n)d learners are on the way already and keep the time that was set at their start: their mail comes "
                "%(delay)s after it, not %(duration)s.",
                item.waiting,
            )
            % values
        )
    return (
        ngettext(
            "Mind: %(n)d learner is on the way already and keeps the time that was set at the start, %(delay)s after "
            "it, not %(duration)s. If that time has passed, the mail goes out at once, and if it passed more than two "
            "days ago, not at all. To avoid that, leave this activity as it is and make another one for new learners.",
            "Mind: %(n)d learners are on the way already and keep the time that was set at their start, %(delay)s "
            "after it, not %(duration)s. Those whose time has passed get their mail at once, and if it passed more "
            "than two days ago, none at all. To avoid that, leave this activity as it is and make another one for new "
            "learners.",
            item.waiting,
        )
        % values
    )
