"""What the audit log keeps of logins: accounts by their id, never what somebody typed."""

from __future__ import annotations

from typing import Any, Final

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

from emailoffload.outbox.models import AuditEntry

NOBODY: Final = "(login page)"
"""The actor of what happens before somebody is known."""


def record(
    action: str, account: AbstractBaseUser | AnonymousUser | int | None, *, known: bool, **details: Any
) -> None:
    """One entry about an account: `known` says whether it is also who acted.

    Actions: `login`, `logout`, `login_failed`, `login_lock`, `login_refused`, `password_change`, `account_create`,
    `groups_by_sso`. `account` may be an id; None: no account has that name.
    """
    name = "" if account is None or isinstance(account, int) else account.get_username()
    key = account if account is None or isinstance(account, int) else account.pk
    AuditEntry.objects.create(
        actor=name if known and name else NOBODY,
        action=action,
        object_type="user",
        object_id="" if key is None else str(key),
        details=details,
    )
