"""How near the account comes to what SES reviews and pauses accounts for.

SES's thresholds (AWS re:Post Knowledge Center, "Why is my Amazon SES sending account under review or paused?"; SES
developer guide, "Reputation metrics messages"): bounces, of which only permanent ones count, from 5 % under review,
from 10 % perhaps paused; complaints from 0.1 % and 0.5 %. SES takes them over no fixed time but over a
"representative volume" of mails whose size it does not tell (AWS blog, "Announcing the Reputation Dashboard").

Our windows: *volume*, the newest hours until REPUTATION_VOLUME mails or LONGEST is reached, which stands for SES's
own and can stop claims; and *day*, the last 24 hours, which only warns, because it shows a change sooner.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from django.conf import settings
from django.db.models import Sum
from django.utils import timezone

from emailoffload.feedback.models import ReputationHour
from emailoffload.feedback.reputation import COLUMNS

BOUNCES_REVIEWED, BOUNCES_PAUSED = 0.05, 0.10
COMPLAINTS_REVIEWED, COMPLAINTS_PAUSED = 0.001, 0.005
LONGEST = timedelta(days=14)
DAY = timedelta(hours=24)
FEWEST = 3
"""Fewer bounces, or complaints, than this are chance, whatever the rate."""

Scope = Literal["account", "identity", "company"]
Window = Literal["volume", "day"]
Level = Literal["few", "good", "warning", "stop"]
WORST: Final[tuple[Level, ...]] = ("stop", "warning", "good", "few")


@dataclass(frozen=True, slots=True)
class Rate:
    """What became of the mails of the account, of a sender's domain or of a company, within a window."""

    scope: Scope
    key: str
    """The domain, or the company's id; '' for the account."""
    window: Window
    since: datetime
    """The beginning of its oldest hour."""
    sends: int = 0
    deliveries: int = 0
    permanent_bounces: int = 0
    transient_bounces: int = 0
    complaints: int = 0
    rejects: int = 0

    @property
    def mails(self) -> int:
        """What the rates are taken of. Where Send events are not published, the mails that had another end."""
        return max(self.sends, self.deliveries + self.permanent_bounces)

    @property
    def bounces(self) -> float:
        """Permanent bounces per mail, 0 to 1."""
        return self.permanent_bounces / self.mails if self.mails else 0.0

    @property
    def complained(self) -> float:
        """Complaints per mail, 0 to 1."""
        return min(1.0, self.complaints / self.mails) if self.mails else 0.0

    @property
    def level(self) -> Level:
        """few: too few mails to judge; warning and stop: by the shares that the settings name."""
        if self.mails < settings.REPUTATION_MINIMUM:
            return "few"
        if self.window == "volume" and self.reaches(settings.REPUTATION_STOP_PERCENT / 100):
            return "stop"
        share = settings.REPUTATION_WARN_PERCENT / 100
        high = self._at(share * BOUNCES_REVIEWED, share * COMPLAINTS_REVIEWED)
        return "warning" if high else "good"

    def reaches(self, share: float) -> bool:
        """Whether a rate is at this share of SES's pause threshold; never where the share is 0."""
        judged = bool(share) and self.mails >= settings.REPUTATION_MINIMUM
        return judged and self._at(share * BOUNCES_PAUSED, share * COMPLAINTS_PAUSED)

    def _at(self, bounces: float, complained: float) -> bool:
        """Whether one of the two rates is so high. The small number forgives the rounding of products."""
        bounced = self.permanent_bounces >= FEWEST and self.bounces >= bounces - 1e-9
        return bounced or (self.complaints >= FEWEST and self.complained >= complained - 1e-9)


def rates(now: datetime | None = None, companies: Collection[int] | None = None) -> list[Rate]:
    """All rates of both windows: the account, each domain, each company, in this order; one query.

    With `companies` only those of these companies. What sent nothing within LONGEST is not among them, but the
    account always is.
    """
    now = now or timezone.now()
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    rows = ReputationHour.objects.filter(hour__gt=now - LONGEST).order_by("-hour")
    if companies is not None:
        rows = rows.filter(company_id__in=companies)
    piles: dict[tuple[Scope, str], list[_Hour]] = defaultdict(list)
    if companies is None:
        piles["account", ""] = []
    for hour, identity, company, *numbers in rows.values_list("hour", "identity", "company_id", *COLUMNS):
        each = _Hour(hour, tuple(numbers))
        if companies is None:
            piles["account", ""].append(each)
            if identity:
                piles["identity", identity].append(each)
        if company:
            piles["company", str(company)].append(each)
    found = []
    for (scope, key), hours in sorted(piles.items(), key=lambda pile: (_ORDER[pile[0][0]], pile[0][1])):
        found.append(_volume(scope, key, hours, this_hour))
        day = [each for each in hours if each.hour > now - DAY]
        found.append(_sum(scope, key, "day", day, this_hour - DAY + timedelta(hours=1)))
    return found


def account_rates(now: datetime | None = None) -> tuple[Rate, Rate]:
    """The account's two rates, of the volume and of the day; cheaper than `rates`: two queries by the hour.

    Where much is sent few hours make the volume; where little is, few rows make all of LONGEST.
    """
    now = now or timezone.now()
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    rows = ReputationHour.objects.filter(hour__gt=now - LONGEST).values_list("hour").order_by("-hour")
    by_hour = rows.annotate(*(Sum(name) for name in COLUMNS))

    def hours(found: Iterable[tuple[Any, ...]]) -> list[_Hour]:
        return [_Hour(hour, tuple(int(number) for number in numbers)) for hour, *numbers in found]

    newest = hours(by_hour.filter(hour__gt=now - DAY))
    volume = _volume("account", "", newest, this_hour)
    if volume.mails < settings.REPUTATION_VOLUME:
        volume = _volume("account", "", hours(by_hour), this_hour)
    return volume, _sum("account", "", "day", newest, this_hour - DAY + timedelta(hours=1))


def worst(found: Iterable[Rate]) -> Level:
    """The worst level among rates; few where there is none."""
    levels = {rate.level for rate in found}
    return next((level for level in WORST if level in levels), "few")


_ORDER: Final = {"account": 0, "identity": 1, "company": 2}


@dataclass(frozen=True, slots=True)
class _Hour:
    hour: datetime
    numbers: tuple[int, ...]


def _volume(scope: Scope, key: str, hours: Sequence[_Hour], this_hour: datetime) -> Rate:
    """The newest whole hours until there are REPUTATION_VOLUME mails; `hours` are in order, the newest first."""
    taken: list[_Hour] = []
    sends = others = 0
    for number, each in enumerate(hours):
        fresh = number == 0 or each.hour != hours[number - 1].hour
        if fresh and max(sends, others) >= settings.REPUTATION_VOLUME:
            break
        taken.append(each)
        sends += each.numbers[0]
        others += each.numbers[1] + each.numbers[2]
    since = taken[-1].hour if taken else this_hour
    return _sum(scope, key, "volume", taken, since)


def _sum(scope: Scope, key: str, window: Window, hours: Sequence[_Hour], since: datetime) -> Rate:
    totals = [sum(column) for column in zip(*(each.numbers for each in hours), strict=True)]
    return Rate(scope, key, window, since, **dict(zip(COLUMNS, totals, strict=False)))
