"""Faults that the sandbox SES can be told to show: what AWS does on bad days, on demand.

A fault is set with `POST /_sandbox/faults` (or `SandboxSES.fault`), applies to the calls it matches until its
count is used up, and is cleared with `DELETE`. "Accepted" below says whether the mail was taken although the
client may never learn it: that is the difference between a send that may be repeated and one that may not.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from emailoffload.sandbox.http import Reply


@dataclass(frozen=True, slots=True)
class Mode:
    """What a kind of fault does. `error` is (HTTP status, AWS error, message)."""

    meaning: str
    error: tuple[int, str, str] | None = None
    accepts: bool = False


MODES: Mapping[str, Mode] = {
    "throttle": Mode(
        "the account's sending rate is exceeded",
        (429, "TooManyRequestsException", "Maximum sending rate exceeded."),
    ),
    "quota": Mode(
        "the account's 24-hour quota is used up",
        (429, "TooManyRequestsException", "Daily message quota exceeded."),
    ),
    "pause": Mode(
        "sending is paused for the account or the configuration set",
        (400, "SendingPausedException", "Sending is paused for this account."),
    ),
    "suspend": Mode(
        "AWS has shut the account's sending down",
        (400, "AccountSuspendedException", "Your account is suspended."),
    ),
    "unverified": Mode(
        "the sender's identity is not verified",
        (
            400,
            "MessageRejected",
            "Email address is not verified. The following identities failed the check in region EU-WEST-1.",
        ),
    ),
    "reject": Mode(
        "SES will not take this very message",
        (400, "MessageRejected", "The message is rejected because its content cannot be accepted."),
    ),
    "bad_request": Mode(
        "SES finds this very message malformed", (400, "BadRequestException", "Illegal address.")
    ),
    "denied": Mode(
        "the credentials may not call SES",
        (403, "AccessDeniedException", "The caller is not authorized to perform ses:SendEmail."),
    ),
    "error500": Mode(
        "SES fails inside, the mail is not taken", (500, "InternalFailure", "Internal failure.")
    ),
    "error500_after": Mode(
        "SES fails inside after it has taken the mail", (500, "InternalFailure", "Internal failure."), True
    ),
    "unavailable": Mode(
        "SES is overloaded, the mail is not taken",
        (503, "ServiceUnavailable", "Service is temporarily unavailable."),
    ),
    "hang_before": Mode("no answer; the mail is not taken"),
    "hang_after": Mode("no answer; the mail is taken", accepts=True),
    "reset_before": Mode("the connection is reset; the mail is not taken"),
    "reset_after": Mode("the connection is reset; the mail is taken", accepts=True),
    "slow": Mode("the answer comes `seconds` later", accepts=True),
    "garbage": Mode("an answer that is not JSON; the mail is taken", accepts=True),
}


class BadFault(ValueError):
    """A fault that was asked for cannot be understood; the text says why."""


@dataclass(slots=True)
class Fault:
    """One fault that is in force."""

    mode: str
    count: int | None = None
    """How many calls it still applies to; None = until it is cleared."""
    probability: float = 1.0
    match: str = ""
    """Applies only to mails with an address (sender or recipient) that contains this text."""
    operation: str = "SendEmail"
    seconds: float = 5.0
    """For `slow`: how much later."""
    code: str = ""
    """For modes with an error: another AWS error name."""
    message: str = ""
    status: int = 0
    hits: int = 0

    @classmethod
    def from_json(cls, data: Any) -> Fault:
        """Read a fault from a JSON object; raises BadFault naming the wrong field."""
        if not isinstance(data, dict):
            raise BadFault("expected a JSON object")
        kinds: dict[str, tuple[type, ...]] = {
            "mode": (str,), "count": (int, type(None)), "probability": (int, float), "match": (str,),
            "operation": (str,), "seconds": (int, float), "code": (str,), "message": (str,), "status": (int,),
        }  # fmt: skip
        for name, value in data.items():
            if name not in kinds:
                raise BadFault(f"unknown field {name!r}; known are {', '.join(kinds)}")
            if not isinstance(value, kinds[name]) or isinstance(value, bool):
                raise BadFault(f"field {name!r} has the wrong type")
        if data.get("mode") not in MODES:
            raise BadFault(f"field 'mode' must be one of {', '.join(MODES)}")
        return cls(**data)

    def reply(self) -> Reply | None:
        """What the client gets instead of the normal answer; None where that is only late."""
        mode = MODES[self.mode]
        if mode.error is not None:
            status, code, message = mode.error
            return error_reply(self.status or status, self.code or code, self.message or message)
        if self.mode.startswith("hang"):
            return Reply(ending="hang")
        if self.mode.startswith("reset"):
            return Reply(ending="reset")
        if self.mode == "garbage":
            return Reply(b"\x00\xff<html>not what was expected", content_type="text/html")
        return None


class Faults:
    """The faults in force, oldest first; the first that matches a call applies."""

    def __init__(self) -> None:
        self.active: list[Fault] = []
        self._random = random.Random(20)  # noqa: S311 - repeatable test faults, no secret

    def add(self, fault: Fault) -> None:
        """Put a fault in force."""
        self.active.append(fault)

    def clear(self) -> None:
        """Back to normal."""
        self.active = []

    def pick(self, operation: str, addresses: Sequence[str] = ()) -> Fault | None:
        """The fault that applies to this call, its count already reduced; None = all is well."""
        for fault in self.active:
            if fault.operation not in (operation, "*") or fault.count == 0:
                continue
            if fault.match and not any(fault.match in address for address in addresses):
                continue
            if fault.probability < 1.0 and self._random.random() >= fault.probability:
                continue
            fault.hits += 1
            if fault.count is not None:
                fault.count -= 1
            return fault
        return None

    def as_json(self) -> list[dict[str, Any]]:
        """All faults with their hits, for `GET /_sandbox/faults`."""
        return [asdict(fault) for fault in self.active]


def error_reply(status: int, code: str, message: str) -> Reply:
    """An error as the SESv2 API writes it: the name in `x-amzn-ErrorType` and `__type`, the text in
    `message`."""
    body = json.dumps({"__type": code, "message": message}).encode()
    return Reply(body, status, headers={"x-amzn-ErrorType": code})
