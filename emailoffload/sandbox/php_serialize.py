"""PHP's `serialize()` as IOMAD uses it for `email.headers` (facts §7.4): scalars, arrays, plain objects.

For the sample site and its simulated cron only. What is read here was written by the sandbox itself or by a
Moodle in a test; the product has a strict reader of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class PlainObject:
    """A `stdClass`: its properties in order."""

    properties: dict[str, Any]


def serialize(value: object) -> str:
    """Write None, bool, int, str, list, dict (int or str keys) or PlainObject as PHP does.

    Lengths of strings are counted in bytes of UTF-8. Raises TypeError for anything else.
    """
    match value:
        case None:
            return "N;"
        case bool():
            return f"b:{int(value)};"
        case int():
            return f"i:{value};"
        case str():
            return f's:{len(value.encode())}:"{value}";'
        case list():
            return _members("a", dict(enumerate(value)))
        case dict():
            return _members("a", value)
        case PlainObject():
            return _members('O:8:"stdClass"', value.properties)
    raise TypeError(f"{type(value).__name__} cannot be serialized for PHP")


def _members(head: str, members: dict[Any, Any]) -> str:
    body = "".join(serialize(key) + serialize(value) for key, value in members.items())
    return f"{head}:{len(members)}:{{{body}}}"


def unserialize(text: str) -> Any:
    """Read what `serialize` writes; arrays become dicts. Raises ValueError where it reads anything else."""
    reader = _Reader(text.encode())
    value = reader.value()
    if reader.place != len(reader.data):
        raise ValueError("something follows the serialized value")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def value(self) -> Any:
        kind = self._take(1)
        if kind == b"N":
            self._expect(b";")
            return None
        self._expect(b":")
        match kind:
            case b"i":
                return int(self._until(b";"))
            case b"b":
                return self._until(b";") == b"1"
            case b"s":
                text = self._string()
                self._expect(b";")
                return text
            case b"a":
                return self._read_members()
            case b"O":
                if self._string() != "stdClass":
                    raise ValueError("only plain objects can be read")
                self._expect(b":")
                return PlainObject(self._read_members())
        raise ValueError(f"unknown kind {kind!r}")

    def _read_members(self) -> dict[Any, Any]:
        count = int(self._until(b":"))
        self._expect(b"{")
        members = {self.value(): self.value() for _ in range(count)}
        self._expect(b"}")
        return members

    def _string(self) -> str:
        length = int(self._until(b":"))
        self._expect(b'"')
        text = self._take(length).decode()
        self._expect(b'"')
        return text

    def _take(self, count: int) -> bytes:
        taken = self.data[self.place : self.place + count]
        if len(taken) != count:
            raise ValueError("the text ends too early")
        self.place += count
        return taken

    def _expect(self, wanted: bytes) -> None:
        if self._take(len(wanted)) != wanted:
            raise ValueError(f"{wanted!r} is missing before byte {self.place}")

    def _until(self, end: bytes) -> bytes:
        place = self.data.find(end, self.place)
        if place < 0:
            raise ValueError(f"{end!r} is missing")
        taken = self.data[self.place : place]
        self.place = place + len(end)
        return taken
