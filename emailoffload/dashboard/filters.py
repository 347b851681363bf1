# mypy: allow-untyped-calls
# django-filter has no types.
"""The filters of *Emails*. They live in the address, so that a page can be sent to a colleague."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import django_filters as filters
from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.functional import Promise, cached_property
from django.utils.translation import gettext_lazy as _
from django_filters.filterset import FilterSet

from emailoffload.dashboard import companies, places, reasons, search, walk, words
from emailoffload.dashboard.companies import Meant as MeantCompanies
from emailoffload.dashboard.health_cards import LATE_AFTER
from emailoffload.dashboard.paging import MAX_ID
from emailoffload.outbox import scope
from emailoffload.outbox.models import Email
from emailoffload.outbox.states import EmailState

TEMPLATE = RegexValidator(r"\A[A-Za-z0-9_]+\Z", _("Enter the name of a template, such as user_create."))
REASON = RegexValidator(r"\A[A-Za-z0-9_.:-]+\Z", _("Enter a reason code, such as not_enrolled."))
FOLDED = ("date_from", "date_to", "user", "activity", "course", "company", "template", "route", "reason")
PRESETS: Final[Mapping[str, timedelta]] = {
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "90d": timedelta(days=90),
}
S = EmailState
GROUPS: Final[Mapping[str, tuple[Promise, tuple[EmailState, ...]]]] = {
    "on_its_way": (
        _("On its way, or handed over"),
        (S.PREPARED, S.QUEUED, S.SENDING, S.ACCEPTED, S.DELAYED, S.SENT_SMTP),
    ),
    "arrived": (_("Arrived"), (S.DELIVERED, S.OPENED, S.CLICKED)),
    "problem": (_("Problem"), (S.UNCERTAIN, S.BOUNCED, S.COMPLAINED, S.REJECTED, S.FAILED)),
    "not_sent": (_("Not sent"), (S.SUPPRESSED, S.RELEASED, S.CANCELLED)),
}
"""Codes that stand for several states in the filter `state`."""


def day_began(day: date) -> datetime:
    """The midnight that begins a day in the site's time zone, aware."""
    return timezone.make_aware(datetime.combine(day, time.min))


def today_began() -> datetime:
    """The last midnight in the site's time zone, aware."""
    return day_began(timezone.localdate())


class IdField(forms.IntegerField):
    """A row id of Moodle's; a number that no column can hold is an error of the form, not of the database."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.validators += [MinValueValidator(0), MaxValueValidator(MAX_ID)]
        self.widget = forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off"})


class IdFilter(filters.Filter):
    """Equality with a row id."""

    field_class = IdField


class MomentField(forms.DateTimeField):
    """An ISO moment, as links from charts have it; without a zone it is in the site's."""

    widget = forms.HiddenInput

    def to_python(self, value: Any) -> datetime | None:
        """An aware moment. Raises ValidationError for what is none, or lies beyond all calendars."""
        if isinstance(value, str):
            # A `+` that nobody encoded arrives as a blank.
            value = value.strip().replace("Z", "+00:00").replace(" ", "+" if "T" in value else " ")
        found: datetime | None = super().to_python(value)
        if found is None:
            return None
        if not 1971 <= found.year <= 9000:
            raise ValidationError(self.error_messages["invalid"], code="invalid")
        return found.astimezone(UTC)


class MomentFilter(filters.Filter):
    """A moment that bounds the time of rendering."""

    field_class: type[forms.Field] = MomentField


def suggesting(listing: str) -> forms.TextInput:
    """A text field whose suggestions are in the page's `<datalist>` with the id `listing`."""
    return forms.TextInput(attrs={"list": listing, "autocomplete": "off"})


class EmailFilter(FilterSet):
    """Search, state, source, kind of mail, role, route, company, reason, ids and time of emails.

    The request says who asks; suggestions and names come only from what that person may see. `wanted` is what the
    pages use; `qs` is the same set as a queryset, for whom speed is no matter.
    """

    q = filters.CharFilter(
        label=_("Search"),
        max_length=300,
        help_text=_(
            "User id, address, subject, name, SES message id or our id; a course, an activity or a company by name"
        ),
        widget=forms.TextInput(attrs={"type": "search", "autocomplete": "off"}),
    )
    when = filters.ChoiceFilter(
        label=_("Rendered"),
        empty_label=_("any time"),
        choices=[
            ("1h", _("in the last hour")),
            ("24h", _("in the last 24 hours")),
            ("today", _("today")),
            ("yesterday", _("yesterday")),
            ("7d", _("in the last 7 days")),
            ("30d", _("in the last 30 days")),
            ("90d", _("in the last 90 days")),
        ],
    )
    date_from = filters.DateFilter(
        label=_("From day"), widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    )
    date_to = filters.DateFilter(
        label=_("To day"), widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    )
    since = MomentFilter(label=_("Since"))
    until = MomentFilter(label=_("Until"))
    source = filters.ChoiceFilter(
        label=_("Source"), empty_label=_("all"), choices=list(words.SOURCES.items())
    )
    role = filters.ChoiceFilter(label=_("Recipient"), empty_label=_("all"), choices=list(words.ROLES.items()))
    route = filters.ChoiceFilter(label=_("Route"), empty_label=_("all"), choices=list(words.ROUTES.items()))
    state = filters.MultipleChoiceFilter(
        label=_("State"),
        choices=[(code, label) for code, (label, _states) in GROUPS.items()] + EmailState.choices,
        widget=forms.CheckboxSelectMultiple,
    )
    user = IdFilter(label=_("About user (id)"))
    activity = filters.CharFilter(label=_("Activity (name or id)"), max_length=255)
    course = filters.CharFilter(label=_("Course (name or id)"), max_length=255)
    company = filters.CharFilter(label=_("Company"), max_length=255, widget=suggesting("companies"))
    template = filters.CharFilter(
        label=_("IOMAD template"), max_length=100, validators=[TEMPLATE], widget=suggesting("templates")
    )
    reason = filters.CharFilter(label=_("Reason (code)"), max_length=60, validators=[REASON])
    late = filters.ChoiceFilter(label=_("Past its time"), choices=[("1", _("yes"))], widget=forms.HiddenInput)

    class Meta:
        model = Email
        fields: list[str] = []

    @cached_property
    def valid(self) -> bool:
        """Whether every filter can be used."""
        return bool(self.form.is_valid())

    @property
    def active(self) -> bool:
        """Whether any filter is given."""
        return any(self.data.get(name) for name in self.filters)

    @cached_property
    def companies(self) -> dict[int, str]:
        """The companies to choose from, id → name."""
        return companies.stored(self.request.user)

    @property
    def templates(self) -> dict[str, str]:
        """IOMAD's templates to choose from, name → what kind of mail it is."""
        return {name: str(text) for name, text in words.TEMPLATES.items()}

    @cached_property
    def search(self) -> search.Search | None:
        """How the text in the search box was understood."""
        text = self.form.cleaned_data.get("q")
        return search.understand(text, self.request.user) if text else None

    @cached_property
    def company_meant(self) -> MeantCompanies | None:
        """Which companies the filter means."""
        text = self.form.cleaned_data.get("company")
        return companies.understand(text, self.companies, self.request.user) if text else None

    @cached_property
    def places_meant(self) -> dict[str, places.Meant]:
        """Which courses and activities the filters mean, by the filters' names."""
        asked = {kind: self.form.cleaned_data.get(kind) for kind in ("course", "activity")}
        return {
            kind: places.understand("course" if kind == "course" else "activity", text, self.request.user)
            for kind, text in asked.items()
            if text
        }

    @cached_property
    def wanted(self) -> walk.Wanted:
        """What the filters ask for, within what the person may see. Only of a valid form."""
        given = self.form.cleaned_data
        wanted = walk.Wanted()
        own = scope.companies_of(self.request.user)
        if own is not None:
            wanted.narrow("company_id", sorted(own))
            wanted.private = True
        if self.search:
            self.search.narrow(wanted)
        if given.get("state"):
            wanted.narrow("state", states_of(given["state"]))
        if given.get("user") is not None:
            wanted.narrow("user_id", (given["user"],))
        for kind, meant in self.places_meant.items():
            wanted.narrow(f"{kind}_id", meant.ids)
        if self.company_meant:
            wanted.narrow("company_id", self.company_meant.ids)
        for name in ("source", "role", "route", "template", "reason"):
            if given.get(name):
                wanted.rest &= Q(**{name: given[name]})
        if given.get("late"):
            wanted.rest &= Q(next_try_at__lt=timezone.now() - LATE_AFTER)
        self._time(wanted)
        return wanted

    def _time(self, wanted: walk.Wanted) -> None:
        given = self.form.cleaned_data
        when = given.get("when")
        if when == "yesterday":
            wanted.since(day_began(timezone.localdate() - timedelta(days=1)))
            wanted.until(today_began())
        elif when:
            wanted.since(today_began() if when == "today" else timezone.now() - PRESETS[when])
        for name, days, bound in (("date_from", 0, wanted.since), ("date_to", 1, wanted.until)):
            day = given.get(name)
            if day is not None and 1971 <= day.year <= 9000:
                bound(day_began(day + timedelta(days=days)))
        if given.get("since"):
            wanted.since(given["since"])
        if given.get("until"):
            wanted.until(given["until"])

    def filter_queryset(self, queryset: QuerySet[Email]) -> QuerySet[Email]:
        """The wanted emails as a queryset."""
        return queryset.filter(self.wanted.condition)

    @property
    def more_in_use(self) -> bool:
        """Whether a filter is set that the page keeps folded away."""
        return any(self.data.get(name) for name in FOLDED)

    @property
    def state_groups(self) -> list[tuple[Promise, Any, list[Any]]]:
        """The boxes of the filter `state`: (name of the group, box of the whole group, boxes of its states)."""
        boxes = {box.data["value"]: box for box in self.form["state"].subwidgets}
        return [
            (label, boxes[code], [boxes[str(state)] for state in states])
            for code, (label, states) in GROUPS.items()
        ]

    @property
    def notes(self) -> list[str]:
        """Sentences about what the filters mean, for those that a code alone would not explain."""
        if not self.valid:
            return []
        texts = [self.search.note] if self.search else []
        texts += [meant.note for meant in self.places_meant.values() if meant.note]
        if self.company_meant:
            texts.append(self.company_meant.note)
        if template := self.form.cleaned_data.get("template"):
            texts.append(_("Kind of mail: %(kind)s.") % {"kind": words.template(template)})
        if reason := self.form.cleaned_data.get("reason"):
            texts.append(reasons.text(reason))
        return [str(text) for text in texts]


NAMES: Final[tuple[str, ...]] = tuple(EmailFilter.base_filters)  # type: ignore[attr-defined]
"""The filters' names in the address."""


def states_of(codes: list[str]) -> tuple[EmailState, ...]:
    """The states that codes of the filter stand for, groups among them."""
    found: dict[EmailState, None] = {}
    for code in codes:
        group = GROUPS.get(code)
        found.update(dict.fromkeys(group[1] if group else (EmailState(code),)))
    return tuple(found)
