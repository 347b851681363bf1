"""PHP's strip_tags: a scanner with its own idea of what a tag is.

A `<` before white space is text; quotes inside a tag hide `>`; nested `<` must be closed as often; comments,
declarations and processing instructions have their own ends. Unclosed tags swallow the rest.
"""

from __future__ import annotations

import re

_SIMPLE = re.compile(r"<(?:/?[A-Za-z][^<>\"'!?]*)>")
_SPACE = " \n\r\t\v\f"
_TEXT, _TAG, _PHP, _DECLARATION, _COMMENT = range(5)


def strip_tags(text: str) -> str:
    """`text` without tags, comments and NUL bytes, as PHP's strip_tags(text)."""
    if "\0" not in text:
        if "<" not in text:
            return text
        plain = _SIMPLE.sub("", text) if "<<" not in text else text
        if "<" not in plain:
            return _SIMPLE.sub("", text)
    return _Scanner(text).run()


class _Scanner:
    """One scan; the fields are those of PHP's state machine."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.output: list[str] = []
        self.state = _TEXT
        self.depth = 0
        self.quote = ""
        self.last = ""
        self.parentheses = 0
        self.xml = False

    def run(self) -> str:
        steps = (self._text, self._tag, self._php, self._declaration, self._comment)
        for index, char in enumerate(self.text):
            if char != "\0":
                steps[self.state](index, char)
        return "".join(self.output)

    def _back(self, index: int, distance: int) -> str:
        return self.text[index - distance] if index >= distance else ""

    def _opens(self, index: int) -> bool:
        following = self.text[index + 1 : index + 2]
        return not (following and following in _SPACE)

    def _leave(self) -> None:
        self.state, self.quote, self.xml = _TEXT, "", False

    def _closes(self) -> bool:
        """A `>` that ends the present construct: not nested, not quoted."""
        if self.depth:
            self.depth -= 1
            return False
        return not self.quote

    def _toggle(self, char: str) -> None:
        if not self.quote or self.quote == char:
            self.quote = "" if self.quote else char

    def _text(self, index: int, char: str) -> None:
        if char == "<":
            if self.quote:
                return
            if self._opens(index):
                self.last, self.state = "<", _TAG
            else:
                self.output.append(char)
        elif char == ">":
            if self._closes():
                self.output.append(char)
        else:
            self.output.append(char)

    def _tag(self, index: int, char: str) -> None:
        if char == "<":
            if not self.quote and self._opens(index):
                self.depth += 1
        elif char == ">":
            if self._closes():
                self.last = ">"
                if not (self.xml and self._back(index, 1) == "-"):
                    self._leave()
        elif char in "\"'":
            self._toggle(char)
        elif char == "!" and self._back(index, 1) == "<":
            self.state, self.last = _DECLARATION, char
        elif char == "?" and self._back(index, 1) == "<":
            self.parentheses, self.state = 0, _PHP

    def _php(self, index: int, char: str) -> None:
        before = self._back(index, 1)
        if char == "(":
            if self.last not in ('"', "'"):
                self.last = "("
                self.parentheses += 1
        elif char == ")":
            if self.last not in ('"', "'"):
                self.last = ")"
                self.parentheses -= 1
        elif char == ">":
            if self._closes() and not self.parentheses and self.last != '"' and before == "?":
                self._leave()
        elif char in "\"'":
            if before and before != "\\":
                if self.last == char:
                    self.last = "\0"
                elif self.last != "\\":
                    self.last = char
                self._toggle(char)
        elif char in "lL" and index > 4 and self.text[max(index - 4, 0) : index].lower() == "<?xm":
            self.state, self.xml = _TAG, True

    def _declaration(self, index: int, char: str) -> None:
        if char == ">":
            if self._closes():
                self._leave()
        elif char in "\"'":
            if self._back(index, 1) != "\\":
                self._toggle(char)
        elif char == "-":
            if self._back(index, 1) == "-" and self._back(index, 2) == "!":
                self.state = _COMMENT
        elif char in "eE" and self.text[max(index - 6, 0) : index].lower() == "doctyp":
            self.state = _TAG

    def _comment(self, index: int, char: str) -> None:
        if char == ">" and not self.quote and self._back(index, 1) == "-" and self._back(index, 2) == "-":
            self._leave()
