"""Workers that break their promises, to show that the ledger of a soak would notice."""

from __future__ import annotations

import itertools
from typing import Any

from emailoffload.delivery import ses
from emailoffload.delivery.errors import Outcome
from emailoffload.outbox.transitions import Ended
from emailoffload.worker import outcomes
from emailoffload.worker.senders import Result


def liar() -> None:
    """Of every five mails one is not sent and called sent; of another the answer is lost, and it is sent again."""
    whole, count = ses.send, itertools.count()
    follow = outcomes.follow

    def send(*args: Any, **kwargs: Any) -> Outcome:
        place = next(count) % 5
        if place == 0:
            return Outcome("accepted", http_status=200, message_id="made-up")
        outcome = whole(*args, **kwargs)
        return Outcome("unknown", "ReadTimeoutError") if place == 1 else outcome

    def again(result: Any, now: Any) -> Ended:
        if result.outcome is not None and result.outcome.kind == "unknown":
            result = Result(result.job, None, now)  # as if nothing had been transmitted
        return follow(result, now)

    ses.send = send
    outcomes.follow = again
