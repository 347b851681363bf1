"""What a log line looks like: one line of text, or one JSON object (LOG_FORMAT), with the ids that join lines.

Ids are bound to the work at hand (`bound`): a request, a pass and its run. A line that is about one claim, mail or row
names it by `extra`. Only what FIELDS lists is ever written, so that no library's extras (Django hangs the whole request
on its own lines) reach a log. Three things keep addresses and what mails say out of it, whoever wrote the line: an
exception is told by its type and place, never by its text; whatever looks like an address is replaced; and control
characters cannot begin a line of their own.

This module is loaded before Django's models are there, and must not need them. docs/monitoring.md has the fields.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from pythonjsonlogger.json import JsonFormatter

FIELDS: Final[Mapping[str, str]] = {
    "request": "the request: the same as in the answer's header `X-Request-ID`",
    "user": "id of the account that asked, where somebody is logged in",
    "run": "the pass's number: *Runs* shows it, and what it counted",
    "pass": "the kind of pass: intercept, dispatch, recover, feedback and so on; guard is the watch over IOMAD's queue",
    "source": "where a row comes from: reengagement or iomad_queue",
    "row": "id of the row in Moodle",
    "claim": "number of the claim",
    "email": "number of the mail: `/emails/…/` shows it",
    "method": "of a request: GET, POST",
    "path": "of a request: without what follows the question mark",
    "route": "of a request: the name of the page",
    "status": "of a request: the HTTP status of the answer",
    "ms": "how long a request or pass took, in milliseconds",
    "outcome": "of a pass: how it ended",
}
"""What a line may carry beside its text, and what each one is; docs/monitoring.md lists them."""
IDS: Final = ("request", "user", "run", "pass", "source", "row", "claim", "email")
"""Those that join lines: what else a line carries, its text says."""
_NONE: Final[Mapping[str, object]] = MappingProxyType({})
_bound: ContextVar[Mapping[str, object]] = ContextVar("emailoffload_log_ids", default=_NONE)
_ADDRESS = re.compile(r"[^\s<>\"'()\[\],;:|=/]{1,64}(?:@|%40)[^\s<>\"'()\[\],;:|/?&]{1,255}")
# C0 and C1 controls (of which terminals obey some), line separators, marks that turn the reading direction.
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
NO_ADDRESS: Final = "(address)"
_host = socket.gethostname()[:80]


@contextmanager
def bound(**ids: object) -> Iterator[None]:
    """Give every line that is logged in this block, in this thread, these ids; names are those of FIELDS.

    `pass` is a word of Python's, so the kind of a pass is given as `kind`.
    """
    if "kind" in ids:
        ids["pass"] = ids.pop("kind")
    token = _bound.set({**_bound.get(), **ids})
    try:
        yield
    finally:
        _bound.reset(token)


def ids() -> Mapping[str, object]:
    """The ids that are bound now: for `adopt` in a thread that works on the same thing."""
    return _bound.get()


def adopt(those: Mapping[str, object]) -> None:
    """Take over the ids of the thread that started this one; for a pool's `initializer`."""
    _bound.set(those)


def process() -> str:
    """Host and process, as *Runs* and attempts name them."""
    return f"{_host}:{os.getpid()}"


def without_addresses(text: str) -> str:
    """The text with whatever looks like an e-mail address replaced: also the password part of a server's address."""
    return _ADDRESS.sub(NO_ADDRESS, text) if "@" in text or "%40" in text else text


def named(error: BaseException) -> str:
    """An error in a word: its type and, of a database's, its number; never its text, which may quote a row."""
    number = error.args[0] if error.args and isinstance(error.args[0], int) else None
    return type(error).__name__ if number is None else f"{type(error).__name__} {number}"


def where(error: BaseException) -> list[str]:
    """Type and place of an exception and of those that led to it, oldest first, without their texts.

    A text may quote an address, a row or a mail. Numbers of a database's errors are told.
    """
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    lines = []
    for each in reversed(chain):
        lines += [
            f"File {frame.filename}, line {frame.lineno}, in {frame.name}"
            for frame in traceback.extract_tb(each.__traceback__)
        ]
        number = each.args[0] if each.args and isinstance(each.args[0], int) else None
        name = f"{type(each).__module__}.{type(each).__qualname__}"
        lines.append(name if number is None else f"{name} ({number})")
    return lines


def _when(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _text(record: logging.LogRecord) -> str:
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], without_addresses(record.getMessage()))


def _extras(record: logging.LogRecord) -> dict[str, object]:
    """What the line carries beside its text: what is bound, and above it what the line itself names.

    Django hangs the request itself on its lines under one of these names: what is no plain value does not count.
    """
    own = record.__dict__
    named = {name: own[name] for name in FIELDS if isinstance(own.get(name), str | int | float)}
    found = {**_bound.get(), **named}
    return {name: _plain(found[name]) for name in FIELDS if found.get(name) not in (None, "")}


def _plain(value: object) -> object:
    """Numbers as they are, everything else as text that is fit for a log."""
    if isinstance(value, int | float):
        return value
    return _CONTROL.sub("?", without_addresses(str(value)).replace("\n", "?"))[:300]


def _error(record: logging.LogRecord) -> list[str]:
    info = record.exc_info
    return where(info[1]) if info and info[1] is not None else []


class PlainFormatter(logging.Formatter):
    """A line for people: time (UTC), level, logger, text, then ids as `name=value` in brackets.

    What a text or an exception continues on further lines is indented: each line that begins at its first column is
    one of ours.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One record as text, without a line break at its end."""
        named = [f"{name}={value}" for name, value in _extras(record).items() if name in IDS]
        head = f"{_when(record)} {record.levelname} {record.name} "
        ids = f" [{' '.join([*named, f'process={process()}'])}]"
        first, *more = (_text(record).rstrip() or "-").split("\n")
        return "\n    ".join([f"{head}{first}{ids}", *more, *_error(record)])


class OneLineJson(JsonFormatter):
    """A line for machines: one JSON object with time, level, logger, message, process, ids and error."""

    def add_fields(
        self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        """Only what is listed: nothing that a library hung on the record."""
        log_data |= {
            "time": _when(record),
            "level": record.levelname,
            "logger": record.name,
            "message": _text(record),
            "process": process(),
            **_extras(record),
        }
        if error := _error(record):
            log_data["error"] = error

    def formatException(self, ei: Any) -> str:
        """Nothing: `add_fields` tells of it, without its text."""
        return ""
