# mypy: allow-untyped-calls
"""Who is let in after the provider has said who it is, and as what.

A person is known by the provider's `sub` and by nothing else: no name and no address leads to an account that is there
already. The provider's groups decide at each login: those of OIDC_GROUP_MAP are set, others that an administrator gave
by hand stay (among them those that bind to companies, which take rights away). Whoever has no mapped group is refused
and loses the mapped groups that they had. Nobody becomes a superuser by the provider.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.models import Group, User
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render, resolve_url
from django.utils.cache import add_never_cache_headers
from django.utils.http import url_has_allowed_host_and_scheme

from emailoffload.accounts import audit
from emailoffload.accounts.oidc.names import free_name
from emailoffload.accounts.oidc.protocol import link_of, provider_id

ADMINISTRATORS: Final = "Offload administrators"
"""Members of this group of ours may enter Django's admin, where rules are made."""
BACKEND: Final = "emailoffload.accounts.backends.ByOwnName"
STATUS: Final = {
    "no_group": 403,
    "disabled": 403,
    "state": 400,
    "provider": 403,
    "answer": 502,
    "unreachable": 502,
}
"""Why a login by the provider was refused, and the status of the page that says so."""
logger = logging.getLogger(__name__)


def admit(
    request: HttpRequest, account: SocialAccount | None, claims: dict[str, Any], back: str
) -> HttpResponse:
    """Log a person in and lead to `back`, or say why not.

    `account` links a person at the provider to an account of ours; None: they were never here.
    """
    groups = mapped(claims.get(settings.OIDC_GROUPS_CLAIM))
    user: User | None = account.user if account else None
    if user is not None and not user.is_active:
        audit.record("login_refused", user, known=False, why="disabled")
        return refused(request, "disabled", claims)
    if not groups:
        if user is not None:
            _set_groups(user, [])
        audit.record("login_refused", user, known=False, why="no_group")
        return refused(request, "no_group", claims)
    try:
        with transaction.atomic():
            user = user or _make(claims)
            _set_groups(user, groups)
    except IntegrityError:
        # Somebody's first login, twice at the same moment, or a name that was just taken: the second try finds it.
        return refused(request, "state", claims)
    login(request, user, backend=BACKEND)
    audit.record("login", user, known=True, by="sso")
    safe = url_has_allowed_host_and_scheme(back, {request.get_host()}, require_https=request.is_secure())
    return HttpResponseRedirect(back if back and safe else resolve_url(settings.LOGIN_REDIRECT_URL))


def mapped(theirs: object) -> list[Group]:
    """Our groups for what the provider lists: a list of names, or one name."""
    names = [theirs] if isinstance(theirs, str) else theirs if isinstance(theirs, list) else []
    wanted = {
        ours for name in names if isinstance(name, str) for ours in settings.OIDC_GROUP_MAP.get(name, [])
    }
    found = list(Group.objects.filter(name__in=wanted).order_by("name"))
    for missing in sorted(wanted - {group.name for group in found}):
        logger.error(
            "OIDC_GROUP_MAP names the group “%s”, which does not exist: make it, or correct the name.",
            missing,
        )
    return found


def _make(claims: dict[str, Any]) -> User:
    """A new account without a password, linked to the person."""
    user = User(username=free_name(claims.get("preferred_username")))
    user.set_unusable_password()
    user.save()
    SocialAccount._default_manager.create(user=user, provider=provider_id(), uid=link_of(claims["sub"]))
    audit.record("account_create", user, known=False, by="sso")
    return user


def _set_groups(user: User, groups: list[Group]) -> None:
    """Of the groups that the map can give, exactly these; staff status with the administrators' group."""
    before = set(user.groups.filter(name__in=_mappable()).values_list("name", flat=True))
    after = {group.name for group in groups}
    user.groups.remove(*user.groups.filter(name__in=before - after))
    user.groups.add(*groups)
    staff = ADMINISTRATORS in after or user.is_superuser
    if user.is_staff != staff:
        user.is_staff = staff
        user.save(update_fields=["is_staff"])
    if before != after:
        audit.record("groups_by_sso", user, known=False, before=sorted(before), after=sorted(after))


def _mappable() -> set[str]:
    return {ours for names in settings.OIDC_GROUP_MAP.values() for ours in names}


def refused(request: HttpRequest, why: str, claims: dict[str, Any] | None = None) -> HttpResponse:
    """The page that says why somebody is not let in, and what to do."""
    name = (claims or {}).get("preferred_username")
    context = {
        "why": why,
        "provider": settings.OIDC_NAME,
        "name": name if isinstance(name, str) else (claims or {}).get("sub", ""),
    }
    response = render(request, "registration/sso_refused.html", context, status=STATUS[why])
    add_never_cache_headers(response)
    return response
