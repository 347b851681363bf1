"""Who a user is: read from Moodle, when it answers.

The dashboard must work while Moodle's database is away, so that every answer here is either what Moodle says
or the plain statement that it does not say anything now.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from django.db.models import Q
from django.db.utils import Error as DatabaseFailure

from emailoffload.dashboard import moodle_away
from emailoffload.moodle import loaders
from emailoffload.moodle import models as moodle
from emailoffload.moodle.schema import readable

FOUND_MOST = 30
"""People listed for a search."""
CANDIDATES, CANDIDATES_BOUND = 200, 5000
"""People found by each index; the deleted are left out, and who is no member of a bound person's companies."""
HOSTS_MOST = 100
MEMBERSHIPS_MOST = 500
COMPANIES_MOST = 2000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What Moodle said; where its database did not answer, `reachable` is False and `value` the default."""

    value: T
    reachable: bool


@dataclass(frozen=True, slots=True)
class Person:
    """A user of Moodle, as a support person needs to know them."""

    id: int
    name: str
    username: str
    address: str
    deleted: bool
    suspended: bool
    confirmed: bool
    stopped: bool
    """The user switched all mail off (`emailstop`)."""
    nologin: bool


def ask(question: Callable[[], T], default: T) -> Answer[T]:
    """Put a question to Moodle's database; a failure of that database is an answer too."""
    try:
        return Answer(question(), True)
    except DatabaseFailure as failure:
        moodle_away.note(failure)
        return Answer(default, False)


_COLUMNS = (
    "id", "firstname", "lastname", "username", "email",
    "deleted", "suspended", "confirmed", "emailstop", "auth",
)  # fmt: skip


def _people(condition: Q, most: int) -> list[Person]:
    rows = moodle.User.objects.filter(condition).order_by("id").values_list(*_COLUMNS)[:most]
    return [
        Person(
            id=row[0],
            name=f"{row[1]} {row[2]}".strip(),
            username=row[3],
            address=row[4],
            deleted=bool(row[5]),
            suspended=bool(row[6]),
            confirmed=bool(row[7]),
            stopped=bool(row[8]),
            nologin=row[9] == "nologin",
        )
        for row in rows
    ]


def person(user_id: int) -> Answer[Person | None]:
    """The user with this id; None where Moodle has none. One query by primary key."""
    return ask(lambda: next(iter(_people(Q(pk=user_id), 1)), None), None)


def search(text: str, among: Collection[int] | None = None) -> Answer[Sequence[Person]]:
    """People whose address begins with `text`, or whose names begin with its words; at most `FOUND_MOST`.

    Only beginnings are compared: Moodle has indexes on first name, last name and address (facts §1.2). Each is asked by
    itself: joined by OR, MariaDB reads all users that are not deleted. With `among`, only members of these companies.
    """
    return ask(lambda: _search(text, among), [])


def _search(text: str, among: Collection[int] | None) -> list[Person]:
    if among is not None and not readable(moodle.CompanyUser):
        return []
    most = CANDIDATES if among is None else CANDIDATES_BOUND
    found: set[int] = set()
    for index, condition in _named(text):
        rows = moodle.User.objects.filter(condition).order_by(index)
        found.update(rows.values_list("pk", flat=True)[:most])
    if among is not None:
        members = moodle.CompanyUser.objects.filter(companyid__in=among, userid__in=found)
        found = set(members.values_list("userid", flat=True)) if found else found
    return _people(Q(pk__in=found, deleted=0), FOUND_MOST) if found else []


def _named(text: str) -> Iterator[tuple[str, Q]]:
    """What is looked for, each with the column whose index finds it."""
    if "@" in text:
        yield "email", Q(email__istartswith=text)
        return
    first, _, last = text.partition(" ")
    last = last.strip()
    yield "firstname", Q(firstname__istartswith=text)
    yield "lastname", Q(lastname__istartswith=text)
    if last:
        yield "lastname", Q(firstname__istartswith=first, lastname__istartswith=last)
        yield "lastname", Q(lastname__istartswith=first.rstrip(","), firstname__istartswith=last)
    else:
        # The index of user names begins with the host, and nearly always there is one.
        hosts = moodle.User.objects.order_by("mnethostid").values_list("mnethostid", flat=True).distinct()
        yield "username", Q(username=text.lower(), mnethostid__in=list(hosts[:HOSTS_MOST]))


def memberships(user_id: int) -> Answer[Mapping[int, str]]:
    """The companies of a user, id → name, the one that their mails belong to first (facts §1.3).

    Empty on a site without IOMAD. Three queries, and one for what Moodle's account can read.
    """
    return ask(lambda: _memberships(user_id), {})


def _memberships(user_id: int) -> Mapping[int, str]:
    if not readable(moodle.Company, moodle.CompanyUser):
        return {}
    rows = loaders.memberships([user_id]).order_by("id")
    ids = list(rows.values_list("companyid", flat=True)[:MEMBERSHIPS_MOST])
    names = dict(moodle.Company.objects.filter(pk__in=ids).values_list("id", "name"))
    return {company: names.get(company, "") for company in ids}


def companies() -> Answer[Mapping[int, str]]:
    """IOMAD's companies, id → name, in the order of their names; at most `COMPANIES_MOST`."""
    return ask(_companies, {})


def _companies() -> Mapping[int, str]:
    if not readable(moodle.Company):
        return {}
    return dict(moodle.Company.objects.order_by("name", "id").values_list("id", "name")[:COMPANIES_MOST])


def activities(ids: Collection[int]) -> Answer[Mapping[int, str]]:
    """The names of reminder activities by id; one query."""
    if not ids:
        return Answer({}, True)
    rows = moodle.Reengagement.objects.filter(pk__in=set(ids))
    return ask(lambda: dict(rows.values_list("id", "name")), {})
