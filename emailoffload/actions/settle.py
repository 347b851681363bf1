"""What became of an uncertain mail, decided by a person: nothing is guessed (design §6).

What happens where nobody decides is `worker.uncertain`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from emailoffload.outbox import transitions
from emailoffload.outbox.models import Attempt, AuditEntry, Claim, Content, Email
from emailoffload.outbox.states import ClaimState, EmailState

Decision = Literal["accepted", "resend"]
BY_PERSON: Final = "settled_by_person"
BATCH = 200


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one request: the email's new state, or why it was not settled, in words."""

    email_id: int
    state: str = ""
    why_not: str = ""


def settle(email_ids: Sequence[int], *, decision: Decision, actor: str, reason: str) -> list[Settled]:
    """Settle uncertain emails; one outcome per id, in the order given.

    "accepted": it arrived, so it is accepted (by SMTP: sent), on a person's word. "resend": it did not, so it is
    queued again, and leaves as any mail does, if it is still owed. Each leaves an audit entry. Raises ValueError
    without a reason, and database errors.
    """
    if not reason.strip():
        raise ValueError("settling a mail needs a reason")
    outcomes: dict[int, Settled] = {}
    todo = list(dict.fromkeys(email_ids))
    for start in range(0, len(todo), BATCH):
        outcomes |= _settle_batch(todo[start : start + BATCH], decision, actor[:150], reason.strip()[:500])
    return [outcomes[email_id] for email_id in email_ids]


def _settle_batch(ids: Sequence[int], decision: Decision, actor: str, reason: str) -> dict[int, Settled]:
    now = timezone.now()
    outcomes: dict[int, Settled] = {}
    with transaction.atomic():
        claims = set(Email.objects.filter(pk__in=ids).values_list("claim_id", flat=True))
        locked = Claim.objects.select_for_update().filter(pk__in=claims).order_by("pk")
        ours = {pk for pk, state in locked.values_list("pk", "state") if state == ClaimState.CLAIMED}
        found = {
            email.pk: email for email in Email.objects.select_for_update().filter(pk__in=ids).order_by("pk")
        }
        stored = set(Content.objects.filter(pk__in=ids).values_list("pk", flat=True))
        for pk in ids:
            why = _why_not(found.get(pk), pk, decision, pk in stored, ours)
            outcomes[pk] = Settled(pk, why_not=why) if why else Settled(pk, _move(found[pk], decision, now))
        AuditEntry.objects.bulk_create(
            AuditEntry(
                actor=actor,
                action="settle",
                object_type="email",
                object_id=str(pk),
                reason=reason,
                details={"decision": decision, "state": outcome.state},
            )
            for pk, outcome in outcomes.items()
            if outcome.state
        )
    return outcomes


def _why_not(email: Email | None, pk: int, decision: Decision, stored: bool, ours: set[int]) -> str:
    if email is None:
        return _("There is no email %(id)s.") % {"id": pk}
    if email.state != EmailState.UNCERTAIN:
        return _("It is %(state)s, not uncertain.") % {"state": email.get_state_display()}
    if decision == "resend" and not stored:
        return _("What it said is no longer stored.")
    if decision == "resend" and email.claim_id not in ours:
        return _("Its claim is no longer ours: the mail is Moodle's.")
    return ""


def _move(email: Email, decision: Decision, now: datetime) -> str:
    """Move one locked email; returns its new state."""
    columns: dict[str, Any]
    if decision == "accepted":
        new = EmailState.SENT_SMTP if email.route == "smtp" else EmailState.ACCEPTED
        columns = {"reason": BY_PERSON, "detail": ""}
    else:
        new = EmailState.QUEUED
        soon = now + timedelta(seconds=settings.SEND_DEADLINE_SECONDS)
        columns = {
            "reason": "", "detail": "", "route": "ses", "next_try_at": now, "deadline_at": soon
        }  # fmt: skip
        # Nothing of it has left, as far as anybody knows: it may go back to Moodle, too.
        Attempt.objects.filter(email=email, outcome=transitions.NO_ANSWER).update(
            outcome=transitions.NOT_ARRIVED
        )
    transitions.move([email.pk], new, now=now, **columns)
    return new.value
