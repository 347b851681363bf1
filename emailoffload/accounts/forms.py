"""The form of the login page."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.models import User


class LoginForm(AuthenticationForm):
    """Name and password; with OIDC_ONLY, of superusers only."""

    def confirm_login_allowed(self, user: User) -> None:
        """Raises ValidationError, the same as for a wrong password, for accounts that may not use theirs."""
        super().confirm_login_allowed(user)
        if settings.OIDC_ONLY and not user.is_superuser:
            raise self.get_invalid_login_error()
