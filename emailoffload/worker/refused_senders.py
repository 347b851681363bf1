"""Senders whose identity SES has not verified, as one pass of the dispatcher learns of them.

A company's template may have a sender of its own whose domain nobody verified: that concerns its mails alone.
Once SES has refused such a sender, its other mails wait without being transmitted, so that a thousand of them do
not take the sending rate from everybody else. Only where no mail gets through at all is it the site's trouble.
"""

from __future__ import annotations

from dataclasses import replace

from emailoffload.delivery.errors import Outcome

MANY = 10
"""So many refusals in a row, and no mail that SES takes, stop the pass and open the breaker."""


class RefusedSenders:
    """What is known of them. `answer` and `note` may be called by many threads at once."""

    def __init__(self) -> None:
        self._refusals: dict[str, Outcome] = {}
        self._last: Outcome | None = None
        self._in_a_row = 0
        self._taken = False

    def answer(self, sender: str) -> Outcome | None:
        """What SES would say to a mail of this address, if it has refused it already: nothing was transmitted."""
        return self._refusals.get(sender.casefold())

    def note(self, sender: str, outcome: Outcome) -> None:
        """Remember what SES said to a mail of this address."""
        if outcome.kind == "identity":
            self._refusals[sender.casefold()] = replace(outcome, request_id="", http_status=None)

    def count(self, outcome: Outcome) -> None:
        """Count a result of this pass."""
        self._taken = self._taken or outcome.kind == "accepted"
        if outcome.kind == "identity":
            self._in_a_row += 1
            self._last = outcome
        else:
            self._in_a_row = 0

    def all_refused(self) -> Outcome | None:
        """The last refusal, where by all that this pass has seen no mail would be taken from any sender."""
        return self._last if self._in_a_row >= MANY and not self._taken else None
