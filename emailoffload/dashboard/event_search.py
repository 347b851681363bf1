"""Which events a page shows, found at any size of the table: tens of millions (perf-facts).

An address is walked along the index of addresses, one kind of event after the other, newest first: exact at any
depth. An id leads to its mails, and to the events that bear it. What no index finds (a kind, whether the mail was
found, a company) is looked for among the newest events only, and the page says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.db.models import Q, QuerySet
from django.http import QueryDict

from emailoffload.dashboard import paging, walk
from emailoffload.feedback.models import Event, EventType
from emailoffload.outbox import scope

WINDOW = 100_000
"""Events that are looked at where no index helps, the newest."""
WINDOW_BOUND = 50_000
"""The same for people bound to companies: of each event its mail is looked at, too."""
OF_ADDRESS = 2000
"""Events of an address that are looked at where more than the address and the kind is asked."""
OF_OWN = 200
"""Mails of their companies to an address whose events are shown to people who are bound to these."""
OF_ID = 1000
"""Events that one id leads to; a mail has a handful, one that is opened without end has more."""
_REF = re.compile(r"[0-9a-fA-F]{32}\Z", re.ASCII)
MATCHES: Final[Mapping[str, Q]] = {
    "matched": Q(email__isnull=False, noted=False),
    "noted": Q(noted=True),
    "given_up": Q(email__isnull=True, match_again_at__isnull=True),
    "searched": Q(email__isnull=True, match_again_at__isnull=False),
}
"""What became of the search for an event's mail, by the form's words."""


@dataclass(frozen=True, slots=True)
class Found:
    """One page of events, newest first; `among`: only so many of the newest were looked at (None: all)."""

    page: paging.Page[Event]
    among: int | None = None
    of_address: bool = False
    """`among` counts the events of the address."""


def events_for(user: scope.Person) -> QuerySet[Event]:
    """The events that a person may see: bound people those of their companies' mails."""
    return scope.narrow(Event.objects.all(), user, "email__company_id")


def find(user: scope.Person, wanted: Mapping[str, Any], params: QueryDict, size: int) -> Found:
    """The page that the address names, of the events that the valid form asks for; some fifteen queries at most."""
    rows = events_for(user)
    if wanted["type"]:
        rows = rows.filter(type=wanted["type"])
    if wanted["match"]:
        rows = rows.filter(MATCHES[wanted["match"]])
    text = wanted["q"]
    if not text:
        return _newest(user, rows, params, size, windowed=bool(wanted["type"] or wanted["match"]))
    if "@" in text and not text.rstrip(">").endswith("amazonses.com"):
        return _of_address(user, rows, text.lower(), wanted, params, size)
    return Found(_page(rows.filter(pk__in=_of_id(user, rows, text)), params, size))


def _page(rows: QuerySet[Event], params: QueryDict, size: int) -> paging.Page[Event]:
    return paging.page(rows.select_related("email"), params, size)


def _recent(window: int) -> Q:
    newest = Event.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    return Q(pk__gt=newest - window)


def _newest(
    user: scope.Person, rows: QuerySet[Event], params: QueryDict, size: int, *, windowed: bool
) -> Found:
    bound = scope.is_bound(user)
    if not (windowed or bound):
        return Found(_page(rows, params, size))
    window = min(WINDOW, WINDOW_BOUND) if bound else WINDOW
    return Found(_page(rows.filter(_recent(window)), params, size), window)


def _of_id(user: scope.Person, rows: QuerySet[Event], text: str) -> set[int]:
    """Ids of those of `rows` that an SES message id or an id of ours leads to."""
    bare = text.strip("<>").partition("@")[0]
    ours = bool(_REF.match(bare))
    mails = scope.emails_for(user).filter(Q(ref=UUID(bare)) if ours else Q(message_id=bare))
    ids = list(mails.values_list("pk", flat=True)[:100])
    found = set(rows.filter(email__in=ids).values_list("pk", flat=True)[:OF_ID]) if ids else set()
    if not ours:
        found |= set(rows.filter(message_id=bare).values_list("pk", flat=True)[:OF_ID])
    elif not ids:
        # A reference that no mail has: of an event whose mail is not found, or of another system's mail.
        found |= set(rows.filter(_recent(WINDOW), ref=bare.lower()).values_list("pk", flat=True)[:OF_ID])
    return found


def _of_address(
    user: scope.Person,
    rows: QuerySet[Event],
    address: str,
    wanted: Mapping[str, Any],
    params: QueryDict,
    size: int,
) -> Found:
    kinds = [wanted["type"]] if wanted["type"] else EventType.values
    companies = scope.companies_of(user)
    if companies is not None:
        # By way of the person's own mails: how far is looked must not depend on those of others.
        own = walk.Wanted({"address": (address,), "company_id": tuple(sorted(companies))}, private=True)
        mails = walk.find(own, OF_OWN).ids
        full = OF_OWN if len(mails) == OF_OWN else None
        return Found(_page(rows.filter(email__in=mails, address=address), params, size), full, True)
    if wanted["match"]:
        looked = _walked(address, kinds, OF_ADDRESS)
        among = OF_ADDRESS if len(looked) == OF_ADDRESS else None
        return Found(_page(rows.filter(pk__in=looked), params, size), among, True)
    return Found(_walk(address, kinds, params, size))


def _walk(address: str, kinds: Sequence[str], params: QueryDict, size: int) -> paging.Page[Event]:
    """One page of an address's events by the time at which they happened; the keys of its neighbours are ids."""
    before, after = paging.key(params, "before"), paging.key(params, "after")
    key = after or before
    edge = Event.objects.filter(pk=key).first() if key else None
    newer = after is not None and edge is not None
    ids = _walked(address, kinds, size + 1, edge, newer=newer)
    further, shown = len(ids) > size, ids[:size]
    if newer:
        shown.reverse()
    there = Event.objects.select_related("email").in_bulk(shown)
    page = [there[pk] for pk in shown if pk in there]
    if edge is None:
        return paging.Page(page, shown[-1] if further else None, None)
    if newer:
        return paging.Page(page, shown[-1] if shown else edge.pk, shown[0] if further else None)
    return paging.Page(page, shown[-1] if further else None, shown[0] if shown else edge.pk)


def _walked(
    address: str, kinds: Sequence[str], most: int, edge: Event | None = None, *, newer: bool = False
) -> list[int]:
    """Ids of an address's events beyond `edge`, nearest first; one query for each kind, along its index."""
    found: list[tuple[Any, int]] = []
    for kind in kinds:
        rows = Event.objects.filter(address=address, type=kind)
        if edge is not None and newer:
            rows = rows.filter(Q(at__gt=edge.at) | Q(at=edge.at, pk__gt=edge.pk), at__gte=edge.at)
        elif edge is not None:
            rows = rows.filter(Q(at__lt=edge.at) | Q(at=edge.at, pk__lt=edge.pk), at__lte=edge.at)
        order = ("at", "pk") if newer else ("-at", "-pk")
        found += rows.order_by(*order).values_list("at", "pk")[:most]
    found.sort(reverse=not newer)
    return [pk for _at, pk in found[:most]]
