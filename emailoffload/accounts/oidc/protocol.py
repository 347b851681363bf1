# mypy: allow-subclassing-any, allow-untyped-calls
"""OpenID Connect as we speak it: django-allauth's code flow, with what it leaves out.

Added are: a nonce, the check of the ID token's signature (allauth trusts the connection that it came over), algorithms
that nobody can choose for us, https for every address that the provider names, and that the user information is about
the person whom the ID token names. Nothing of the request's own parameters reaches the provider.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any, Final
from urllib.parse import urlsplit

import jwt
from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.models import SocialApp, SocialLogin, SocialToken
from allauth.socialaccount.providers.oauth2.client import (
    OAuth2Error,
)
from allauth.socialaccount.providers.openid_connect.provider import (
    OpenIDConnectProvider,
)
from allauth.socialaccount.providers.openid_connect.views import (
    OpenIDConnectOAuth2Adapter,
)
from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse

CLAIMS: Final = "offload_claims"
"""What the provider said, for as long as a login takes: an attribute of it, stored nowhere."""
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""Signatures with a key that only the provider has: none of those that are made with the client's secret."""
LEEWAY: Final = 60
"""Seconds by which the provider's clock may differ from ours."""
_ENDPOINTS: Final = ("authorization_endpoint", "token_endpoint", "jwks_uri")
_LOCAL: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class Refused(OAuth2Error):
    """The provider's answer is not believed; the text is a code for the log, nothing of the answer."""


def provider_id() -> str:
    """Under this name the links between accounts and people at the provider are kept.

    It names the provider too: another one's `sub` may be the same and mean somebody else.
    """
    return f"oidc-{hashlib.sha256((settings.OIDC_SERVER_URL or '').rstrip('/').encode()).hexdigest()[:16]}"


def link_of(sub: str) -> str:
    """Under this key a person's link is kept: 64 hexadecimal digits.

    `sub` tells upper from lower case, and a database's collation may not: it would lead one person into the account
    of another.
    """
    return hashlib.sha256(sub.encode()).hexdigest()


def application() -> SocialApp:
    """The provider, as the settings describe it; it is in no database."""
    return SocialApp(
        provider="openid_connect",
        provider_id=provider_id(),
        name=settings.OIDC_NAME[:40],
        client_id=settings.OIDC_CLIENT_ID,
        secret=settings.OIDC_CLIENT_SECRET,
        settings={
            "server_url": settings.OIDC_SERVER_URL,
            "oauth_pkce_enabled": True,
            "scope": settings.OIDC_SCOPES,
        },
    )


def nonce_of(code_verifier: str | None) -> str:
    """The nonce of a login: made from the secret that PKCE keeps in the session, so it is bound to it as well."""
    return hashlib.sha256(b"nonce:" + (code_verifier or secrets.token_urlsafe()).encode()).hexdigest()


class Provider(OpenIDConnectProvider):
    """The one provider of the settings."""

    def get_callback_url(self) -> str:
        """Where the provider sends people back to."""
        return reverse("oidc-callback")

    def get_oauth2_adapter(self, request: HttpRequest) -> Conversation:
        """What talks to the provider."""
        return Conversation(request, provider_id())

    def get_pkce_params(self) -> dict[str, str]:
        """The challenge of PKCE, and the nonce."""
        params: dict[str, str] = super().get_pkce_params()
        return {**params, "nonce": nonce_of(params["code_verifier"])}

    def extract_uid(self, data: dict[str, Any]) -> str:
        """Of `sub`, the only claim that stays with a person, whatever they are called."""
        return link_of(str(data["sub"]))

    def extract_extra_data(self, data: dict[str, Any]) -> dict[str, Any]:
        """Nothing is kept of what the provider tells about a person."""
        return {}

    def extract_common_fields(self, data: dict[str, Any]) -> dict[str, Any]:
        """Nothing: accounts are made by `admission`."""
        return {}

    def extract_email_addresses(self, data: dict[str, Any]) -> list[Any]:
        """None: nobody is recognised by an address."""
        return []


class Conversation(OpenIDConnectOAuth2Adapter):
    """What is asked of the provider during one login."""

    nonce = ""

    def get_provider(self) -> Provider:
        """The provider of the settings."""
        return Provider(self.request, app=application())

    def get_callback_url(self, request: HttpRequest, app: SocialApp) -> str:
        """Our address, as the provider must know it."""
        return request.build_absolute_uri(reverse("oidc-callback"))

    @property
    def openid_config(self) -> dict[str, Any]:
        """What the provider says about itself, once for each login. Raises Refused for addresses without https."""
        known = "_openid_config" in self.__dict__
        config: dict[str, Any] = super().openid_config
        if not known:
            if not isinstance(config, dict) or not isinstance(config.get("issuer"), str):
                raise Refused("discovery")
            for name in (*_ENDPOINTS, *(["userinfo_endpoint"] if "userinfo_endpoint" in config else [])):
                if not _safe(config.get(name)):
                    raise Refused(f"discovery: {name}")
        return config

    def get_access_token_data(
        self, request: HttpRequest, app: SocialApp, client: Any, pkce_code_verifier: str | None = None
    ) -> dict[str, Any]:
        """The provider's answer to the code; remembers which nonce its ID token must have."""
        self.nonce = nonce_of(pkce_code_verifier)
        data: dict[str, Any] = super().get_access_token_data(
            request, app, client, pkce_code_verifier=pkce_code_verifier
        )
        return data

    def complete_login(
        self, request: HttpRequest, app: SocialApp, token: SocialToken, **kwargs: Any
    ) -> SocialLogin:
        """Who it is, with `CLAIMS`: what the ID token says, and the user information beside it. Raises Refused."""
        said = kwargs["response"].get("id_token")
        if not isinstance(said, str):
            raise Refused("no ID token")
        claims = self.verified(said)
        if "userinfo_endpoint" in self.openid_config:
            told = self._fetch_user_info(token.token)
            if not isinstance(told, dict) or told.get("sub") != claims["sub"]:
                raise Refused("user information about somebody else")
            claims = {**told, **claims}
        login: SocialLogin = self.get_provider().sociallogin_from_response(request, claims)
        setattr(login, CLAIMS, claims)
        return login

    def verified(self, token: str) -> dict[str, Any]:
        """What an ID token says, after every check of OpenID Connect Core 3.1.3.7. Raises Refused."""
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in ALGORITHMS:
                raise Refused("algorithm")
            with get_adapter().get_requests_session() as session:
                answer = session.get(self.openid_config["jwks_uri"])
                answer.raise_for_status()
                keys = jwt.PyJWKSet.from_dict(answer.json()).keys
            named = [key for key in keys if key.key_id == header.get("kid")]
            if len(named) != 1:
                raise Refused("key")
            claims: dict[str, Any] = jwt.decode(
                token,
                key=named[0],
                algorithms=[header["alg"]],
                audience=settings.OIDC_CLIENT_ID,
                issuer=self.openid_config["issuer"],
                leeway=LEEWAY,
                options={"require": ["iss", "sub", "aud", "exp", "iat"]},
            )
        except (jwt.PyJWTError, AttributeError, TypeError) as error:
            raise Refused(type(error).__name__) from None
        if claims.get("azp", settings.OIDC_CLIENT_ID) != settings.OIDC_CLIENT_ID:
            raise Refused("authorized party")
        if isinstance(claims["aud"], list) and len(claims["aud"]) > 1 and "azp" not in claims:
            raise Refused("authorized party")
        if not secrets.compare_digest(str(claims.get("nonce") or "").encode(), self.nonce.encode()):
            raise Refused("nonce")
        if not isinstance(claims["sub"], str) or not 0 < len(claims["sub"]) <= 191:
            raise Refused("subject")
        return claims


def _safe(address: object) -> bool:
    parts = urlsplit(address) if isinstance(address, str) else urlsplit("")
    plain = parts.scheme == "http" and parts.hostname in _LOCAL
    return bool(parts.hostname) and (parts.scheme == "https" or plain)
