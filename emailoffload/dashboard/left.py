"""Rows of Moodle's that were left to Moodle: which, since when, why, and what to do about it.

Two lists that hold exactly what the overview's figures count: rows that were due and not claimed (by when they were
first seen), and with `show=lost` rows that Moodle handled in the moment in which we wanted to claim them. Both go by
key within a range of ids, so that a period of a table of millions is read where it lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from django.db.models import Model, QuerySet
from django.http import QueryDict
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from emailoffload.dashboard import access, links, overview, paging, period, reasons
from emailoffload.dashboard.views import PAGE_SIZE, Page
from emailoffload.outbox import rollups
from emailoffload.outbox.figures import LeftRow
from emailoffload.outbox.models import Claim
from emailoffload.outbox.states import ClaimState

LOST: Final = "lost"
WALK: Final = 50_000
"""Ids that one page of a reason, a company or a source looks at."""
SLACK: Final = 50_000
"""Ids: passes that run at once write their rows a little out of the order of their times."""
M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason with its rows in the period, and the address of these."""

    code: str
    number: int
    address: str
    here: bool


def span(params: QueryDict, chosen: period.Selection) -> tuple[datetime, datetime]:
    """The moments that `since` and `until` name, unless a period is chosen; else that one's."""
    if any(params.get(name) for name in ("when", "date_from", "date_to")):
        return chosen.period.start, chosen.period.end
    return (
        _moment(params.get("since", "")) or chosen.period.start,
        _moment(params.get("until", "")) or chosen.period.end,
    )


def _moment(text: str) -> datetime | None:
    try:
        found = parse_datetime(text)
    except ValueError:
        return None
    # At the ends of the calendar no zone can be reckoned with.
    if found is None or not 1971 <= found.year <= 9000:
        return None
    return timezone.make_aware(found) if found.tzinfo is None else found


def between(rows: QuerySet[M], field: str, since: datetime, until: datetime) -> QuerySet[M]:
    """Of `rows` those whose `field` is in the half-open span, read from a range of ids; two queries of one row.

    Ids grow with time. `rows` must be such that an index finds the first by `field`; narrow what is returned further.
    """
    inside = rows.filter(**{f"{field}__gte": since, f"{field}__lt": until})
    first = inside.order_by(field).values_list("pk", flat=True).first()
    last = inside.order_by(f"-{field}").values_list("pk", flat=True).first()
    if first is None or last is None:
        return rows.none()
    return inside.filter(pk__gte=min(first, last) - SLACK, pk__lte=max(first, last) + SLACK)


@dataclass(frozen=True, slots=True)
class Shown:
    """One page of rows, and how many there are; `looked_to`: only rows since then were looked at."""

    page: paging.Page[Any]
    count: paging.Capped
    looked_to: datetime | None = None


def shown(every: QuerySet[Any], found: QuerySet[Any], params: QueryDict, counted: int) -> Shown:
    """The page of `found` that the address names, of `every` row of the span.

    No index finds a reason or a company within a span. In a long one a page looks at `WALK` ids, and the number
    is that of the hourly counts.
    """
    newest = every.order_by("-pk").values_list("pk", flat=True).first() or 0
    oldest = every.order_by("pk").values_list("pk", flat=True).first() or 0
    if newest - oldest < WALK:
        return Shown(paging.page(found, params, PAGE_SIZE), paging.capped_count(found))
    count = paging.Capped(min(counted, paging.COUNT_CAP), counted > paging.COUNT_CAP)
    before, after = paging.key(params, "before"), paging.key(params, "after")
    if after is not None:
        ceiling = after + WALK
        page = paging.page(found.filter(pk__lte=ceiling), params, PAGE_SIZE)
        if page.newer_than is None and ceiling < newest:
            page = paging.Page(page.rows, page.older_than, ceiling)
        return Shown(page, count)
    floor = (newest + 1 if before is None else min(before, newest + 1)) - WALK
    page = paging.page(found.filter(pk__gte=floor), params, PAGE_SIZE)
    if page.older_than is not None or floor <= oldest:
        return Shown(page, count)
    edge = every.filter(pk__gte=floor).order_by("pk").values_list("first_seen", flat=True).first()
    return Shown(paging.Page(page.rows, floor, page.newer_than), count, edge)


class LeftPage(Page):
    """One page of rows, newest first, and the reasons with their numbers."""

    template_name = "offload/left.html"
    permissions = (access.VIEW_LEFTROW,)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The rows of the address; whatever the tables hold, a fixed number of queries."""
        params, user, now = self.request.GET, self.request.user, timezone.now()
        chosen = period.choose(params, user, now)
        since, until = span(params, chosen)
        lost = params.get("show") == LOST
        reason = params.get("reason", "")[:60]
        counts = rollups.totals("left", since, until, companies=chosen.companies, source=chosen.source)
        if lost:
            claims = Claim.objects.filter(state=ClaimState.LOST)
            rows = self._narrowed(between(claims, "created_at", since, until), chosen).defer(
                "before", "after"
            )
            found = Shown(paging.page(rows, params, PAGE_SIZE), paging.capped_count(rows))
        else:
            every = between(LeftRow.objects.all(), "first_seen", since, until)
            left = self._narrowed(every.filter(reason=reason) if reason else every, chosen)
            found = shown(every, left, params, counts.get(reason, 0) if reason else sum(counts.values()))
        page = found.page
        return super().get_context_data(
            chosen=chosen,
            since=since,
            until=until,
            given=any(params.get(name) for name in ("since", "until")),
            show=LOST if lost else "",
            lost=lost,
            everything=self._address(params, reason=""),
            reason=reason,
            cure="" if lost or not reason else reasons.cure(reason),
            reasons=self._reasons(params, counts, reason),
            page=page,
            count=found.count,
            looked_to=found.looked_to,
            fresh=overview.freshness(since, now),
            older=links.with_key(params, "before", page.older_than),
            newer=links.with_key(params, "after", page.newer_than),
            newest=links.without_keys(params),
            **kwargs,
        )

    @staticmethod
    def _narrowed(found: QuerySet[M], chosen: period.Selection) -> QuerySet[M]:
        """Of `found` those of the selection, whose companies are never others than the person's own."""
        if chosen.companies is not None:
            found = found.filter(company_id__in=sorted(chosen.companies))
        return found.filter(source=chosen.source) if chosen.source else found

    def _reasons(self, params: QueryDict, counts: Mapping[str, int], here: str) -> Sequence[Reason]:
        """Every reason of the span, the most frequent first."""
        return [
            Reason(code, number, self._address(params, reason=code), code == here)
            for code, number in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        ]

    @staticmethod
    def _address(params: QueryDict, *, reason: str) -> str:
        """This page with another reason, from the newest row on."""
        kept = params.copy()
        for name in ("reason", "before", "after", "show"):
            kept.pop(name, None)
        if reason:
            kept["reason"] = reason
        return f"{reverse('left')}?{kept.urlencode()}"
