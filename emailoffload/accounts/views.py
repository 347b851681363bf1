"""The pages of logging in and out, and of changing one's password."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.password_validation import password_validators_help_texts
from django.contrib.auth.views import (
    LoginView,
    LogoutView,
    PasswordChangeDoneView,
    PasswordChangeView,
    RedirectURLMixin,
)
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase, HttpResponseRedirect
from django.shortcuts import resolve_url
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views import View
from django.views.decorators.cache import never_cache

from emailoffload.accounts import audit, throttle

HOURS = settings.SESSION_COOKIE_AGE // 3600


def _lasting() -> str:
    """How long a login lasts, in a sentence."""
    minutes = int(settings.SESSION_IDLE.total_seconds() // 60)
    return ngettext(
        "A login lasts for %(hours)s hours, and ends after %(minutes)s minute without use.",
        "A login lasts for %(hours)s hours, and ends after %(minutes)s minutes without use.",
        minutes,
    ) % {"hours": HOURS, "minutes": minutes}


class LogIn(LoginView):
    """By password, or by the way to the provider of single sign-on."""

    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form, and what is offered beside it."""
        provider = settings.OIDC_NAME if settings.OIDC else ""
        asked = not settings.OIDC_ONLY or "password" in self.request.GET or self.request.method == "POST"
        return super().get_context_data(
            provider=provider,
            asks_password=asked,
            only_provider=settings.OIDC_ONLY,
            lasting=_lasting(),
            **kwargs,
        )

    def form_valid(self, form: Any) -> HttpResponse:
        """Log in, and record who did, and how many wrong passwords came before."""
        response = super().form_valid(form)
        found = throttle.of(self.request)
        failures = found.count - 1 if found else 0
        audit.record("login", self.request.user, known=True, by="password", failures=failures)
        return response


class LogOut(LogoutView):
    """A POST ends the session, and is recorded."""

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Record, then log out."""
        if request.user.is_authenticated:
            audit.record("logout", request.user, known=True)
        response: HttpResponse = super().post(request, *args, **kwargs)
        return response


@method_decorator(never_cache, name="dispatch")
class ChangePassword(PasswordChangeView):
    """One's own password; it ends all other sessions of the account. Accounts of single sign-on have none."""

    def dispatch(self, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Raises PermissionDenied for accounts without a password of their own here."""
        if self.request.user.is_authenticated and not self.request.user.has_usable_password():
            raise PermissionDenied(
                _(
                    "Your account has no password here: you log in by single sign-on. Change your password there."
                )
            )
        return super().dispatch(*args, **kwargs)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form, and the rules for passwords in words."""
        return super().get_context_data(rules=password_validators_help_texts(), **kwargs)

    def form_valid(self, form: Any) -> HttpResponse:
        """Change it, and record that it was changed."""
        response = super().form_valid(form)
        audit.record("password_change", self.request.user, known=True)
        return response


@method_decorator(never_cache, name="dispatch")
class PasswordChanged(PasswordChangeDoneView):
    """It is done."""


@method_decorator(login_not_required, name="dispatch")
class AdminLogIn(RedirectURLMixin, View):
    """Django's admin has no login of its own: ours is throttled and recorded."""

    redirect_field_name = "next"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """The way to our login page and back; 403 for people who are logged in and may not see the admin."""
        if request.user.is_authenticated:
            raise PermissionDenied(
                _("Django’s admin is for accounts with staff status. A superuser can give it to yours there.")
            )
        back = self.get_redirect_url() or resolve_url("admin:index")
        return HttpResponseRedirect(f"{resolve_url(settings.LOGIN_URL)}?{urlencode({'next': back})}")
