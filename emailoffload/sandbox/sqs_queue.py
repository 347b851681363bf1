"""A queue as SQS keeps it: handed out at least once, hidden for a while, gone when deleted.

Amazon SQS developer guide, "Amazon SQS visibility timeout" and "Amazon SQS queue and message identifiers".
"""

from __future__ import annotations

import base64
import binascii
import heapq
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MAX_MESSAGES = 200_000
"""Messages that a queue keeps; nobody may ever read it. The oldest go first."""
VISIBILITY = 30
"""Seconds that a received message is hidden where the receiver does not say: SQS's own default."""
RETENTION = 14 * 86400


class BadHandle(ValueError):
    """A receipt handle that this queue never gave out."""


class NotInFlight(ValueError):
    """The message of a handle is deleted, or nobody holds it."""


@dataclass(slots=True)
class Item:
    """One message; times are UNIX seconds."""

    message_id: str
    body: str
    sent_at: float
    visible_at: float
    receives: int = 0
    first_received: float = 0.0
    handle: str = ""
    """That of the last receive."""


class Queue:
    """Messages, roughly in the order they came; `clock` gives UNIX seconds."""

    def __init__(self, name: str, clock: Callable[[], float], policy: str = "") -> None:
        self.name = name
        self.clock = clock
        self.policy = policy
        self.created = clock()
        self.purged: float | None = None
        self._items: dict[str, Item] = {}
        self._visible: deque[str] = deque()
        self._hidden: list[tuple[float, str]] = []

    def put(self, body: str, delay: float = 0) -> Item:
        """Add a message, which is handed out after `delay` seconds at the earliest."""
        now = self.clock()
        item = Item(str(uuid.uuid4()), body, now, now + delay)
        self._items[item.message_id] = item
        if delay > 0:
            heapq.heappush(self._hidden, (item.visible_at, item.message_id))
        else:
            self._visible.append(item.message_id)
        if len(self._items) > MAX_MESSAGES:
            del self._items[next(iter(self._items))]
        return item

    def take(self, most: int, visibility: float = VISIBILITY) -> list[Item]:
        """Up to `most` messages, hidden from others for `visibility` seconds from now on."""
        self._show()
        now = self.clock()
        found: list[Item] = []
        while self._visible and len(found) < most:
            item = self._items.get(self._visible.popleft())
            if item is None:
                continue
            if item.sent_at < now - RETENTION:
                del self._items[item.message_id]
                continue
            item.receives += 1
            item.first_received = item.first_received or now
            item.handle = self._handle(item)
            found.append(item)
        for item in found:
            self._hide(item, visibility)
        return found

    def delete(self, handle: str) -> None:
        """Delete the message of a handle; one that is gone already is no error. Raises BadHandle."""
        self._items.pop(self._message_id(handle), None)

    def change(self, handle: str, visibility: float) -> None:
        """Hide a message that somebody holds for `visibility` seconds from now on.

        Raises BadHandle, and NotInFlight for a message that is deleted or that anybody may have.
        """
        self._show()
        item = self._items.get(self._message_id(handle))
        if item is None or item.receives == 0 or item.visible_at <= self.clock():
            raise NotInFlight
        self._hide(item, visibility)

    def purge(self) -> None:
        """Delete everything."""
        self._items.clear()
        self._visible.clear()
        self._hidden.clear()
        self.purged = self.clock()

    def counts(self) -> tuple[int, int, int]:
        """How many messages anybody may have, how many somebody holds, how many are delayed."""
        self._show()
        now = self.clock()
        hidden = [item for item in self._items.values() if item.visible_at > now]
        delayed = sum(item.receives == 0 for item in hidden)
        return len(self._items) - len(hidden), len(hidden) - delayed, delayed

    def bodies(self) -> list[str]:
        """What all messages say, for keeping them over a restart."""
        return [item.body for item in self._items.values()]

    def restore(self, bodies: Sequence[str]) -> None:
        """Put back what `bodies` gave."""
        for body in bodies:
            self.put(body)

    def _hide(self, item: Item, seconds: float) -> None:
        item.visible_at = self.clock() + seconds
        if seconds > 0:
            heapq.heappush(self._hidden, (item.visible_at, item.message_id))
        else:
            self._visible.append(item.message_id)

    def _show(self) -> None:
        """Make visible again what was hidden long enough."""
        now = self.clock()
        while self._hidden and self._hidden[0][0] <= now:
            until, message_id = heapq.heappop(self._hidden)
            item = self._items.get(message_id)
            # A message whose time was changed since has an entry of its own.
            if item is not None and item.visible_at == until:
                self._visible.append(message_id)

    def _handle(self, item: Item) -> str:
        text = f"{self.name} {item.message_id} {item.receives}"
        return base64.b64encode(text.encode()).decode()

    def _message_id(self, handle: str) -> str:
        try:
            name, message_id, _receives = base64.b64decode(handle, validate=True).decode().split(" ")
        except (binascii.Error, ValueError):
            raise BadHandle from None
        if name != self.name:
            raise BadHandle
        return message_id
