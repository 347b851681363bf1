# mypy: allow-subclassing-any, allow-untyped-calls
"""Where django-allauth asks us: which provider, what now, what went wrong. None of its own pages is ever shown."""

from __future__ import annotations

import logging
from typing import Any

from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import (
    DefaultSocialAccountAdapter,
)
from allauth.socialaccount.models import SocialLogin
from django.http import HttpRequest

from emailoffload.accounts.oidc import admission
from emailoffload.accounts.oidc.protocol import CLAIMS, Provider, Refused, application

logger = logging.getLogger(__name__)


class LoginAdapter(DefaultSocialAccountAdapter):
    """The flow ends with us, before allauth makes accounts, links or logins of its own."""

    def get_provider(self, request: HttpRequest, provider: str, client_id: str | None = None) -> Provider:
        """The one of the settings, whatever is asked for."""
        return Provider(request, app=application())

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """The provider says who it is: let them in or not. Raises ImmediateHttpResponse, always."""
        account = sociallogin.account if sociallogin.account.pk else None
        raise ImmediateHttpResponse(
            admission.admit(
                request, account, getattr(sociallogin, CLAIMS), sociallogin.state.get("next") or ""
            )
        )

    def on_authentication_error(
        self,
        request: HttpRequest,
        provider: Any,
        error: Any = None,
        exception: BaseException | None = None,
        extra_context: dict[str, Any] | None = None,
    ) -> None:
        """Say what went wrong in words of ours. Raises ImmediateHttpResponse, always."""
        if exception is None:
            stale = "state_id" in (extra_context or {})
            raise ImmediateHttpResponse(admission.refused(request, "state" if stale else "provider"))
        why = str(exception) if isinstance(exception, Refused) else type(exception).__name__
        logger.warning(
            "An answer of the provider of single sign-on was refused (%s): somebody was not let in.", why
        )
        raise ImmediateHttpResponse(admission.refused(request, "answer"))
