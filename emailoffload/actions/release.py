"""Hand claims back to Moodle because a person asks for it; how it is done is in `worker.handback`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from django.utils import timezone
from django.utils.translation import gettext as _

from emailoffload.outbox import transitions
from emailoffload.outbox.models import Attempt, Claim, Email
from emailoffload.outbox.states import LEFT, ClaimState, EmailState
from emailoffload.worker import smtp_route
from emailoffload.worker.handback import Released, hand_back, too_late

__all__ = ["Released", "release", "unanswered", "why_not"]
S = EmailState


def release(claim_ids: Sequence[int], *, actor: str, reason: str) -> list[Released]:
    """Hand claims back to Moodle; one outcome per id, in the order given, with the reason in words where refused.

    What happens is recorded in the audit log. Raises `claims.ClaimUnknown` and database errors; recovery settles
    claims that were caught in between.
    """
    return hand_back(claim_ids, actor=actor[:150], reason=reason[:500])


def unanswered(mails: Collection[Email]) -> set[int]:
    """The ids of those mails of which a try got no answer: they may have left. One query."""
    tries = Attempt.objects.filter(email__in=[mail.pk for mail in mails], outcome=transitions.NO_ANSWER)
    return set(tries.values_list("email_id", flat=True))


def why_not(
    claim: Claim, mails: Collection[Email], unsure: Collection[int], now: datetime | None = None
) -> str:
    """What keeps a claim with these mails from being handed back, as far as our own rows say; '' where nothing does.

    `unsure`: what `unanswered` found. Moodle's row, and whether its cron is at work, are looked at by `release` only.
    """
    if claim.state == ClaimState.RELEASED:
        return _("It was handed back already: Moodle sends it.")
    if claim.state == ClaimState.RELEASING:
        return _("It is being handed back at this moment.")
    if claim.state != ClaimState.CLAIMED:
        return _("The claim is %(state)s, not claimed.") % {"state": claim.get_state_display()}
    reasons = [_mail_bars(mail, mail.pk in unsure) for mail in mails]
    for why in sorted(filter(None, reasons)):
        # The gravest first: what has left bars it for good, what is being sent only for now.
        return why[1]
    if too_late(claim, now or timezone.now()):
        return _("It is almost two days overdue: Moodle would drop it instead of sending it.")
    return ""


def _mail_bars(mail: Email, unsure: bool) -> tuple[int, str] | None:
    """How one mail keeps its claim from going back: (how grave, the least number being the gravest; why)."""
    if mail.state in LEFT - {S.SENDING, S.UNCERTAIN}:
        return 1, _("A mail of this claim has left, and Moodle would send it a second time.")
    if mail.state == S.UNCERTAIN or unsure:
        return 2, _("A mail of this claim may have left, and Moodle might send it a second time.")
    if mail.state in (S.CANCELLED, S.SUPPRESSED):
        return 3, _("A mail of this claim was stopped, and Moodle would send that one too.")
    if mail.state == S.QUEUED and mail.lease == smtp_route.WANTED:
        return 4, _("A mail of this claim is set aside for the SMTP server, which takes it within a minute.")
    if mail.state == S.SENDING or (mail.state == S.QUEUED and mail.lease):
        return 5, _("A mail of this claim is being sent at this moment. Look again in a minute.")
    if mail.state not in (S.QUEUED, S.FAILED):
        return 6, _("A mail of this claim is %(state)s.") % {"state": mail.get_state_display()}
    return None
