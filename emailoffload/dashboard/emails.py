# mypy: allow-untyped-calls
# django-tables2 and django-filter have no types.
"""The list *Emails*: search, filters, saved views, columns. Everything that it shows is in its address.

With htmx a change of a filter fetches only the results; without, the form asks for the whole page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.urls import reverse
from django.utils.functional import Promise

from emailoffload.dashboard import access, columns, links, paging, saved, walk
from emailoffload.dashboard.chips import chips, query_of
from emailoffload.dashboard.filters import NAMES, EmailFilter
from emailoffload.dashboard.models import SavedView
from emailoffload.dashboard.tables import EmailTable
from emailoffload.dashboard.views import PAGE_SIZE, Page
from emailoffload.outbox import scope
from emailoffload.outbox.models import Email


@dataclass(frozen=True, slots=True)
class Results:
    """One page of emails, how many there are, and how far back was looked (None: as far as there is)."""

    page: paging.Page[Email]
    count: paging.Capped | None
    looked_to: datetime | None


def load(user: scope.Person, ids: Sequence[int]) -> list[Email]:
    """The emails with these ids that a person may see, newest first, with their claims; one query."""
    rows = scope.emails_for(user).filter(pk__in=ids).select_related("claim")
    return sorted(rows.defer("claim__before", "claim__after"), key=lambda email: -email.pk)


def results(filters: EmailFilter, params: QueryDict, size: int = PAGE_SIZE) -> Results:
    """One page of what the filters ask for; of filters that cannot be used, nothing."""
    if not filters.valid:
        return Results(paging.Page([], None, None), None, None)
    before, after = paging.key(params, "before"), paging.key(params, "after")
    found = walk.find(filters.wanted, size, before, after)
    rows = load(filters.request.user, found.ids)
    looked_to = walk.moment(found.cut) if found.cut is not None else None
    return Results(paging.Page(rows, found.older_than, found.newer_than), found.count, looked_to)


class EmailsPage(Page):
    """Emails by search and filters, newest first."""

    template_name = "offload/emails.html"
    permissions = (access.VIEW_EMAIL,)

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The list; without anything in the address, the view that the person begins with."""
        self.chosen = columns.choices(request.user)
        self.views = list(saved.visible(request.user).order_by("name", "pk")[: 4 * saved.MOST])
        if not request.GET and not self.partial:
            first = saved.default_of(self.chosen)
            for view in self.views:
                if view.pk == first:
                    return HttpResponseRedirect(saved.address(view))
        response = super().get(request, *args, **kwargs)
        if self.partial:
            query = self.query.urlencode()
            response["HX-Push-Url"] = f"{reverse('emails')}?{query or 'view=0'}"
        return response

    @property
    def partial(self) -> bool:
        """Whether htmx asks for the results alone."""
        htmx = getattr(self.request, "htmx", None)
        return bool(htmx and htmx.target == "results")

    @property
    def query(self) -> QueryDict:
        """The filters of the address."""
        return query_of(self.request.GET, NAMES)

    def get_template_names(self) -> list[str]:
        """The whole page, or the results alone."""
        return ["offload/_emails_answer.html" if self.partial else self.template_name]

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The filters, one page of rows, how many there are, and the addresses of the neighbouring pages."""
        user, params = self.request.user, self.request.GET
        filters = EmailFilter(params, queryset=scope.emails_for(user), request=self.request)
        found = results(filters, params)
        query = self.query.urlencode()
        return super().get_context_data(
            filters=filters,
            filtered=filters.active,
            valid=filters.valid,
            errors=[(filters.form[name].label, errors[0]) for name, errors in filters.form.errors.items()],
            chips=chips(filters) if filters.valid else [],
            table=self.table(found.page.rows),
            page=found.page,
            count=found.count,
            looked_to=found.looked_to,
            query=query,
            views=self.views,
            view=self.view(query),
            may_share=saved.may_share(user),
            may_export=user.has_perm(access.EXPORT_EMAIL),
            older=links.with_key(params, "before", found.page.older_than),
            newer=links.with_key(params, "after", found.page.newer_than),
            newest=links.without_keys(params),
            **kwargs,
        )

    def view(self, query: str) -> SavedView | None:
        """The saved view that is shown: the one that the address names, if its filters are the present ones."""
        named = paging.key(self.request.GET, "view")
        fits = [view for view in self.views if view.query == query]
        return next((view for view in fits if view.pk == named), fits[0] if fits and query else None)

    def table(self, rows: Sequence[Email]) -> EmailTable:
        """The rows in the columns that the person chose."""
        chosen = columns.of(self.chosen)
        table = EmailTable(
            rows, sequence=chosen, exclude=[name for name in columns.ALL if name not in chosen]
        )
        # Where all rows have the same company or none, a column for it says nothing.
        own = scope.companies_of(self.request.user)
        one_company = own is not None and len(own) == 1
        if columns.NAME not in self.chosen and (one_company or not any(email.company_id for email in rows)):
            table.columns.hide("company")
        return table


@dataclass(frozen=True, slots=True)
class ColumnLine:
    """A column on the page that chooses them: whether it is shown, and whether it can go up or down."""

    name: str
    label: str | Promise
    shown: bool
    fixed: bool
    up: bool = False
    down: bool = False


class ColumnsPage(Page):
    """Which columns the list has, and in which order; remembered for the person."""

    template_name = "offload/emails_columns.html"
    permissions = (access.VIEW_EMAIL,)
    http_method_names = ("get", "head", "post", "options")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The shown columns in their order, then the others."""
        query = query_of(self.request.GET, NAMES).urlencode()
        chosen = columns.of(columns.choices(self.request.user))
        names = chosen + [name for name in columns.ALL if name not in chosen]
        lines = [
            ColumnLine(
                name,
                columns.LABELS[name],
                at < len(chosen),
                name == columns.NEEDED,
                0 < at < len(chosen),
                at < len(chosen) - 1,
            )
            for at, name in enumerate(names)
        ]
        back = f"{reverse('emails')}?{query or 'view=0'}"
        return super().get_context_data(lines=lines, query=query, back=back, **kwargs)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Keep what was chosen; `up` and `down` move a column, `reset` forgets all."""
        query = query_of(request.GET, NAMES).urlencode()
        here = f"{request.path}?{query}" if query else request.path
        if "reset" in request.POST:
            columns.reset(request.user)
            return HttpResponseRedirect(here)
        names = columns.clean(request.POST.getlist("column"))
        for word, up in (("up", True), ("down", False)):
            if word in request.POST:
                name = request.POST[word]
                columns.choose(request.user, columns.moved(names, name, up))
                return HttpResponseRedirect(f"{here}#column-{name}" if name in columns.ALL else here)
        columns.choose(request.user, names)
        return HttpResponseRedirect(f"{reverse('emails')}?{query or 'view=0'}")
