# mypy: allow-untyped-calls
# django-filter has no types.
"""The filters of *Emails*. They live in the address, so that a page can be sent to a colleague."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Any

import django_filters as filters
from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _
from django_filters.filterset import FilterSet

from emailoffload.dashboard import companies, reasons, search, words
from emailoffload.dashboard.paging import MAX_ID
from emailoffload.outbox.models import Email
from emailoffload.outbox.states import EmailState

TEMPLATE = RegexValidator(r"\A[A-Za-z0-9_]+\Z", _("Enter the name of a template, such as user_create."))
REASON = RegexValidator(r"\A[A-Za-z0-9_.:-]+\Z", _("Enter a reason code, such as not_enrolled."))
FOLDED = ("date_from", "date_to", "user", "activity", "course", "company", "template", "reason")
PRESETS = {
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}


def today_began() -> datetime:
    """The last midnight in the site's time zone, aware."""
    return timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)


class IdField(forms.IntegerField):
    """A row id of Moodle's; a number that no column can hold is an error of the form, not of the database."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.validators += [MinValueValidator(0), MaxValueValidator(MAX_ID)]
        self.widget = forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off"})


class IdFilter(filters.Filter):
    """Equality with a row id."""

    field_class = IdField


def suggesting(listing: str) -> forms.TextInput:
    """A text field whose suggestions are in the page's `<datalist>` with the id `listing`."""
    return forms.TextInput(attrs={"list": listing, "autocomplete": "off"})


class EmailFilter(FilterSet):
    """Search, state, source, kind of mail, role, company, reason, ids and time of emails.

    The request says who asks; suggestions and names come only from what that person may see.
    """

    q = filters.CharFilter(
        label=_("Search"),
        method="filter_q",
        max_length=300,
        help_text=_("User id, address, subject, name, SES message id or our id"),
        widget=forms.TextInput(attrs={"type": "search", "autocomplete": "off"}),
    )
    when = filters.ChoiceFilter(
        label=_("Rendered"),
        empty_label=_("any time"),
        method="filter_when",
        choices=[
            ("1h", _("in the last hour")),
            ("24h", _("in the last 24 hours")),
            ("today", _("today")),
            ("7d", _("in the last 7 days")),
            ("30d", _("in the last 30 days")),
        ],
    )
    date_from = filters.DateFilter(
        label=_("From day"),
        method="filter_from",
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )
    date_to = filters.DateFilter(
        label=_("To day"),
        method="filter_to",
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )
    source = filters.ChoiceFilter(
        label=_("Source"), empty_label=_("all"), choices=list(words.SOURCES.items())
    )
    role = filters.ChoiceFilter(label=_("Recipient"), empty_label=_("all"), choices=list(words.ROLES.items()))
    state = filters.MultipleChoiceFilter(
        label=_("State"), choices=EmailState.choices, widget=forms.CheckboxSelectMultiple
    )
    user = IdFilter(label=_("About user (id)"), field_name="user_id")
    activity = IdFilter(label=_("Activity (id)"), field_name="activity_id")
    course = IdFilter(label=_("Course (id)"), field_name="course_id")
    company = filters.CharFilter(
        label=_("Company"),
        method="filter_company",
        max_length=255,
        widget=suggesting("companies"),
    )
    template = filters.CharFilter(
        label=_("IOMAD template"), max_length=100, validators=[TEMPLATE], widget=suggesting("templates")
    )
    reason = filters.CharFilter(label=_("Reason (code)"), max_length=60, validators=[REASON])

    class Meta:
        model = Email
        fields: list[str] = []

    search_note = ""
    company_note = ""

    @cached_property
    def companies(self) -> dict[int, str]:
        """The companies to choose from, id → name."""
        return companies.stored(self.request.user)

    @property
    def templates(self) -> dict[str, str]:
        """IOMAD's templates to choose from, name → what kind of mail it is."""
        return {name: str(text) for name, text in words.TEMPLATES.items()}

    def _day(self, name: str) -> datetime | None:
        """Midnight that begins a chosen day, in the site's time zone; None without a possible day."""
        day = self.form.cleaned_data.get(name)
        if day is None or not 1971 <= day.year <= 9000:
            return None
        return timezone.make_aware(datetime.combine(day, time.min))

    def filter_q(self, emails: QuerySet[Email], name: str, value: str) -> QuerySet[Email]:
        """Emails that the typed text names; keeps the sentence that says how it was understood."""
        understood = search.understand(value)
        self.search_note = understood.note
        last_day = self._day("date_to")
        return search.apply(emails, understood, last_day + timedelta(days=1) if last_day else None)

    def filter_company(self, emails: QuerySet[Email], name: str, value: str) -> QuerySet[Email]:
        """Emails of the companies that the typed id or name means; keeps the sentence that says which."""
        meant = companies.understand(value, self.companies, self.request.user)
        self.company_note = meant.note
        return emails.filter(company_id__in=meant.ids)

    def filter_when(self, emails: QuerySet[Email], name: str, value: str) -> QuerySet[Email]:
        """Emails rendered within a preset time."""
        start = today_began() if value == "today" else timezone.now() - PRESETS[value]
        return emails.filter(created_at__gte=start)

    def filter_from(self, emails: QuerySet[Email], name: str, value: Any) -> QuerySet[Email]:
        """Emails rendered on a day or later."""
        start = self._day(name)
        return emails if start is None else emails.filter(created_at__gte=start)

    def filter_to(self, emails: QuerySet[Email], name: str, value: Any) -> QuerySet[Email]:
        """Emails rendered on a day or earlier."""
        start = self._day(name)
        return emails if start is None else emails.filter(created_at__lt=start + timedelta(days=1))

    @property
    def more_in_use(self) -> bool:
        """Whether a filter is set that the page keeps folded away."""
        return any(self.data.get(name) for name in FOLDED)

    @property
    def notes(self) -> list[str]:
        """Sentences about what the filters mean, for those that a code alone would not explain."""
        texts = [note for note in (self.search_note, self.company_note) if note]
        if not self.form.is_valid():
            return texts
        if template := self.form.cleaned_data.get("template"):
            texts.append(_("Kind of mail: %(kind)s.") % {"kind": words.template(template)})
        if reason := self.form.cleaned_data.get("reason"):
            texts.append(reasons.text(reason))
        return texts
