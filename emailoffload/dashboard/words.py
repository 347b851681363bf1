"""What codes are called on the pages: sources, roles, kinds of pass, outcomes, reasons.

A code without a wording is shown as its own words (`no_course_module` → "no course module"): a new code in
another package is readable at once, and never an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext_lazy, pgettext_lazy

from emailoffload.outbox.states import EmailState

Text = str | Promise

SOURCES: Final[Mapping[str, Text]] = {
    "reengagement": gettext_lazy("Reengagement reminder"),
    "iomad_queue": gettext_lazy("IOMAD mail"),
}
ROLES: Final[Mapping[str, Text]] = {
    "user": gettext_lazy("Learner"),
    "thirdparty": gettext_lazy("Third party"),
    "manager": gettext_lazy("Manager"),
    "copy": pgettext_lazy("role of a recipient", "Copy"),
}
TEMPLATES: Final[Mapping[str, Text]] = {
    "user_create": gettext_lazy("New account"),
    "user_reset": gettext_lazy("Password was reset"),
    "password_update": gettext_lazy("Password was changed"),
    "user_added_to_course": gettext_lazy("Added to a course"),
    "user_deleted": gettext_lazy("Account was deleted"),
    "user_suspended": gettext_lazy("Account was suspended"),
    "user_unsuspended": gettext_lazy("Account is active again"),
    "user_promoted": gettext_lazy("Became a manager"),
    "user_programcompleted": gettext_lazy("Programme completed"),
    "user_signed_up_for_event": gettext_lazy("Signed up for a training event"),
    "user_signed_up_to_waitlist": gettext_lazy("On the waiting list of a training event"),
    "user_removed_from_event": gettext_lazy("Removed from a training event"),
    "license_allocated": gettext_lazy("Licence allocated"),
    "license_removed": gettext_lazy("Licence removed"),
    "completion_course_user": gettext_lazy("Course completed"),
    "completion_warn_user": gettext_lazy("Course not completed in time"),
    "course_not_started_warning": gettext_lazy("Course not started yet"),
    "expiry_warn_user": gettext_lazy("Course expires soon"),
    "company_suspended": gettext_lazy("Company was suspended"),
    "company_unsuspended": gettext_lazy("Company is active again"),
    "company_licenseassigned": gettext_lazy("Licence assigned to the company"),
    "admin_deleted": gettext_lazy("Administrator was deleted"),
    "advertise_classroom_based_course": gettext_lazy("New training event"),
    "approval": gettext_lazy("Approval asked for"),
    "completion_course_supervisor": gettext_lazy("Course completed, to the supervisor"),
    "completion_digest_manager": gettext_lazy("Completed courses, to the manager"),
    "completion_expiry_warn_supervisor": gettext_lazy("Courses expire soon, to the supervisor"),
    "completion_warn_manager": gettext_lazy("Courses not completed in time, to the manager"),
    "completion_warn_supervisor": gettext_lazy("Courses not completed in time, to the supervisor"),
    "course_classroom_approval": gettext_lazy("Training event: approval asked for"),
    "course_classroom_approval_request": gettext_lazy("Training event: request passed on"),
    "course_classroom_approved": gettext_lazy("Training event: approved"),
    "course_classroom_denied": gettext_lazy("Training event: denied"),
    "course_classroom_manager_denied": gettext_lazy("Training event: denied, to the manager"),
    "course_completed_manager": gettext_lazy("Course completed, to the manager"),
    "expire": gettext_lazy("Course has expired"),
    "expire_manager": gettext_lazy("Course has expired, to the manager"),
    "expiry_warn_manager": gettext_lazy("Courses expire soon, to the manager"),
    "invoice_ordercomplete": gettext_lazy("Order completed"),
    "invoice_ordercomplete_admin": gettext_lazy("Order completed, to the shop"),
    "license_reminder": gettext_lazy("Licence not used yet"),
    "licensepoolexpiring": gettext_lazy("Licences expire soon"),
    "licensepoolwarning": gettext_lazy("Few licences are left"),
}
"""IOMAD's templates (facts §7.3): what kind of mail each is."""
KINDS: Final[Mapping[str, Text]] = {
    "intercept": gettext_lazy("Claim due mail"),
    "dispatch": gettext_lazy("Send"),
    "recover": gettext_lazy("Recover"),
    "feedback": gettext_lazy("Read SES events"),
    "release": gettext_lazy("Hand back"),
    "drain": gettext_lazy("Drain"),
    "fallback": gettext_lazy("Fall back"),
    "suppressions": gettext_lazy("Compare suppression lists"),
    "reconcile": gettext_lazy("Reconcile"),
    "rollups": gettext_lazy("Count for the figures"),
    "coverage": gettext_lazy("Count coverage"),
    "retention": gettext_lazy("Let go of what is old"),
}
RUN_OUTCOMES: Final[Mapping[str, Text]] = {
    "running": gettext_lazy("running"),
    "ok": gettext_lazy("fine"),
    "errors": gettext_lazy("fine, some rows had errors"),
    "refused": gettext_lazy("refused to claim"),
    "failed": gettext_lazy("failed"),
    "interrupted": gettext_lazy("interrupted"),
}
RUN_TONES: Final[Mapping[str, str]] = {
    "running": "wait",
    "ok": "good",
    "errors": "warn",
    "refused": "warn",
    "failed": "bad",
    "interrupted": "warn",
}
ATTEMPT_OUTCOMES: Final[Mapping[str, Text]] = {
    "in_flight": gettext_lazy("no answer yet"),
    "accepted": gettext_lazy("accepted"),
    "not_transmitted": gettext_lazy("not transmitted"),
    "throttled": gettext_lazy("throttled"),
    "permanent": gettext_lazy("refused for good"),
    "identity": gettext_lazy("refused for its sender"),
    "account": gettext_lazy("refused for the whole account"),
    "quota": gettext_lazy("24-hour quota used up"),
    "unknown": gettext_lazy("answer unknown"),
    "not_arrived": gettext_lazy("did not arrive, as a person found out"),
}
ROUTES: Final[Mapping[str, Text]] = {
    "ses": gettext_lazy("Amazon SES"),
    "smtp": gettext_lazy("SMTP"),
    "moodle": gettext_lazy("Moodle"),
}
COUNTS: Final[Mapping[str, Text]] = {
    "seen": gettext_lazy("seen"),
    "claimed": gettext_lazy("claimed"),
    "lost": gettext_lazy("lost to Moodle"),
    "sent": gettext_lazy("sent"),
    "suppressed": gettext_lazy("suppressed"),
    "retried": gettext_lazy("tried again"),
    "uncertain": gettext_lazy("uncertain"),
    "failed": gettext_lazy("failed"),
    "dropped": gettext_lazy("intents dropped"),
    "woken": gettext_lazy("late claims found"),
    "released": gettext_lazy("handed back"),
    "handed_back": gettext_lazy("handed back"),
    "smtp": gettext_lazy("sent by SMTP"),
    "smtp_retried": gettext_lazy("not taken by SMTP yet"),
    "held": gettext_lazy("left to a person"),
    "unreleased": gettext_lazy("could not be handed back"),
    "shadows_forgotten": gettext_lazy("old shadows forgotten"),
    "left_forgotten": gettext_lazy("old records of rows left to Moodle forgotten"),
    "agrees": gettext_lazy("agree"),
    "picked_up": gettext_lazy("picked up by Moodle"),
    "waiting": gettext_lazy("waiting"),
    "overdue": gettext_lazy("not picked up by Moodle"),
    "touched": gettext_lazy("changed by somebody else"),
    "gone": gettext_lazy("removed early"),
    "possible_double": gettext_lazy("possible doubles"),
    "possible_loss": gettext_lazy("possible losses"),
    "repeated": gettext_lazy("known already"),
    "silent": gettext_lazy("without meaning for us"),
    "problems": gettext_lazy("unreadable"),
    "unmatched": gettext_lazy("without a mail"),
    "doubles": gettext_lazy("sent twice"),
    "looked_again": gettext_lazy("mails looked for again"),
    "undeleted": gettext_lazy("messages that stayed in the queue"),
    "added": gettext_lazy("put on SES's list"),
    "removed": gettext_lazy("taken off SES's list"),
    "imported": gettext_lazy("taken over from SES's list"),
    "lifted": gettext_lazy("lifted, as on SES's list"),
    "put_back": gettext_lazy("to be put on SES's list again"),
    "expired": gettext_lazy("expired"),
    "items": gettext_lazy("activities and kinds of mail"),
    "with_reason": gettext_lazy("of them not offloaded, or in part"),
}
COUNTED_NOUNS: Final[Mapping[str, Any]] = {
    "errors": ngettext_lazy("error", "errors"),
    "mails": ngettext_lazy("mail rendered", "mails rendered"),
    "counted": ngettext_lazy("hour counted anew", "hours counted anew"),
    "walked": ngettext_lazy("hour compared with its rows", "hours compared with their rows"),
    "repaired": ngettext_lazy("hour put right", "hours put right"),
    "frozen": ngettext_lazy("hour too old to be counted again", "hours too old to be counted again"),
    "resting": ngettext_lazy("large hour counted again later", "large hours counted again later"),
    "left_over": ngettext_lazy("hour left for the next pass", "hours left for the next pass"),
    "leases_freed": ngettext_lazy("mail freed", "mails freed"),
    "sends_uncertain": ngettext_lazy("send became uncertain", "sends became uncertain"),
    "uncertain_resent": ngettext_lazy("uncertain mail sent once more", "uncertain mails sent once more"),
    "shadows_compared": ngettext_lazy("shadow compared", "shadows compared"),
    "passes_interrupted": ngettext_lazy("pass was interrupted", "passes were interrupted"),
    "claims": ngettext_lazy("claim compared", "claims compared"),
    "opened": ngettext_lazy("finding opened", "findings opened"),
    "closed": ngettext_lazy("finding closed", "findings closed"),
    "days": ngettext_lazy("day looked back", "days looked back"),
    "messages": ngettext_lazy("message read", "messages read"),
    "events": ngettext_lazy("event", "events"),
    "changed": ngettext_lazy("mail changed", "mails changed"),
}
"""Counts that are named by a noun, which has a plural: each is asked with `% number`."""
TONES: Final[Mapping[str, str]] = {
    EmailState.PREPARED: "wait",
    EmailState.QUEUED: "wait",
    EmailState.SENDING: "wait",
    EmailState.UNCERTAIN: "warn",
    EmailState.ACCEPTED: "good",
    EmailState.DELAYED: "warn",
    EmailState.DELIVERED: "good",
    EmailState.OPENED: "good",
    EmailState.CLICKED: "good",
    EmailState.BOUNCED: "bad",
    EmailState.COMPLAINED: "bad",
    EmailState.REJECTED: "bad",
    EmailState.SUPPRESSED: "quiet",
    EmailState.SENT_SMTP: "good",
    EmailState.RELEASED: "quiet",
    EmailState.FAILED: "bad",
    EmailState.CANCELLED: "quiet",
}
"""The colour of a state's badge; the badge's text always names the state too."""


def humanised(code: str) -> str:
    """A code as words: underscores and dots become blanks."""
    return code.replace("_", " ").replace(".", " ").strip()


def _word(table: Mapping[str, Text], code: str) -> str:
    return str(table[code]) if code in table else humanised(code)


def source(code: str) -> str:
    """The name of a source."""
    return _word(SOURCES, code)


def template(code: str) -> str:
    """What kind of mail an IOMAD template is."""
    return _word(TEMPLATES, code)


def role(code: str) -> str:
    """The name of a recipient's role."""
    return _word(ROLES, code)


def kind(code: str) -> str:
    """The name of a kind of pass."""
    return _word(KINDS, code)


def run_outcome(code: str) -> str:
    """How a pass ended."""
    return _word(RUN_OUTCOMES, code)


def attempt_outcome(code: str) -> str:
    """How an attempt ended."""
    return _word(ATTEMPT_OUTCOMES, code)


def route(code: str) -> str:
    """The name of a route."""
    return _word(ROUTES, code)


def count_name(code: str, number: float) -> str:
    """The name of a count that a pass kept, as it stands after this number of them."""
    if code in COUNTED_NOUNS:
        return str(COUNTED_NOUNS[code] % number)
    return _word(COUNTS, code)


def state(code: str) -> str:
    """The name of an email's state."""
    try:
        return str(EmailState(code).label)
    except ValueError:
        return humanised(code)


def tone(code: str) -> str:
    """The tone of an email's state: good, wait, warn, bad or quiet."""
    return TONES.get(code, "quiet")


def reminder(ordinal: int, is_last: bool) -> str:
    """Which reminder of its activity a claim is, as words."""
    return _("reminder %(n)d, the last") % {"n": ordinal} if is_last else _("reminder %(n)d") % {"n": ordinal}
