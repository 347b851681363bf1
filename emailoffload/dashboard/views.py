# mypy: allow-untyped-calls
# django-tables2 and django-filter have no types.
"""The pages of the dashboard: they check the permission, ask one function, and show its answer."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.db import connection
from django.db.utils import Error as DatabaseFailure
from django.http import HttpRequest, JsonResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.generic import TemplateView

from emailoffload.dashboard import access, overview

PAGE_SIZE = 50


class Page(access.NeedsPermission, TemplateView):
    """A page behind a login and a permission, never kept by a cache."""

    @method_decorator(never_cache)
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Check the permission, then show the page."""
        return super().dispatch(request, *args, **kwargs)


class OverviewPage(Page):
    """What is happening now, is it healthy, who must act. htmx gets the part that changes."""

    template_name = "offload/overview.html"
    permissions = (access.VIEW_EMAIL,)

    def get_template_names(self) -> list[str]:
        """The whole page, or for a live update only what changes."""
        live = getattr(self.request, "htmx", None)
        return ["offload/_overview.html" if live else self.template_name]

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Everything that `overview.collect` found for what the address asks."""
        found = overview.collect(self.request.user, self.request.GET)
        return super().get_context_data(overview=found, **kwargs)


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
