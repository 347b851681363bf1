"""The processes of a soak: started, killed, frozen, started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from django.conf import settings


@dataclass
class Member:
    """One process with its children, in a session of its own."""

    name: str
    command: list[str]
    env: Mapping[str, str]
    log: Path
    deaths: int = 0
    """How often it ended although nobody killed it."""
    frozen: bool = False
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start it."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.command], cwd=settings.BASE_DIR, env=dict(self.env),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def signal(self, number: signal.Signals) -> None:
        """Signal it with all its children."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """SIGKILL, and nothing of it is left."""
        assert self.process is not None
        self.signal(signal.SIGKILL)
        self.process.wait()
        self.frozen = False

    def freeze(self) -> None:
        """Stop it in its tracks."""
        self.frozen = True
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on as if nothing had been."""
        if self.frozen:
            self.frozen = False
            self.signal(signal.SIGCONT)

    def processes(self) -> list[int]:
        """The ids of its processes, oldest first."""
        assert self.process is not None
        found = []
        for entry in os.listdir("/proc"):
            with suppress(OSError):
                if entry.isdecimal() and os.getpgid(int(entry)) == self.process.pid:
                    found.append(int(entry))
        return sorted(found)

    def revive(self) -> None:
        """Start it again if it has ended by itself, as a service manager would."""
        if self.process is not None and self.process.poll() is not None:
            self.signal(signal.SIGKILL)  # children that it left behind
            self.deaths += 1
            self.start()

    def ask_to_end(self) -> None:
        """SIGTERM to its first process."""
        assert self.process is not None
        self.thaw()
        with suppress(ProcessLookupError):
            self.process.terminate()

    def end(self, seconds: float) -> None:
        """Wait for it to end, then leave nothing of it."""
        assert self.process is not None
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        self.kill()
