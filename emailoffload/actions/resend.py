"""Send a mail again because a person asks for it: a new email of the same claim.

The copy says what the original said, and goes to the same address, or to the one that the learner has in Moodle today
(`actions.present`). It leaves like any other mail, but the rules for automatic mails do not stop it; only a deleted
recipient does (`worker.resends`).
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from emailoffload.actions.cancel import STOPPED_UNSURE
from emailoffload.actions.present import Present, present
from emailoffload.feedback import suppression
from emailoffload.outbox import bulk, content, intents
from emailoffload.outbox.models import AuditEntry, Claim, Content, Email
from emailoffload.outbox.states import OPEN, ClaimState, EmailState
from emailoffload.policy.credentials import sensitive_templates

BATCH = 50
AGAIN = dt.timedelta(minutes=1)
"""A second request so soon after the first is a double click, even where the first mail has left already."""
ON_ITS_WAY = (EmailState.PREPARED, EmailState.QUEUED, EmailState.SENDING)
HANDED_BACK = (ClaimState.RELEASING, ClaimState.RELEASED)
WARNINGS: Final[dict[str, Promise]] = {
    EmailState.UNCERTAIN: gettext_lazy("It may have gone out already: the recipient may get it twice."),
    EmailState.DELAYED: gettext_lazy("Amazon SES still tries to deliver it: the recipient may get it twice."),
    EmailState.SUPPRESSED: gettext_lazy(
        "It was stopped on purpose, and will not be stopped for that reason again. Read the reason first."
    ),
    EmailState.CANCELLED: gettext_lazy("A person stopped it. The audit log says who and why."),
    EmailState.BOUNCED: gettext_lazy("It came back from this address, and goes to the same address again."),
    EmailState.COMPLAINED: gettext_lazy("The recipient marked it as spam. Speak with them first."),
    EmailState.REJECTED: gettext_lazy("Amazon SES refused what it says, and will probably refuse it again."),
}


@dataclass(frozen=True, slots=True)
class Resent:
    """What became of one request: the id of the new email, or why there is none, in words."""

    email_id: int
    new_id: int | None = None
    why_not: str = ""


def reset_advice() -> str:
    """What to do for a user whose mail with credentials cannot be sent again."""
    return _(
        "Give the user a new password in Moodle instead: in IOMAD under Edit users, Reset password; without "
        "IOMAD in the user's profile, Edit profile, New password. With Lost password on the login page the "
        "user can do it alone."
    )


def warning(email: Email) -> str:
    """What a person should know before this email is sent again; '' where there is nothing."""
    state = email.state
    if state == EmailState.CANCELLED and (email.accepted_at or email.reason == STOPPED_UNSURE):
        state = EmailState.UNCERTAIN
    return str(WARNINGS.get(state, ""))


def why_not(email: Email) -> str:
    """Why this email cannot be sent again to its address now, in words; '' where it can. Five queries at most."""
    return refusals([email]).get(email.pk, "")


def refusals(emails: Sequence[Email], goes_to: Mapping[int, str] | None = None) -> dict[int, str]:
    """Why these emails cannot be sent again now, by id; those that can are not in it. Five queries at most.

    `goes_to` has the address of those that are to go to another one than theirs.
    """
    return _refusals(emails, timezone.now(), goes_to or {})


def resend(
    email_ids: Sequence[int], *, actor: str, reason: str, to_present: Mapping[int, str] | None = None
) -> list[Resent]:
    """Send these emails again; one outcome per id, in the order given.

    Those in `to_present` go to the address that their learner has in Moodle today; its value is the address that the
    person agreed to ('' agrees to any), and where Moodle has another one by now they are refused. All others go to
    the address that they have.

    Refused, with the reason in words, are emails that are on their way, that Moodle has, whose content is
    erased, and those that are just being sent again: requests that come twice, or from two processes, make one
    new email. Each one made leaves an audit entry. Raises ValueError without a reason, and database errors of ours.
    """
    if not reason.strip():
        raise ValueError("a resend needs a reason")
    todo = list(dict.fromkeys(email_ids))
    agreed = to_present or {}
    outcomes: dict[int, Resent] = {}
    try:
        content.ensure_keys()
    except content.ForeignKeys as error:
        return [Resent(email_id, why_not=str(error)) for email_id in email_ids]
    for start in range(0, len(todo), BATCH):
        ids = todo[start : start + BATCH]
        moved, refused = _moved({pk: agreed[pk] for pk in ids if pk in agreed})
        rest = [pk for pk in ids if pk not in refused]
        outcomes |= {pk: Resent(pk, why_not=why) for pk, why in refused.items()}
        outcomes |= _resend_batch(rest, moved, actor, reason.strip())
    return [outcomes[email_id] for email_id in email_ids]


def _moved(wanted: Mapping[int, str]) -> tuple[dict[int, Present], dict[int, str]]:
    """Where these emails go by their learners' present addresses, and why some do not. Moodle is asked."""
    if not wanted:
        return {}, {}
    found = present(list(Email.objects.filter(pk__in=wanted)))
    refused = {pk: place.why_not for pk, place in found.items() if place.why_not}
    for pk, place in found.items():
        shown = suppression.key(wanted[pk])
        if pk not in refused and shown and shown != suppression.key(place.address):
            refused[pk] = _(
                "The address in Moodle has changed once more meanwhile. Look at the new one first."
            )
    return {pk: place for pk, place in found.items() if pk not in refused}, refused


def _resend_batch(
    email_ids: Sequence[int], moved: Mapping[int, Present], actor: str, reason: str
) -> dict[int, Resent]:
    now = timezone.now()
    with transaction.atomic():
        # Claims before their emails, as a hand-back locks them.
        claims = set(Email.objects.filter(pk__in=email_ids).values_list("claim_id", flat=True))
        list(Claim.objects.select_for_update().filter(pk__in=claims).order_by("pk").values_list("pk"))
        locked = Email.objects.select_for_update().filter(pk__in=email_ids).order_by("pk")
        found = {email.pk: email for email in locked}
        refused = _refusals(list(found.values()), now, {pk: place.address for pk, place in moved.items()})
        refused |= {pk: _("There is no email %(id)s.") % {"id": pk} for pk in email_ids if pk not in found}
        copies: dict[int, tuple[bulk.Row, tuple[str, bytes]]] = {}
        contents = Content.objects.filter(pk__in=set(found) - set(refused))
        for row in contents:
            try:
                parts = content.open_(row)
            except content.ContentError as error:
                refused[row.pk] = str(error)
                continue
            copy = dict(_copy(found[row.pk], now))
            if place := moved.get(row.pk):
                copy |= {"address": place.address, "name": place.name[:255]}
                parts = replace(parts, to_address=place.address, to_name=place.name)
            copies[row.pk] = copy, content.seal(parts)
        made = _store(copies, set(moved), actor, reason)
    return {pk: Resent(pk, why_not=why) for pk, why in refused.items()} | {
        pk: Resent(pk, new_id) for pk, new_id in made.items()
    }


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides whether an email can be sent again, beyond its own row."""

    claim_state: str
    stored: bool
    """Whether what it said is still there."""
    pending: int | None
    """The open or very young email that repeats it."""
    suppressed: bool
    """Whether the address that it would go to gets no mail."""
    secret: bool
    """Whether it carries credentials."""


def refusal(email: Email, facts: Facts) -> str:
    """Why an email cannot be sent again, in words; '' where it can."""
    if email.state in ON_ITS_WAY:
        return _("It is on its way already.")
    if email.state == EmailState.RELEASED or facts.claim_state in HANDED_BACK:
        return _("It was handed back to Moodle, which sends it.")
    if facts.claim_state != ClaimState.CLAIMED:
        state = ClaimState(facts.claim_state).label
        return _("Its claim is %(state)s: the mail is not ours to send.") % {"state": state}
    if facts.pending is not None:
        return _("It is being sent again already, as email %(id)s.") % {"id": facts.pending}
    if facts.suppressed:
        return _(
            "Its address is suppressed: it gets no mail. Find out whether it works again, lift the suppression "
            "(page Suppressions), then send the mail again."
        )
    if facts.stored:
        return ""
    if facts.secret:
        return _("It carried credentials, and what it said is erased.") + f" {reset_advice()}"
    return _("What it said is no longer stored.")


def _refusals(emails: Sequence[Email], now: dt.datetime, goes_to: Mapping[int, str]) -> dict[int, str]:
    ids = [email.pk for email in emails]
    claims = dict(Claim.objects.filter(pk__in={e.claim_id for e in emails}).values_list("pk", "state"))
    stored = set(Content.objects.filter(pk__in=ids).values_list("pk", flat=True))
    again = Email.objects.filter(open_or_young(now), resend_of__in=ids)
    pending = dict(again.values_list("resend_of_id", "pk"))
    secret = sensitive_templates()
    addresses = {email.pk: goes_to.get(email.pk, email.address) for email in emails}
    suppressed = suppression.suppressed(addresses.values(), now)
    refused: dict[int, str] = {}
    for email in emails:
        barred = suppression.key(addresses[email.pk]) in suppressed
        facts = Facts(
            claims[email.claim_id], email.pk in stored, pending.get(email.pk), barred,
            email.sensitive or email.template in secret,
        )  # fmt: skip
        if why := refusal(email, facts):
            refused[email.pk] = why
    return refused


def open_or_young(now: dt.datetime) -> Q:
    """The resends beside which there is no second one of the same mail."""
    return Q(state__in=OPEN) | Q(created_at__gt=now - AGAIN)


def _copy(email: Email, now: dt.datetime) -> bulk.Row:
    kept = (
        "claim_id", "source", "template", "role", "origin", "user_id", "recipient_id", "activity_id", "course_id",
        "company_id", "address", "name", "subject", "sensitive",
    )  # fmt: skip
    return {name: getattr(email, name) for name in kept} | {
        "ref": uuid.uuid4(),
        "resend_of_id": email.pk,
        "state": EmailState.QUEUED,
        "state_at": now,
        "created_at": now,
        "due_at": now,
        "next_try_at": now,
        "deadline_at": now + dt.timedelta(seconds=settings.SEND_DEADLINE_SECONDS),
    }


def _store(
    copies: dict[int, tuple[bulk.Row, tuple[str, bytes]]], moved: set[int], actor: str, reason: str
) -> dict[int, int]:
    """Insert new emails by the ids of their originals, with contents and audit entries; returns the new ids."""
    ids = intents.store_emails(
        [row for row, _sealed in copies.values()], [sealed for _row, sealed in copies.values()]
    )
    made = dict(zip(copies, ids, strict=True))
    AuditEntry.objects.bulk_create(
        AuditEntry(
            actor=actor[:150],
            action="resend",
            object_type="email",
            object_id=str(pk),
            reason=reason[:500],
            details={"new_email": new_id} | ({"to": "present"} if pk in moved else {}),
        )
        for pk, new_id in made.items()
    )
    return made
