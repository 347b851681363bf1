"""What a race comes to: who mailed which row."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass


@dataclass
class Ledger:
    """Who mailed which row, after a race."""

    owed: set[int]
    moodle: Counter[int]
    ours: Counter[int]

    @property
    def total(self) -> Counter[int]:
        return self.moodle + self.ours

    @property
    def doubles(self) -> list[int]:
        return [row for row, count in self.total.items() if count > 1]

    @property
    def never(self) -> set[int]:
        return self.owed - self.total.keys()
