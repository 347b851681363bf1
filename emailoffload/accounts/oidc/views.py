# mypy: allow-subclassing-any, allow-untyped-calls
"""The two addresses of single sign-on: the way to the provider, and the way back."""

from __future__ import annotations

import logging

from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.providers.base.constants import (
    AuthProcess,
)
from allauth.socialaccount.providers.oauth2.client import (
    OAuth2Error,
)
from allauth.socialaccount.providers.oauth2.views import (
    OAuth2CallbackView,
)
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET
from requests import RequestException

from emailoffload import logs
from emailoffload.accounts.oidc import admission
from emailoffload.accounts.oidc.protocol import Conversation, Provider, application, provider_id

logger = logging.getLogger(__name__)


@login_not_required
@never_cache
@require_GET
def begin(request: HttpRequest) -> HttpResponse:
    """To the provider.

    A link, not a form: our content security policy lets forms go nowhere but here, and browsers hold every hop of the
    way to it, also those from the provider on to another one. It changes nothing but the state in the session, without
    which no answer is believed.
    """
    back = request.GET.get("next", "")
    safe = url_has_allowed_host_and_scheme(back, {request.get_host()}, require_https=request.is_secure())
    try:
        response: HttpResponse = Provider(request, app=application()).redirect(
            request, AuthProcess.LOGIN, next_url=back if safe else None
        )
    except (RequestException, OAuth2Error) as error:
        logger.warning(
            "The provider of single sign-on cannot be used (%s): nobody can log in by it now. Look whether it answers "
            "at OIDC_SERVER_URL from this host.",
            logs.named(error),
        )
        return admission.refused(request, "unreachable")
    except ImmediateHttpResponse as answer:
        return answer.response
    return response


@login_not_required
@never_cache
@require_GET
def callback(request: HttpRequest) -> HttpResponse:
    """Back from the provider: with a code, or with a reason."""
    try:
        response: HttpResponse = OAuth2CallbackView.adapter_view(Conversation(request, provider_id()))(
            request
        )
    except (RequestException, OAuth2Error, ValueError, KeyError, TypeError) as error:
        # What the provider answers is not of our making: whatever it lacks, nobody is let in by it.
        logger.warning(
            "An answer of the provider of single sign-on cannot be read (%s): somebody was not let in. If it goes on, "
            "check the settings that begin with OIDC_.",
            logs.named(error),
        )
        return admission.refused(request, "answer")
    return response
