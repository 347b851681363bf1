"""Do the two databases answer? Asked with little patience: whoever asks has a few seconds himself."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import Error as DatabaseFailure

OURS, MOODLE = DEFAULT_DB_ALIAS, "moodle"
PATIENCE_SECONDS: Final = 2
"""How long Moodle's server may take to answer."""
BELIEVED_SECONDS: Final = 10.0
"""How long its answer counts: a server that does not answer costs its patience only once in so many seconds."""
_lock = threading.Lock()
_last: tuple[float, bool] | None = None


def ours() -> bool:
    """Whether our own database answers, on this thread's connection."""
    try:
        _ask(connections[OURS])
    except DatabaseFailure:
        return False
    return True


def moodle() -> bool:
    """Whether Moodle's database answers, on a connection of its own that is closed again.

    The thread's connection waits longer, and may be at work.
    """
    global _last
    with _lock:
        if _last is not None and time.monotonic() - _last[0] < BELIEVED_SECONDS:
            return _last[1]
        answer = _moodle_answers()
        _last = (time.monotonic(), answer)
        return answer


def forget() -> None:
    """Ask Moodle's database anew next time."""
    global _last
    _last = None


def _moodle_answers() -> bool:
    config = connections[MOODLE].settings_dict
    if connections[MOODLE].vendor == "sqlite" and not Path(config["NAME"]).exists():
        # Connecting would make an empty file.
        return False
    connection = connections[MOODLE].copy()
    if connection.vendor == "mysql":
        connection.settings_dict["OPTIONS"] |= {
            "connect_timeout": PATIENCE_SECONDS,
            "read_timeout": PATIENCE_SECONDS,
            "write_timeout": PATIENCE_SECONDS,
        }
    try:
        _ask(connection)
    except (DatabaseFailure, OSError):
        return False
    finally:
        with suppress(DatabaseFailure):
            connection.close()
    return True


def _ask(connection: BaseDatabaseWrapper) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()
