"""How a pass learns that it must end: by a signal to its own process, or because the whole worker stops.

django-q's cluster waits for its workers when it is told to stop, but does not tell them; a dispatcher that
stays on for its budget would hold it up. So `manage.py qcluster` sets one byte of memory that every process
of the cluster shares, because all are forked from the process that imported this module.
"""

from __future__ import annotations

import mmap
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_cluster = mmap.mmap(-1, 1)
_here = threading.Event()


def requested() -> bool:
    """Whether the pass must end soon: take no new work, finish what is in flight, give back the rest."""
    return _here.is_set() or _cluster[0] == 1


def announce() -> None:
    """Tell every process of this cluster to end its pass."""
    _cluster[0] = 1


def wait(seconds: float) -> None:
    """Sleep, but not through a signal to this process; the cluster's stop is seen by the next `requested`."""
    _here.wait(seconds)


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _here.is_set():
        # Asked twice: end at once. What was in flight is then settled by recovery.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    _here.set()


@contextmanager
def on_signals() -> Iterator[None]:
    """For commands: SIGTERM and SIGINT ask the pass to end; a second one ends the process."""
    _here.clear()
    before = {number: signal.signal(number, _on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _here.clear()


@contextmanager
def in_worker() -> Iterator[None]:
    """For tasks: a SIGTERM to this one process of the cluster ends it, but only after its pass ended cleanly.

    Some supervisors signal every process of a service at once, not only the first.
    """
    before = signal.signal(signal.SIGTERM, _on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if _here.is_set():
            os.kill(os.getpid(), signal.SIGTERM)
