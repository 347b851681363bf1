"""Addresses of a dashboard that is not well."""

from django.http import HttpRequest, HttpResponse
from django.urls import path


def unwell(request: HttpRequest) -> HttpResponse:
    """Says no, whoever asks."""
    return HttpResponse(status=503)


unwell.login_required = False  # type: ignore[attr-defined]
urlpatterns = [path("healthz", unwell)]
