"""How long somebody stays logged in: 12 hours at most, and SESSION_IDLE_MINUTES without use."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import logout
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.models import Session
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

STARTED: Final = "offload_started"
USED: Final = "offload_used"
USE_HEADER: Final = "Offload-Use"
"""What a template has htmx send along where a person asks, and not a page that keeps itself fresh."""
ENDED: Final = "_offload_session_ended"
ANONYMOUS: Final = frozenset({"/healthz", "/healthz/worker", "/readyz", "/metrics"})
"""Pages that answer without our database, and never ask who somebody is."""
_GRAIN: Final = 60
"""Seconds: the last use is written down so exactly, not with every page."""


@receiver(user_logged_in)
def begin(sender: object, request: HttpRequest, **kwargs: Any) -> None:
    """A session begins with its login; UNIX seconds."""
    request.session[STARTED] = request.session[USED] = int(time.time())


def is_use(request: HttpRequest) -> bool:
    """Whether somebody asked for this, and not a page that keeps itself fresh while nobody is there."""
    if request.method not in {"GET", "HEAD"}:
        return True
    if request.headers.get("X-Requested-With") == "fetch":
        return False
    if USE_HEADER in request.headers:
        return True
    return "HX-Request" not in request.headers or "HX-Boosted" in request.headers


class SessionLimits:
    """Log out whose session is too old, or was not used for too long, before the page is asked for."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """The page, for somebody or for nobody."""
        # Who asks is only looked up where there is a cookie.
        if settings.SESSION_COOKIE_NAME in request.COOKIES and request.path not in ANONYMOUS:
            self.check(request)
        return self.get_response(request)

    def check(self, request: HttpRequest) -> None:
        """End the session, or write down that it is used."""
        session = request.session
        if "_auth_user_id" not in session:
            return
        now = int(time.time())
        # Sessions from before these limits begin now.
        started, used = session.get(STARTED, now), session.get(USED, 0)
        if STARTED not in session:
            session[STARTED] = session[USED] = used = now
        if now - started > settings.SESSION_COOKIE_AGE or now - used > settings.SESSION_IDLE.total_seconds():
            logout(request)
            setattr(request, ENDED, True)
        elif now - used >= _GRAIN and is_use(request):
            session[USED] = now


def forget_ended() -> int:
    """Erase sessions whose 12 hours are over; how many."""
    count: int = Session.objects.filter(expire_date__lt=timezone.now()).delete()[0]
    return count
