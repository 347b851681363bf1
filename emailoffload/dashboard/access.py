"""Who may see what: every page names the permission it needs, and a refusal says how to get it.

Permissions are Django's own (`view_email`, `view_content`, `view_run`, …); the groups that hold them are made
by the migrations named `…_roles…` and can be changed in the Django admin. Beyond that, groups may be
bound to companies (`outbox.scope`): their members see only what belongs to those.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode, urlsplit

from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.contrib.auth.mixins import AccessMixin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from emailoffload.outbox import scope

VIEW_EMAIL = "emailoffload.view_email"
VIEW_CONTENT = "emailoffload.view_content"
VIEW_RUN = "emailoffload.view_run"
VIEW_COPYRULE = "emailoffload.view_copyrule"
VIEW_ROUTINGRULE = "emailoffload.view_routingrule"
RESEND_EMAIL = "emailoffload.resend_email"
HANDLE_FALLBACK = "emailoffload.handle_fallback"
PAUSE = "emailoffload.pause"
VIEW_SUPPRESSION = "emailoffload.view_suppression"
ADD_SUPPRESSION = "emailoffload.add_suppression"
LIFT_SUPPRESSION = "emailoffload.lift_suppression"
VIEW_REPUTATION = "emailoffload.view_reputationhour"
VIEW_ALARM = "emailoffload.view_alarm"
VIEW_EVENT = "emailoffload.view_event"
VIEW_EVENTPROBLEM = "emailoffload.view_eventproblem"
CANCEL_EMAIL = "emailoffload.cancel_email"
EXPORT_EMAIL = "emailoffload.export_email"
VIEW_LEFTROW = "emailoffload.view_leftrow"
VIEW_AUDIT = "emailoffload.view_auditentry"
VIEW_CONFIGURATION = "emailoffload.view_configuration"
SHARE_VIEW = "emailoffload.change_savedview"
EXPORT_PERSON = "emailoffload.export_person"
ERASE_PERSON = "emailoffload.erase_person"

NEEDED: dict[str, Promise] = {
    VIEW_EMAIL: _("This page needs the permission to see emails (%(permission)s)."),
    VIEW_CONTENT: _("Reading what a mail says needs the permission to see contents (%(permission)s)."),
    VIEW_RUN: _("This page needs the permission to see runs (%(permission)s)."),
    VIEW_COPYRULE: _("This page needs the permission to see copy rules (%(permission)s)."),
    VIEW_ROUTINGRULE: _("This page needs the permission to see routing rules (%(permission)s)."),
    HANDLE_FALLBACK: _(
        "Deciding about mails that did not go by the cloud needs the permission to handle fallbacks "
        "(%(permission)s)."
    ),
    RESEND_EMAIL: _("Sending a mail again needs the permission to resend emails (%(permission)s)."),
    VIEW_SUPPRESSION: _("This page needs the permission to see suppressed addresses (%(permission)s)."),
    ADD_SUPPRESSION: _("Suppressing an address needs the permission to add suppressions (%(permission)s)."),
    LIFT_SUPPRESSION: _(
        "Letting a suppressed address get mail again needs the permission to lift suppressions (%(permission)s)."
    ),
    PAUSE: _("This page needs the permission to pause and resume (%(permission)s)."),
    VIEW_REPUTATION: _("This page needs the permission to see bounce and complaint rates (%(permission)s)."),
    VIEW_ALARM: _("This page needs the permission to see alarms (%(permission)s)."),
    VIEW_EVENT: _("This page needs the permission to see events (%(permission)s)."),
    VIEW_EVENTPROBLEM: _("This page needs the permission to see unreadable events (%(permission)s)."),
    CANCEL_EMAIL: _("Stopping a mail needs the permission to cancel emails (%(permission)s)."),
    EXPORT_EMAIL: _("Exporting mails needs the permission to export emails (%(permission)s)."),
    VIEW_LEFTROW: _("This page needs the permission to see what was left to Moodle (%(permission)s)."),
    VIEW_AUDIT: _("This page needs the permission to see the audit log (%(permission)s)."),
    VIEW_CONFIGURATION: _("This page needs the permission to see the settings (%(permission)s)."),
    SHARE_VIEW: _("Saving a view for everybody needs the permission to change saved views (%(permission)s)."),
    EXPORT_PERSON: _(
        "Exporting what is held about a person needs the permission to do that (%(permission)s)."
    ),
    ERASE_PERSON: _("Erasing what is held about a person needs the permission to do that (%(permission)s)."),
}
WHOLE_SITE: Promise = _(
    "This page is about the whole site. Your account sees only what belongs to its companies."
)


class LoginRequired(LoginRequiredMiddleware):
    """Django's own, which asks who somebody is even where anybody is let in: that needs our database, and `/healthz`
    has to answer without it."""

    def process_view(
        self, request: HttpRequest, view_func: Callable[..., Any], view_args: Any, view_kwargs: Any
    ) -> HttpResponseBase | None:
        """Nothing for views that need no login; else what Django does: None, or the way to the login."""
        if not getattr(view_func, "login_required", True):
            return None
        return super().process_view(request, view_func, view_args, view_kwargs)

    def handle_no_permission(  # type: ignore[override]  # not always a redirect
        self, request: HttpRequest, view_func: Callable[..., Any]
    ) -> HttpResponseBase:
        """The way to the login; a part of a page that is asked for after the session has ended leads the whole page
        there, instead of showing a login in the part's place."""
        if "HX-Request" not in request.headers:
            return super().handle_no_permission(request, view_func)
        page = urlsplit(request.headers.get("HX-Current-URL", ""))
        back = urlencode({"next": f"{page.path}?{page.query}" if page.query else page.path or "/"})
        return HttpResponse(status=401, headers={"HX-Redirect": f"{reverse('login')}?{back}"})


class NeedsPermission(AccessMixin):
    """A view only for people with all of `permissions`; others get the page 403 with the missing one.

    A view with `whole_site` shows records of no single company: people bound to companies get 403 there.
    """

    permissions: tuple[str, ...] = ()
    whole_site = False
    request: HttpRequest

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Refuse with PermissionDenied, whose text says what is missing, before the view does anything."""
        for permission in self.permissions:
            if not request.user.has_perm(permission):
                raise PermissionDenied(str(NEEDED[permission]) % {"permission": permission})
        if self.whole_site and scope.is_bound(request.user):
            raise PermissionDenied(str(WHOLE_SITE))
        response: HttpResponseBase = super().dispatch(request, *args, **kwargs)  # type: ignore[misc]
        return response
