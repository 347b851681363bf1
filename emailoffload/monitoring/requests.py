"""Each request has an id, and one line in the log.

The id is made here, or taken from the header that REQUEST_ID_HEADER names, which a proxy of the site's own sets. It is
in every line that is logged while the request is worked on, in the access line, and in the answer.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable
from typing import Final

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.encoding import escape_uri_path

from emailoffload import logs

log = logging.getLogger("offload.access")
HEADER: Final = "X-Request-ID"
_FIT = re.compile(r"[A-Za-z0-9._:/+=-]{6,100}", re.ASCII)
QUIET: Final = frozenset({"healthz", "healthz-worker", "readyz", "metrics"})
"""Pages that machines ask for every few seconds: told of in the log only where the answer is bad."""
_LONGEST = 200


class RequestLog:
    """The first of the middlewares: whatever answers, it is told of."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """The answer, with the request's id in its header."""
        ident = _given(request) or secrets.token_hex(8)
        began = time.monotonic()
        with logs.bound(request=ident):
            response = self.get_response(request)
            response[HEADER] = ident
            _tell(request, response.status_code, time.monotonic() - began)
            # Django's own line about an answer from 400 on would say the same; of exceptions it has told by now.
            setattr(response, "_has_been_logged", True)  # noqa: B010 - the name is Django's
        return response


def _given(request: HttpRequest) -> str:
    """The id that a proxy has given, '' where none is believed."""
    name: str = settings.REQUEST_ID_HEADER
    given = request.headers.get(name, "") if name else ""
    return given if _FIT.fullmatch(given) else ""


def _tell(request: HttpRequest, status: int, seconds: float) -> None:
    match = request.resolver_match
    route = match.view_name if match else ""
    path = shown_path(request.path)
    level = logging.INFO
    if status >= 500:
        # To say that something is not ready is no error of the page that says so.
        level = logging.INFO if route in QUIET else logging.ERROR
    elif route in QUIET or (match is None and status < 400):
        # Style and script have no page of their own.
        level = logging.DEBUG
    # Who asks is told where somebody has looked it up; it costs no query more.
    user = getattr(request, "_cached_user", None)
    log.log(
        level,
        "%s %s %d in %.0f ms",
        request.method,
        path,
        status,
        1000 * seconds,
        extra={
            "method": request.method,
            "path": path,
            "route": route,
            "status": status,
            "ms": round(1000 * seconds, 1),
            "user": getattr(user, "pk", None),
        },
    )


def shown_path(path: str) -> str:
    """A path as the log may have it: never with an address in it, nor with what follows the question mark."""
    parts = [logs.NO_ADDRESS if "@" in part or "%40" in part else part for part in path.split("/")]
    # Brackets as they are, everything odd percent-encoded.
    escaped: str = escape_uri_path("/".join(parts))
    return escaped[:_LONGEST]
