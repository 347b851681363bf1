"""Stop a mail that has not left, because a person asks for it: it is never sent, and Moodle does not send it either.

A dispatcher may be about to send the mail at this very moment. Both guard by the row: what is stopped here is not
`queued` any more, so that no dispatcher can mark it *sending*, and nothing is transmitted before that mark
(`transitions.mark_sending`); what is marked is refused here. So a mail is stopped and never transmitted, or it is
sent and the request is refused, in words.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from django.db import transaction
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from emailoffload.outbox import deadlocks, transitions
from emailoffload.outbox.models import Attempt, AuditEntry, Claim, Email
from emailoffload.outbox.states import ClaimState, EmailState, sources_of

S = EmailState
BATCH = 200
STOPPED_UNSURE: Final = "stopped_unsure"
"""Reason of a mail that was stopped after a try without an answer: it may have left before."""
REFUSALS: Final[Mapping[str, Promise]] = {
    S.PREPARED: gettext_lazy("It is not ours to send yet: the claim of Moodle's row is just being made."),
    S.SENDING: gettext_lazy("It is being handed over at this moment: it is too late to stop it."),
    S.SENT_SMTP: gettext_lazy("It has left: the SMTP server took it."),
    S.REJECTED: gettext_lazy("It has left us, and Amazon SES did not deliver it: there is nothing to stop."),
    S.SUPPRESSED: gettext_lazy("It was stopped already, and is not sent."),
    S.RELEASED: gettext_lazy("It was handed back to Moodle, which sends it."),
    S.CANCELLED: gettext_lazy("A person has stopped it already, and nobody sends it."),
}
"""Why a mail of a state cannot be stopped; what SES took has left."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What became of one request: stopped, or why not, in words."""

    email_id: int
    cancelled: bool
    why_not: str = ""


def refusal(state: str, claim_state: str) -> str:
    """Why a mail of this state, of a claim of that state, cannot be stopped; '' where it can (`outbox.states`)."""
    if S(state) in sources_of(S.CANCELLED):
        if claim_state == ClaimState.RELEASING:
            return _("Its claim is being handed back to Moodle at this moment.")
        return ""
    return str(REFUSALS.get(state) or _("It has left: Amazon SES took it."))


def may_have_left(email: Email) -> bool:
    """Whether a mail that can be stopped may have left all the same: a try of it got no answer. One query."""
    return email.pk in unsure([email])


def cancel(email_ids: Sequence[int], *, actor: str, reason: str) -> list[Cancelled]:
    """Stop these mails for good; one outcome per id, in the order given.

    Only what has not left can be stopped, as the table of states says; the other mails of its claim stay as they are.
    Each one stopped leaves an audit entry. Raises ValueError without a reason, and database errors.
    """
    if not reason.strip():
        raise ValueError("stopping a mail needs a reason")
    todo = list(dict.fromkeys(email_ids))
    outcomes: dict[int, Cancelled] = {}
    for start in range(0, len(todo), BATCH):
        ids = todo[start : start + BATCH]
        outcomes |= deadlocks.survive(partial(_cancel_batch, ids, actor[:150], reason.strip()[:500]))
    return [outcomes[email_id] for email_id in email_ids]


def _cancel_batch(ids: Sequence[int], actor: str, reason: str) -> dict[int, Cancelled]:
    now = timezone.now()
    outcomes = {pk: Cancelled(pk, False, _("There is no email %(id)s.") % {"id": pk}) for pk in ids}
    with transaction.atomic():
        # Claims before their emails, as a hand-back locks them.
        of = set(Email.objects.filter(pk__in=ids).values_list("claim_id", flat=True))
        locked = Claim.objects.select_for_update().filter(pk__in=of).order_by("pk")
        claims = dict(locked.values_list("pk", "state"))
        # From here on no dispatcher marks one of these as being sent, until this is decided.
        emails = list(Email.objects.select_for_update().filter(pk__in=ids).order_by("pk"))
        todo = []
        for email in emails:
            why = refusal(email.state, claims[email.claim_id])
            outcomes[email.pk] = Cancelled(email.pk, not why, why)
            if not why:
                todo.append(email)
        _stop(todo, now)
        AuditEntry.objects.bulk_create(
            AuditEntry(
                actor=actor, action="cancel", object_type="email", object_id=str(email.pk), reason=reason,
                details={"was": email.state},
            )
            for email in todo
        )  # fmt: skip
    return outcomes


def _stop(emails: Sequence[Email], now: datetime) -> None:
    doubtful = unsure(emails)
    for ids, why in (
        ({email.pk for email in emails} - doubtful, ""),
        (doubtful, STOPPED_UNSURE),
    ):
        if ids:
            transitions.move(ids, S.CANCELLED, now=now, reason=why, detail="")


def unsure(emails: Collection[Email]) -> set[int]:
    """Those of these mails of which a try got no answer, by id: they may have left. One query."""
    if not emails:
        return set()
    tries = Attempt.objects.filter(email__in=[email.pk for email in emails], outcome=transitions.NO_ANSWER)
    found = set(tries.values_list("email_id", flat=True))
    return found | {email.pk for email in emails if email.state == S.UNCERTAIN}
