"""What the sandbox's AWS APIs have in common: answers other than success, and the body of a request."""

from __future__ import annotations

import json
import os
from typing import Any

from emailoffload.sandbox.faults import error_reply
from emailoffload.sandbox.http import Request


class ApiError(Exception):
    """An answer other than success: HTTP status, AWS error name, message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.reply = error_reply(status, code, message)


def bad_request(message: str) -> ApiError:
    """What SES answers to input that it cannot use."""
    return ApiError(400, "BadRequestException", message)


def request_id() -> str:
    """A new id in the form of `x-amzn-RequestId`."""
    name = os.urandom(16).hex()
    return f"{name[:8]}-{name[8:12]}-{name[12:16]}-{name[16:20]}-{name[20:]}"


def json_body(request: Request) -> dict[str, Any]:
    """The JSON object that a request carries; an empty body is an empty object. Raises ApiError."""
    try:
        data = json.loads(request.body or b"{}")
    except ValueError:
        raise ApiError(400, "SerializationException", "The body is not JSON.") from None
    if not isinstance(data, dict):
        raise ApiError(400, "SerializationException", "The body is not a JSON object.")
    return data
