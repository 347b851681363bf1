# mypy: allow-untyped-calls
# django-tables2 and django-filter have no types.
"""The pages of the dashboard: they check the permission, ask one function, and show its answer."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.db import connection
from django.db.utils import Error as DatabaseFailure
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.generic import TemplateView

from emailoffload.dashboard import access, known, links, overview, paging, preview, suppressed, words
from emailoffload.dashboard.filters import EmailFilter
from emailoffload.dashboard.resend import family
from emailoffload.dashboard.tables import EmailTable
from emailoffload.dashboard.timeline import entries, reports
from emailoffload.dashboard.verdicts import verdict
from emailoffload.outbox import scope
from emailoffload.outbox.models import Email

PAGE_SIZE = 50
ATTEMPTS_SHOWN = 200


class Page(access.NeedsPermission, TemplateView):
    """A page behind a login and a permission, never kept by a cache."""

    @method_decorator(never_cache)
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Check the permission, then show the page."""
        return super().dispatch(request, *args, **kwargs)


class OverviewPage(Page):
    """What is happening now, is it healthy, who must act."""

    template_name = "offload/overview.html"
    permissions = (access.VIEW_EMAIL,)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Everything that `overview.collect` found."""
        return super().get_context_data(overview=overview.collect(self.request.user), **kwargs)


class EmailsPage(Page):
    """Emails by search and filters, newest first."""

    template_name = "offload/emails.html"
    permissions = (access.VIEW_EMAIL,)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The filters, one page of rows, a capped count, and the addresses of the neighbouring pages."""
        params = self.request.GET
        filters = EmailFilter(params, queryset=scope.emails_for(self.request.user), request=self.request)
        valid = filters.form.is_valid()
        rows = filters.qs if valid else Email.objects.none()
        found = paging.page(
            rows.select_related("claim").defer("claim__before", "claim__after"), params, PAGE_SIZE
        )
        # Where all rows have the same company or none, a column for it says nothing.
        own = scope.companies_of(self.request.user)
        one_company = own is not None and len(own) == 1
        table = EmailTable(found.rows)
        if one_company or not any(email.company_id for email in found.rows):
            table.columns.hide("company")
        filtered = any(params.get(name) for name in filters.filters)
        return super().get_context_data(
            filters=filters,
            filtered=filtered,
            valid=valid,
            table=table,
            page=found,
            count=paging.capped_count(rows) if valid else None,
            older=links.with_key(params, "before", found.older_than),
            newer=links.with_key(params, "after", found.newer_than),
            newest=links.without_keys(params),
            **kwargs,
        )


class EmailPage(Page):
    """One email: the verdict, who and what, its siblings, its timeline."""

    template_name = "offload/email.html"
    permissions = (access.VIEW_EMAIL,)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The email with its claim, siblings, attempts and events; a dozen queries, however many of these."""
        visible = scope.emails_for(self.request.user)
        email = get_object_or_404(visible.select_related("claim"), pk=_id(self.kwargs["pk"]))
        attempts = list(email.tries.order_by("number")[:ATTEMPTS_SHOWN])
        told = reports(email)
        of_it = known.gather([email], self.request.user)[email.pk]
        others = list(visible.filter(claim_id=email.claim_id).exclude(pk=email.pk).order_by("pk")[:100])
        return super().get_context_data(
            email=email,
            claim=email.claim,
            verdict=verdict(email, of_it),
            reported=bool(email.accepted_at and email.route == "ses") or bool(told.events),
            family=family(email, others),
            suppression=suppressed.of(email.address, self.request.user),
            sensitive=preview.is_secret(email),
            timeline=entries(email, attempts, told, of_it),
            links=links.moodle(email.claim),
            reminder=words.reminder(email.claim.ordinal, email.claim.is_last),
            **kwargs,
        )


@method_decorator([login_not_required, never_cache], name="dispatch")
class Healthz(View):
    """For load balancers: 200 while web server and database answer, else 503. Says nothing more."""

    def get(self, request: HttpRequest) -> JsonResponse:
        """Ask the database the smallest question."""
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except DatabaseFailure:
            return JsonResponse({"status": "database does not answer"}, status=503)
        return JsonResponse({"status": "ok"})


def _id(number: int) -> int:
    """An id from the address; one that no row can have becomes one that no row has."""
    return number if number <= paging.MAX_ID else 0
