"""The verdicts of a reconciliation, and what was observed, in words and with a cure where one is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

AGREES, PICKED_UP, WAITING, OVERDUE, TOUCHED, GONE, DOUBLE, LOSS = (
    "agrees", "picked_up", "waiting", "overdue", "touched", "gone", "possible_double", "possible_loss",
)  # fmt: skip
VERDICTS: Final[Mapping[str, tuple[Promise, str]]] = {
    DOUBLE: (_("possible double"), "bad"),
    LOSS: (_("possible loss"), "bad"),
    OVERDUE: (_("not picked up by Moodle"), "bad"),
    TOUCHED: (_("changed by somebody else"), "warn"),
    GONE: (_("row removed early"), "warn"),
    WAITING: (_("waits for Moodle"), "wait"),
    PICKED_UP: (_("picked up by Moodle"), "good"),
    AGREES: (_("agrees"), "good"),
}
"""What each verdict is called, and its tone; the most serious first. Of `agrees` no finding is kept."""
SERIOUS: Final = frozenset({DOUBLE, LOSS, OVERDUE})
"""Verdicts for which the doctor asks for a person."""
NEEDS_PERSON: Final = SERIOUS | {TOUCHED}

COUNTED, NOTIFIED, LAST_REMOVED, QUEUE_SENT = "counted", "notified", "last_removed", "queue_sent"
NOT_YET, NOT_RUN, RUN_FAILED, PASSED_OVER = "not_yet", "not_run", "run_failed", "passed_over"
OTHER_VALUES = "other_values"
USER_DELETED, ACTIVITY_GONE, ROW_GONE, LAST_GONE = "user_deleted", "activity_gone", "row_gone", "last_gone"
OVERWRITTEN, ROW_BACK, NOTICE, QUEUE_OVERWRITTEN, QUEUE_SPANNED = (
    "overwritten", "row_back", "notice", "queue_overwritten", "queue_spanned",
)  # fmt: skip
NO_MAIL, WITHHELD, STILL_OURS, TOO_LATE, NO_NOTICE = (
    "no_mail", "withheld", "still_ours", "too_late", "no_notice",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Words:
    """What was observed, and what a person can do about it; '' where nothing needs to be done."""

    meaning: Promise
    cure: Promise | str = ""


_DOUBLE_CURE: Final = _(
    "A mail that has left cannot be called back; answer the user if they ask. Then find out how it came about: "
    "“manage.py doctor” (cron lock, clocks, replica), and whether Moodle's database was restored or failed over."
)
_NOT_SENT_CURE: Final = _(
    "Moodle does not send this mail any more. Look at the user in Moodle; if it is still wanted, tell the user in "
    "another way."
)
DETAILS: Final[Mapping[str, Words]] = {
    COUNTED: Words(_("After we handed it back, Moodle counted the reminder and set the time of the next one.")),
    NOTIFIED: Words(_("After we handed it back, Moodle created its notification for the user.")),
    LAST_REMOVED: Words(
        _("After we handed it back, Moodle removed the row, as it does with the last mail owed.")
    ),
    QUEUE_SENT: Words(_("After we handed it back, IOMAD marked the mail as sent.")),
    NOT_YET: Words(_("Moodle's row has its former values; a run of Moodle's that is due soon sends the mail.")),
    NOT_RUN: Words(
        _("Moodle's row has its former values, and the task that would send it has not ended a run since."),
        _("Look at Moodle's scheduled tasks: is its cron running, and is this task enabled?"),
    ),
    RUN_FAILED: Words(
        _("Moodle's row has its former values, and every run of the task since then has failed."),
        _("Look at the task's log in Moodle: it says what the run stops at."),
    ),
    PASSED_OVER: Words(
        _("Moodle's row has its former values, although the task that would send it has ended a run since."),
        _(
            "Look at the user and the activity or template in Moodle: suspended, deleted or switched off users "
            "and mails are passed over. If the mail is still wanted, tell the user in another way."
        ),
    ),
    OTHER_VALUES: Words(
        _("Moodle's row holds values that neither we nor Moodle's own task write."),
        _("Ask who changes Moodle's tables by hand or by another program; the row's next mail is Moodle's to decide."),
    ),
    USER_DELETED: Words(_("Moodle's row is gone, and the user is deleted.")),
    ACTIVITY_GONE: Words(_("Moodle's row is gone, and the activity is deleted.")),
    ROW_GONE: Words(
        _("Moodle's row was gone before Moodle had to remove it: a course reset, an un-enrolment, a deletion by hand.")
    ),
    LAST_GONE: Words(
        _(
            "Moodle's row is gone after our claim of the last mail owed. A course reset removes it; so does a run "
            "of Moodle's that sends the mail as well."
        )
    ),
    OVERWRITTEN: Words(
        _(
            "Our mail has left or may have left, and Moodle's row holds what Moodle itself writes when it sends "
            "this very reminder."
        ),
        _DOUBLE_CURE,
    ),
    ROW_BACK: Words(
        _(
            "Our mail has left or may have left, and Moodle's row has its values from before our claim again: "
            "Moodle sends the mail too, at its next run."
        ),
        _DOUBLE_CURE,
    ),
    NOTICE: Words(
        _(
            "Our mail has left or may have left, and after our claim Moodle created a notification for the same "
            "user with the same subject. Another activity with that subject would look the same."
        ),
        _DOUBLE_CURE,
    ),
    QUEUE_OVERWRITTEN: Words(
        _(
            "Our mail has left or may have left, and IOMAD's row holds a time of sending that is not ours: IOMAD "
            "sent it as well, or somebody had it sent again."
        ),
        _DOUBLE_CURE,
    ),
    QUEUE_SPANNED: Words(
        _(
            "Our mail has left or may have left, and IOMAD's row holds a time of sending of a run that was in "
            "progress when we claimed it."
        ),
        _DOUBLE_CURE,
    ),
    NO_MAIL: Words(
        _("Moodle's row says that the mail is handled, by our claim, and no mail of the claim is on record."),
        _("Tell the user in another way, and look for what removed records from our database."),
    ),
    WITHHELD: Words(
        _("We withheld our mail because the row seemed to be Moodle's again; by now it holds our claim's values."),
        _("Look at the user in Moodle. If the mail is still wanted, send it again from its page."),
    ),
    STILL_OURS: Words(
        _("By our records the claim was handed back, but Moodle's row still holds the values of our claim."),
        _(
            "Moodle does not send this mail: tell the user in another way. Find out whether Moodle's database was "
            "restored or failed over."
        ),
    ),
    TOO_LATE: Words(
        _("The reminder was handed back, but two days passed before Moodle came to it: it drops it without a mail."),
        _NOT_SENT_CURE,
    ),
    NO_NOTICE: Words(
        _("After we handed it back Moodle counted the reminder, but created no notification for the user."),
        _(
            "Moodle counts and does not send where the reminder's target is complete or reminders are switched off. "
            "If that is not so here, tell the user in another way."
        ),
    ),
}  # fmt: skip
"""What was observed, by the codes of `ReconcileFinding.detail`."""
