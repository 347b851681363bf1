"""The texts of the sources and of the catalogues, read without GNU gettext: neither product nor tests need it."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from django.conf import settings
from django.utils.translation.template import templatize

ROOT = Path(__file__).resolve().parent.parent.parent
PLACE: Final = "LC_MESSAGES/django"
KINDS: Final = {
    "_": "i", "gettext": "i", "gettext_lazy": "i", "gettext_noop": "i", "ngettext": "ip", "ngettext_lazy": "ip",
    "pgettext": "ci", "pgettext_lazy": "ci", "npgettext": "cip", "npgettext_lazy": "cip",
}  # fmt: skip
"""What each function's first arguments are: context, id, plural."""
Key = tuple[str, str]
"""Context and id: what a text is looked up by."""


@dataclass
class Message:
    """An entry of a catalogue."""

    context: str = ""
    ident: str = ""
    plural: str = ""
    texts: dict[str, str] = field(default_factory=dict)
    flags: str = ""

    @property
    def key(self) -> Key:
        """What it is looked up by."""
        return self.context, self.ident


def catalogue(language: str) -> Path:
    """Where a language's texts are, without the ending."""
    return Path(settings.LOCALE_PATHS[0]) / language / PLACE


def entries(language: str) -> list[Message]:
    """The entries of a catalogue, but for its head."""
    found: list[Message] = []
    message, at = Message(), ""
    for line in [*catalogue(language).with_suffix(".po").read_text().splitlines(), ""]:
        if not line:
            if message.ident:
                found.append(message)
            message, at = Message(), ""
        elif line.startswith("#"):
            message.flags += line + "\n" if line.startswith(("#,", "#~", "#|")) else ""
        else:
            if not line.startswith('"'):
                at, line = line.split(" ", 1)
            value = ast.literal_eval(line)
            if at.startswith("msgstr"):
                message.texts[at] = message.texts.get(at, "") + value
            elif at == "msgctxt":
                message.context += value
            elif at == "msgid_plural":
                message.plural += value
            else:
                message.ident += value
    return found


def sources() -> set[Key]:
    """Every text that the sources mark: in Python by its syntax tree, in templates by Django's own reading."""
    found: set[Key] = set()
    for folder in ("emailoffload", "offloadsite"):
        for path in (ROOT / folder).rglob("*.py"):
            found.update(marked(path.read_text()))
    for path in (ROOT / "templates").rglob("*.html"):
        found.update(marked_in_template(path.read_text()))
    return found


def marked(code: str) -> Iterator[Key]:
    """The texts that a module marks."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call):
            yield from _of_call(node)


def marked_in_template(text: str) -> Iterator[Key]:
    """The texts that a template marks: Django turns its tags into calls, and blanks all else out."""
    code = templatize(text)
    read = list(tokenize.generate_tokens(io.StringIO(" ".join(code.split("\n"))).readline))
    starts = [n for n, token in enumerate(read) if token.string in KINDS and read[n + 1].string == "("]
    line = " ".join(code.split("\n"))
    for start in starts:
        depth = 0
        for token in read[start + 1 :]:
            depth += {"(": 1, ")": -1}.get(token.string, 0)
            if not depth:
                call = ast.parse(line[read[start].start[1] : token.end[1]], mode="eval").body
                assert isinstance(call, ast.Call)
                yield from _of_call(call)
                break


def _of_call(call: ast.Call) -> Iterator[Key]:
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    kind = KINDS.get(name, "")
    texts = [
        each.value for each in call.args if isinstance(each, ast.Constant) and isinstance(each.value, str)
    ]
    if kind and len(texts) >= len(kind):
        yield (texts[0], texts[1]) if kind[0] == "c" else ("", texts[0])
