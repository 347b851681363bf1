"""Who may read `/readyz` and `/metrics`: networks of the site's own, and whoever has the token.

They say how much mail a site has and what is wrong with it: nothing secret, and nothing for everybody.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Callable
from functools import wraps

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from emailoffload.accounts import address

FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via")
"""Headers of proxies."""


def guarded(view: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """A view for machines that may read it; others get 401 where a token would help, else 403. Only GET and HEAD."""

    @wraps(view)
    def checked(request: HttpRequest) -> HttpResponseBase:
        if request.method not in {"GET", "HEAD"}:
            response = _refusal("Only GET.", 405)
            response["Allow"] = "GET, HEAD"
            return response
        if _has_token(request) or _is_near(request):
            return view(request)
        if settings.METRICS_TOKEN:
            response = _refusal("The token is missing or wrong.", 401)
            response["WWW-Authenticate"] = "Bearer"
            return response
        return _refusal("Not for this address: see METRICS_ALLOWED and METRICS_TOKEN.", 403)

    return checked


def _has_token(request: HttpRequest) -> bool:
    token: str = settings.METRICS_TOKEN
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    # Compared as bytes: other characters than ASCII are no error, only wrong.
    return (
        bool(token)
        and scheme.lower() == "bearer"
        and secrets.compare_digest(given.strip().encode(), token.encode())
    )


def _is_near(request: HttpRequest) -> bool:
    """Whether it comes from METRICS_ALLOWED.

    Behind a proxy on this host everybody comes from loopback. So where a header says that there is a proxy, and
    TRUSTED_PROXIES does not say how many, no address is believed.
    """
    if not settings.TRUSTED_PROXIES and any(name in request.headers for name in FORWARDED):
        return False
    found = ipaddress.ip_address(address.exact_address(request))
    return any(found in network for network in settings.METRICS_ALLOWED)


def _refusal(text: str, status: int) -> HttpResponse:
    return HttpResponse(f"{text}\n", status=status, content_type="text/plain; charset=utf-8")
