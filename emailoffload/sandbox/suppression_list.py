"""The account's suppression list: addresses that SES takes mails for, and does not send them.

SESv2 API reference, `ListSuppressedDestinations`, `PutSuppressedDestination` and their neighbours; developer guide,
"Using the Amazon SES account-level suppression list". An address is the same in upper and lower case.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

from emailoffload.sandbox.api_errors import ApiError, bad_request, json_body
from emailoffload.sandbox.http import Request

REASONS = ("BOUNCE", "COMPLAINT")
MOST = 1000
"""Addresses in one answer."""
_ADDRESS = re.compile(r"[\x21-\x3f\x41-\x7e]+@[A-Za-z0-9.-]+")


@dataclass(frozen=True, slots=True)
class Entry:
    """One address; `at` is UNIX seconds. `message_id` is that of the mail that led here, or ''."""

    address: str
    reason: str
    at: float
    message_id: str = ""


class SuppressionList:
    """The list; `clock` gives UNIX seconds. `reasons` are those for which SES adds addresses by itself."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.reasons: tuple[str, ...] = REASONS
        self._entries: dict[str, Entry] = {}

    def add(self, address: str, reason: str, message_id: str = "") -> None:
        """Add an address, or replace why it is there."""
        self._entries[address.lower()] = Entry(address, reason, self.clock(), message_id)

    def reason(self, address: str) -> str:
        """Why mails to this address are not sent; '' where they are."""
        entry = self._entries.get(address.lower())
        return entry.reason if entry is not None and entry.reason in self.reasons else ""

    def entries(self) -> list[Entry]:
        """All of it, by address."""
        return [self._entries[key] for key in sorted(self._entries)]

    def dump(self) -> list[dict[str, Any]]:
        """All of it, for keeping it over a restart."""
        return [asdict(entry) for entry in self.entries()]

    def restore(self, entries: Iterable[dict[str, Any]]) -> None:
        """Put back what `dump` gave."""
        for each in entries:
            self._entries[each["address"].lower()] = Entry(**each)

    # --- the SESv2 operations ---

    def answer(self, operation: str, name: str, request: Request) -> dict[str, Any]:
        """The answer to one of SESv2's operations; `name` is the address in the path. Raises ApiError."""
        if operation == "PutAccountSuppressionAttributes":
            wanted = json_body(request).get("SuppressedReasons") or []
            self.reasons = tuple(_reason(each) for each in wanted)
            return {}
        if operation == "ListSuppressedDestinations":
            return self._list(parse_qs(request.url.query))
        if operation == "PutSuppressedDestination":
            data = json_body(request)
            address = data.get("EmailAddress")
            if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
                raise bad_request("EmailAddress is not an address.")
            self.add(address, _reason(data.get("Reason")))
            return {}
        entry = self._entries.get(name.lower())
        if entry is None:
            raise ApiError(
                404, "NotFoundException", f"Email address {name} does not exist on your suppression list."
            )
        if operation == "DeleteSuppressedDestination":
            del self._entries[name.lower()]
            return {}
        found = _summary(entry)
        if entry.message_id:
            found["Attributes"] = {"MessageId": entry.message_id}
        return {"SuppressedDestination": found}

    def _list(self, query: dict[str, list[str]]) -> dict[str, Any]:
        reasons = [_reason(each) for each in query.get("Reason", REASONS)]
        since, until = _time(query, "StartDate"), _time(query, "EndDate")
        size = query.get("PageSize", [str(MOST)])[0]
        if not size.isdecimal() or not 1 <= int(size) <= MOST:
            raise bad_request(f"PageSize must be between 1 and {MOST}.")
        after = _untoken(query["NextToken"][0]) if "NextToken" in query else ""
        found = [
            entry
            for entry in self.entries()
            if entry.address.lower() > after
            and entry.reason in reasons
            and (since is None or entry.at >= since)
            and (until is None or entry.at <= until)
        ]
        page = found[: int(size)]
        answer: dict[str, Any] = {"SuppressedDestinationSummaries": [_summary(entry) for entry in page]}
        if len(found) > len(page):
            answer["NextToken"] = base64.urlsafe_b64encode(page[-1].address.lower().encode()).decode()
        return answer


def _summary(entry: Entry) -> dict[str, Any]:
    return {"EmailAddress": entry.address, "Reason": entry.reason, "LastUpdateTime": entry.at}


def _reason(value: Any) -> str:
    if value not in REASONS:
        raise bad_request("The reason must be BOUNCE or COMPLAINT.")
    return str(value)


def _time(query: dict[str, list[str]], name: str) -> float | None:
    if name not in query:
        return None
    try:
        return datetime.fromisoformat(query[name][0]).timestamp()
    except ValueError:
        raise bad_request(f"{name} is not a time.") from None


def _untoken(token: str) -> str:
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise bad_request("NextToken is not one that was given out.") from None
