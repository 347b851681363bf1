"""What a person typed into the search box of *Emails*, understood as the one thing that an index can find.

A user id, an address, an SES message id or our own id is found at once at any size, and so is a course, an activity or
a company that is named as one (`course: fire safety`). Other text is looked for in subjects and names, from the newest
mail back as far as one page looks (`walk`): a search through all of ten million takes seconds (perf-facts).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from django.db.models import Q
from django.utils.translation import gettext as _

from emailoffload.dashboard import companies, places, walk
from emailoffload.dashboard.paging import MAX_ID
from emailoffload.outbox import scope
from emailoffload.outbox.models import Email

MESSAGE_ID = re.compile(r"<?([0-9a-zA-Z][0-9a-zA-Z_.-]{19,127})(?:@[a-z0-9.-]+\.amazonses\.com)?>?")
NAMED = re.compile(r"(user|course|activity|company)\s*:\s*(.+)", re.IGNORECASE | re.DOTALL)
ADDRESSES_MOST: Final = 10
"""Addresses with a beginning that are found by their index."""
PLACES_MOST: Final = 5
"""Courses, activities and companies that a search for text offers."""


@dataclass(frozen=True, slots=True)
class Search:
    """How the text was understood: columns with their values, or a condition, and a sentence that says so."""

    note: str
    equal: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    rest: Q = field(default_factory=Q)
    offers: Sequence[tuple[str, str]] = ()
    """What else may be meant: (label, query of the address)."""

    def narrow(self, wanted: walk.Wanted) -> None:
        """Of what is wanted only what was searched for."""
        for column, values in self.equal.items():
            wanted.narrow(column, values)
        wanted.rest &= self.rest


def understand(text: str, user: scope.Person) -> Search:
    """Decide what `text` is: an id, an address, a place by its name, or free text. The person says whose names count.

    No query for ids and addresses; up to a dozen for the beginning of an address, and for text.
    """
    text = text.strip()
    if text.isascii() and text.isdigit() and int(text[:20]) <= MAX_ID:
        return Search(_("Mails about user %(id)s.") % {"id": text}, {"user_id": (int(text),)})
    if ref := _reference(text):
        return Search(_("The mail with our id %(id)s.") % {"id": ref.hex}, {"ref": (ref,)})
    found = MESSAGE_ID.fullmatch(text)
    if (
        found
        and any(char.isdigit() for char in text)
        and ("@" not in text or text.rstrip(">").endswith("amazonses.com"))
    ):
        note = _("The mail with the SES message id %(id)s.") % {"id": found[1]}
        return Search(note, {"message_id": (found[1],)})
    if "@" in text and " " not in text:
        return _address(text)
    if named := NAMED.fullmatch(text):
        return _place(named[1].lower(), named[2].strip(), user)
    return _text(text, user)


def _reference(text: str) -> uuid.UUID | None:
    if not re.fullmatch(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text):
        return None
    return uuid.UUID(text)


def _address(text: str) -> Search:
    if re.fullmatch(r"[^@]+@[^@]+\.[^@.]+", text):
        return Search(
            _("Mails to the address %(a)s.") % {"a": text},
            {"address": tuple(dict.fromkeys((text, text.lower())))},
        )
    note = _("Mails to addresses that begin with %(a)s.") % {"a": text}
    found = _addresses(text)
    if len(found) > ADDRESSES_MOST:
        return Search(note, rest=Q(address__istartswith=text))
    return Search(note, {"address": found})


def _addresses(beginning: str) -> list[str]:
    """The addresses with this beginning, at most one more than `ADDRESSES_MOST`; one query for each.

    From one to the next through the index: a DISTINCT reads every mail of each, and one address may have a million.
    """
    begins = Email.objects.filter(address__istartswith=beginning).order_by("address")
    found: list[str] = []
    rows = begins
    while len(found) <= ADDRESSES_MOST:
        address = rows.values_list("address", flat=True).first()
        if address is None:
            break
        found.append(address)
        rows = begins.filter(address__gt=address)
    return found


def _place(kind: str, text: str, user: scope.Person) -> Search:
    if kind in ("course", "activity"):
        meant = places.understand("course" if kind == "course" else "activity", text, user)
        note = meant.note
        if not note:
            note = (
                _("Mails of course %(id)s.") % {"id": text}
                if kind == "course"
                else _("Mails of activity %(id)s.") % {"id": text}
            )
        return Search(note, {f"{kind}_id": meant.ids})
    if kind == "company":
        company = companies.understand(text, companies.stored(user), user)
        return Search(company.note, {"company_id": company.ids})
    pk = places.number(text)
    if pk is not None:
        return understand(text, user)
    return Search(
        _("A user is named by a number here. The page Users finds people by name."), {"user_id": ()}
    )


def _text(text: str, user: scope.Person) -> Search:
    condition = Q(subject__icontains=text) | Q(name__icontains=text)
    offers: list[tuple[str, str]] = []
    kinds: tuple[places.Kind, ...] = ("course", "activity")
    for kind in kinds:
        found = places.called(kind, text, user)
        if found:
            condition |= Q(**{f"{kind}_id__in": list(found)})
        for pk, name in list(found.items())[:PLACES_MOST]:
            label = _("course %(name)s") if kind == "course" else _("activity %(name)s")
            offers.append((label % {"name": name}, urlencode({str(kind): pk})))
    known = companies.stored(user)
    meant = companies.understand(text, known, user).ids if known else ()
    if meant:
        condition |= Q(company_id__in=meant[: companies.MOST])
    for pk in meant[:PLACES_MOST]:
        offers.append((companies.label(pk, known), urlencode({"company": pk})))
    note = _(
        "Mails with “%(text)s” in the subject, in the recipient's name, or in the name of the course, "
        "activity or company."
    )
    return Search(note % {"text": text}, rest=condition, offers=offers)
