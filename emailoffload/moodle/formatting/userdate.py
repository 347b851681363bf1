"""Dates as Moodle's userdate() writes them during cron, in English (facts §4.9)."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from emailoffload.moodle.formatting.errors import Unrenderable
from emailoffload.moodle.types import SiteConfig

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_SERVER = ("", "99")


def format_date(timestamp: str, site: SiteConfig, *, with_time: bool) -> str:
    """A stored UNIX time as `1 July 2024`, or `Monday, 1 July 2024, 2:00 PM` with `with_time`.

    Raises Unrenderable where the site's language or calendar is not English and Gregorian, where its time
    zone is unknown here, and where the value is no whole number of seconds.
    """
    if site.lang not in ("en", "en_us") or site.get("calendartype", "gregorian") != "gregorian":
        raise Unrenderable("language_pack_unknown", site.lang)
    try:
        moment = (_EPOCH + timedelta(seconds=int(timestamp))).astimezone(_zone(zone_name(site)))
    except (ValueError, OverflowError) as error:
        raise Unrenderable("date_unknown") from error
    day = f"{moment.day:02d}" if site.flag("nofixday") else str(moment.day)
    date = f"{day} {_MONTHS[moment.month - 1]} {moment.year}"
    if not with_time:
        return date
    hour = moment.hour % 12 or 12
    clock = f"{hour:02d}" if site.flag("nofixhour") else str(hour)
    half = "AM" if moment.hour < 12 else "PM"
    return f"{_DAYS[moment.weekday()]}, {date}, {clock}:{moment.minute:02d} {half}"


def zone_name(site: SiteConfig) -> str:
    """The time zone of cron: forced for all, else the site's, else PHP's own."""
    for name in ("forcetimezone", "timezone"):
        if site.get(name) not in _SERVER:
            return site.get(name)
    return site.php_timezone


@lru_cache(maxsize=16)
def _zone(name: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Unrenderable("timezone_unknown", name) from error
