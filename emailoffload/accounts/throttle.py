# mypy: allow-subclassing-any, allow-untyped-calls
"""How often a password may be guessed: by account and address, and by address.

django-axes stands before Django's own check of passwords and refuses; what is counted is decided here. It differs from
its own database handler in what matters most:

* A guess is counted *before* the password is looked at, by one UPDATE with the limit in its condition: its row count
  says whether there was one left. However many processes guess at once, no more than the limit are ever looked at.
* Refused guesses are not counted, so the moment that the page names stays true.
* Rows hold a keyed fingerprint of the name, an address, a number and a time. People type passwords into the wrong
  field: no name, form, page or browser is kept. `forget_old` erases the rows after 30 days.
* Who gets in takes back what was counted for them, also from their address: an office full of people who mistype is
  not locked out by its honest mistakes, and whoever has an account cannot clear what others' names were guessed with.
"""

from __future__ import annotations

import logging
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from axes.handlers.database import AxesDatabaseHandler
from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db.models import Case, F, Q, Value, When
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.utils.crypto import salted_hmac

from emailoffload.accounts import audit
from emailoffload.accounts.address import client_address

KEPT: Final = timedelta(days=30)
TIMES_FOR_AN_ADDRESS: Final = 10
"""So many times LOGIN_ATTEMPTS are allowed from one address for all names together."""
ALL_NAMES: Final = ""
"""The name under which an address is counted as a whole."""
_GUESS: Final = "_offload_guess"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Guess:
    """What was counted for one guess: of the account at that address, and of the address."""

    name: str
    address: str
    count: int
    """Guesses for this name from this address, this one among them; 0: refused, none was left."""
    of_address: int

    @property
    def refused(self) -> bool:
        """Whether the password was not even looked at."""
        return not self.count

    @property
    def last(self) -> bool:
        """Whether no further guess is left after this one."""
        return self.count >= settings.LOGIN_ATTEMPTS or self.of_address >= address_limit()


def address_limit() -> int:
    """Guesses for all names together from one address."""
    limit: int = settings.LOGIN_ATTEMPTS * TIMES_FOR_AN_ADDRESS
    return limit


def fingerprint(name: str) -> str:
    """A name as it is counted: one value for all spellings that the database takes for the same account."""
    plain = unicodedata.normalize("NFKD", name.strip()).casefold()
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return salted_hmac("emailoffload.login", plain, algorithm="sha256").hexdigest()


def guess(name: str, address: str) -> Guess:
    """Count one guess for a typed name from an address, unless none is left."""
    key, now = fingerprint(name), timezone.now()
    of_address = _count(ALL_NAMES, address, address_limit(), now)
    if not of_address:
        return Guess(key, address, 0, 0)
    count = _count(key, address, settings.LOGIN_ATTEMPTS, now)
    if not count:
        _take_back(address, 1)
        return Guess(key, address, 0, 0)
    return Guess(key, address, count, of_address)


def _count(name: str, address: str, limit: int, now: datetime) -> int:
    """One more for a row, in one statement; the number that it then has, or 0 where the limit was reached."""
    rows = AccessAttempt.objects.filter(username=name, ip_address=address, user_agent="")
    over = Q(attempt_time__lt=now - settings.LOGIN_LOCK)
    for _ in range(2):
        # MariaDB sets the columns in this order: the number is still decided by the old time.
        counted = rows.filter(over | Q(failures_since_start__lt=limit)).update(
            failures_since_start=Case(When(over, then=Value(1)), default=F("failures_since_start") + 1),
            attempt_time=now,
        )
        if counted:
            # Read back a moment later: where others guess at the same time, it may be more than this one made it.
            return min(rows.values_list("failures_since_start", flat=True).first() or 1, limit)
        if rows.exists():
            return 0
        AccessAttempt.objects.bulk_create(
            [AccessAttempt(username=name, ip_address=address, user_agent="", failures_since_start=0)],
            ignore_conflicts=True,
        )
    return 0


def _take_back(address: str, number: int) -> None:
    AccessAttempt.objects.filter(username=ALL_NAMES, ip_address=address).update(
        failures_since_start=Case(
            When(failures_since_start__gt=number, then=F("failures_since_start") - number), default=Value(0)
        )
    )


def right(found: Guess) -> None:
    """The password was right: forget what was counted for this name at this address."""
    rows = AccessAttempt.objects.filter(username=found.name, ip_address=found.address)
    counted = rows.values_list("failures_since_start", flat=True).first() or found.count
    rows.delete()
    _take_back(found.address, counted)


def until(name: str, address: str) -> datetime:
    """When a guess for this name from this address is taken again."""
    limits = ((ALL_NAMES, address_limit()), (fingerprint(name), settings.LOGIN_ATTEMPTS))
    full = Q()
    for key, limit in limits:
        full |= Q(username=key, failures_since_start__gte=limit)
    newest = AccessAttempt.objects.filter(full, ip_address=address).order_by("-attempt_time")
    since = newest.values_list("attempt_time", flat=True).first() or timezone.now()
    end: datetime = since + settings.LOGIN_LOCK
    return end


def forget_old() -> int:
    """Erase what was counted more than `KEPT` ago; how many rows."""
    count: int = AccessAttempt.objects.filter(attempt_time__lt=timezone.now() - KEPT).delete()[0]
    return count


def of(request: HttpRequest) -> Guess | None:
    """What was counted for the password in this request; None where none was looked at."""
    found: Guess | None = getattr(request, _GUESS, None)
    return found


class CountsBeforeChecking(AxesDatabaseHandler):
    """What django-axes asks: may this guess be looked at, it was wrong, it was right, forget."""

    def is_allowed(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> bool:
        """Count the guess; whether its password may be looked at."""
        found = guess(str((credentials or {}).get("username") or ""), client_address(request))
        setattr(request, _GUESS, found)
        return not found.refused

    def user_login_failed(
        self, sender: object, credentials: dict[str, Any], request: HttpRequest | None = None, **kwargs: Any
    ) -> None:
        """Record a wrong password; show the page of the lock where no further guess is left."""
        found = of(request) if request is not None else None
        if request is None or found is None:
            return
        request.axes_credentials = credentials  # type: ignore[attr-defined]
        if found.refused:
            request.axes_locked_out = True  # type: ignore[attr-defined]
            return
        # The same is done for names that nobody has, so that time tells nothing either.
        account = get_user_model().objects.filter(username=str(credentials.get("username") or "")[:150])
        key = account.values_list("pk", flat=True).first()
        audit.record("login_failed", key, known=False, failures=found.count)
        if found.last:
            request.axes_locked_out = True  # type: ignore[attr-defined]
            by = "account" if found.count >= settings.LOGIN_ATTEMPTS else "address"
            failures = found.count if by == "account" else found.of_address
            audit.record("login_lock", key, known=False, failures=failures, by=by)
            logger.warning(
                "Logins are refused for a while after %s wrong passwords (by %s). The audit log has whose they were.",
                failures,
                by,
            )

    def user_logged_in(self, sender: object, request: HttpRequest, user: Any, **kwargs: Any) -> None:
        """Forget what was counted, where the login was by password."""
        found = of(request)
        if found is not None:
            right(found)

    def user_logged_out(self, sender: object, request: HttpRequest, user: Any, **kwargs: Any) -> None:
        """Nothing: the audit log has it."""

    def reset_attempts(
        self, *, ip_address: str | None = None, username: str | None = None, ip_or_username: bool = False
    ) -> int:
        """What `axes_reset`, `axes_reset_ip` and `axes_reset_username` do; how many rows are gone."""
        rows = AccessAttempt.objects.all()
        name = fingerprint(username) if username else None
        if ip_or_username:
            rows = rows.filter(Q(ip_address=ip_address) | Q(username=name))
        else:
            rows = rows.filter(ip_address=ip_address) if ip_address else rows
            rows = rows.filter(username=name) if name else rows
        count: int = rows.delete()[0]
        return count


def locked_page(
    request: HttpRequest, original: HttpResponse | None = None, credentials: dict[str, Any] | None = None
) -> HttpResponse:
    """429: when to try again. The same for accounts that exist and for names that nobody has."""
    end = until(str((credentials or {}).get("username") or ""), client_address(request))
    response = render(request, "registration/locked.html", {"until": end}, status=429)
    response["Retry-After"] = str(max(1, int((end - timezone.now()).total_seconds()) + 1))
    add_never_cache_headers(response)
    return response
