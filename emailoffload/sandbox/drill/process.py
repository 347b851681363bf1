"""What a process of a rehearsal runs: the product's commands with shortened pauses, or the conductor.

`python -m emailoffload.sandbox.drill.process conduct NAME…`, or any command of `manage.py`.
"""

from __future__ import annotations

import os
import sys

import django

from emailoffload.sandbox.drill.pace import ENVIRONMENT, Pace


def main() -> None:
    """Set Django up and do what the arguments say."""
    django.setup()
    _shorten()
    if sys.argv[1] == "conduct":
        from emailoffload.sandbox.drill.conductor import main as conduct

        conduct(sys.argv[2:])
    else:
        from django.core.management import execute_from_command_line

        execute_from_command_line(["manage.py", *sys.argv[1:]])


def _shorten() -> None:
    """Pauses that are no settings."""
    from emailoffload.delivery import health, rate

    pace = Pace.from_json(os.environ[ENVIRONMENT])
    health.SHORTEST = health.LONGEST = pace.breaker
    rate.FAILURE_SECONDS = pace.passes


if __name__ == "__main__":
    main()
