"""What a rehearsal writes down while it is played."""

from __future__ import annotations

import time
from collections.abc import Sequence

from django.utils.translation import gettext as _

from emailoffload.sandbox.drill.report import Check, Deed, Outcome
from emailoffload.sandbox.drill.site import Owed
from emailoffload.sandbox.drill.stage import Stage


class Abandoned(Exception):
    """The rehearsal cannot go on; what was written down says why."""


class Notes:
    """The notes of one rehearsal."""

    def __init__(self, name: str, outcome: Outcome) -> None:
        self.name = name
        self.outcome = outcome

    def did(self, text: str) -> None:
        """Something was done, or happened."""
        self.outcome.steps.append(Deed(text))

    def check(self, what: str, expected: str, seen: str, ok: bool) -> None:
        """Something was looked at."""
        self.outcome.steps.append(Check(what, expected, seen, ok))

    def number(self, what: str, expected: int, seen: int) -> None:
        """Mails were counted."""
        self.check(what, _mails(expected), _mails(seen), expected == seen)

    def owe_claimed(
        self, stage: Stage, reminders: int, queued: int = 0, *, ahead: float | None = None
    ) -> list[Owed]:
        """Have mails owed, under each policy, that the product claims before they are due.

        On a slow machine some may fall due first; those are Moodle's, as they should be, and it is tried once more
        with new ones and more time. Raises Abandoned where the product does not claim them then either.
        """
        first = ahead or stage.pace.ahead
        for seconds, last in ((first, False), (3 * first, True)):
            mails = stage.owe(self.name, reminders, queued, ahead=seconds)
            self._until_claimed(stage, mails)
            claimed = stage.claims(mails).count()
            if claimed == len(mails) or last:
                break
            self.did(
                _("%(claimed)s of %(n)s mails were claimed in time; the others were left to Moodle. Tried again, with "
                  "more time.") % {"claimed": claimed, "n": len(mails)}
            )  # fmt: skip
            self._let_go(stage, mails)
        self.number(_("The product claims them before they are due"), len(mails), claimed)
        if claimed < len(mails):
            self._let_go(stage, mails)
            raise Abandoned
        return mails

    def _until_claimed(self, stage: Stage, mails: Sequence[Owed]) -> None:
        stage.wait(lambda: stage.claims(mails).count() >= len(mails), mails[0].due - time.time())

    def _let_go(self, stage: Stage, mails: Sequence[Owed]) -> None:
        """What was claimed leaves, Moodle sends the rest."""
        claimed = stage.claims(mails).count()
        stage.wait_until(mails[0].due + 1)
        stage.site.run_cron()
        stage.wait(lambda: stage.by_ses(mails) >= claimed, stage.pace.patience)


def _mails(number: int) -> str:
    return _("none") if number == 0 else str(number)
