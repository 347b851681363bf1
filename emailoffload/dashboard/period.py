"""Which figures a person asked for: a period, a source, companies. All of it lives in the address.

A period is made of whole hours of UTC, as the counts are (`outbox.rollups`). Links to the rows behind a figure use
the very moments that were counted, so that a list has as many rows as the figure says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, Literal

from django import forms
from django.http import QueryDict
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from emailoffload.dashboard import companies, words
from emailoffload.outbox import rollups, scope

DEFAULT: Final = "24h"
PRESETS: Final[Mapping[str, Promise]] = {
    "today": gettext_lazy("Today"),
    "24h": gettext_lazy("24 hours"),
    "7d": gettext_lazy("7 days"),
    "30d": gettext_lazy("30 days"),
}
TITLES: Final[Mapping[str, Promise]] = {
    "today": gettext_lazy("Today"),
    "24h": gettext_lazy("The last 24 hours"),
    "7d": gettext_lazy("The last 7 days"),
    "30d": gettext_lazy("The last 30 days"),
    "own": gettext_lazy("The chosen days"),
}
LONGEST = 366
"""Days of a period of one's own."""
HOURLY = timedelta(hours=50)
"""Periods up to this length are shown by hours, longer ones by days: two days where clocks are set back are 49."""


class PeriodForm(forms.Form):
    """A preset, or days of one's own; a source; a company by id or name."""

    when = forms.ChoiceField(required=False, choices=[("", ""), *PRESETS.items()])
    date_from = forms.DateField(
        label=gettext_lazy("From day"),
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )
    date_to = forms.DateField(
        label=gettext_lazy("To day"),
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )
    source = forms.ChoiceField(
        label=gettext_lazy("Source"),
        required=False,
        choices=[("", gettext_lazy("all")), *words.SOURCES.items()],
    )
    company = forms.CharField(
        label=gettext_lazy("Company"),
        required=False,
        max_length=255,
        widget=forms.TextInput(attrs={"list": "companies", "autocomplete": "off"}),
    )

    def clean(self) -> dict[str, object]:
        """Days of one's own must be in order and not too many."""
        values = super().clean() or {}
        first, last = values.get("date_from"), values.get("date_to")
        for name, day in (("date_from", first), ("date_to", last)):
            if isinstance(day, date) and not 1971 <= day.year <= 9000:
                self.add_error(name, _("Enter a day of this century."))
        if self.errors or not isinstance(first, date):
            return values
        last = last if isinstance(last, date) else max(first, timezone.localdate())
        if first > last:
            self.add_error("date_to", _("The last day lies before the first one."))
        elif (last - first).days >= LONGEST:
            self.add_error("date_from", _("Choose at most %(n)d days.") % {"n": LONGEST})
        return values


@dataclass(frozen=True, slots=True)
class Period:
    """A span of whole hours of UTC, half-open, and how it is cut into steps."""

    name: str
    start: datetime
    end: datetime

    @property
    def by(self) -> Literal["hour", "day"]:
        """What a step of a chart is."""
        return "hour" if self.end - self.start <= HOURLY else "day"

    @property
    def title(self) -> str:
        """Its name as a heading."""
        return str(TITLES[self.name])


@dataclass(frozen=True, slots=True)
class Selection:
    """What the figures are of. `companies` None: all that there are."""

    period: Period
    source: str
    company: str
    companies: frozenset[int] | None
    note: str
    form: PeriodForm
    known: Mapping[int, str]
    """Companies to choose from, id → name."""

    @property
    def narrowed(self) -> bool:
        """Whether figures are of a source or a company only."""
        return bool(self.source or self.company)

    def presets(self) -> list[tuple[str, str, bool]]:
        """The periods to choose from: label, address, whether it is this one."""
        kept = {"source": self.source, "company": self.company}
        return [
            (str(label), "?" + _query({"when": name} | kept), name == self.period.name)
            for name, label in PRESETS.items()
        ]

    def emails(self, states: Sequence[str] = (), **other: object) -> str:
        """The address of the emails of this selection in these states.

        `other` replaces parts of the selection (since, until, source, company) or adds to it (reason).
        """
        return reverse("emails") + "?" + _query(self._values() | {"state": [*states]} | other)

    def left(self, **other: object) -> str:
        """The address of the rows of this selection that were left to Moodle."""
        return reverse("left") + "?" + _query(self._values() | other)

    def _values(self) -> dict[str, object]:
        return {
            "since": self.period.start,
            "until": self.period.end,
            "source": self.source,
            "company": self.company,
        }


def moment(value: datetime) -> str:
    """A moment as addresses have it, in UTC."""
    return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M}Z"


def _query(values: Mapping[str, object]) -> str:
    told: list[tuple[str, str]] = []
    for name, value in values.items():
        for each in value if isinstance(value, list) else [value]:
            if each not in ("", None):
                told.append((name, moment(each) if isinstance(each, datetime) else str(each)))
    return urlencode(told)


def choose(params: QueryDict, user: scope.Person, now: datetime) -> Selection:
    """What the address asks for; what cannot be understood is said by the form, and is then not used.

    Two queries for the companies, and those of `companies.understand` where one is named.
    """
    form = PeriodForm(params)
    form.is_valid()
    values = form.cleaned_data
    own = scope.companies_of(user)
    known = companies.stored(user)
    text, note, chosen = values.get("company", ""), "", own
    if text:
        meant = companies.understand(text, known, user)
        note = meant.note
        chosen = frozenset(meant.ids) if own is None else own & frozenset(meant.ids)
    return Selection(_period(form, now), values.get("source", ""), text, chosen, note, form, known)


def _period(form: PeriodForm, now: datetime) -> Period:
    values = form.cleaned_data
    today = timezone.localdate(now)
    # The hour that runs belongs to every period that ends now, also in its first moment.
    end = now + timedelta(microseconds=1)
    first: date | None = values.get("date_from")
    last: date | None = values.get("date_to")
    begins = first or last
    if begins is not None and not (form.errors.keys() & {"date_from", "date_to"}):
        ends = last or max(begins, today)
        return Period("own", *rollups.whole_hours(_midnight(begins), _midnight(ends + timedelta(days=1))))
    name = values.get("when") or DEFAULT
    starts = {
        "today": _midnight(today),
        "24h": now - timedelta(hours=24) + timedelta(microseconds=1),
        "7d": _midnight(today - timedelta(days=6)),
        "30d": _midnight(today - timedelta(days=29)),
    }
    return Period(name, *rollups.whole_hours(starts[name], end))


def _midnight(day: date) -> datetime:
    """When a day of the present time zone begins."""
    return datetime.combine(day, time.min, timezone.get_current_timezone())
