"""What the parts of the dialogue share: the answers so far, what was there before, how other commands are run."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emailoffload.actions.setup.configphp import Config
from emailoffload.management.asking import Asker
from emailoffload.sandbox.supervisor import manage
from offloadsite import blank, env


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    status: int
    out: str = field(repr=False)
    err: str = field(repr=False)

    def result(self) -> dict[str, Any]:
        """Its last line as JSON; nothing where it printed none."""
        lines = self.out.strip().splitlines()
        try:
            found = json.loads(lines[-1]) if lines else {}
        except json.JSONDecodeError:
            return {}
        return found if isinstance(found, dict) else {}


Runner = Callable[[tuple[str, ...], Mapping[str, str]], Ended]
"""Runs one of our commands with an environment of its own."""


def in_a_process(arguments: tuple[str, ...], environment: Mapping[str, str]) -> Ended:
    """Run one of our commands as it will be run later: a new process that reads the settings by itself."""
    done = subprocess.run(  # noqa: S603 - our own program
        manage(*arguments), env=dict(environment), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        encoding="utf-8", errors="replace", check=False,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


@dataclass
class Talk:
    """One run of the dialogue."""

    asker: Asker
    options: Mapping[str, Any]
    file: Path
    """The environment file."""
    before: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What the file and this process's environment say."""
    config: Config = field(default_factory=Config)
    run: Runner = in_a_process
    answers: dict[str, str] = field(default_factory=dict, repr=False)
    """What the file is to say, by name of the variable."""
    iomad: bool = False
    sender: str = ""
    """The address that Moodle's mails come from, as far as it is known."""
    doubts: list[str] = field(default_factory=list)
    """What could not be checked or is not well, for the end."""
    stuck: bool = False
    """Something without which nothing works could not be used."""

    def say(self, text: str) -> None:
        """Print a line."""
        self.asker.say(text)

    def head(self, text: str) -> None:
        """Begin a group of questions."""
        self.asker.say(f"\n=== {text} ===")

    def wrong(self, text: str, cure: str) -> None:
        """Say what is not well, and what cures it."""
        self.asker.say(f"  {text}\n  Cure: {cure}" if cure else f"  {text}")

    def unusable(self, text: str) -> None:
        """Remember, for the end, what has to be cured before anything works."""
        self.doubts.append(text)
        self.stuck = True

    def default(self, name: str, *others: str | None) -> str:
        """What a variable says now, else the first of the others that says something, else the product's default."""
        spec = env.BY_NAME.get(name)
        for value in (self.before.get(name), *others):
            if value:
                return value
        return (spec.default or "") if spec else ""

    def command(self, *arguments: str, **settings: str) -> Ended:
        """Run one of our commands with the settings of the file, and these instead of the file's."""
        return self.run(arguments, {**blank.environment(self.file), **settings})
