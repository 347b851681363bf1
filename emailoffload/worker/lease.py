"""Who does a kind of pass now: one holder at a time, across processes and hosts.

A lease is a row of the table Lease. It is taken by one guarded UPDATE (free or expired), kept by heartbeats
and given back at the end; a holder that falls silent for LEASE_SECONDS is taken over. All times are those of
the database's clock, so that the clocks of the hosts need not agree. Passes stay correct without a lease,
because every row they move is moved by its own guarded UPDATE; the lease keeps them from doing work twice.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from django.conf import settings
from django.db import Error, models
from django.db.models import Q
from django.db.models.functions import Now

from emailoffload import logs
from emailoffload.outbox.models import Lease

logger = logging.getLogger(__name__)


def holder_name() -> str:
    """A name for this pass: host, process and a random part; no two passes ever share one."""
    return f"{socket.gethostname()[:80]}:{os.getpid()}:{secrets.token_hex(4)}"


def _expiry() -> models.Expression:
    return models.ExpressionWrapper(
        Now() + timedelta(seconds=settings.LEASE_SECONDS), output_field=models.DateTimeField()
    )


@dataclass
class Held:
    """A lease that is ours."""

    name: str
    holder: str
    token: str
    _beaten: float = field(default_factory=time.monotonic)
    _lost: bool = False

    def beat(self) -> bool:
        """Say that we are alive; call it in every loop.

        Writes at most four times per LEASE_SECONDS. Returns False when somebody took the lease over, which
        means that we were silent for too long: the pass must stop.
        """
        if self._lost or time.monotonic() - self._beaten < settings.LEASE_SECONDS / 4:
            return not self._lost
        changed = Lease.objects.filter(name=self.name, token=self.token).update(
            expires_at=_expiry(), beat_at=Now()
        )
        self._beaten = time.monotonic()
        self._lost = changed != 1
        return not self._lost

    def release(self) -> None:
        """Give the lease back at once. A database that is gone leaves it to expire."""
        try:
            Lease.objects.filter(name=self.name, token=self.token).update(expires_at=None, token="")
        except Error as error:
            logger.warning(
                "The lease %s could not be given back to our database (%s). It expires after LEASE_SECONDS; until then "
                "no other such pass begins.",
                self.name,
                logs.named(error),
            )


def take(name: str) -> Held | None:
    """Take the lease `name`, or return None because somebody else holds it."""
    held = Held(name, holder_name(), uuid.uuid4().hex)
    for first in (True, False):
        free = Q(expires_at__isnull=True) | Q(expires_at__lte=Now())
        if Lease.objects.filter(free, name=name).update(
            holder=held.holder, token=held.token, expires_at=_expiry(), beat_at=Now()
        ):
            return held
        if first:
            # Nobody may have held it before: the row is made free, then taken like any other.
            Lease.objects.bulk_create([Lease(name=name)], ignore_conflicts=True)
    return None


@contextmanager
def hold(name: str) -> Iterator[Held | None]:
    """Hold the lease `name` for a block; the block gets None when somebody else has it."""
    held = take(name)
    try:
        yield held
    finally:
        if held:
            held.release()


def slot_names(name: str, slots: int) -> list[str]:
    """The leases of a kind of pass that may run several times at once."""
    return [f"{name}-{number}" for number in range(1, slots + 1)]


@contextmanager
def hold_any(name: str, slots: int) -> Iterator[Held | None]:
    """Hold the first free of the leases name-1 … name-`slots`; the block gets None when all are held."""
    held = None
    for slot in slot_names(name, slots):
        held = take(slot)
        if held:
            break
    try:
        yield held
    finally:
        if held:
            held.release()


def running(names: list[str]) -> set[str]:
    """Which of these leases are held now."""
    return set(Lease.objects.filter(name__in=names, expires_at__gt=Now()).values_list("name", flat=True))
