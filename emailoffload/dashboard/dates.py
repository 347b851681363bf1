"""How days and moments are written: short, with the month's name, in the order of the viewer's language.

The formats are texts of the catalogue, in the letters of Django's `date` filter. The caller has brought a moment into
the zone that it means. `static/offload/app.js` writes moments in the same way, in the viewer's own zone.
"""

from __future__ import annotations

from datetime import date, datetime

from django.utils.formats import date_format
from django.utils.translation import pgettext


def day(value: date) -> str:
    """A day: 22 Nov 2026."""
    return date_format(value, pgettext("format of a date", "j M Y"))


def short_day(value: date) -> str:
    """A day whose year is known: 22 Nov."""
    return date_format(value, pgettext("format of a date", "j M"))


def weekday(value: date) -> str:
    """A day with that of its week: Sun 22 Nov 2026."""
    return date_format(value, pgettext("format of a date", "D j M Y"))


def minute(value: datetime) -> str:
    """A moment to the minute: 22 Nov 2026, 17:05."""
    return date_format(value, pgettext("format of a date", "j M Y, H:i"))
