"""Reads the simple assignments of a PHP file, such as Moodle's config.php, without executing anything.

`$CFG->name = literal;` is understood, where it stands by itself at the outermost level: strings, numbers, true, false,
null, arrays of these, and strings put together with dots. Everything else that is assigned (a function's result, a
constant, something under a condition) is named as unclear: its value is only known to PHP.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

_TOKEN = re.compile(
    r"""
      (?P<space>\s+|\#(?!\[)[^\n]*|//[^\n]*|/\*.*?(?:\*/|\Z))
    | (?P<heredoc><<<[ \t]*(?P<quote>["']?)(?P<label>[A-Za-z_]\w*)(?P=quote)\r?\n.*?^[ \t]*(?P=label)\b)
    | (?P<single>'(?:[^'\\]|\\.)*')
    | (?P<double>"(?:[^"\\]|\\.)*")
    | (?P<variable>\$[A-Za-z_]\w*)
    | (?P<number>0[xX][0-9a-fA-F]+|\d+\.\d+|\d+)
    | (?P<name>[A-Za-z_\\][\w\\]*)
    | (?P<end>\?>.*?(?:<\?php|<\?=|\Z))
    | (?P<mark>->|=>|::|==+|!==?|<=|>=|\.=|\+=|\?\?=?|&&|\|\||.)
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_ESCAPE = re.compile(r"\\(?:u\{([0-9a-fA-F]+)\}|x([0-9a-fA-F]{1,2})|([0-7]{1,3})|(.))", re.DOTALL)
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "v": "\v", "e": "\x1b", "f": "\f"}
_CONDITIONAL = {"if", "elseif", "foreach", "for", "while", "switch"}
_LEAVING = {"return", "exit", "die", "__halt_compiler"}
_INCLUDING = {"include", "include_once", "require", "require_once"}


class NotLiteral(ValueError):
    """An expression whose value is only known to PHP."""


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


@dataclass
class Assigned:
    """What a file assigns to the properties of one variable. Values are Python's own; arrays are dicts."""

    values: dict[str, Any] = field(default_factory=dict, repr=False)
    unclear: set[str] = field(default_factory=set)
    """Names that are assigned in a way that only PHP can follow; they are not in `values`."""
    includes: list[str] = field(default_factory=list)
    """Other files that are included, as far as their names can be seen; what they set is not known."""
    timezone: str = ""
    """What `date_default_timezone_set` or `ini_set('date.timezone', …)` is given."""


def assignments(text: str, variable: str = "$CFG", *, secret: frozenset[str] = frozenset()) -> Assigned:
    """Read the assignments to properties of `variable`. The values of `secret` names are never kept.

    Of several assignments at the outermost level the last one counts. What stands after a `return` is not read.
    """
    reader = _Reader(_tokens(text), variable)
    reader.read()
    for name in secret:
        reader.found.values.pop(name, None)
    return reader.found


def _tokens(text: str) -> list[_Token]:
    start = re.search(r"<\?php\b|<\?=", text, re.IGNORECASE)
    if not start:
        return []
    found = []
    for match in _TOKEN.finditer(text, start.end()):
        kind = match.lastgroup or "mark"
        # The named groups inside of a heredoc are matched before it is.
        kind = "heredoc" if match["heredoc"] else kind
        if kind == "end":
            found.append(_Token("mark", ";"))
        elif kind != "space":
            found.append(_Token(kind, match[0]))
    return found


class _Reader:
    """Walks over the tokens, statement by statement."""

    def __init__(self, tokens: list[_Token], variable: str) -> None:
        self.tokens = tokens
        self.variable = variable
        self.found = Assigned()
        self.at = 0

    def _text(self, offset: int = 0) -> str:
        place = self.at + offset
        return self.tokens[place].text if 0 <= place < len(self.tokens) else ""

    def _kind(self, offset: int = 0) -> str:
        place = self.at + offset
        return self.tokens[place].kind if 0 <= place < len(self.tokens) else ""

    def read(self) -> None:
        """Go over the whole file."""
        depth = 0
        starts = True  # whether a statement begins here
        unsure = self._alternative_blocks()
        while self.at < len(self.tokens):
            text = self._text()
            if self._assigns():
                self._assignment(sure=starts and depth == 0 and self.at not in unsure)
                starts = True
                continue
            if starts and depth == 0 and self.at not in unsure:
                if text.lower() in _LEAVING:
                    return
                self._timezone()
            if text.lower() in _INCLUDING and self._kind() == "name":
                self._included()
            if text == "{":
                depth += 1
            elif text == "}":
                depth -= 1
            starts = text in {";", "{", "}"}
            self.at += 1

    def _alternative_blocks(self) -> range:
        """From the first condition to the last `endif`, where the file uses blocks without braces."""
        words = [token.text.lower() if token.kind == "name" else "" for token in self.tokens]
        ends = [
            place for place, word in enumerate(words) if word.startswith("end") and word[3:] in _CONDITIONAL
        ]
        begins = [place for place, word in enumerate(words) if word in _CONDITIONAL]
        return range(begins[0], ends[-1]) if ends and begins else range(0)

    def _assigns(self) -> bool:
        """Whether `$CFG->name =`, `$CFG->name[…] =` or `$CFG->name .=` begins here."""
        if self._text() != self.variable or self._text(1) != "->" or self._kind(2) != "name":
            return False
        return self._text(3) in {"=", "[", ".=", "+=", "??="}

    def _assignment(self, *, sure: bool) -> None:
        name, sign = self._text(2), self._text(3)
        self.at += 4
        begin = self.at
        value, literal = None, False
        if sure and sign == "=":
            try:
                value = self._expression()
                literal = self._text() == ";"
            except NotLiteral:
                literal = False
        if literal:
            self.at += 1
            self.found.unclear.discard(name)
            self.found.values[name] = value
            return
        self.at = begin
        is_read = sign == "[" and not self._element_assigned()
        if not is_read:
            self.found.values.pop(name, None)
            self.found.unclear.add(name)
        # What follows may be an assignment itself: `$CFG->a = $CFG->b = 1`.

    def _element_assigned(self) -> bool:
        """Whether the brackets that were opened before here are followed by an assignment."""
        depth, place = 1, self.at
        while place < len(self.tokens) and depth:
            depth += {"[": 1, "]": -1}.get(self.tokens[place].text, 0)
            place += 1
        after = self.tokens[place].text if place < len(self.tokens) else ""
        return after in {"=", "[", ".=", "+=", "??="}

    def _timezone(self) -> None:
        words = [self._text(offset) for offset in range(6)]
        place = {"date_default_timezone_set": 2, "ini_set": 4}.get(words[0].lower())
        if place is None or words[1] != "(":
            return
        if place == 4 and _unquoted(self.tokens, self.at + 2) != "date.timezone":
            return
        self.found.timezone = _unquoted(self.tokens, self.at + place) or self.found.timezone

    def _included(self) -> None:
        names = []
        for token in self.tokens[self.at + 1 : self.at + 12]:
            if token.text == ";":
                break
            if token.kind in {"single", "double"}:
                names.append(token.text[1:-1])
        self.found.includes.append("".join(names) or "a file")

    def _expression(self) -> Any:
        """A literal, or strings put together. Raises NotLiteral."""
        value = self._literal()
        while self._text() == ".":
            self.at += 1
            more = self._literal()
            if isinstance(value, (dict, float)) or isinstance(more, (dict, float)):
                raise NotLiteral
            value = _php_text(value) + _php_text(more)
        return value

    def _literal(self) -> Any:
        token = self.tokens[self.at] if self.at < len(self.tokens) else _Token("mark", "")
        self.at += 1
        if token.kind == "single":
            return re.sub(r"\\([\\'])", r"\1", token.text[1:-1])
        if token.kind == "double":
            return _double_quoted(token.text[1:-1])
        if token.kind == "number":
            return _number(token.text)
        if token.text == "-" and self._kind() == "number":
            self.at += 1
            return -_number(self._text(-1))
        if token.text.lower() in {"true", "false", "null"}:
            return {"true": True, "false": False, "null": None}[token.text.lower()]
        if token.text == "[":
            return self._array("]")
        if token.text.lower() == "array" and self._text() == "(":
            self.at += 1
            return self._array(")")
        raise NotLiteral

    def _array(self, closing: str) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        number = 0
        while self._text() != closing:
            key: Any = number
            value = self._expression()
            if self._text() == "=>":
                self.at += 1
                key, value = value, self._expression()
            if isinstance(key, dict):
                raise NotLiteral
            found[key] = value
            number = key + 1 if isinstance(key, int) and key >= number else number
            if self._text() == ",":
                self.at += 1
            elif self._text() != closing:
                raise NotLiteral
        self.at += 1
        return found


def _unquoted(tokens: list[_Token], place: int) -> str:
    token = tokens[place] if place < len(tokens) else _Token("mark", "")
    return token.text[1:-1] if token.kind in {"single", "double"} else ""


def _double_quoted(text: str) -> str:
    """What a double-quoted string says. Raises NotLiteral where it names a variable."""
    if re.search(r"(?<!\\)(?:\\\\)*(?:\$[A-Za-z_{]|\{\$)", text):
        raise NotLiteral

    def replace(match: re.Match[str]) -> str:
        point, hexadecimal, octal, letter = match.groups()
        if point or hexadecimal:
            return chr(int(point or hexadecimal, 16))
        if octal:
            return chr(int(octal, 8) & 0xFF)
        if letter in _LETTERS:
            return _LETTERS[letter]
        return str(letter) if letter in '\\$"' else match[0]

    try:
        return _ESCAPE.sub(replace, text)
    except (ValueError, OverflowError):
        raise NotLiteral from None


def _number(text: str) -> int | float:
    if text[:2].lower() == "0x":
        return int(text, 16)
    if "." in text:
        return float(text)
    try:
        return int(text, 8 if text.startswith("0") else 10)
    except ValueError:
        raise NotLiteral from None


def _php_text(value: Any) -> str:
    """A scalar as PHP puts it into a string."""
    if value is None or value is False:
        return ""
    return "1" if value is True else str(value)
