"""The way of the mails in figures: what was due, claimed, accepted, delivered, and what became of the others.

Two things are counted. *Rows* are Moodle's: one is one reminder for one learner, or one entry of IOMAD's queue. *Mails*
are ours: a claimed row yields one for each recipient. Every mail is in exactly one of the groups of the charts.
All numbers come from the hourly counts, so a figure costs the same at ten million mails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.utils import formats, timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from emailoffload.dashboard import charts, companies, dates, reasons, words
from emailoffload.dashboard.charts import Chart, Group, Item
from emailoffload.dashboard.period import Selection
from emailoffload.outbox import rollups
from emailoffload.outbox.states import AFTER_ACCEPTANCE, ClaimState, EmailState

S, C = EmailState, ClaimState
MOST_STEPS = 62
"""Columns of a chart by time; more days are put together."""
MOST_COMPANIES = 10
MOST_REASONS = 5
CLAIMED = (C.CLAIMED, C.RELEASING, C.RELEASED)
ACCEPTED: Final = (S.ACCEPTED, *sorted(AFTER_ACCEPTANCE))
DELIVERED: Final = (S.DELIVERED, S.OPENED, S.CLICKED, S.COMPLAINED)
GROUPS: Final[Mapping[str, tuple[Promise, tuple[EmailState, ...]]]] = {
    "delivered": (gettext_lazy("delivered"), (S.DELIVERED, S.OPENED, S.CLICKED)),
    "accepted": (gettext_lazy("accepted, no delivery known"), (S.ACCEPTED, S.DELAYED)),
    "waiting": (gettext_lazy("waiting"), (S.PREPARED, S.QUEUED, S.SENDING)),
    "other": (
        gettext_lazy("another way, or not sent"),
        (S.SENT_SMTP, S.RELEASED, S.SUPPRESSED, S.CANCELLED),
    ),
    "problem": (
        gettext_lazy("problem"),
        (S.UNCERTAIN, S.BOUNCED, S.COMPLAINED, S.REJECTED, S.FAILED),
    ),
}
"""What the colours of the charts stand for: each state is in one group."""
BESIDE: Final[Sequence[tuple[EmailState, Promise]]] = (
    (S.QUEUED, gettext_lazy("In the outbox, until they are due or tried again.")),
    (S.SENDING, gettext_lazy("On the way to Amazon SES at this moment.")),
    (S.PREPARED, gettext_lazy("Rendered for a row that is being claimed.")),
    (
        S.DELAYED,
        gettext_lazy("Accepted, but the recipient's server does not take them yet; SES keeps trying."),
    ),
    (S.BOUNCED, gettext_lazy("The recipient's server refused them: correct the address in Moodle.")),
    (S.COMPLAINED, gettext_lazy("Delivered, and the recipient called them spam.")),
    (S.REJECTED, gettext_lazy("Amazon SES found something harmful in them.")),
    (S.UNCERTAIN, gettext_lazy("Sent without an answer: evidence, or a person, decides.")),
    (S.FAILED, gettext_lazy("Nothing more is tried: a person must act.")),
    (S.SENT_SMTP, gettext_lazy("Fallback: the SMTP server took them.")),
    (S.RELEASED, gettext_lazy("Fallback: handed back, so that Moodle sends them.")),
    (S.SUPPRESSED, gettext_lazy("Not sent: suppressed address, or not owed any more.")),
    (S.CANCELLED, gettext_lazy("Stopped by a person.")),
)
"""What became of mails that are not simply delivered, in the order in which it is shown."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number, what it counts, its share of a whole, and where exactly these rows are ('': nowhere)."""

    key: str
    label: str
    number: int
    whole: int
    note: str
    address: str = ""
    share_of: str = ""
    tone: str = "quiet"

    @property
    def share_text(self) -> str:
        """The share and what it is of; empty where there is none."""
        return self.share_of % {"share": self.share} if self.share_of and self.share else ""

    @property
    def share(self) -> str:
        """In percent, for people; empty where there is no whole."""
        if not self.whole:
            return ""
        percent = 100 * self.number / self.whole
        # Not all is never 100 %, and something is never 0 %.
        places = 1 if 0 < percent < 1 or 99 < percent < 100 else 0
        if self.number and self.number < self.whole:
            percent = min(99.9, max(0.1, percent))
        return _("%(n)s %%") % {"n": formats.number_format(round(percent, places), places)}


@dataclass(frozen=True, slots=True)
class Funnel:
    """The steps, what is beside them, why rows were left to Moodle, and the charts."""

    steps: Sequence[Figure]
    beside: Sequence[Figure]
    reasons: Sequence[Figure]
    mails: Figure
    time: Chart
    sources: Chart | None
    companies: Chart | None

    @property
    def empty(self) -> bool:
        """Whether nothing at all happened in the period."""
        return not (self.mails.number or self.steps[0].number)


def collect(chosen: Selection, *, may_see_left: bool) -> Funnel:
    """All figures of a selection; six queries of hourly counts."""
    period, only = chosen.period, {"companies": chosen.companies, "source": chosen.source}
    span = (period.start, period.end)
    mails = rollups.totals("email", *span, **only)  # type: ignore[arg-type]
    claims = rollups.totals("claim", *span, **only)  # type: ignore[arg-type]
    left = rollups.totals("left", *span, **only)  # type: ignore[arg-type]
    steps = rollups.series("email", *span, by=period.by, **only)  # type: ignore[arg-type]
    whole = _item(chosen, _("All"), "", mails)
    rendered = sum(mails.values())
    return Funnel(
        steps=_steps(chosen, mails, claims, left, may_see_left=may_see_left),
        beside=_beside(chosen, mails),
        reasons=_reasons(chosen, claims, left, may_see_left=may_see_left),
        mails=Figure("mails", _("Mails"), rendered, 0, "", chosen.emails() if rendered else ""),
        time=charts.columns("time", _("Mails by time"), _times(chosen, steps), _groups(), whole),
        sources=_sources(chosen, whole),
        companies=_companies(chosen, whole),
    )


def _sum(counts: Mapping[str, int], keys: Sequence[str]) -> int:
    return sum(counts.get(key, 0) for key in keys)


def _steps(
    chosen: Selection,
    mails: Mapping[str, int],
    claims: Mapping[str, int],
    left: Mapping[str, int],
    *,
    may_see_left: bool,
) -> list[Figure]:
    claimed, lost = _sum(claims, CLAIMED), claims.get(C.LOST, 0)
    moodle = sum(left.values())
    due = claimed + lost + moodle + claims.get(C.INTENDED, 0)
    rendered, accepted = sum(mails.values()), _sum(mails, ACCEPTED)
    delivered = _sum(mails, DELIVERED)
    return [
        Figure("due", _("Due"), due, 0,
               _("Rows of Moodle that were due or about to be: claimed ones, and those that stayed with Moodle.")),
        Figure("claimed", _("Claimed"), claimed, due,
               _("Rows that became ours. One row yields a mail for each recipient; the link shows their mails."),
               chosen.emails() if claimed else "", _("%(share)s of the rows")),
        Figure("rendered", _("Mails"), rendered, 0, _("One for each recipient of these rows, resends included."),
               chosen.emails() if rendered else ""),
        Figure("accepted", _("Accepted"), accepted, rendered,
               _("Mails that Amazon SES took, whatever became of them afterwards."),
               chosen.emails(ACCEPTED) if accepted else "", _("%(share)s of the mails")),
        Figure("delivered", _("Delivered"), delivered, rendered,
               _("Mails that the recipient's server took, by an event of Amazon SES's; opened ones, and those called "
                 "spam, included."),
               chosen.emails(DELIVERED) if delivered else "", _("%(share)s of the mails")),
    ]  # fmt: skip


def _beside(chosen: Selection, mails: Mapping[str, int]) -> list[Figure]:
    rendered = sum(mails.values())
    return [
        Figure(state.value, words.state(state), mails[state], rendered, str(note), chosen.emails([state]),
               tone=words.tone(state))
        for state, note in BESIDE if mails.get(state)
    ]  # fmt: skip


def _reasons(
    chosen: Selection, claims: Mapping[str, int], left: Mapping[str, int], *, may_see_left: bool
) -> list[Figure]:
    """All rows that Moodle sent or dropped itself, then why, the most frequent reasons first."""
    moodle, lost = sum(left.values()), claims.get(C.LOST, 0)
    due = moodle + lost + _sum(claims, (*CLAIMED, C.INTENDED))
    found = []
    if moodle:
        found.append(
            Figure("left", _("left to Moodle"), moodle, due,
                   _("Rows that were due and not claimed. Moodle does with them what it always does."),
                   chosen.left() if may_see_left else "")
        )  # fmt: skip
    frequent = sorted(left.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_REASONS]
    found += [
        Figure("reason", reasons.meaning(code), number, moodle, "",
               chosen.left(reason=code) if may_see_left else "")
        for code, number in frequent
    ]  # fmt: skip
    if lost:
        found.append(
            Figure("lost", _("Moodle was faster"), lost, due,
                   _("Rows that Moodle handled in the moment in which we wanted to claim them."),
                   chosen.left(show="lost") if may_see_left else "")
        )  # fmt: skip
    return found


# --- charts ---


def _groups() -> list[Group]:
    return [Group(key, label) for key, (label, _states) in GROUPS.items()]


def _item(
    chosen: Selection,
    label: str,
    short: str,
    mails: Mapping[str, int],
    at: datetime | None = None,
    *,
    linked: bool = True,
    **where: object,
) -> Item:
    counts = {key: _sum(mails, states) for key, (_label, states) in GROUPS.items()}
    if not linked:
        return Item(label, short, counts, at=at)
    addresses = {key: chosen.emails(GROUPS[key][1], **where) for key, number in counts.items() if number}
    return Item(
        label, short, counts, addresses, chosen.emails((), **where) if sum(counts.values()) else "", at
    )


def _times(chosen: Selection, steps: Sequence[tuple[datetime, Mapping[str, int]]]) -> list[Item]:
    """Each step with the moments that it covers: a day may begin before the period, or be cut by its end."""
    period = chosen.period
    # In zones half an hour off UTC the last hour may end within a day that has no hour of the period yet.
    having = [step for step in steps if rollups.whole_hours(step[0], step[0])[0] < period.end]
    together = charts.merged(having, MOST_STEPS)
    ends = [at for at, _counts in together[1:]] + [period.end]
    found = []
    for (at, counts), after in zip(together, ends, strict=True):
        since, until = rollups.whole_hours(max(at, period.start), min(after, period.end))
        label, short = _named(at, after, by=period.by)
        found.append(_item(chosen, label, short, counts, since, since=since, until=until))
    return found


def _named(at: datetime, after: datetime, *, by: str) -> tuple[str, str]:
    """A step in words and its short name, in the present time zone: the hour that comes twice names its zone."""
    local = timezone.localtime(at)
    if by == "hour":
        day, hour = dates.short_day(local), f"{local:%H:%M}"
        return _("%(day)s, from %(time)s %(zone)s") % {"day": day, "time": hour, "zone": local.tzname()}, hour
    day = dates.short_day(local)
    last = timezone.localtime(after - timedelta(hours=1))
    if last.date() <= local.date():
        return dates.weekday(local), day
    return _("%(first)s to %(last)s") % {"first": day, "last": dates.day(last)}, day


def _sources(chosen: Selection, whole: Item) -> Chart | None:
    """By source; nothing to compare where one is chosen."""
    if chosen.source:
        return None
    period = chosen.period
    found = rollups.by_source("email", period.start, period.end, companies=chosen.companies)
    items = [
        _item(chosen, words.source(code), words.source(code), counts, source=code)
        for code, counts in found.items()
    ]
    items.sort(key=lambda item: -item.total)
    return charts.bars("sources", _("Mails by source"), items, _groups(), whole) if items else None


def _companies(chosen: Selection, whole: Item) -> Chart | None:
    """By company; nothing to compare where none is known. Mails of no company have no list of their own."""
    period = chosen.period
    found = rollups.by_company(
        "email", period.start, period.end,
        companies=chosen.companies, source=chosen.source, most=MOST_COMPANIES,
    )  # fmt: skip
    items = [
        _item(
            chosen,
            companies.label(company, chosen.known) if company else _("no company"),
            "",
            counts,
            linked=bool(company),
            company=company,
        )
        for company, counts in found
    ]
    if not any(company for company, _counts in found):
        return None
    return charts.bars("companies", _("Mails by company"), items, _groups(), whole)
