"""The two pages for machines: without a login, for whom `access` lets in, also while databases are away."""

from __future__ import annotations

from http import HTTPStatus

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache

from emailoffload.monitoring import access, metrics, readiness


@login_not_required
@never_cache
@access.guarded
def readyz(request: HttpRequest) -> HttpResponse:
    """A verdict for each thing that must be there; 503 where one of them is a problem."""
    told = readiness.answer()
    status = HTTPStatus.SERVICE_UNAVAILABLE if told["status"] == "problem" else HTTPStatus.OK
    return JsonResponse(told, status=status, json_dumps_params={"indent": 2})


@login_not_required
@never_cache
@access.guarded
def metrics_page(request: HttpRequest) -> HttpResponse:
    """All metrics, also while our database is away: they say so."""
    body, content_type = metrics.render(request.headers.get("Accept", ""))
    return HttpResponse(body, content_type=content_type)
