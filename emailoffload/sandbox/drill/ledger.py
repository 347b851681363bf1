"""The ledger of a drill: how often each owed mail went out, counted at the receiving ends.

Each learner is owed one mail in the whole drill, so their address says which mail it is. What was received is
asked of the sandbox SES, the SMTP server and the simulated Moodle; the product's own records say only what
waits for a person.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from django.utils.translation import gettext as _


@dataclass
class Ledger:
    """Numbers of mails. `twice` and `lost` name the rehearsals that they belong to, never a person."""

    owed: int = 0
    ses: int = 0
    unanswered: int = 0
    """Of those that SES took: it did not answer, so that the product shows them as uncertain."""
    smtp: int = 0
    moodle: int = 0
    waiting: int = 0
    """Not sent, and shown to a person."""
    twice: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)

    @property
    def fine(self) -> bool:
        """Whether each mail went out once, or waits for a person."""
        return not self.twice and not self.lost

    def as_dict(self) -> dict[str, Any]:
        """Under stable keys."""
        return {**asdict(self), "fine": self.fine}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Ledger:
        """The reverse of `as_dict`."""
        return cls(**{name: value for name, value in data.items() if name != "fine"})

    def __str__(self) -> str:
        lines = [
            (self.owed, _("mails were owed")),
            (self.ses, _("taken by Amazon SES")),
            (self.smtp, _("sent by SMTP")),
            (self.moodle, _("sent by Moodle itself")),
            (self.waiting, _("not sent, left to a person, and shown on the page Fallbacks")),
            (sum(self.twice.values()), _("sent twice")),
            (sum(self.lost.values()), _("lost")),
        ]
        text = [f"{number:>4}  {words}" for number, words in lines]
        if self.unanswered:
            text[1] += " " + _("(%(n)s of them without an answer, so shown as uncertain)") % {
                "n": self.unanswered
            }
        for counts, words in ((self.twice, _("sent twice in")), (self.lost, _("lost in"))):
            text += [f"      {words} {name}: {number}" for name, number in counts.items()]
        return "\n".join(text)


def balance(
    owed: Mapping[str, str],
    *,
    ses: Counter[str],
    smtp: Counter[str],
    moodle: Counter[str],
    held: Collection[str],
    uncertain: Collection[str] = (),
) -> Ledger:
    """Strike the balance. `owed` has the rehearsal of each address; the others are received mails by address.

    A mail that is left to a person although it was received counts as sent twice: the person would send it again.
    One without an answer is on record as uncertain, and so it is neither lost nor left to a person blindly.
    """
    ledger = Ledger(owed=len(owed))
    twice: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    for address, rehearsal in owed.items():
        received = ses[address] + smtp[address] + moodle[address]
        waits = address in held or (address in uncertain and not received)
        ledger.ses += min(1, ses[address])
        ledger.smtp += min(1, smtp[address])
        ledger.moodle += min(1, moodle[address])
        ledger.unanswered += address in uncertain and ses[address] > 0
        ledger.waiting += waits
        if received + waits > 1:
            twice[rehearsal] += 1
        elif not received and not waits:
            lost[rehearsal] += 1
    ledger.twice, ledger.lost = dict(twice), dict(lost)
    return ledger
