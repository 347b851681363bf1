"""Whose password is taken: Django's own check, for a name that is typed as its account is called.

Whom it refuses is told no more than that the password is wrong, and the guess is counted and recorded as one.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.http import HttpRequest

from emailoffload.accounts import throttle


class ByOwnName(ModelBackend):
    """Django's check of passwords, for the spellings that `throttle` counts as one name.

    A database's collation may take many more for the same account: MariaDB's passes over control characters wherever
    they stand. Each of those would be counted by itself, and have guesses of its own.
    """

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: Any,
    ) -> User | None:
        """The account with this name and password, None where there is none; with OIDC_ONLY, of superusers only."""
        user: User | None = super().authenticate(request, username, password, **kwargs)
        if user is None or username is None:
            return user
        if settings.OIDC_ONLY and not user.is_superuser:
            return None
        same = throttle.fingerprint(user.get_username()) == throttle.fingerprint(username)
        return user if same else None
