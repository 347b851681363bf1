"""What becomes of the mails that the sandbox takes, and when its events reach the queue.

An event destination of the mail's configuration set decides which events are published, as with SES: it must be
enabled, match the type, and lead to our topic (`event_shapes.TOPIC`) or to EventBridge. Nothing happens by itself:
`tick` publishes what is due by `clock`.
"""

from __future__ import annotations

import heapq
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from email.utils import parseaddr
from itertools import count
from typing import Any, get_args

from emailoffload.sandbox import event_shapes as shapes
from emailoffload.sandbox.event_shapes import WHATS, Wrapping
from emailoffload.sandbox.mailbox import SIMULATOR_DOMAIN, Message
from emailoffload.sandbox.suppression_list import SuppressionList

WRAPPINGS: tuple[Wrapping, ...] = get_args(Wrapping)
DESTINATION = "sandbox"
QUEUE = "email-offload-events"
REMEMBERED = 1000
"""Events that the pages show."""
Story = tuple[tuple[str, float], ...]
STORIES: Mapping[str, Story] = {
    "success": (("delivery", 1),),
    "bounce": (("bounce", 1),),
    "complaint": (("delivery", 1), ("complaint", 4)),
    "delay": (("delay", 1), ("delivery", 20)),
    "full": (("full", 2),),
    "ooto": (("delivery", 1), ("autoreply", 2)),
    "open": (("delivery", 1), ("open", 4)),
    "click": (("delivery", 1), ("open", 4), ("click", 6)),
    "reject": (("reject", 1),),
    "suppressionlist": (("suppressed", 1),),
    "stuck": (("delay", 1),),
}
"""By the name before @simulator.amazonses.com, or the tag of any other address (`zoe+full@…`): what happens, and after
how many times the delay. An address with another tag, or none, gets its mail."""
_ON_LIST: Mapping[str, Story] = {
    "BOUNCE": (("account-list", 1),),
    "COMPLAINT": (("account-list-complaint", 1),),
}
_NEED_HTML = frozenset({"open", "click"})
"""SES sees these by a picture and by links of an HTML part."""
_SIMULATED = frozenset({"success", "bounce", "complaint", "ooto", "suppressionlist"})
"""What SES's mailbox simulator has."""


@dataclass(frozen=True, slots=True)
class Options:
    """How events come. Times are seconds."""

    delay: float = 2.0
    """Between a mail and what becomes of it; 0 = at once."""
    wrapping: Wrapping = "raw"
    scatter: float = 0.0
    """Each event reaches the queue up to that much later, at random, so that they come in any order."""
    duplicates: float = 0.0
    """The share of events that come twice."""


@dataclass(frozen=True, slots=True)
class Published:
    """One event. `at` is when it happened, `arrives` when it reaches the queue; both UNIX seconds."""

    at: float
    arrives: float
    what: str
    address: str
    message_id: str
    number: int
    """The mail's."""
    body: str


class Events:
    """Keeps what is going to happen, and hands to `put` what has happened."""

    def __init__(
        self,
        put: Callable[[str], None],
        suppressions: SuppressionList,
        options: Options | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.put = put
        self.suppressions = suppressions
        self.options = options or Options()
        self.clock = clock
        self.published: deque[Published] = deque(maxlen=REMEMBERED)
        self._due: list[tuple[float, int, Published]] = []
        self._numbers = count()
        self._random = random.Random(8)  # noqa: S311 - repeatable test events, no secret

    def destinations(self) -> dict[str, dict[str, Any]]:
        """What a configuration set needs for its events to come here: all types, by the way of the options."""
        target = (
            {"EventBridgeDestination": {"EventBusArn": shapes.BUS}}
            if self.options.wrapping == "eventbridge"
            else {"SnsDestination": {"TopicArn": shapes.TOPIC}}
        )
        types = sorted({what.matching for what in WHATS.values()})
        return {DESTINATION: {"Enabled": True, "MatchingEventTypes": types, **target}}

    def accepted(self, message: Message, destinations: Iterable[Mapping[str, Any]]) -> None:
        """A mail was taken: decide what becomes of it, for each recipient, and publish what is due already.

        `destinations` are the event destinations of its configuration set.
        """
        ways = [(each["MatchingEventTypes"], way) for each in destinations if (way := self._way(each))]
        if not ways:
            return
        addresses = [parseaddr(recipient)[1] for recipient in message.recipients]
        self._happens("send", message, ", ".join(addresses), message.received, ways)
        for address in addresses:
            for what, times in self._story(address):
                if message.html or what not in _NEED_HTML:
                    self._happens(what, message, address, message.received + times * self.options.delay, ways)
        self.tick()

    def publish(self, what: str, message: Message, address: str = "") -> Published:
        """Make something become of a mail now; `address` is its first recipient's unless given.

        It is published whatever the mail's configuration set says. Raises KeyError for an unknown `what`.
        """
        address = address or parseaddr(message.recipients[0])[1]
        shape, now = WHATS[what], self.clock()
        body = shapes.wrapped(shapes.event(shape, message, address, now), self.options.wrapping, now)
        done = Published(now, now, what, address, message.message_id, message.number, body)
        self._arrive(done)
        return done

    def tick(self) -> None:
        """Publish what is due."""
        now = self.clock()
        while self._due and self._due[0][0] <= now:
            self._arrive(heapq.heappop(self._due)[2])

    @property
    def waiting(self) -> int:
        """How many events are still to come."""
        return len(self._due)

    def dump(self) -> list[dict[str, Any]]:
        """What is still to come, for keeping it over a restart."""
        return [asdict(each) for _at, _number, each in sorted(self._due)]

    def restore(self, waiting: Iterable[dict[str, Any]]) -> None:
        """Put back what `dump` gave."""
        for each in waiting:
            self._wait(Published(**each))

    def _way(self, destination: Mapping[str, Any]) -> Wrapping | None:
        """How a destination leads to the queue; None where it leads elsewhere, or is switched off."""
        if not destination.get("Enabled"):
            return None
        if "EventBridgeDestination" in destination:
            return "eventbridge"
        if destination.get("SnsDestination", {}).get("TopicArn") != shapes.TOPIC:
            return None
        return "sns" if self.options.wrapping == "sns" else "raw"

    def _story(self, address: str) -> Story:
        local, _at, _domain = address.lower().partition("@")
        if address.lower().endswith(SIMULATOR_DOMAIN):
            name = local.partition("+")[0]
            return STORIES[name] if name in _SIMULATED else STORIES["bounce"]
        if reason := self.suppressions.reason(address):
            return _ON_LIST[reason]
        return STORIES.get(local.rpartition("+")[2] if "+" in local else "", STORIES["success"])

    def _happens(
        self, what: str, message: Message, address: str, at: float, ways: list[tuple[Any, Wrapping]]
    ) -> None:
        shape = WHATS[what]
        event = shapes.event(shape, message, address, at)
        for types, way in ways:
            if shape.matching not in types:
                continue
            arrives = at + self._random.random() * self.options.scatter
            body = shapes.wrapped(event, way, arrives)
            one = Published(at, arrives, what, address, message.message_id, message.number, body)
            self._wait(one)
            if self._random.random() < self.options.duplicates:
                self._wait(replace(one, arrives=arrives + self._random.random() * self.options.scatter))

    def _wait(self, event: Published) -> None:
        heapq.heappush(self._due, (event.arrives, next(self._numbers), event))

    def _arrive(self, event: Published) -> None:
        reason = WHATS[event.what].suppresses
        simulated = event.address.lower().endswith(SIMULATOR_DOMAIN)  # these never get onto the list
        if reason in self.suppressions.reasons and reason and not simulated:
            self.suppressions.add(event.address, reason, event.message_id)
        self.published.append(event)
        self.put(event.body)
