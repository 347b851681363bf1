"""What the sandbox SES has accepted: the newest messages, counters that tests and benchmarks ask for."""

from __future__ import annotations

import base64
import json
import sqlite3
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Any

KEPT = 5000
"""Messages kept in memory (and, with a store, in its file)."""
IDS_KEPT = 1_000_000
SECONDS_KEPT = 3600
OFFLOAD_HEADER = "x-email-offload-id"
OFFLOAD_TAG = "email-offload-id"
SIMULATOR_DOMAIN = "@simulator.amazonses.com"


@dataclass(frozen=True, slots=True)
class Message:
    """One accepted message: SES's id for it, when it came (UNIX seconds), and the request as it was sent."""

    number: int
    message_id: str
    received: float
    request: Mapping[str, Any]

    @property
    def sender(self) -> str:
        """FromEmailAddress, or the From header of a raw message."""
        return str(self.request.get("FromEmailAddress") or self.header("From"))

    @property
    def recipients(self) -> list[str]:
        """Every address it goes to."""
        return recipients_of(self.request) or [a.strip() for a in self.header("To").split(",") if a.strip()]

    @property
    def reply_to(self) -> list[str]:
        """ReplyToAddresses."""
        return list(self.request.get("ReplyToAddresses") or [])

    @property
    def tags(self) -> dict[str, str]:
        """The message tags (EmailTags)."""
        return {tag["Name"]: tag["Value"] for tag in self.request.get("EmailTags") or []}

    @property
    def offload_id(self) -> str:
        """Our own id, from the tag or the header; '' where the mail has none."""
        return offload_id_of(self.request)

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Headers of the message beyond those that SES builds itself; of a raw message, all of them."""
        simple = self.request["Content"].get("Simple")
        if simple is not None:
            return [(item["Name"], item["Value"]) for item in simple.get("Headers") or []]
        return [(name, str(value)) for name, value in self.mime().items()]

    def header(self, name: str) -> str:
        """The first value of a header; '' when it is missing."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    @property
    def subject(self) -> str:
        """The decoded subject."""
        simple = self.request["Content"].get("Simple")
        return str(simple["Subject"]["Data"]) if simple is not None else self.header("Subject")

    @property
    def text(self) -> str:
        """The text part; '' when there is none."""
        return self._part("Text", "plain")

    @property
    def html(self) -> str:
        """The HTML part; '' when there is none."""
        return self._part("Html", "html")

    def _part(self, simple_name: str, subtype: str) -> str:
        simple = self.request["Content"].get("Simple")
        if simple is not None:
            return str((simple["Body"].get(simple_name) or {}).get("Data", ""))
        for part in self.mime().walk():
            if part.get_content_type() == f"text/{subtype}" and not part.is_attachment():
                return str(part.get_content())
        return ""

    def mime(self) -> EmailMessage:
        """A raw message, parsed. Raises KeyError for a simple one."""
        data = base64.b64decode(self.request["Content"]["Raw"]["Data"])
        return BytesParser(_class=EmailMessage, policy=policy.default).parsebytes(data)

    def summary(self) -> dict[str, Any]:
        """The JSON view of `/_sandbox/messages`."""
        return {
            "number": self.number,
            "message_id": self.message_id,
            "received": self.received,
            "from": self.sender,
            "to": self.recipients,
            "reply_to": self.reply_to,
            "subject": self.subject,
            "headers": [list(item) for item in self.headers],
            "tags": self.tags,
            "text": self.text,
            "html": self.html,
            "offload_id": self.offload_id,
            "configuration_set": self.request.get("ConfigurationSetName", ""),
        }


def recipients_of(request: Mapping[str, Any]) -> list[str]:
    """To, Cc and Bcc addresses of a SendEmail request."""
    destination = request.get("Destination") or {}
    return [
        address
        for kind in ("ToAddresses", "CcAddresses", "BccAddresses")
        for address in destination.get(kind) or ()
    ]


def offload_id_of(request: Mapping[str, Any]) -> str:
    """Our id in a SendEmail request: the tag `email-offload-id`, else the header `X-Email-Offload-Id`."""
    for tag in request.get("EmailTags") or ():
        if tag["Name"] == OFFLOAD_TAG:
            return str(tag["Value"])
    for item in (request["Content"].get("Simple") or {}).get("Headers") or ():
        if item["Name"].lower() == OFFLOAD_HEADER:
            return str(item["Value"])
    return ""


class Mailbox:
    """Keeps the newest messages and counts all of them. Safe to read from other threads."""

    def __init__(self, *, discard: bool = False, store: Path | None = None, kept: int = KEPT) -> None:
        self.discard = discard
        self.accepted = 0
        self.duplicates = 0
        self.max_in_one_second = 0
        self.started = time.time()
        self.by_second: dict[int, int] = {}
        self.by_minute: dict[int, int] = {}
        self._day = (0, 0)
        self._messages: deque[Message] = deque(maxlen=kept)
        self._ids: Counter[str] = Counter()
        self._window: deque[float] = deque()
        self._unsaved: list[Message] = []
        self._changed = threading.Condition(threading.RLock())
        self._store = self._open(store) if store else None

    def accept(self, message_id: str, request: Mapping[str, Any], now: float) -> None:
        """Take a message in: count it, keep it unless `discard`."""
        with self._changed:
            self.accepted += 1
            self._count(now, recipients_of(request))
            offload_id = offload_id_of(request)
            if offload_id:
                if len(self._ids) >= IDS_KEPT:
                    del self._ids[next(iter(self._ids))]
                self._ids[offload_id] += 1
                self.duplicates += self._ids[offload_id] > 1
            if not self.discard:
                message = Message(self.accepted, message_id, now, request)
                self._messages.append(message)
                if self._store is not None:
                    self._unsaved.append(message)
            self._changed.notify_all()

    def _count(self, now: float, recipients: list[str]) -> None:
        window = self._window
        window.append(now)
        while window[0] <= now - 1.0:
            window.popleft()
        self.max_in_one_second = max(self.max_in_one_second, len(window))
        second = int(now)
        self.by_second[second] = self.by_second.get(second, 0) + 1
        if len(self.by_second) > SECONDS_KEPT:
            del self.by_second[next(iter(self.by_second))]
        counted = sum(not address.rstrip(">").endswith(SIMULATOR_DOMAIN) for address in recipients)
        minute = second // 60
        self.by_minute[minute] = self.by_minute.get(minute, 0) + counted
        if minute == self._day[0]:
            self._day = (minute, self._day[1] + counted)

    @property
    def sent_last_24_hours(self) -> int:
        """Recipients in the last 24 hours; mails to the mailbox simulator do not count, as with SES."""
        minute = int(time.time()) // 60
        if self._day[0] != minute:
            with self._changed:
                self.by_minute = {key: n for key, n in self.by_minute.items() if key > minute - 1440}
                self._day = (minute, sum(self.by_minute.values()))
        return self._day[1]

    @property
    def messages(self) -> list[Message]:
        """The messages kept, oldest first."""
        with self._changed:
            return list(self._messages)

    def find(self, number: int) -> Message | None:
        """The message with that number, while it is kept."""
        with self._changed:
            return next((item for item in self._messages if item.number == number), None)

    def wait_for(self, count: int, timeout: float = 10.0) -> bool:
        """Wait until `count` messages have been accepted; False when they were not within `timeout`
        seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self.accepted >= count, timeout)

    def clear(self) -> None:
        """Forget every message and counter."""
        with self._changed:
            self._messages.clear()
            self._ids.clear()
            self._window.clear()
            self._unsaved.clear()
            self.by_second.clear()
            self.by_minute.clear()
            self._day = (0, 0)
            self.accepted = self.duplicates = self.max_in_one_second = 0
            if self._store is not None:
                self._store.execute("DELETE FROM message")

    def stats(self) -> dict[str, Any]:
        """The JSON view of `/_sandbox/stats`."""
        with self._changed:
            doubled = [name for name, count in self._ids.items() if count > 1] if self.duplicates else []
            return {
                "accepted": self.accepted,
                "kept": len(self._messages),
                "started": self.started,
                "by_second": {str(second): count for second, count in self.by_second.items()},
                "max_in_one_second": self.max_in_one_second,
                "sent_last_24_hours": self.sent_last_24_hours,
                "distinct_offload_ids": len(self._ids),
                "duplicates": self.duplicates,
                "duplicated_offload_ids": doubled[:100],
            }

    # --- the optional file ---

    def _open(self, path: Path) -> sqlite3.Connection:
        path.parent.mkdir(parents=True, exist_ok=True)
        store = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        path.chmod(0o600)
        store.execute("PRAGMA journal_mode=WAL")
        store.execute("PRAGMA synchronous=NORMAL")
        store.execute(
            "CREATE TABLE IF NOT EXISTS message"
            " (number INTEGER PRIMARY KEY, message_id TEXT, received REAL, request TEXT)"
        )
        store.execute("CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, value TEXT)")
        rows = store.execute(
            "SELECT number, message_id, received, request FROM message ORDER BY number DESC LIMIT ?",
            (self._messages.maxlen,),
        ).fetchall()
        for number, message_id, received, text in reversed(rows):
            message = Message(number, message_id, received, json.loads(text))
            self._messages.append(message)
            self.accepted = number
            minute = int(received) // 60
            self.by_minute[minute] = self.by_minute.get(minute, 0) + len(message.recipients)
            if message.offload_id:
                self._ids[message.offload_id] += 1
        return store

    def save(self) -> None:
        """Write what came since the last call to the file, if there is one, and drop what is no longer
        kept."""
        if self._store is None or not self._unsaved:
            return
        with self._changed:
            batch, self._unsaved = self._unsaved, []
            last = self.accepted
        self._store.execute("BEGIN")
        self._store.executemany(
            "INSERT OR REPLACE INTO message VALUES (?, ?, ?, ?)",
            [(m.number, m.message_id, m.received, json.dumps(m.request)) for m in batch],
        )
        self._store.execute(
            "DELETE FROM message WHERE number <= ?", (last - (self._messages.maxlen or KEPT),)
        )
        self._store.execute("COMMIT")

    def keep(self, name: str, value: Any) -> None:
        """Write something that is no message to the file, if there is one."""
        if self._store is not None:
            self._store.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (name, json.dumps(value)))

    def kept(self, name: str) -> Any:
        """What `keep` wrote; None where there is nothing."""
        if self._store is None:
            return None
        row = self._store.execute("SELECT value FROM kept WHERE name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else None

    def close(self) -> None:
        """Save and close the file."""
        self.save()
        if self._store is not None:
            self._store.close()
            self._store = None
