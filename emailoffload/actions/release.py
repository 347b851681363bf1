"""Hand a claim back to Moodle: the exact reverse of the claim, where nothing of it has left (design §6)."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from emailoffload.moodle import claims
from emailoffload.outbox.models import AuditEntry, Claim, Email
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.sources.reengagement.timing import TWO_DAYS
from emailoffload.worker import killpoints
from emailoffload.worker.recover_intents import finish_release

RETURNABLE = (EmailState.QUEUED, EmailState.FAILED)
"""States of mails that have certainly not left."""


@dataclass(frozen=True, slots=True)
class Released:
    """What became of one claim: handed back, or why not, in words."""

    claim_id: int
    released: bool
    why_not: str = ""


def release(claim_ids: list[int], *, actor: str, reason: str) -> list[Released]:
    """Hand claims back to Moodle, each by itself.

    Refused, with the reason in words, where a mail of the claim has left or may have left, where Moodle
    would no longer send it (the two-day rule), and where Moodle's row does not hold our values. What happens
    is recorded in the audit log. Raises `claims.ClaimUnknown` and database errors; recovery settles a claim
    that was caught in between.
    """
    return [_release_one(claim_id, actor, reason) for claim_id in claim_ids]


def _release_one(claim_id: int, actor: str, reason: str) -> Released:
    now = timezone.now()
    refusal = _reserve(claim_id, now)
    if refusal:
        return Released(claim_id, False, refusal)
    killpoints.reached("release_reserved")
    claim = Claim.objects.get(pk=claim_id)
    swap = claims.swap_of(claim.row_id, claim.before, claim.after).reversed()
    back = claim.row_id in claims.apply([swap])
    killpoints.reached("release_written")
    note = "" if back else _("Moodle's row does not hold our values any more, so it was not handed back")
    with transaction.atomic():
        finish_release(claim, timezone.now(), released=back, note=note)
        AuditEntry.objects.create(
            actor=actor,
            action="release" if back else "release_refused",
            object_type="claim",
            object_id=str(claim_id),
            reason=reason,
        )
    return Released(claim_id, back, note)


def _reserve(claim_id: int, now: dt.datetime) -> str:
    """Take the claim and its mails out of the dispatcher's reach, or say why that cannot be done."""
    with transaction.atomic():
        claim = Claim.objects.select_for_update().filter(pk=claim_id).first()
        if claim is None:
            return _("There is no claim %(id)s.") % {"id": claim_id}
        if claim.state != ClaimState.CLAIMED:
            return _("The claim is %(state)s, not claimed.") % {"state": claim.get_state_display()}
        last = claim.due_at + dt.timedelta(seconds=TWO_DAYS - settings.MOODLE_CRON_PERIOD_SECONDS)
        if now > last:
            return _("It is almost two days overdue: Moodle would drop it instead of sending it.")
        mails = Email.objects.filter(claim=claim)
        total = mails.count()
        reserved = mails.filter(state=EmailState.QUEUED, lease="").update(
            lease=f"r{uuid.uuid4().hex}", leased_until=now + dt.timedelta(days=3650)
        )
        failed = mails.filter(state=EmailState.FAILED).count()
        if reserved + failed < total:
            transaction.set_rollback(True)
            return _("A mail of this claim has left, may have left, or is just being sent.")
        Claim.objects.filter(pk=claim_id).update(state=ClaimState.RELEASING, settled_at=now)
    return ""
