"""What people did with one mail and its claim, from the audit log: who, when and why.

Whoever may see a mail may see what was done with it; looks at what it says are told only to those who may see the
audit log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db.models import Q
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from emailoffload.dashboard import access
from emailoffload.dashboard.timeline_entry import Entry
from emailoffload.outbox import scope
from emailoffload.outbox.models import AuditEntry, Email

MOST = 100
LOOKS = 200
"""Looks that are counted; where there are more, at least so many."""
LOOK: Final = "view_content"
TITLES: Final[Mapping[str, tuple[Promise, str]]] = {
    "cancel": (gettext_lazy("Stopped by a person"), "warn"),
    "release": (gettext_lazy("Handed back to Moodle"), "quiet"),
    "release_refused": (gettext_lazy("Handing it back was refused: Moodle's row had changed"), "warn"),
    "retry": (gettext_lazy("Queued again for Amazon SES"), "wait"),
    "smtp": (gettext_lazy("Set aside for the SMTP server"), "wait"),
    "dismiss": (gettext_lazy("Marked as dealt with"), "quiet"),
    "settle": (gettext_lazy("Settled: a person said what became of it"), "quiet"),
}
SETTLED: Final[Mapping[str, Promise]] = {
    "accepted": gettext_lazy("Settled: a person found out that it arrived"),
    "resend": gettext_lazy("Settled: it did not arrive, so it was queued anew"),
}


def of(email: Email) -> Sequence[AuditEntry]:
    """What was done with an email, with its claim, and with the email that it repeats, newest first; one query."""
    mine = [str(pk) for pk in (email.pk, email.resend_of_id) if pk]
    concerned = Q(object_type="email", object_id__in=mine) | Q(
        object_type="claim", object_id=str(email.claim_id)
    )
    return list(AuditEntry.objects.filter(concerned).exclude(action=LOOK).order_by("-pk")[:MOST])


def entries(email: Email, deeds: Sequence[AuditEntry]) -> list[Entry]:
    """The lines of the timeline for what `of` found."""
    found = []
    for deed in deeds:
        own = deed.object_type == "claim" or deed.object_id == str(email.pk)
        entry = _resent(email, deed) if deed.action == "resend" else _entry(deed) if own else None
        if entry:
            found.append(entry)
    return found


def _entry(deed: AuditEntry) -> Entry | None:
    if deed.action not in TITLES:
        return None
    title, tone = TITLES[deed.action]
    if deed.action == "settle":
        title = SETTLED.get(str(deed.details.get("decision")), title)
    return Entry(deed.at, str(title), tone, who_and_why(deed))


def _resent(email: Email, deed: AuditEntry) -> Entry | None:
    new = deed.details.get("new_email")
    if deed.object_id == str(email.pk):
        title = _("Sent again as email %(id)s") % {"id": new}
    elif new == email.pk:
        title = _("Sent again, as a person asked")
    else:
        return None
    text = who_and_why(deed)
    if deed.details.get("to") == "present":
        text = " · ".join((text, _("to the address that the user had in Moodle by then")))
    return Entry(deed.at, title, "wait", text)


def who_and_why(deed: AuditEntry) -> str:
    """Who did it and why, as a phrase."""
    if not deed.reason:
        return _("by %(who)s") % {"who": deed.actor}
    return _("by %(who)s: “%(why)s”") % {"who": deed.actor, "why": deed.reason}


@dataclass(frozen=True, slots=True)
class Looks:
    """How often what a mail says was looked at, and who did so last."""

    number: int
    more: bool
    last_by: str
    last_at: datetime


def looks(email: Email, viewer: scope.Person) -> Looks | None:
    """The looks at a mail for those who may see the audit log, None for others and where there are none; one query."""
    if not viewer.has_perm(access.VIEW_AUDIT) or scope.is_bound(viewer):  # type: ignore[union-attr]
        return None
    rows = AuditEntry.objects.filter(object_type="email", object_id=str(email.pk), action=LOOK)
    found = list(rows.order_by("-pk").values_list("actor", "at")[: LOOKS + 1])
    if not found:
        return None
    return Looks(min(len(found), LOOKS), len(found) > LOOKS, *found[0])
