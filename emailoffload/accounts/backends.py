"""Who has a password: Django's own check, for a name that is typed as its account is called."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.base_user import AbstractBaseUser
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
    ) -> AbstractBaseUser | None:
        """The account with this name and password, None where there is none. The time taken tells nothing."""
        user = super().authenticate(request, username, password, **kwargs)
        if user is None or username is None:
            return user
        same = throttle.fingerprint(user.get_username()) == throttle.fingerprint(username)
        return user if same else None
