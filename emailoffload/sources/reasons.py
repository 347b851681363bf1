"""Why a row is claimed or stays with Moodle: the codes that passes count and pages explain.

A code is stable (scripts read it); its meaning is a sentence for people.
"""

from __future__ import annotations

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from emailoffload.moodle import refusals

CLAIMED_AHEAD = "claimed_ahead"
CLAIMED_UNDER_LOCK = "claimed_under_lock"
LAST_MAIL_OWED = "last_mail_owed"

CRON_RUNNING = "cron_running"
LOCK_UNAVAILABLE = "lock_unavailable"
ADHOC_TASK_QUEUED = "adhoc_task_queued"
CLAIM_IN_PROGRESS = "claim_in_progress"
HANDED_BACK = "handed_back"
TOO_LATE = "too_late"
COMPLETES_FIRST = "completes_first"
COMPLETION_UNCLEAR = "completion_unclear"
NO_COURSE_MODULE = "no_course_module"
NO_COURSE = "no_course"
MODULE_BEING_DELETED = "module_being_deleted"
USER_MISSING = "user_missing"
USER_DELETED = "user_deleted"
NOT_ENROLLED = "not_enrolled"
TARGET_COMPLETE = "target_complete"
SUPPRESS_COURSE_COMPLETE = "suppress_course_complete"
RECIPIENT_MANAGER = "recipient_manager"
RECIPIENT_BOTH = "recipient_both"
NOBODY_TO_MAIL = "nobody_to_mail"
BROKEN_ROW = "broken_row"
CLAIMS_PAUSED = "claims_paused"
DELIVERY_UNHEALTHY = "delivery_unhealthy"
NO_CAPACITY = "no_capacity"
REPUTATION = "reputation"
UNSENDABLE = "unsendable"
COMMITTED_LATE = "committed_late"
ROWS_LOCKED = "rows_locked"
STOPPED = "stopped"
ROUTING_OFF = "routing_off"
ROUTING_SHADOW = "routing_shadow"
ROLLOUT = "rollout"
SUPPRESSED_LEFT = "suppressed_left"

COMPANY_UNKNOWN = "company_unknown"
TEMPLATE_DISABLED = "template_disabled"
SHOP_ADMIN = "shop_admin"
QUEUED_TOO_LONG = "queued_too_long"
HEADERS_MISSING = "headers_missing"
HEADERS_UNREADABLE = "headers_unreadable"
ATTACHMENT = "attachment"
SENDER_UNUSABLE = "sender_unusable"

ROW_RESTORED = "row_restored"
ROW_CHANGED = "row_changed"
ROW_REMOVED = "row_removed"
COMPLETED_MEANWHILE = "completed_meanwhile"

MEANINGS: dict[str, Promise] = {
    CLAIMED_AHEAD: _("claimed before it was due"),
    CLAIMED_UNDER_LOCK: _("already due, claimed while we held Moodle's cron lock"),
    LAST_MAIL_OWED: _("the last mail owed for this learner's activity"),
    CRON_RUNNING: _("it is already due, and Moodle's cron is sending at this moment"),
    LOCK_UNAVAILABLE: _("it is already due, and Moodle's cron lock cannot be shared on this site"),
    ADHOC_TASK_QUEUED: _("it is already due, and Moodle has queued its own task for the activity"),
    CLAIM_IN_PROGRESS: _("another process is claiming it"),
    HANDED_BACK: _("we handed this reminder back to Moodle"),
    TOO_LATE: _("more than two days overdue: Moodle drops it without a mail"),
    COMPLETES_FIRST: _("the activity completes before the reminder is due: Moodle sends none"),
    COMPLETION_UNCLEAR: _("the activity completes at about the time the reminder is due"),
    NO_COURSE_MODULE: _("the activity has no course module: Moodle's data are damaged"),
    NO_COURSE: _("the activity's course does not exist: Moodle's data are damaged"),
    MODULE_BEING_DELETED: _("the activity is being deleted"),
    USER_MISSING: _("the user does not exist"),
    USER_DELETED: _("the user is deleted"),
    NOT_ENROLLED: _("the user is no longer an active learner of the course"),
    TARGET_COMPLETE: _("the learner has completed the activity that the reminder is about"),
    SUPPRESS_COURSE_COMPLETE: _("the activity is suppressed by course completion, a site's own patch"),
    RECIPIENT_MANAGER: _("the activity mails managers only, which this Moodle cannot do"),
    RECIPIENT_BOTH: _(
        "the activity mails users and managers, which makes Moodle's own cron fail: change it to users"
    ),
    NOBODY_TO_MAIL: _("the reminder has no recipient"),
    BROKEN_ROW: _("the row could not be handled; the row errors say why"),
    CLAIMS_PAUSED: _("claiming is paused"),
    DELIVERY_UNHEALTHY: _("delivery through SES is not healthy"),
    NO_CAPACITY: _("more would be claimed than can be sent in time"),
    REPUTATION: _("too many mails bounced or were complained of, so only mails with credentials are claimed"),
    UNSENDABLE: _(
        "Amazon SES would not take one of its mails: an address of an unusual form, or more than 10 MB"
    ),
    COMMITTED_LATE: _("the claim took too long and was undone"),
    ROWS_LOCKED: _("Moodle's database was changing rows at this moment"),
    STOPPED: _("the pass was asked to stop"),
    ROUTING_OFF: _("a routing rule says that Moodle sends it"),
    ROUTING_SHADOW: _("a routing rule says to watch only: Moodle sends it, and we compare"),
    ROLLOUT: _("the roll-out of the routing rule has not reached this learner: Moodle sends it"),
    SUPPRESSED_LEFT: _("the user's address is suppressed, and a routing rule leaves such mails to Moodle"),
    COMPANY_UNKNOWN: _("the mail belongs to no company, or to one that does not exist"),
    TEMPLATE_DISABLED: _("the company has switched this kind of mail off: IOMAD deletes it unsent"),
    SHOP_ADMIN: _("the mail is for the shop's administrator, who is no user of the site"),
    QUEUED_TOO_LONG: _("queued about six months ago: IOMAD deletes it unsent"),
    HEADERS_MISSING: _("the mail was queued without its template, and IOMAD would find none that it can use"),
    HEADERS_UNREADABLE: _("what IOMAD stored with the mail is not as IOMAD writes it"),
    ATTACHMENT: _("the mail has an attachment that cannot be read from Moodle's data folder"),
    SENDER_UNUSABLE: _("the sender's or the reply address of the mail is not valid, so it cannot leave"),
    ROW_RESTORED: _("Moodle's row was set back, so Moodle sends it"),
    ROW_CHANGED: _("Moodle's row was changed by someone else"),
    ROW_REMOVED: _("Moodle's row was removed"),
    "filter_unsupported": _(
        "the text may contain what a text filter of the site changes, and we do not have that filter"
    ),
    "language_pack_unknown": _("the text needs words of the site's language that the database does not hold"),
    "profile_markup": _("a profile field contains HTML that Moodle would clean in a way we cannot foresee"),
    "profile_format": _("a profile field is in a text format that we do not render"),
    "profile_shortname": _("a profile field has a short name that Moodle's own replacing stumbles over"),
    "placeholder_in_value": _("a value contains a placeholder that Moodle would fill in"),
    "forceclean": _(
        "the site cleans every text (forceclean), and this one is not plain enough to be sure of the result"
    ),
    "timezone_unknown": _("the site's time zone is not known here"),
    "date_unknown": _("a profile field holds a date that cannot be shown"),
    COMPLETED_MEANWHILE: _("the learner completed the activity before the reminder was due"),
}


MOODLE_SENDS_NOTHING: frozenset[str] = frozenset({
    TOO_LATE, COMPLETES_FIRST, USER_MISSING, USER_DELETED, NOT_ENROLLED, TARGET_COMPLETE, RECIPIENT_BOTH,
    NOBODY_TO_MAIL, TEMPLATE_DISABLED, QUEUED_TOO_LONG,
}) | (refusals.MEANINGS.keys() - refusals.LEAVES_ROW)  # fmt: skip
"""Reasons with which Moodle, too, mails the user nothing (facts §2.7–2.9, §5.2–5.3, §7.2, §7.5); with the others
it does with the row what it always does."""


def meaning(code: str) -> str:
    """The reason in words, without a full stop: of this module or of the message gates; else the code."""
    for table in (MEANINGS, refusals.MEANINGS):
        if code in table:
            return str(table[code])
    return code.replace("_", " ")
