"""What a seeded database holds: how many of what, drawn how; and the small pieces of SQL that draw.

A site of the size that the dashboard must bear: thirteen months of mails that grow in number, most of them on
working mornings, for companies of very unequal size; nearly all were delivered, and of every other state there are
some. The same plan makes the same rows.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Final

DAYS: Final = 396
"""Thirteen months."""
COMPANIES: Final = 40
BUSY_USER: Final = 15093
"""A user with very many mails, who is asked for."""
GROWTH: Final = 0.77
"""The time of a mail is this power of its place among all: the site sends twice as much as a year ago."""
WORKDAY, WEEKEND = 0.18, 0.05
"""Shares of a week's mails on each of its days."""
HOURS: Final[tuple[tuple[float, float], ...]] = ((0.05, 6.0), (0.40, 9.0), (0.85, 18.0), (1.0, 24.0))
"""Shares of a day's mails, up to the hour."""


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


STATES: Final[Mapping[str, float]] = {
    "delivered": 0.900, "opened": 0.050, "clicked": 0.020, "bounced": 0.0100, "suppressed": 0.0070,
    "accepted": 0.0040, "sent_smtp": 0.0030, "delayed": 0.0010, "cancelled": 0.0015, "complained": 0.0010,
    "failed": 0.0010, "rejected": 0.0003, "uncertain": 0.0002, "queued": 0.0001,
}  # fmt: skip
"""States of mails that are over, by their shares; `queued` here are mails that wait since long. Mails of claims that
were handed back are `released`, the newest ones are `queued`, `sending` and `prepared`."""
TEMPLATES: Final[Mapping[str, float]] = {
    "user_create": 0.25, "user_added_to_course": 0.2, "license_allocated": 0.2, "completion_course_user": 0.12,
    "completion_warn_user": 0.1, "user_reset": 0.05, "password_update": 0.03, "expiry_warn_user": 0.05,
}  # fmt: skip
SECRET: Final = ("user_create", "user_reset", "password_update")
LEFT: Final[Mapping[str, float]] = {
    "not_enrolled": 0.3, "target_complete": 0.25, "routing_off": 0.2, "too_late": 0.08, "rollout": 0.07,
    "cron_running": 0.04, "email_stopped": 0.03, "lock_unavailable": 0.01, "broken_row": 0.01, "reputation": 0.01,
}  # fmt: skip
FIRST_NAMES: Final = _names(
    "Ada Alan Amir Anna Asta Ben Bo Carla Chen Clara Dana David Edda Emil Erik Eva Fatma Finn Gita Grace Hana Hugo"
    " Ida Igor Ines Ivan Jana Jonas Jun Karl Kim Lara Leo Lina Luis Maja Marie Mats Mia Nele Nils Nora Olga Omar"
    " Paul Pia Rana Rosa Sami Sara Sven Tariq Tess Tom Uma Vera Viktor Wanda Yara Zoe"
)
LAST_NAMES: Final = _names(
    "Abel Acar Adams Bach Bauer Becker Berg Blum Brandt Busch Conti Cruz Dahl Diaz Eder Ernst Falk Fischer Frank"
    " Garcia Graf Haas Hahn Hansen Hopper Huber Ito Jansen Jung Kaya Keller Khan Klein Koch Kraus Kurz Lang Larsen"
    " Lehmann Lin Lopez Lovelace Maier Marx Meyer Moreno Neumann Novak Olsen Ortiz Otto Park Peters Pohl Popov Reed"
    " Richter Rossi Roth Sato Schmidt Schulz Silva Simon Sommer Stark Suzuki Tanaka Turing Vogel Voss Wagner Weber"
    " Wei Wolf Yilmaz Young Zeller Ziegler Zimmer"
)
SUBJECTS: Final = (
    "Fire safety", "Data protection", "First aid", "Ladders and steps", "Anti-bribery", "Food hygiene",
    "Manual handling", "Information security", "Working at height", "Code of conduct", "Chemical safety",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """How many emails, drawn from which seed, up to which moment (aware, UTC)."""

    emails: int
    seed: int
    until: datetime

    @property
    def claims(self) -> int:
        """Claims: eleven for twelve emails, and one more in a hundred that was lost to Moodle."""
        ours = self.emails - self.emails // 12
        return ours + (ours - 1) // 100

    @property
    def people(self) -> int:
        """Users."""
        return min(500_000, max(60, self.emails))

    @property
    def activities(self) -> int:
        """Activities of reengagement."""
        return min(3000, max(12, self.emails // 40))

    @property
    def courses(self) -> int:
        """Courses; most have more than one activity."""
        return max(5, self.activities * 2 // 5)

    @property
    def runs(self) -> int:
        """Passes that claimed something: they stay for as long as their claims."""
        return max(20, self.emails // 20)

    @property
    def waiting(self) -> int:
        """The newest emails, which have not left yet."""
        return min(3000, max(20, self.emails // 2000))

    @property
    def left(self) -> int:
        """Rows that stayed with Moodle."""
        return max(40, self.emails // 10)

    @property
    def busy_user(self) -> int:
        """The user with the most mails."""
        return min(BUSY_USER, self.people)

    @property
    def first_day(self) -> datetime:
        """The Monday, 00:00, on which the first mails were rendered."""
        start = self.until - timedelta(days=DAYS)
        return (start - timedelta(days=start.weekday())).replace(hour=0, minute=0, second=0, microsecond=0)

    def draw(self, name: str) -> str:
        """An SQL number from 0 to 1, another in each row; the same rows get the same numbers."""
        return f"RAND({zlib.crc32(f'{self.seed}:{name}'.encode())})"

    @property
    def end(self) -> float:
        """`until` on the scale on which mails come evenly, in weeks since `first_day`."""
        gone = self.until - self.first_day
        weeks, rest = divmod(gone.total_seconds() / 86400, 7)
        day, hour = int(rest), (rest % 1) * 24
        low_share, low_hour = 0.0, 0.0
        share = 1.0
        for high_share, high_hour in HOURS:
            if hour <= high_hour:
                within = (hour - low_hour) / (high_hour - low_hour)
                share = low_share + (high_share - low_share) * within
                break
            low_share, low_hour = high_share, high_hour
        before = min(day, 5) * WORKDAY + max(0, day - 5) * WEEKEND
        return weeks + before + share * (WORKDAY if day < 5 else WEEKEND)

    def week(self, place: str) -> str:
        """SQL for the weeks since `first_day` of a mail whose `place` among all is from 0 to 1, as if mails"
        " came evenly."""
        return f"POW({place}, {GROWTH}) * {self.end!r}"

    def moment(self, week: str) -> str:
        """An SQL time for such a number, a column's name: how busy days and hours are is put in here.

        Later mails are never earlier.
        """
        rest = f"({week} - FLOOR({week}))"
        busy = 5 * WORKDAY
        working = f"{rest} < {busy}"
        days = f"IF({working}, FLOOR({rest} / {WORKDAY}), 5 + FLOOR(({rest} - {busy}) / {WEEKEND}))"
        share = f"IF({working}, ({rest} MOD {WORKDAY}) / {WORKDAY}, (({rest} - {busy}) MOD {WEEKEND}) / {WEEKEND})"
        cases, low_share, low_hour = "", 0.0, 0.0
        for high_share, high_hour in HOURS:
            slope = (high_hour - low_hour) / (high_share - low_share)
            cases += f" WHEN {share} < {high_share} THEN {low_hour} + ({share} - {low_share}) * {slope!r}"
            low_share, low_hour = high_share, high_hour
        hours = f"(CASE{cases} ELSE 23.99 END)"
        seconds = f"(FLOOR({week}) * 604800 + LEAST({days}, 6) * 86400 + {hours} * 3600)"
        return f"LEAST({self.quoted(self.first_day)} + INTERVAL {seconds} SECOND, {self.now})"

    @property
    def now(self) -> str:
        """`until` as SQL."""
        return self.quoted(self.until)

    @staticmethod
    def quoted(at: datetime) -> str:
        """A time as SQL."""
        return f"TIMESTAMP'{at:%Y-%m-%d %H:%M:%S}'"


def pick(draw: str, shares: Mapping[str, float] | Sequence[str]) -> str:
    """SQL that picks one of the texts; a sequence's are equally likely."""
    if isinstance(shares, Mapping):
        names, weights = list(shares), list(shares.values())
        total = sum(weights)
        bounds = [bound / total for bound in accumulate(weights)][:-1]
        place = f"1 + INTERVAL({draw}, {', '.join(f'{bound:.9f}' for bound in bounds)})"
    else:
        names = list(shares)
        place = f"1 + FLOOR({draw} * {len(names)})"
    return f"ELT({place}, {', '.join(map(repr, names))})"


def company(draw: str) -> str:
    """SQL that picks a company's number: the first has a quarter of all people, the last half a percent."""
    weights = [1 / number for number in range(1, COMPANIES + 1)]
    bounds = [bound / sum(weights) for bound in accumulate(weights)][:-1]
    return f"(1 + INTERVAL({draw}, {', '.join(f'{bound:.9f}' for bound in bounds)}))"
