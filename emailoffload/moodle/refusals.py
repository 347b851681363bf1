"""Why a recipient gets no mail from us: the codes, their meaning, and whose turn it then is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

PROVIDER_DISABLED = "provider_disabled"
EMAIL_PROCESSOR_DISABLED = "email_processor_disabled"
PROCESSOR_LOCKED_OFF = "processor_locked_off"
EMAILSTOP = "emailstop"
PREFERENCE_OFF = "preference_off"
AUTH_NOLOGIN = "auth_nologin"
USER_SUSPENDED = "user_suspended"
USER_DELETED = "user_deleted"
NO_ADDRESS = "no_address"
NOEMAILEVER = "noemailever"
ADDRESS_INVALID = "address_invalid"
ADDRESS_DOT_INVALID = "address_dot_invalid"
BOUNCE_THRESHOLD = "bounce_threshold"

PROCESSOR_LOCKED_MISSING = "processor_locked_missing"
BOUNCE_RATIO_UNKNOWN = "bounce_ratio_unknown"
MNET_USER = "mnet_user"
CHARSET_UNSUPPORTED = "charset_unsupported"
DIVERT_PATTERN = "divert_pattern"
NOREPLY_IS_USER = "noreply_is_user"
SENDER_UNKNOWN = "sender_unknown"
SENDER_INVALID = "sender_invalid"
SENDER_PER_RECIPIENT = "sender_per_recipient"
SENDER_NAME_MARKUP = "sender_name_markup"
CRON_USER_COMPANY = "cron_user_company"

MEANINGS: Mapping[str, _StrPromise] = {
    PROVIDER_DISABLED: _("reminders are switched off for the whole site"),
    EMAIL_PROCESSOR_DISABLED: _("notifications by email are switched off for the whole site"),
    PROCESSOR_LOCKED_OFF: _("the site forbids reminders by email"),
    EMAILSTOP: _("the user has switched all notifications off"),
    PREFERENCE_OFF: _("reminders by email are off in the user's or the site's notification preferences"),
    AUTH_NOLOGIN: _("the account cannot log in, so Moodle does not mail it"),
    USER_SUSPENDED: _("the account is suspended"),
    USER_DELETED: _("the account is deleted"),
    NO_ADDRESS: _("the user has no email address"),
    NOEMAILEVER: _("Moodle is set to send no mail at all (noemailever)"),
    ADDRESS_INVALID: _("the email address is not valid"),
    ADDRESS_DOT_INVALID: _("the email address ends in .invalid, which Moodle never mails to"),
    BOUNCE_THRESHOLD: _("too many mails to this user came back"),
    PROCESSOR_LOCKED_MISSING: _(
        "a notification setting is missing; Moodle's own run stops with an error here"
    ),
    BOUNCE_RATIO_UNKNOWN: _(
        "bounces are counted, but sent mails are not; Moodle's own run stops with an error here"
    ),
    MNET_USER: _("the user comes from another Moodle site; Moodle rewrites the links in such mails"),
    CHARSET_UNSUPPORTED: _("the mail must be sent in a character set other than UTF-8"),
    DIVERT_PATTERN: _("the exceptions from diverting mail use an expression that we cannot judge"),
    NOREPLY_IS_USER: _("the site's no-reply user is a real account, which changes mails to third parties"),
    SENDER_UNKNOWN: _("the site has no support user to send as"),
    SENDER_INVALID: _("the site's sender address is not valid, so its mail cannot leave"),
    SENDER_PER_RECIPIENT: _("the sender address depends on the courses that sender and recipient share"),
    SENDER_NAME_MARKUP: _(
        "the site's short name contains markup, which Moodle formats for the sender's name"
    ),
    CRON_USER_COMPANY: _("the first site admin belongs to a company with mail settings of its own"),
}
"""The reason in words for each code, to stand in a list or in a sentence: no capital, no full stop."""

LEAVES_ROW: frozenset[str] = frozenset({
    PROCESSOR_LOCKED_MISSING, BOUNCE_RATIO_UNKNOWN, MNET_USER, CHARSET_UNSUPPORTED, DIVERT_PATTERN,
    NOREPLY_IS_USER, SENDER_UNKNOWN, SENDER_INVALID, SENDER_PER_RECIPIENT, SENDER_NAME_MARKUP,
    CRON_USER_COMPANY,
})  # fmt: skip
"""Codes where Moodle might still mail, or fails in a way of its own: such a row is not claimed at all.

With the other codes Moodle, too, sends this recipient nothing, and the row's other recipients decide."""
RAISES: frozenset[str] = frozenset({PROCESSOR_LOCKED_MISSING, BOUNCE_RATIO_UNKNOWN})
"""Codes where Moodle's own run ends in an error."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """We send this recipient nothing, and why."""

    reason: str
    detail: str = ""
    """The setting or row that decides; never an address."""

    @property
    def leaves_row(self) -> bool:
        """Whether the whole row must stay with Moodle (`LEAVES_ROW`)."""
        return self.reason in LEAVES_ROW

    @property
    def moodle_raises(self) -> bool:
        """Whether Moodle's own run ends in an error at this recipient."""
        return self.reason in RAISES
