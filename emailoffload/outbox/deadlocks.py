"""Transactions of ours that a server may choose as a deadlock's victim, run again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import OperationalError, connection

Answer = TypeVar("Answer")
DEADLOCK = 1213
"""MariaDB's and MySQL's error number; the transaction is rolled back, and may be repeated."""
TRIES = 8


def survive(transaction: Callable[[], Answer]) -> Answer:
    """Run a whole transaction, again if it was a deadlock's victim; returns what it returns.

    Raises whatever else it raises, and the deadlock itself after TRIES of them or inside of a larger transaction,
    which is rolled back as a whole.
    """
    for number in range(TRIES):
        try:
            return transaction()
        except OperationalError as error:
            last = number == TRIES - 1
            if last or connection.in_atomic_block or not error.args or error.args[0] != DEADLOCK:
                raise
            time.sleep(random.uniform(0, 0.01) * 2**number)  # noqa: S311
    raise AssertionError("unreachable")
