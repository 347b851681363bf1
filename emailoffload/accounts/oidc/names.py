"""What a new account is called."""

from __future__ import annotations

import re
from itertools import count

from django.contrib.auth.models import User
from django.db.models import Q


def free_name(asked: object) -> str:
    """What a new account is called: as the provider calls the person, with a number where that name is taken.

    The name only names: which account is meant is decided by the link. What is taken is asked of the database, whose
    collation may take `müller` for `muller`; names that differ in their case only are one for people, too.
    """
    name = re.sub(r"[^\w.@+-]+", "-", User.normalize_username(asked if isinstance(asked, str) else ""))[:140]
    name = name.strip("-") or "sso"
    tries = (name if number == 1 else f"{name}-{number}" for number in count(1))
    return next(
        each
        for each in tries
        if not User.objects.filter(Q(username=each) | Q(username__iexact=each)).exists()
    )
