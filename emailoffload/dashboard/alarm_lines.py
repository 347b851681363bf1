"""Alarms as pages show them: on the overview, on the page Alarms."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from emailoffload.feedback.models import Alarm
from emailoffload.worker import alarm_conditions

ON_OVERVIEW = 10


@dataclass(frozen=True, slots=True)
class Line:
    """An alarm as pages show it."""

    alarm: Alarm
    title: str
    page: str
    told: str
    """Who knows, in words."""
    error: str
    """Why somebody does not, '' where all is well."""

    @property
    def tone(self) -> str:
        """Its colour."""
        if self.alarm.ended_at:
            return "quiet"
        return "bad" if self.alarm.level == Alarm.Level.CRITICAL else "warn"


def line(alarm: Alarm) -> Line:
    """An alarm with the words for it; no query."""
    told = [entry for entry in alarm.told.values() if "raised" in entry or "ended" in entry]
    errors = [entry["error"] for entry in alarm.told.values() if entry.get("error")]
    mails = sum(
        name.startswith("email:")
        for name, entry in alarm.told.items()
        if "raised" in entry or "ended" in entry
    )
    words = []
    if mails:
        words.append(ngettext("%(n)d address", "%(n)d addresses", mails) % {"n": mails})
    if len(told) > mails:
        words.append(_("webhook"))
    return Line(
        alarm,
        alarm_conditions.title(alarm.code),
        alarm_conditions.page(alarm.code),
        ", ".join(words),
        errors[0] if errors else "",
    )


def open_alarms() -> list[Line]:
    """Open alarms, the worst and newest first, for the overview; one query."""
    rows = Alarm.objects.filter(ended_at=None).order_by("level", "-id")[:ON_OVERVIEW]
    return [line(alarm) for alarm in rows]
