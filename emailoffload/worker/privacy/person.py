"""Everything that is held about one user of Moodle: where it is, and how it goes.

A person is their user id in Moodle. Mails *about* them have that id; mails about others that went *to* them, as a
manager or as a copy, have it as the recipient's, or only their address. An address says whose a record is only where
nobody else has it: an address that several users share is left alone, and named as shared.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qs

from django.apps import apps
from django.db.models import Q, QuerySet
from django.db.utils import Error as DatabaseFailure

from emailoffload.feedback import suppression
from emailoffload.feedback.models import Event, Suppression
from emailoffload.moodle import models as moodle
from emailoffload.outbox import transitions
from emailoffload.outbox.figures import LeftRow
from emailoffload.outbox.models import Claim, Email, Forgotten, RowError, Shadow
from emailoffload.outbox.persons import ErasedPerson
from emailoffload.outbox.states import EmailState
from emailoffload.sources import reasons
from emailoffload.worker.privacy import forget, steps

S = EmailState
MOST_ADDRESSES: Final = 50
MOST_VIEWS: Final = 10_000
CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class Addresses:
    """A person's addresses, as mails and Moodle know them, in lower case."""

    own: frozenset[str]
    """Nobody else has them."""
    shared: frozenset[str]
    """Other users have them too."""
    asked_moodle: bool
    """Whether Moodle could be asked for the address of today, and who else has one of these."""


def addresses(user_id: int, also: Collection[str] = ()) -> Addresses:
    """The addresses that mails about a person went to as the user's own, the one that Moodle has today, and `also`.

    A few queries by index for each address. Of Moodle's database an error is an answer: it was not asked.
    """
    mine = Email.objects.filter(user_id=user_id, role="user").exclude(address="")
    found = set(mine.order_by().values_list("address", flat=True).distinct()[:MOST_ADDRESSES])
    claimed = Claim.objects.filter(user_id=user_id).exclude(user_email="").order_by()
    found |= set(claimed.values_list("user_email", flat=True).distinct()[:MOST_ADDRESSES])
    found |= {address.strip() for address in also} - {""}
    asked = True
    elsewhere: set[str] = set()
    try:
        # Of a deleted user Moodle has a checksum in the place of the address.
        today = moodle.User.objects.filter(pk=user_id, deleted=0).values_list("email", flat=True).first()
        found |= {today} if today else set()
        others = moodle.User.objects.filter(email__in=_spellings(found), deleted=0).exclude(pk=user_id)
        elsewhere = {address.lower() for address in others.values_list("email", flat=True)[:CHUNK]}
    except DatabaseFailure:
        asked = False
    every = {address.lower() for address in found}
    shared = {address for address in every if address in elsewhere or _of_others(address, user_id)}
    return Addresses(frozenset(every - shared), frozenset(shared), asked)


def _spellings(found: Collection[str]) -> set[str]:
    return {*found, *(address.lower() for address in found)}


def _of_others(address: str, user_id: int) -> bool:
    """Whether another user's own mails went there."""
    same = Email.objects.filter(address__in=_spellings([address]), role="user")
    return same.exclude(user_id=user_id).exists()


@dataclass(frozen=True, slots=True)
class Holdings:
    """What is held about one person, as querysets that use indexes."""

    user_id: int
    addresses: Addresses
    claims: QuerySet[Claim]
    about: QuerySet[Email]
    """Mails about them, whoever got them."""
    to: QuerySet[Email]
    """Mails about others that went to them."""
    events: QuerySet[Event]
    """Events that name their address and belong to no mail that is known."""
    suppressions: QuerySet[Suppression]
    left: QuerySet[LeftRow]
    shadows: QuerySet[Shadow]
    row_errors: QuerySet[RowError]
    views: tuple[int, ...]
    """Saved views whose filters name them."""


def find(user_id: int, also: Collection[str] = ()) -> Holdings:
    """Where everything about a person is; `also` are addresses that are known to be theirs."""
    known = addresses(user_id, also)
    anywhere = _spellings(known.own | known.shared)
    named = Q(address__in=_spellings(known.own), recipient_id=None) | Q(
        address__in=anywhere, recipient_id=user_id
    )
    own = [suppression.key(address) for address in known.own]
    return Holdings(
        user_id=user_id,
        addresses=known,
        claims=Claim.objects.filter(user_id=user_id).order_by("pk"),
        about=Email.objects.filter(user_id=user_id).order_by("pk"),
        to=Email.objects.filter(named, address__in=anywhere).exclude(user_id=user_id).order_by("pk"),
        events=Event.objects.filter(address__in=own, email=None).order_by("pk"),
        suppressions=Suppression.objects.filter(address__in=own).order_by("pk"),
        left=LeftRow.objects.filter(user_id=user_id).order_by("pk"),
        shadows=Shadow.objects.filter(user_id=user_id).order_by("pk"),
        row_errors=RowError.objects.filter(user_id=user_id).order_by("pk"),
        views=tuple(_views(user_id, known.own | known.shared)),
    )


def _views(user_id: int, known: Collection[str]) -> Iterator[int]:
    """Saved views that look for this person. Their model belongs to the dashboard, which stands above us."""
    model: Any = apps.get_model("emailoffload", "SavedView")
    for pk, query in model.objects.order_by("pk").values_list("pk", "query")[:MOST_VIEWS]:
        for name, values in parse_qs(query).items():
            if (name == "user" and str(user_id) in values) or any(
                value.strip().lower() in known for value in values
            ):
                yield pk
                break


@dataclass(slots=True)
class Erased:
    """What was erased of a person, in numbers; `waiting` are mails that could not be touched yet."""

    claims: int = 0
    mails: int = 0
    events: int = 0
    suppressions: int = 0
    left: int = 0
    shadows: int = 0
    row_errors: int = 0
    views: int = 0
    waiting: list[int] = field(default_factory=list)
    """Ids of mails that are on their way, or of which nobody knows whether they left."""
    kept: list[int] = field(default_factory=list)
    """Ids of suppressions that stay, because the address must not be written to."""

    def numbers(self) -> dict[str, int]:
        """The counts under stable keys."""
        names = ("claims", "mails", "events", "suppressions", "left", "shadows", "row_errors", "views")
        return {name: getattr(self, name) for name in names} | {
            "waiting": len(self.waiting),
            "kept": len(self.kept),
        }


def erase(
    user_id: int,
    because: Forgotten,
    now: datetime,
    go_on: steps.GoOn = lambda: True,
    also: Collection[str] = (),
) -> Erased:
    """Erase what is held about a person, in small transactions; safe to repeat, and to be cut off anywhere.

    Mails that failed are stopped first where Moodle has deleted the user: nobody would send them. Mails that are busy
    stay as they are, and are named. The record of the erasure is written when nothing is left to do.
    Raises database errors of ours.
    """
    held = find(user_id, also)
    done = Erased()
    if because == Forgotten.MOODLE:
        failed = list(held.about.filter(state=S.FAILED, lease="").values_list("pk", flat=True))
        transitions.move(failed, S.CANCELLED, now=now, reason=reasons.USER_DELETED, detail="")
    # What is found by an address goes first: once the mails are empty, nobody knows the address any more.
    done.events = _each(held.events, go_on, _events)
    done.suppressions, done.kept = _suppressions(held)
    done.mails += _each(held.to.exclude(address=""), go_on, lambda ids: forget.mails(ids, because, now))
    for ids in _parts(held.claims, go_on):
        emptied, mails = forget.claims(ids, because, now)
        done.claims += len(emptied)
        done.mails += mails
    done.left = held.left.update(user_id=None, detail="")
    done.shadows = held.shadows.delete()[0]
    done.row_errors = held.row_errors.delete()[0]
    views: Any = apps.get_model("emailoffload", "SavedView")
    done.views = views.objects.filter(pk__in=held.views).delete()[0]
    done.waiting = list(held.about.filter(forgotten_at__isnull=True).values_list("pk", flat=True))
    done.waiting += list(held.to.exclude(address="").values_list("pk", flat=True))
    if not done.waiting:
        ErasedPerson.objects.update_or_create(
            user_id=user_id, defaults={"erased_at": now, "because": because}
        )
    return done


def _suppressions(held: Holdings) -> tuple[int, list[int]]:
    """Delete those that are over; of those that hold, keep the address alone. Returns (deleted, ids of the kept)."""
    gone = held.suppressions.filter(active_key__isnull=True).exclude(
        agreement__in=[Suppression.Agreement.TO_ADD, Suppression.Agreement.TO_REMOVE]
    )
    number = gone.delete()[0]
    kept = list(held.suppressions.values_list("pk", flat=True))
    Suppression.objects.filter(pk__in=kept).update(detail="", event=None, email=None, removal_reason="")
    return number, kept


def _events(ids: Sequence[int]) -> int:
    """Delete events without a mail, but those that carry the id of a mail that is still uncertain."""
    refs = dict(Event.objects.filter(pk__in=ids).values_list("pk", "ref"))
    needed = steps.undecided((), {ref for ref in refs.values() if ref})
    free = [pk for pk, ref in refs.items() if not ref or ref not in needed]
    forget.events(free)
    return len(free)


def _parts(rows: QuerySet[Any], go_on: steps.GoOn) -> Iterator[list[int]]:
    """The ids of all rows, some hundred at a time, while there is time."""
    after = 0
    while go_on() and (ids := list(rows.filter(pk__gt=after).values_list("pk", flat=True)[:CHUNK])):
        yield ids
        after = ids[-1]


def _each(rows: QuerySet[Any], go_on: steps.GoOn, act: Callable[[Sequence[int]], int]) -> int:
    return sum(act(ids) for ids in _parts(rows, go_on))
