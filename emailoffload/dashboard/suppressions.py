"""Suppressed addresses: which, why, on what evidence, since when; adding one and lifting one.

People who are bound to companies may lift what a mail of theirs led to (`suppressed` says what they see). Adding an
address bars it for all, so it is for people who see the whole site.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django import forms
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext_lazy as _

from emailoffload.actions import suppressions as actions
from emailoffload.dashboard import access, links, paging
from emailoffload.dashboard.suppressed import Agreement, Line, line, visible
from emailoffload.dashboard.views import PAGE_SIZE, Page
from emailoffload.feedback import suppression
from emailoffload.feedback.models import Suppression
from emailoffload.outbox import scope

OVER, ALL = "over", "all"
MOST_ADDRESSES = 200
"""Addresses of one user that are looked for."""
HISTORY = 20
WALK = 2500
"""Rows of which one page asks whether they concern a person who is bound to companies."""
NOT_YOURS: Final = _(
    "What led here is no mail of your companies. Ask somebody who sees the whole site to lift it."
)


class Filters(forms.Form):
    """What the address of the page names."""

    q = forms.CharField(
        label=_("Search"),
        required=False,
        max_length=254,
        help_text=_("An address, its beginning, or a user id"),
        widget=forms.TextInput(attrs={"type": "search", "autocomplete": "off"}),
    )
    state = forms.ChoiceField(
        label=_("State"),
        required=False,
        choices=[("", _("suppressed now")), (OVER, _("over")), (ALL, _("all"))],
    )
    reason = forms.ChoiceField(
        label=_("Reason"), required=False, choices=[("", _("all")), *Suppression.Reason.choices]
    )
    agreement = forms.ChoiceField(
        label=_("SES's list"), required=False, choices=[("", _("all")), *Agreement.choices]
    )

    def apply(self, rows: QuerySet[Suppression], user: scope.Person) -> QuerySet[Suppression]:
        """Those of `rows` that fit; call it on a valid form."""
        values = self.cleaned_data
        now = suppression.active()
        if values["state"] != ALL:
            rows = rows.exclude(now) if values["state"] == OVER else rows.filter(now)
        for name in ("reason", "agreement"):
            if values[name]:
                rows = rows.filter(**{name: values[name]})
        text = values["q"].strip()
        if text.isascii() and text.isdigit():
            return rows.filter(address__in=_addresses_of(int(text[:20]), user))
        return rows.filter(address__istartswith=suppression.key(text)) if text else rows


def _addresses_of(user_id: int, viewer: scope.Person) -> set[str]:
    """The addresses that mails to a user went to lately."""
    mails = scope.emails_for(viewer).filter(user_id=min(user_id, paging.MAX_ID), role="user")
    newest = mails.order_by("-pk").values_list("address", flat=True)[:MOST_ADDRESSES]
    return {suppression.key(address) for address in newest}


@dataclass(frozen=True, slots=True)
class Shown:
    """One page of rows; `count` None: not known; `looked_to`: only rows since then were looked at."""

    page: paging.Page[Suppression]
    count: paging.Capped | None
    looked_to: datetime | None = None


def find(form: Filters, params: QueryDict, user: scope.Person) -> Shown:
    """The page that the address names, of a valid form.

    Whether a row concerns a person who is bound to companies is asked of the mails to its address, row by row: for
    them only so many rows are looked at, and the page says how far back.
    """
    rows = form.apply(visible(user), user)
    if not scope.is_bound(user):
        return Shown(paging.page(rows, params, PAGE_SIZE), paging.capped_count(rows))
    every = form.apply(Suppression.objects.all(), user)
    before, after = paging.key(params, "before"), paging.key(params, "after")
    if after is not None:
        ends = every.filter(pk__gt=after).order_by("pk").values_list("pk", flat=True)[WALK : WALK + 1]
        ceiling = next(iter(ends), None)
        found = paging.page(rows if ceiling is None else rows.filter(pk__lt=ceiling), params, PAGE_SIZE)
        if found.newer_than is None and ceiling is not None:
            found = paging.Page(found.rows, found.older_than, ceiling - 1)
        return Shown(found, None)
    older = every if before is None else every.filter(pk__lt=before)
    floor = older.order_by("-pk").values_list("pk", "since")[WALK : WALK + 1].first()
    if floor is None:
        found = paging.page(rows, params, PAGE_SIZE)
        return Shown(found, paging.capped_count(rows) if before is None else None)
    pk, since = floor
    found = paging.page(rows.filter(pk__gt=pk), params, PAGE_SIZE)
    if found.older_than is not None:
        return Shown(found, None)
    return Shown(paging.Page(found.rows, pk + 1, found.newer_than), None, since)


class SuppressionsPage(Page):
    """Suppressed addresses, newest first, as the filters in the address say."""

    template_name = "offload/suppressions.html"
    permissions = (access.VIEW_SUPPRESSION,)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The filters and one page of rows; none where a filter cannot be used."""
        params, user = self.request.GET, self.request.user
        form = Filters(params)
        shown = find(form, params, user) if form.is_valid() else Shown(paging.Page([], None, None), None)
        found = shown.page
        return super().get_context_data(
            form=form,
            valid=form.is_valid(),
            filtered=any(params.get(name) for name in form.fields),
            page=found,
            lines=[line(row, user) for row in found.rows],
            count=shown.count,
            looked_to=shown.looked_to,
            may_add=may_add(user),
            older=links.with_key(params, "before", found.older_than),
            newer=links.with_key(params, "after", found.newer_than),
            newest=links.without_keys(params),
            **kwargs,
        )


def may_add(user: Any) -> bool:
    """Whether a person may bar an address for the whole site."""
    return bool(user.has_perm(access.ADD_SUPPRESSION)) and not scope.is_bound(user)


class ReasonForm(forms.Form):
    """Why an address gets mail again."""

    reason = forms.CharField(
        label=_("Why does it get mail again?"),
        max_length=500,
        help_text=_("Kept in the audit log, with your name."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class AddForm(forms.Form):
    """An address, and why it gets no mail."""

    address = forms.CharField(
        label=_("Address"),
        max_length=254,
        widget=forms.TextInput(attrs={"autocomplete": "off", "inputmode": "email"}),
    )
    reason = forms.CharField(
        label=_("Why does it get no mail?"),
        max_length=500,
        help_text=_("Kept in the audit log, with your name."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class SuppressionPage(Page):
    """One suppression with what led to it; a POST with a reason lifts it."""

    template_name = "offload/suppression.html"
    permissions = (access.VIEW_SUPPRESSION,)
    http_method_names = ("get", "head", "post", "options")

    def found(self) -> Line:
        """The row that the address names; 404 where there is none that the person may see."""
        number: int = self.kwargs["pk"]
        rows = visible(self.request.user)
        row = get_object_or_404(rows, pk=number if number <= paging.MAX_ID else 0)
        return line(row, self.request.user)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The row, the others of its address, and the form where it may be used."""
        user = self.request.user
        shown: Line = kwargs.pop("line", None) or self.found()
        others = visible(user).filter(address=shown.row.address).exclude(pk=shown.row.pk)
        may = user.has_perm(access.LIFT_SUPPRESSION) and shown.active
        return super().get_context_data(
            line=shown,
            row=shown.row,
            others=[line(row, user) for row in others.order_by("-pk")[:HISTORY]],
            form=kwargs.pop("form", None) or ReasonForm(),
            may_lift=may and shown.mine,
            why_not=NOT_YOURS if may and not shown.mine else "",
            **kwargs,
        )

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Lift it; 400 without a reason, 409 where it is over already."""
        if not request.user.has_perm(access.LIFT_SUPPRESSION):
            words = str(access.NEEDED[access.LIFT_SUPPRESSION])
            raise PermissionDenied(words % {"permission": access.LIFT_SUPPRESSION})
        shown, form = self.found(), ReasonForm(request.POST)
        if not shown.mine:
            raise PermissionDenied(str(NOT_YOURS))
        status = 400
        if form.is_valid():
            reason = form.cleaned_data["reason"]
            try:
                row = actions.lift(shown.row.pk, actor=request.user.get_username(), reason=reason)
                return redirect("suppression", row.pk)
            except actions.Refused as why:
                form.add_error("reason", str(why))
                status = 409
        context = self.get_context_data(line=shown, form=form, **kwargs)
        return self.render_to_response(context, status=status)


class AddSuppressionPage(Page):
    """The form that suppresses an address."""

    template_name = "offload/suppression_add.html"
    permissions = (access.VIEW_SUPPRESSION, access.ADD_SUPPRESSION)
    whole_site = True
    http_method_names = ("get", "head", "post", "options")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form, with the address that the page's own address names."""
        given = {"address": self.request.GET.get("address", "")[:254]}
        return super().get_context_data(form=kwargs.pop("form", None) or AddForm(initial=given), **kwargs)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Suppress it; 400 where something is missing or wrong, with the sentence at the field."""
        form = AddForm(request.POST)
        if form.is_valid():
            values = form.cleaned_data
            try:
                row = actions.add(
                    values["address"], actor=request.user.get_username(), reason=values["reason"]
                )
                return redirect("suppression", row.pk)
            except actions.Refused as why:
                form.add_error("address", str(why))
        return self.render_to_response(self.get_context_data(form=form, **kwargs), status=400)
