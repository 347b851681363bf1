"""Send single mails by SMTP because a person asks for it; how it is done is in `worker.smtp_route`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.utils import timezone
from django.utils.translation import gettext as _

from emailoffload.actions import fallbacks
from emailoffload.delivery import smtp
from emailoffload.outbox.models import Email
from emailoffload.outbox.states import LEFT, ClaimState, EmailState
from emailoffload.worker import smtp_route

S = EmailState


def why_not(email: Email, claim_state: str, *, stored: bool, now: datetime | None = None) -> str:
    """What keeps a mail from going by SMTP now, in words; '' where nothing does.

    `stored`: whether what it says is still there.
    """
    if not smtp.configured():
        return _("There is no SMTP route: EMAIL_URL is not set.")
    if email.state == S.UNCERTAIN:
        return _(
            "It may have left already. Find out whether it arrived, and settle it on the page Fallbacks first."
        )
    if email.state in LEFT:
        return _("It has left, or is just being sent.")
    if email.state not in (S.QUEUED, S.FAILED):
        return _("It is %(state)s: nothing is to be sent.") % {"state": email.get_state_display()}
    if claim_state != ClaimState.CLAIMED:
        return _("Its claim is no longer ours: the mail is Moodle's.")
    if email.lease == smtp_route.WANTED:
        return _("It is set aside for the SMTP server already, and leaves within a minute.")
    if email.lease:
        return _("It is just being sent.")
    if email.due_at > (now or timezone.now()):
        return _("It is not due yet. By SMTP it would leave at once, which is too early.")
    return "" if stored else _("What it said is no longer stored.")


def send(email_ids: Sequence[int], *, actor: str, reason: str) -> fallbacks.Acted:
    """Set mails aside for the SMTP server; each that is leaves an audit entry.

    Raises ValueError without a reason, and database errors.
    """
    return fallbacks.act("smtp", email_ids, actor=actor, reason=reason)
