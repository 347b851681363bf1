"""The page for a request that failed: 503 with cause and cure while a database is away, else 500."""

from __future__ import annotations

import sys
from http import HTTPStatus
from typing import NamedTuple

from django.db import InterfaceError, InternalError, OperationalError, connections
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.functional import Promise
from django.views import defaults
from django.views.decorators.csrf import requires_csrf_token

from emailoffload.moodle.errors import MoodleProblem, database_of, translate
from emailoffload.outbox import trouble

RETRY_SECONDS = 30


class Outage(NamedTuple):
    """What keeps the pages from being made, and what cures it."""

    cause: Promise | str
    cure: Promise | str


def outage(error: BaseException | None) -> Outage | None:
    """The outage behind an error, None where the error is something else."""
    if isinstance(error, MoodleProblem):
        return Outage(str(error), error.cure)
    if not isinstance(error, (OperationalError, InterfaceError, InternalError)):
        return None
    if database_of(error) == "moodle":
        problem = translate(error, connections["moodle"])
        return Outage(str(problem), problem.cure)
    found = trouble.of(error)
    return Outage(found.cause, found.cure)


@requires_csrf_token
def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler of errors: it is called while the error is being handled."""
    found = outage(sys.exc_info()[1])
    if found is None:
        return defaults.server_error(request)
    # Without the request: whoever is asked for by a template context would need the database again.
    page = render_to_string("503.html", {"outage": found})
    response = HttpResponse(page, status=HTTPStatus.SERVICE_UNAVAILABLE)
    response["Retry-After"] = str(RETRY_SECONDS)
    response["Cache-Control"] = "no-store"
    return response
