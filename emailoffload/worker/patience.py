"""Waiting for our own database: what has happened must be put on record, whenever it answers again.

A mail that SES has taken and that is not recorded becomes *uncertain* although its fate is known. A restart of the
database takes seconds, a failover a minute; so long a dispatcher holds on to what it knows. Nothing is sent meanwhile.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress

from django.conf import settings
from django.db import Error, InterfaceError, InternalError, OperationalError, connection

from emailoffload import logs
from emailoffload.worker import stopping

log = logging.getLogger(__name__)
TOTAL_SECONDS = 120.0
"""How long one pass waits for its database, all in all."""
STOPPING_SECONDS = 3.0
"""The same once the worker is asked to stop."""
LONGEST_PAUSE = 5.0
STALLED_SECONDS = 60
"""How long the worker and the pages wait for an answer of a server that has the question."""


class Patience:
    """The patience of one pass: it is used up once, not for each statement anew."""

    def __init__(self, seconds: float = TOTAL_SECONDS) -> None:
        self.left = seconds

    def again(self, work: Callable[[], object]) -> None:
        """Do a piece of recording that may be repeated, again after a deadlock, a lost connection or a full disk.

        Raises the last error when the patience is used up, and at once inside of a larger transaction.
        """
        pause = 0.1
        while True:
            try:
                work()
                return
            except (OperationalError, InterfaceError, InternalError) as error:
                if stopping.requested():
                    self.left = min(self.left, STOPPING_SECONDS)
                if connection.in_atomic_block or self.left <= 0:
                    raise
                log.warning(
                    "Our database did not take a record (%s). It is tried again for %.0f s; nothing is sent meanwhile. "
                    "Look whether its server runs, is locked or has a full disk.",
                    logs.named(error),
                    max(0.0, self.left),
                )
            begun = time.monotonic()
            with suppress(Error):
                connection.close_if_unusable_or_obsolete()
            time.sleep(min(pause, max(0.05, self.left)))
            self.left -= max(pause, time.monotonic() - begun)
            pause = min(LONGEST_PAUSE, pause * 2)


def give_up_on_a_stalled_server() -> None:
    """Let no process of this kind wait for ever for an answer of our own database server.

    For long-lived processes, before they connect. Commands such as `migrate`, whose statements may take hours, wait.
    What DATABASE_URL says itself counts more.
    """
    config = settings.DATABASES["default"]
    if str(config["ENGINE"]).endswith("mysql"):
        options = connection.settings_dict["OPTIONS"]
        for name in ("read_timeout", "write_timeout"):
            options.setdefault(name, STALLED_SECONDS)
