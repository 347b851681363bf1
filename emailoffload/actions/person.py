"""What an administrator does for one person: everything that is held about them as a file, or erased.

Mails that wait to be sent are stopped first, by `actions.cancel`; what is being sent at this moment is left, and named:
whoever asks again a minute later gets the rest. Neither the audit log nor the record of the erasure holds anything
about the person but their user id.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.db.models import QuerySet
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

from emailoffload.actions import cancel
from emailoffload.outbox import erasure
from emailoffload.outbox.models import AuditEntry, Forgotten
from emailoffload.outbox.persons import ErasedPerson
from emailoffload.outbox.states import EmailState
from emailoffload.worker.privacy import person

MOST: Final = 20_000
"""Records of a kind that one export holds, the newest of them; it says where there were more."""
CHUNK: Final = 500
STOPPABLE: Final = (EmailState.QUEUED, EmailState.UNCERTAIN, EmailState.FAILED)
OBJECT: Final = "person"
KEPT: Final[Mapping[str, Promise]] = {
    "waiting": gettext_lazy(
        "Mails that are being sent or handed back at this moment. Erase again in a few minutes: the rest goes then."
    ),
    "suppressed": gettext_lazy(
        "An address that must not be written to stays on the suppression list, alone: without it the next mail would "
        "go there. Lift the suppression first if it is to go too."
    ),
    "shared": gettext_lazy(
        "Records that only name an address which other users have as well: nobody can tell whose they are."
    ),
    "audit": gettext_lazy(
        "The audit log: who did what with which mail, by numbers. It goes after RETAIN_AUDIT_DAYS."
    ),
    "ids": gettext_lazy(
        "The user id with states and times of mails and claims, so that nothing is sent a second time. They go after "
        "RETAIN_RECORDS_DAYS."
    ),
    "unreadable": gettext_lazy(
        "Messages from Amazon SES that could not be read are encrypted and cannot be searched. They go after "
        "RETAIN_EVENTS_DAYS."
    ),
    "elsewhere": gettext_lazy(
        "What Moodle, Amazon SES, mailboxes, logs of mail servers and backups hold is not ours to erase."
    ),
}
"""What stays, and why."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What is held about a person, in numbers that stop at MOST."""

    user_id: int
    numbers: Mapping[str, int]
    own: Sequence[str]
    shared: Sequence[str]
    asked_moodle: bool
    to_stop: int
    """Mails that wait, failed or are uncertain: an erasure stops them."""
    moving: int
    """Mails that are being sent at this moment, or whose claim is just being made."""
    barred: int
    """Suppressions that hold."""
    erased_at: datetime | None
    """When the person was last erased."""

    @property
    def nothing(self) -> bool:
        """Whether nothing is held."""
        return not any(self.numbers.values())


def held_by(held: person.Holdings) -> dict[str, QuerySet[Any]]:
    """The records of each kind."""
    return {
        "claims": held.claims,
        "mails_about": held.about,
        "mails_to": held.to,
        "events": held.events,
        "suppressions": held.suppressions,
        "left_to_moodle": held.left,
        "shadows": held.shadows,
        "row_errors": held.row_errors,
    }


def counted(rows: QuerySet[Any]) -> int:
    """How many there are, up to MOST."""
    return rows.order_by()[:MOST].count()


def summary(user_id: int, also: Collection[str] = ()) -> Summary:
    """What is held about a person now, and what an erasure would do. Some twenty queries, each by an index."""
    held = person.find(user_id, also)
    numbers = {name: counted(rows) for name, rows in held_by(held).items()}
    moving = (EmailState.PREPARED, EmailState.SENDING)
    erased = ErasedPerson.objects.filter(user_id=user_id).values_list("erased_at", flat=True).first()
    return Summary(
        user_id=user_id,
        numbers=numbers | {"saved_views": len(held.views)},
        own=sorted(held.addresses.own),
        shared=sorted(held.addresses.shared),
        asked_moodle=held.addresses.asked_moodle,
        to_stop=sum(counted(rows.filter(state__in=STOPPABLE)) for rows in (held.about, held.to)),
        moving=sum(counted(rows.filter(state__in=moving)) for rows in (held.about, held.to)),
        barred=counted(held.suppressions.filter(active_key__isnull=False)),
        erased_at=erased,
    )


@dataclass(frozen=True, slots=True)
class Erasure:
    """What an erasure did."""

    erased: Mapping[str, int]
    stopped: int
    waiting: Sequence[int]
    """Ids of mails that could not be touched yet."""
    kept: Sequence[int]
    """Ids of suppressions that stay."""
    why_not: Mapping[int, str] = field(default_factory=dict)
    """By mail: why it could not be stopped, in words."""

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return not self.waiting


def erase(user_id: int, *, actor: str, reason: str, also: Collection[str] = ()) -> Erasure:
    """Erase what is held about a person, with one audit entry, which has numbers only. Safe to repeat.

    Raises ValueError without a reason, and database errors of ours; what was erased until then stays so.
    """
    if not reason.strip():
        raise ValueError("an erasure needs a reason")
    held = person.find(user_id, also)
    waiting = [
        pk
        for rows in (held.about, held.to)
        for pk in rows.filter(state__in=STOPPABLE).values_list("pk", flat=True)
    ]
    outcomes = cancel.cancel(waiting, actor=actor, reason=reason)
    done = person.erase(user_id, Forgotten.REQUEST, timezone.now(), also=also)
    erasure.clean_log()
    stopped = sum(outcome.cancelled for outcome in outcomes)
    AuditEntry.objects.create(
        actor=actor[:150],
        action="erase_person",
        object_type=OBJECT,
        object_id=str(user_id),
        reason=reason.strip()[:500],
        details={"because": Forgotten.REQUEST, "stopped": stopped, **done.numbers()},
    )
    why_not = {outcome.email_id: outcome.why_not for outcome in outcomes if not outcome.cancelled}
    return Erasure(done.numbers(), stopped, done.waiting, done.kept, why_not)
