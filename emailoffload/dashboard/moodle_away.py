"""A page asked Moodle's database, and it did not answer: the page says so, and so does the log."""

from __future__ import annotations

import logging

from django.db import connections

from emailoffload import logs

log = logging.getLogger(__name__)


def note(failure: Exception) -> None:
    """Log what happened, and drop the connection, so that the next page tries a new one."""
    log.warning(
        "Moodle's database did not answer a page of the dashboard (%s). The page shows what our own records have, and "
        "says so. If it goes on, `manage.py doctor` names the cause.",
        logs.named(failure),
    )
    connections["moodle"].close()
