"""Whether an address gets no more mail: from all that SES reported about it, in any order, to one answer.

Nothing here touches a database. The answer depends on the set of facts alone, never on the order in which they came:

* What happened before somebody let the address get mail again is over, whenever we are told of it.
* A permanent bounce or a complaint suppresses it for good. Of several, a complaint is the reason; the earliest
  one is the evidence.
* Transient bounces count by a ladder (setting TRANSIENT_BOUNCES): so many within a time suppress for a while from
  the last of them on; the step that lasts longest decides. A mail that arrived begins the count anew, and an
  autoresponder's "bounce" of a mail that arrived (`fold`: noted) never counts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from emailoffload.feedback.fold import ON_SES_LIST, PERMANENT
from emailoffload.feedback.models import EventType, Suppression

ON_ACCOUNT_LIST = "OnAccountSuppressionList"
"""The sub-type by which SES says that the list of this account has the address; `Suppressed` is SES's global one."""
NOT_SPAM = "not-spam"
Step = tuple[int, timedelta, timedelta]
"""So many bounces, within this time, suppress for that long."""


@dataclass(frozen=True, slots=True)
class Fact:
    """What one event says about an address; `key` tells events of the same time apart, whatever their order."""

    key: str
    at: datetime
    type: str
    kind: str = ""
    subkind: str = ""

    @property
    def order(self) -> tuple[datetime, str]:
        """Earliest first."""
        return self.at, self.key


@dataclass(frozen=True, slots=True)
class Judgement:
    """Why the address gets no mail, on the evidence of which event, since when and until when (None: no end)."""

    reason: str
    evidence: str
    """The event's key."""
    since: datetime
    until: datetime | None = None
    on_account_list: bool = False
    """SES said that the account's list has the address."""


def permanent(fact: Fact) -> bool:
    """Whether it alone suppresses its address."""
    if fact.type == EventType.BOUNCE:
        return fact.kind == PERMANENT or fact.subkind in ON_SES_LIST
    return fact.type == EventType.COMPLAINT and fact.kind != NOT_SPAM


def judge(
    facts: Collection[Fact],
    ladder: Sequence[Step] = (),
    *,
    arrived: datetime | None = None,
    lifted: datetime | None = None,
    listed_after: datetime | None = None,
) -> Judgement | None:
    """The answer; None: it gets mail.

    `facts` are believed events (none that `fold` noted); `arrived` is when a mail to the address last arrived,
    `lifted` when somebody last let it get mail again, and `listed_after` when it was last taken off SES's list:
    that the list had it before says nothing.
    """
    new = [fact for fact in facts if lifted is None or fact.at > lifted]
    for_good = [
        fact
        for fact in new
        if permanent(fact)
        and not (fact.subkind == ON_ACCOUNT_LIST and listed_after is not None and fact.at <= listed_after)
    ]
    if for_good:
        complaints = [fact for fact in for_good if fact.type == EventType.COMPLAINT]
        evidence = min(complaints or for_good, key=lambda fact: fact.order)
        reason = Suppression.Reason.COMPLAINT if complaints else Suppression.Reason.BOUNCE
        return Judgement(
            reason.value,
            evidence.key,
            min(fact.at for fact in for_good),
            None,
            any(fact.subkind == ON_ACCOUNT_LIST for fact in for_good),
        )
    counted = [
        fact
        for fact in new
        if fact.type == EventType.BOUNCE and not permanent(fact) and (arrived is None or fact.at > arrived)
    ]
    return _climb(sorted(counted, key=lambda fact: fact.order), ladder)


def _climb(bounces: Sequence[Fact], ladder: Sequence[Step]) -> Judgement | None:
    found: Judgement | None = None
    for last, fact in enumerate(bounces):
        for count, window, duration in ladder:
            if last + 1 < count or bounces[last + 1 - count].at <= fact.at - window:
                continue
            until = fact.at + duration
            if found is None or found.until is None or until >= found.until:
                found = Judgement(Suppression.Reason.TRANSIENT.value, fact.key, fact.at, until)
    return found
