"""Named moments at which the suite kills a process, to prove what recovery does after a crash there.

Nothing happens unless the environment variable OFFLOAD_KILL_AT names the moment: `after_claim`, or
`after_send:3` for the third time. It is read once, when the process starts.
"""

from __future__ import annotations

import os
import signal
import threading

NAMES = (
    "after_intent",
    "after_claim",
    "after_marking",
    "before_send",
    "after_send",
    "before_record",
    "release_reserved",
    "release_written",
    "fallback_reserved",
    "smtp_before_send",
    "smtp_after_send",
    "smtp_before_record",
    "feedback_stored",
    "mails_emptied",
)
_wanted, _, _count = os.environ.get("OFFLOAD_KILL_AT", "").partition(":")
_left = int(_count or 1)
_lock = threading.Lock()


def reached(name: str) -> None:
    """Say that the moment `name` is reached; the process ends here if it was told to."""
    global _left
    if name != _wanted:
        return
    with _lock:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
