"""The page *Audit*: who did what, when, why. It concerns the whole site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from emailoffload.dashboard import access, audit_words, links, paging
from emailoffload.dashboard.views import PAGE_SIZE, Page
from emailoffload.outbox import scope
from emailoffload.outbox.models import AuditEntry

SUGGESTED = 200
"""Newest entries whose people are suggested."""
SLACK = 1000
"""Entries that may stand out of the order of their times: transactions commit in another order than they begin."""


class AuditForm(forms.Form):
    """Which entries are shown."""

    who = forms.CharField(
        label=_("Who"), required=False, max_length=150, widget=forms.TextInput(attrs={"list": "people"})
    )
    action = forms.CharField(label=_("Did what"), required=False, max_length=40)
    kind = forms.ChoiceField(
        label=_("To what"), required=False, choices=[("", _("anything")), *audit_words.OBJECTS.items()]
    )
    which = forms.CharField(
        label=_("Its number"),
        required=False,
        max_length=64,
        help_text=_("Together with “To what”"),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    date_from = forms.DateField(
        label=_("From day"), required=False, widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    )
    date_to = forms.DateField(
        label=_("To day"), required=False, widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [("", _("anything")), *audit_words.ACTIONS.items()]
        given = str(self.data.get("action", ""))[:40]
        if given and given not in audit_words.ACTIONS:
            choices.append((given, audit_words.action(given)))  # type: ignore[arg-type]
        self.fields["action"].widget = forms.Select(choices=choices)

    def clean(self) -> dict[str, Any]:
        """A number alone would be looked for in every entry there is."""
        values: dict[str, Any] = super().clean() or {}
        if values.get("which") and not values.get("kind"):
            self.add_error("which", _("Choose what it is the number of."))
        for name in ("date_from", "date_to"):
            day = values.get(name)
            if day is not None and not 1971 <= day.year <= 9000:
                self.add_error(name, _("Enter a day of this century."))
        return values


@dataclass(frozen=True, slots=True)
class Line:
    """One entry as the page shows it."""

    entry: AuditEntry
    did: str
    thing: str
    place: str
    details: Sequence[tuple[str, str]]


def line(entry: AuditEntry, viewer: scope.Person) -> Line:
    """An entry in words, with a link where the viewer may follow it; no query beyond those of permissions."""
    return Line(
        entry=entry,
        did=audit_words.action(entry.action),
        thing=audit_words.thing(entry.object_type, entry.object_id) if entry.object_type else "",
        place=audit_words.place(entry.object_type, entry.object_id, viewer),
        details=audit_words.details(entry.details),
    )


def found(values: dict[str, Any]) -> QuerySet[AuditEntry]:
    """The entries that fit the form's values; each condition has an index."""
    rows = AuditEntry.objects.all()
    if values.get("who"):
        rows = rows.filter(actor=values["who"])
    if values.get("action"):
        rows = rows.filter(action=values["action"])
    if values.get("kind"):
        rows = rows.filter(object_type=values["kind"])
    if values.get("which"):
        rows = rows.filter(object_id=values["which"])
    if values.get("date_from"):
        start = _midnight(values["date_from"])
        rows = rows.filter(at__gte=start, pk__gte=_id_at(start) - SLACK)
    if values.get("date_to"):
        end = _midnight(values["date_to"]) + timedelta(days=1)
        rows = rows.filter(at__lt=end, pk__lt=_id_at(end) + SLACK)
    return rows


def _id_at(moment: datetime) -> int:
    """The id of the first entry since then; beyond all where there is none. Ids follow time, but for `SLACK`: the
    list is walked by id, and so it begins where the day does."""
    first = AuditEntry.objects.filter(at__gte=moment).order_by("at").values_list("pk", flat=True).first()
    return paging.MAX_ID - SLACK if first is None else first


def _midnight(day: Any) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))


class AuditPage(Page):
    """Entries of the audit log, newest first."""

    template_name = "offload/audit.html"
    permissions = (access.VIEW_AUDIT,)
    whole_site = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of entries, the filters, and who was seen lately."""
        params = self.request.GET
        form = AuditForm(params)
        valid = form.is_valid()
        rows = found(form.cleaned_data) if valid else AuditEntry.objects.none()
        page = paging.page(rows, params, PAGE_SIZE)
        people = AuditEntry.objects.order_by("-pk").values_list("actor", flat=True)[:SUGGESTED]
        return super().get_context_data(
            form=form,
            valid=valid,
            filtered=any(params.get(name) for name in form.fields),
            lines=[line(entry, self.request.user) for entry in page.rows],
            people=sorted(set(people)),
            page=page,
            older=links.with_key(params, "before", page.older_than),
            newer=links.with_key(params, "after", page.newer_than),
            newest=links.without_keys(params),
            **kwargs,
        )
