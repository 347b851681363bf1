"""Several programs in one terminal: started together, their output marked with names, ended together."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, TextIO

LAST_LINES = 20
_COLOURS = ("36", "35", "33", "32", "34")


@dataclass(eq=False)
class Child:
    """One program, which must go on until all are stopped."""

    name: str
    command: Sequence[str]
    grace: float = 20.0
    """Seconds that it may take to end after SIGTERM."""
    process: subprocess.Popen[str] | None = None
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    reader: threading.Thread | None = None

    @property
    def ended(self) -> int | None:
        """The exit status, or None while it runs or was never started."""
        return self.process.poll() if self.process is not None else None


class Supervisor:
    """Starts children, prints their lines to `out`, notices when one dies, stops them in reverse order."""

    def __init__(self, environment: Mapping[str, str], out: TextIO) -> None:
        self.environment = dict(environment)
        self.out = out
        self.children: list[Child] = []
        self.stopping = threading.Event()
        self._print = threading.Lock()

    def start(self, child: Child) -> Child:
        """Start a program in a session of its own, so that Ctrl-C reaches only us and we end it in order."""
        child.process = subprocess.Popen(
            list(child.command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        assert child.process.stdout is not None
        child.reader = threading.Thread(target=self._read, args=(child, child.process.stdout), daemon=True)
        child.reader.start()
        self.children.append(child)
        return child

    def say(self, text: str) -> None:
        """Print lines of our own."""
        with self._print:
            self.out.write(text + "\n")
            self.out.flush()

    def dead(self) -> Child | None:
        """A program that ended although it should not have."""
        return next((child for child in self.children if child.ended is not None), None)

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> bool:
        """Wait for something; False after `seconds`, when a program died, or when all are to stop."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self.dead() or time.monotonic() > deadline or self.stopping.wait(0.1):
                return False
        return True

    def stop(self) -> None:
        """End every program: ask the last started first, give each its time, then force it."""
        for child in reversed(self.children):
            if child.ended is None:
                _signal(child, signal.SIGTERM)
        for child in reversed(self.children):
            assert child.process is not None
            try:
                child.process.wait(child.grace)
            except subprocess.TimeoutExpired:
                self.say(f"{child.name} did not end within {child.grace:.0f} s; it is killed now.")
            _signal_group(child, signal.SIGKILL)
            child.process.wait()
            if child.reader is not None:
                child.reader.join(2)

    def _read(self, child: Child, stream: IO[str]) -> None:
        number = len(self.children)
        prefix = f"{child.name:<8}| "
        if self.out.isatty() and "NO_COLOR" not in os.environ:
            prefix = f"\x1b[{_COLOURS[number % len(_COLOURS)]}m{prefix}\x1b[0m"
        for line in stream:
            child.last_lines.append(line.rstrip())
            self.say(prefix + line.rstrip())


def _signal(child: Child, number: signal.Signals) -> None:
    assert child.process is not None
    with contextlib.suppress(ProcessLookupError):
        child.process.send_signal(number)


def _signal_group(child: Child, number: signal.Signals) -> None:
    """Reach what the program itself started and left behind; its group is its own process id."""
    assert child.process is not None
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.process.pid, number)


def port_is_free(port: int) -> bool:
    """Whether 127.0.0.1:port can be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def manage(*arguments: str) -> list[str]:
    """The command line of one of our management commands, whatever the current folder."""
    from offloadsite import cli

    return cli.command(*arguments)
