"""Alarms on record: raised once at a time for each thing that they are about, and ended once.

`active_key` is unique while an alarm lasts, so that of several who raise or end the same one at the same moment
exactly one does. When they are raised and ended, and who is told, is the matter of `worker.alarms`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from django.db import IntegrityError, transaction
from django.utils import timezone

from emailoffload.feedback.models import Alarm

log = logging.getLogger(__name__)
LEVELS: Final[Mapping[str, int]] = {"warning": logging.WARNING, "critical": logging.CRITICAL}
LEASE = "alarms"
"""The lease of the pass over alarms. Its holder may be a timer's command: it says nothing about the worker."""


def key_of(code: str, subject: str = "") -> str:
    """What is unique while an alarm lasts."""
    return f"{code}:{subject}"[:255]


def raise_alarm(
    code: str,
    subject: str,
    level: str,
    text: str,
    cure: str,
    details: Mapping[str, Any] | None = None,
    *,
    now: datetime | None = None,
) -> tuple[Alarm, bool]:
    """Raise an alarm, or, while it lasts, put on record that it was seen and with which figures.

    Returns it and whether it is new. Raises database errors.
    """
    now = now or timezone.now()
    key = key_of(code, subject)
    present = {"level": level, "text": text, "cure": cure, "details": dict(details or {}), "seen_at": now}
    while True:
        if Alarm.objects.filter(active_key=key).update(**present):
            alarm = Alarm.objects.filter(active_key=key).first()
            if alarm:
                return alarm, False
        try:
            with transaction.atomic():
                new = Alarm(code=code, subject=subject[:255], active_key=key, raised_at=now, **present)
                new.save()
        except IntegrityError:
            # Somebody raised it at this moment: theirs is the one.
            continue
        log.log(LEVELS[level], "Alarm %s: %s %s", code, text, cure)
        return new, True


def end_alarm(code: str, subject: str = "", *, now: datetime | None = None) -> bool:
    """End an alarm; returns whether it was this call that did. Raises database errors."""
    ended = Alarm.objects.filter(active_key=key_of(code, subject))
    if not ended.update(active_key=None, ended_at=now or timezone.now()):
        return False
    log.warning("The alarm %s is over%s.", code, f" ({subject})" if subject else "")
    return True
