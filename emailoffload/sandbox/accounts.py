"""Demo accounts of the sample site: one per role, with passwords made once and kept in the data folder."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from django.contrib.auth.models import Group, User

ACCOUNTS: Mapping[str, str] = {"admin": "", "support": "Support staff", "auditor": "Auditors"}
"""User name → the group it belongs to; '' is a superuser. The groups are made by the migration 0002_roles."""


def ensure(path: Path) -> dict[str, str]:
    """Make the accounts that are missing and return user name → password.

    `path` (mode 0600) keeps the passwords. An account whose password was changed by hand keeps its own; one
    whose password is not in the file gets a new one.
    """
    known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    passwords = {name: known.get(name) or secrets.token_urlsafe(9) for name in ACCOUNTS}
    for name, group in ACCOUNTS.items():
        user, created = User.objects.get_or_create(username=name)
        if created or name not in known:
            user.set_password(passwords[name])
            user.is_superuser = not group
            user.is_staff = True  # the Django admin shows each role what its permissions allow
            user.save()
        if group:
            user.groups.add(Group.objects.get_or_create(name=group)[0])
    if passwords != known:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(passwords, file)
    return passwords
