"""Courses and activities by name: which ones a person meant who typed a part of a name.

Names are those of Moodle's tables of courses and activities, which are small beside its other tables, and those on
the newest of our mails: a course may have been renamed or removed since. People who are bound to companies are told
only names on mails of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from django.db.models import Q, QuerySet
from django.db.utils import Error as DatabaseFailure
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

from emailoffload.dashboard import companies, moodle_away, walk
from emailoffload.dashboard.paging import MAX_ID
from emailoffload.moodle import models as moodle
from emailoffload.outbox import scope
from emailoffload.outbox.models import Email

Kind = Literal["course", "activity"]
RECENT: Final = 2000
"""Mails whose names are looked at."""
MOST: Final = walk.LEGS_MOST
"""Courses, or activities, that a text may mean."""

_WORDS: Final[Mapping[Kind, tuple[Promise, Promise, Promise, Promise]]] = {
    "course": (
        gettext_lazy("Mails of %(names)s."),
        gettext_lazy("No course has “%(text)s” in its name."),
        gettext_lazy(
            "More than %(n)d courses have “%(text)s” in their names; these are %(n)d of them. Type more of it."
        ),
        gettext_lazy("%(name)s (course %(id)d)"),
    ),
    "activity": (
        gettext_lazy("Mails of %(names)s."),
        gettext_lazy("No activity has “%(text)s” in its name."),
        gettext_lazy(
            "More than %(n)d activities have “%(text)s” in their names; these are %(n)d of them. Type more of it."
        ),
        gettext_lazy("%(name)s (activity %(id)d)"),
    ),
}


@dataclass(frozen=True, slots=True)
class Meant:
    """The ids that a typed text means, with names where they are known, and the sentence that says so."""

    names: Mapping[int, str]
    note: str

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids alone."""
        return tuple(self.names)


def number(text: str) -> int | None:
    """The id that a text is; None where it is none."""
    if text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= MAX_ID:
        return int(text)
    return None


def understand(kind: Kind, text: str, user: scope.Person) -> Meant:
    """Decide which courses or activities `text` means: its id, its name, or a part of names."""
    text = text.strip()
    pk = number(text)
    if pk is not None:
        return Meant({pk: ""}, "")
    mails, nothing, many, label = _WORDS[kind]
    found = called(kind, text, user)
    if not found:
        return Meant({}, str(nothing) % {"text": text})
    if len(found) > MOST:
        kept = dict(list(found.items())[:MOST])
        return Meant(kept, str(many) % {"text": text, "n": MOST})
    names = [str(label) % {"name": name, "id": pk} for pk, name in found.items()]
    return Meant(found, str(mails) % {"names": companies.listed(names)})


def called(kind: Kind, text: str, user: scope.Person) -> dict[int, str]:
    """Courses or activities with `text` as a part of their name, id → name, at most `MOST` + 1, newest first.

    Two queries of ours; one of Moodle's unless the person is bound to companies.
    """
    wanted = text.casefold()
    found: dict[int, str] = {}
    for pk, name in _recent(kind, user):
        if wanted in name.casefold():
            found.setdefault(pk, name)
    if not scope.is_bound(user):
        for pk, name in _in_moodle(kind, text):
            found.setdefault(pk, name)
    return dict(list(found.items())[: MOST + 1])


def _recent(kind: Kind, user: scope.Person) -> list[tuple[int, str]]:
    own = scope.companies_of(user)
    wanted = walk.Wanted()
    if own is not None:
        wanted.narrow("company_id", sorted(own))
    ids = walk.find(wanted, RECENT).ids
    named: QuerySet[Email, tuple[int, str]] = (
        scope.emails_for(user).filter(pk__in=ids).values_list(f"{kind}_id", f"claim__{kind}_name").distinct()
    )
    return [(pk, name) for pk, name in named if pk and name]


def _rows(kind: Kind, text: str) -> list[tuple[int, str]]:
    if kind == "course":
        named = Q(fullname__icontains=text) | Q(shortname__icontains=text)
        courses = moodle.Course.objects.filter(named, category__gt=0)
        return list(courses.values_list("id", "fullname")[: MOST + 1])
    activities = moodle.Reengagement.objects.filter(name__icontains=text)
    return list(activities.values_list("id", "name")[: MOST + 1])


def _in_moodle(kind: Kind, text: str) -> Sequence[tuple[int, str]]:
    try:
        return _rows(kind, text)
    except DatabaseFailure as failure:
        moodle_away.note(failure)
        return []
