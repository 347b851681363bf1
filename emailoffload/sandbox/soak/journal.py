"""What Moodle's crons wrote down as they mailed, and what their deaths left half done.

A line is written before the cron takes a row on, for each mail, and when it is done with the row. A cron that dies
in between does what Moodle's own does then: a reminder that was counted and not mailed is never mailed, a queued
mail that was mailed and not marked is mailed again. That is Moodle's doing, with or without us, so those rows are
known by name here, and only those.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Mail = tuple[str, int, int, str]
"""A mail owed: source, row, reminder number, address in lower case."""
Reminder = tuple[str, int, int]
"""The same without its recipient."""


class Journal:
    """Appends events to a file; what was written is there whatever happens to the process afterwards."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, event: str, **what: Any) -> None:
        """Note an event: "start" (of a process or after an error), "run", "end", "takes", "mails", "done"."""
        os.write(self._file, json.dumps({"event": event, **what}).encode() + b"\n")


@dataclass
class Told:
    """What the journals tell."""

    mailed: Counter[Mail] = field(default_factory=Counter)
    broken: Counter[Reminder] = field(default_factory=Counter)
    """How often a cron died between taking a row on and being done with it."""
    of_row: dict[tuple[str, int], list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    """Events of each row, in the order of each journal."""


def read(paths: Iterable[Path]) -> Told:
    """Read journals, one for each kind of cron; a last line that was not finished is passed over."""
    told = Told()
    for path in paths:
        taken: Reminder | None = None
        for line in path.read_text().splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            row = (event.get("source", ""), event.get("row", 0))
            if event["event"] == "start":
                if taken:
                    told.broken[taken] += 1
                taken = None
                continue
            if event["event"] == "mails":
                told.mailed[*row, event["ordinal"], event["address"].lower()] += 1
            elif event["event"] == "takes":
                taken = (*row, event["ordinal"])
            elif event["event"] == "done":
                taken = None
            told.of_row[row].append(event)
        if taken:
            told.broken[taken] += 1
    return told
