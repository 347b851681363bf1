"""From what SES reported about one email to its state: any order, any repetition, the same result.

Nothing here touches a database. The state is that of the highest rank among *all* events of the email, never a
step from the state before, so it does not matter which event came first.

| Rank | Evidence | State |
|---|---|---|
| highest | a complaint | `complained` |
| | a click | `clicked` |
| | an open | `opened` |
| | a permanent bounce; or SES's own suppression list kept the mail from leaving | `bounced` |
| | a delivery | `delivered` |
| | a transient or undetermined bounce | `bounced` |
| | a reject, a rendering failure | `rejected` |
| | a delivery delay | `delayed` |
| lowest | a send | `accepted` |

A permanent bounce after a delivery is real: the next server took the mail and sent it back. A transient one is an
autoresponder's ("on holiday"), or a mailbox that was full for a copy: the mail arrived, so it is noted, not believed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from emailoffload.feedback.models import EventType
from emailoffload.outbox.states import EmailState

S = EmailState
PERMANENT = "permanent"
ON_SES_LIST = frozenset({"Suppressed", "OnAccountSuppressionList"})
"""Sub-types by which SES says that its own list, not a mail server, refused the address."""
BOUNCED_PERMANENT = "bounced_permanent"
BOUNCED_TRANSIENT = "bounced_transient"
SES_LIST = "ses_suppression_list"
REJECTED = "ses_rejected"
RENDERING = "rendering_failed"
DELAYED = "delivery_delayed"
ALSO_BY_SES = "also_by_ses"
"""Reason of a mail that went another way, or was stopped, although SES had taken it: it may be there twice."""
SENT_TWICE = "sent_twice"
"""Reason of a mail that SES took more than once: an unanswered send had left after all."""
SETTLED_ELSEWHERE = frozenset({S.PREPARED, S.SENT_SMTP, S.RELEASED, S.CANCELLED, S.SUPPRESSED})
"""States that say what we, or a person, did. An event adds what SES did, and does not undo that."""


class Rank(IntEnum):
    """How much an event decides; NOTED decides nothing."""

    NOTED = 0
    ACCEPTED = 1
    DELAYED = 2
    REJECTED = 3
    TRANSIENT = 4
    DELIVERED = 5
    PERMANENT = 6
    OPENED = 7
    CLICKED = 8
    COMPLAINED = 9


STATES: dict[Rank, EmailState] = {
    Rank.ACCEPTED: S.ACCEPTED,
    Rank.DELAYED: S.DELAYED,
    Rank.REJECTED: S.REJECTED,
    Rank.TRANSIENT: S.BOUNCED,
    Rank.DELIVERED: S.DELIVERED,
    Rank.PERMANENT: S.BOUNCED,
    Rank.OPENED: S.OPENED,
    Rank.CLICKED: S.CLICKED,
    Rank.COMPLAINED: S.COMPLAINED,
}
_RANKS: dict[str, Rank] = {
    EventType.SEND: Rank.ACCEPTED,
    EventType.DELIVERY_DELAY: Rank.DELAYED,
    EventType.REJECT: Rank.REJECTED,
    EventType.RENDERING_FAILURE: Rank.REJECTED,
    EventType.DELIVERY: Rank.DELIVERED,
    EventType.OPEN: Rank.OPENED,
    EventType.CLICK: Rank.CLICKED,
    EventType.SUBSCRIPTION: Rank.NOTED,
}
ARRIVED = frozenset({Rank.DELIVERED, Rank.OPENED, Rank.CLICKED, Rank.COMPLAINED})
_MAY_BE_THERE = ARRIVED | {Rank.ACCEPTED, Rank.DELAYED}


@dataclass(frozen=True, slots=True)
class Fact:
    """What one event says, as far as the state depends on it. `id` tells facts of the same kind apart."""

    id: int
    type: str
    at: datetime
    message_id: str = ""
    kind: str = ""
    subkind: str = ""
    diagnostic: str = ""


@dataclass(frozen=True, slots=True)
class Sent:
    """What our own side knows. `message_id`: SES's answer to us, '' where none is recorded."""

    state: EmailState
    state_at: datetime
    reason: str = ""
    detail: str = ""
    message_id: str = ""
    accepted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Folded:
    """What the email's row says from now on, and which events have no bearing on it."""

    state: EmailState
    state_at: datetime
    reason: str
    detail: str
    message_id: str
    accepted_at: datetime | None
    delivered_at: datetime | None
    opened_at: datetime | None
    clicked_at: datetime | None
    bounced_at: datetime | None
    complained_at: datetime | None
    noted: frozenset[int]
    """Ids of events that were seen and kept, without a bearing."""
    double: bool
    """The recipient may have the mail twice."""


def rank(fact: Fact) -> Rank:
    """How much one event decides, taken alone."""
    if fact.type == EventType.BOUNCE:
        permanent = fact.kind == PERMANENT or fact.subkind in ON_SES_LIST
        return Rank.PERMANENT if permanent else Rank.TRANSIENT
    if fact.type == EventType.COMPLAINT:
        if fact.subkind in ON_SES_LIST:
            return Rank.PERMANENT  # nobody complained of this mail: it never left
        # "not-spam": somebody took it out of the spam folder.
        return Rank.NOTED if fact.kind == "not-spam" else Rank.COMPLAINED
    return _RANKS[fact.type]


def fold(sent: Sent, facts: Collection[Fact]) -> Folded:
    """The email after all its events.

    Folding the result again with more events comes to the same as folding all of them at once, as long as each
    time all events so far are given.
    """
    ranked = sorted(((rank(fact), fact) for fact in facts), key=lambda each: (-each[0], *_order(each[1])))
    arrived = any(level in ARRIVED for level, _ in ranked)
    noted = {
        fact.id for level, fact in ranked if level is Rank.NOTED or (level is Rank.TRANSIENT and arrived)
    }
    believed = [(level, fact) for level, fact in ranked if fact.id not in noted]

    def first(*levels: Rank) -> datetime | None:
        return min((fact.at for level, fact in believed if level in levels), default=None)

    taken = [fact for level, fact in believed if level in _MAY_BE_THERE]
    twice = len({fact.message_id for fact in taken if fact.message_id} | ({sent.message_id} - {""})) > 1
    state, state_at, reason, detail = _state(sent, believed, bool(taken), twice)
    # Not only what is believed: an autoresponder's bounce, too, is one of a mail that SES took.
    times = [fact.at for level, fact in ranked if level is not Rank.NOTED]
    if sent.accepted_at:
        times.append(sent.accepted_at)
    ids = sorted((_order(fact), fact.message_id) for fact in facts if fact.message_id)
    return Folded(
        state=state,
        state_at=state_at,
        reason=reason,
        detail=detail,
        message_id=sent.message_id or (ids[0][1] if ids else ""),
        accepted_at=min(times, default=None),
        delivered_at=first(Rank.DELIVERED),
        opened_at=first(Rank.OPENED),
        clicked_at=first(Rank.CLICKED),
        bounced_at=first(Rank.PERMANENT, Rank.TRANSIENT),
        complained_at=first(Rank.COMPLAINED),
        noted=frozenset(noted),
        double=reason in (ALSO_BY_SES, SENT_TWICE),
    )


def _order(fact: Fact) -> tuple[datetime, str, str, str, str, str]:
    """Earliest first; what is equal in all of it is interchangeable."""
    return (fact.at, fact.message_id, fact.type, fact.kind, fact.subkind, fact.diagnostic)


def _state(
    sent: Sent, believed: list[tuple[Rank, Fact]], taken: bool, twice: bool
) -> tuple[EmailState, datetime, str, str]:
    if not believed:
        return sent.state, sent.state_at, sent.reason, sent.detail
    if sent.state in SETTLED_ELSEWHERE:
        if not taken or sent.reason == ALSO_BY_SES:
            return sent.state, sent.state_at, sent.reason, sent.detail
        before = (
            f"{sent.reason}: {sent.detail}" if sent.reason and sent.detail else sent.reason or sent.detail
        )
        return sent.state, sent.state_at, ALSO_BY_SES, before[:500]
    level, fact = believed[0]
    reason, detail = _why(level, fact)
    if twice and not reason:
        reason = SENT_TWICE
    at = fact.at
    if level is Rank.ACCEPTED and sent.state is S.ACCEPTED:
        at = min(at, sent.state_at)
    return STATES[level], at, reason, detail


def _why(level: Rank, fact: Fact) -> tuple[str, str]:
    """The reason's code and what the other side said, for states that need one."""
    match level:
        case Rank.PERMANENT:
            listed = fact.subkind in ON_SES_LIST
            return (SES_LIST if listed else BOUNCED_PERMANENT), fact.diagnostic
        case Rank.TRANSIENT:
            return BOUNCED_TRANSIENT, fact.diagnostic
        case Rank.REJECTED:
            failed = fact.type == EventType.RENDERING_FAILURE
            return (RENDERING if failed else REJECTED), fact.diagnostic
        case Rank.DELAYED:
            return DELAYED, fact.diagnostic
    return "", ""
