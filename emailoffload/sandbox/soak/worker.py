"""A worker of the soak: `python -m emailoffload.sandbox.soak.worker loop|cluster SEED [SABOTAGE]`.

`cluster` is the product's own `qcluster`. `loop` runs the tasks that a cluster runs, one after the other in an
order of chance and without pause, beside the watch over IOMAD's queue; now and then a pass in a lane of its own,
so that two of a kind meet. Errors end a pass, never the worker, as in a cluster.
"""

from __future__ import annotations

import importlib
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import django

WEIGHTS = {"intercept": 5, "dispatch": 6, "recover": 4, "fallback": 2, "intercept in a lane": 2,
           "fallback in a lane": 1}  # fmt: skip


def quicken() -> None:
    """What the product waits for by constants, not by settings, made as short as the soak's other times."""
    from django.conf import settings
    from django.utils import timezone

    from emailoffload.delivery import health
    from emailoffload.worker import dispatch, outcomes, smtp_route
    from emailoffload.worker import eligibility as eligible

    health.SHORTEST, health.LONGEST = 1.5, 6.0
    outcomes.FIRST_DELAY = {kind: seconds / 4 for kind, seconds in outcomes.FIRST_DELAY.items()}
    outcomes.LONGEST_DELAY, outcomes.ACCOUNT_DELAY = 4.0, 2.0
    smtp_route.AGAIN = timedelta(seconds=2)
    dispatch.SOON = timedelta(seconds=4)
    eligible.SOURCE_SECONDS = 4.0
    # Else what a killed dispatcher left would be taken over only after the longest send and ten seconds.
    lease = timedelta(seconds=settings.LEASE_SECONDS)
    setattr(dispatch._Pass, "_until", lambda self: timezone.now() + lease)  # noqa: B010


def passes(number: str) -> dict[str, Callable[[], object]]:
    """What a worker does, by name."""
    from emailoffload.worker import fallback, intercept, tasks

    def in_a_lane() -> None:
        for source in intercept.sources_here():
            intercept.run(source=source, lane=f"-{number}")

    return {
        "intercept": tasks.intercept,
        "dispatch": tasks.dispatch,
        "recover": tasks.recover,
        "fallback": tasks.fallback,
        "intercept in a lane": in_a_lane,
        "fallback in a lane": lambda: fallback.run(lane=f"-{number}"),
    }


def loop(seed: str) -> None:
    """Work until SIGTERM."""
    from django.db import close_old_connections, connections

    from emailoffload.worker import cronguard

    chance = random.Random(seed)  # noqa: S311 - repeatable, no secret
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    watch = cronguard.start(over.is_set)
    known = passes(seed.rpartition(".")[2])
    while not over.is_set():
        name = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        close_old_connections()
        try:
            known[name]()
        except Exception as error:
            # As a cluster does: noted, and the next task comes.
            sys.stderr.write(f"{time.time():.1f} {name}: {type(error).__name__}: {error}\n")
            for connection in connections.all(initialized_only=True):
                connection.close_if_unusable_or_obsolete()
        over.wait(chance.uniform(0.0, 0.3))
    watch.join(10)


def main() -> None:
    """Be the worker that the arguments name."""
    django.setup()
    kind, seed, *sabotage = sys.argv[1:]
    quicken()
    for name in filter(None, sabotage):
        module, _, function = name.rpartition(".")
        getattr(importlib.import_module(module), function)()
    if kind == "cluster":
        from django.core.management import call_command

        call_command("qcluster")
    else:
        loop(seed)


if __name__ == "__main__":
    main()
