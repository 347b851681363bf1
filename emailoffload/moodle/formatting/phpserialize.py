"""A strict reader of what PHP's `serialize()` writes, for IOMAD's `email.headers` (facts §7.4).

It reads scalars, arrays and plain `stdClass` objects, and nothing that could do more than hold data: no other
class, no object with code of its own (`C:`, `E:`), no references. Whatever PHP would not have written itself
is an error. Nothing is ever executed or imported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

MAX_BYTES = 1024 * 1024
"""Longest text that is read. A template's own text is part of it; hundreds of bytes to a few kilobytes."""
MAX_DEPTH = 8
"""Deepest nesting; IOMAD's is two."""
MAX_ITEMS = 2_000
"""Most values altogether; IOMAD's are about thirty."""

_INTEGER = re.compile(rb"(?:0|-?[1-9][0-9]{0,18})")
_LENGTH = re.compile(rb"(?:0|[1-9][0-9]{0,9})")
_FLOAT = re.compile(rb"-?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:E[+-]?[0-9]{1,3})?|-?INF|NAN")
_INTEGER_KEY = re.compile(r"(?:0|-?[1-9][0-9]{0,18})")
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


class PhpSerializeError(ValueError):
    """The text is not what is read here. Says what is wrong and where, and never quotes the text."""

    def __init__(self, what: str, offset: int) -> None:
        super().__init__(f"{what} at byte {offset}")
        self.what = what
        self.offset = offset


@dataclass(frozen=True, slots=True)
class PhpObject:
    """A plain object (`stdClass`): its properties by name, in their order."""

    properties: Mapping[str, Value]


Value = None | bool | int | float | str | dict[int | str, "Value"] | PhpObject
"""What PHP values become; an array becomes a dict with its keys in their order."""


def loads(text: str) -> Value:
    """The one value that `text` holds. Raises PhpSerializeError, and nothing else, for everything else."""
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise PhpSerializeError("text that is no Unicode", 0) from None
    if len(data) > MAX_BYTES:
        raise PhpSerializeError(f"more than {MAX_BYTES} bytes", MAX_BYTES)
    reader = _Reader(data)
    value = reader.value(1)
    if reader.at != len(data):
        raise reader.error("something after the value")
    return value


class _Reader:
    """The bytes, and how far they are read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.items = 0

    def error(self, what: str) -> PhpSerializeError:
        return PhpSerializeError(what, self.at)

    def value(self, depth: int) -> Value:
        """The value that begins here, at nesting `depth`."""
        self.items += 1
        if self.items > MAX_ITEMS:
            raise self.error(f"more than {MAX_ITEMS} values")
        if depth > MAX_DEPTH:
            raise self.error(f"nesting deeper than {MAX_DEPTH}")
        kind = self.data[self.at : self.at + 2]
        if kind == b"N;":
            self.at += 2
            return None
        if kind == b"s:":
            self.at += 2
            found = self._string()
            self._expect(b";")
            return found
        if kind == b"i:":
            self.at += 2
            return self._integer()
        if kind == b"b:":
            self.at += 2
            return self._boolean()
        if kind == b"d:":
            self.at += 2
            return self._float()
        if kind == b"a:":
            self.at += 2
            return self._array(depth)
        if kind == b"O:":
            self.at += 2
            return self._object(depth)
        if kind in (b"r:", b"R:"):
            raise self.error("a reference")
        if kind in (b"C:", b"E:"):
            raise self.error("an object with a format of its own")
        raise self.error("no value")

    def _expect(self, expected: bytes) -> None:
        if not self.data.startswith(expected, self.at):
            raise self.error(f"something else than {expected.decode()}")
        self.at += len(expected)

    def _take(self, pattern: re.Pattern[bytes], what: str) -> bytes:
        found = pattern.match(self.data, self.at)
        if not found:
            raise self.error(f"something else than {what}")
        self.at = found.end()
        return found[0]

    def _integer(self) -> int:
        number = int(self._take(_INTEGER, "an integer"))
        if not _LOWEST <= number <= _HIGHEST:
            raise self.error("an integer that PHP cannot hold")
        self._expect(b";")
        return number

    def _boolean(self) -> bool:
        digit = self.data[self.at : self.at + 1]
        if digit not in (b"0", b"1"):
            raise self.error("something else than a truth value")
        self.at += 1
        self._expect(b";")
        return digit == b"1"

    def _float(self) -> float:
        number = float(self._take(_FLOAT, "a number"))
        self._expect(b";")
        return number

    def _string(self) -> str:
        """A string from its length on, without the mark behind it. The length is in bytes."""
        length = int(self._take(_LENGTH, "a length"))
        self._expect(b':"')
        end = self.at + length
        if end > len(self.data):
            raise self.error("a string longer than the text")
        try:
            found = self.data[self.at : end].decode()
        except UnicodeDecodeError:
            raise self.error("a string that ends within a character") from None
        self.at = end
        self._expect(b'"')
        return found

    def _array(self, depth: int) -> dict[int | str, Value]:
        count = self._count()
        found: dict[int | str, Value] = {}
        for _ in range(count):
            key = self._key()
            if isinstance(key, str) and _INTEGER_KEY.fullmatch(key) and _LOWEST <= int(key) <= _HIGHEST:
                raise self.error("a key that PHP would have made a number")
            if key in found:
                raise self.error("a key for the second time")
            found[key] = self.value(depth + 1)
        self._expect(b"}")
        return found

    def _object(self, depth: int) -> PhpObject:
        if self._string() != "stdClass":
            raise self.error("an object of a class of its own")
        self._expect(b":")
        count = self._count()
        found: dict[str, Value] = {}
        for _ in range(count):
            name = self._key()
            if not isinstance(name, str):
                raise self.error("a property whose name is a number")
            if "\0" in name:
                raise self.error("a property that is not public")
            if name in found:
                raise self.error("a property for the second time")
            found[name] = self.value(depth + 1)
        self._expect(b"}")
        return PhpObject(found)

    def _count(self) -> int:
        count = int(self._take(_LENGTH, "a count"))
        if count > MAX_ITEMS:
            raise self.error(f"more than {MAX_ITEMS} values")
        self._expect(b":{")
        return count

    def _key(self) -> int | str:
        kind = self.data[self.at : self.at + 2]
        if kind == b"i:":
            self.at += 2
            return self._integer()
        if kind == b"s:":
            self.at += 2
            found = self._string()
            self._expect(b";")
            return found
        raise self.error("something else than a key")
