"""A made-up language, German between marks: what stands on a page outside of them was never given to gettext."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any, Final

import pytest
from django.apps import apps
from django.db import models
from django.utils import translation

OPEN, CLOSE = "\ue000", "\ue001"
FILLED: Final = re.compile(r"(%\(\w+\)[\d.]*[sdfg]|%[sd%]|\{[^{}]*\}|<[^>]*>|&\w+;)")
SILENT: Final = {"script", "style", "code", "pre", "kbd", "time"}
"""Elements whose text is no language: ids, addresses, times."""
SPOKEN: Final = {
    "title",
    "aria-label",
    "placeholder",
    "alt",
    "data-label",
    "data-done",
    "data-pause",
    "data-resume",
}
"""Attributes that people read or hear."""
EMPTY: Final = {"meta", "link", "input", "img", "br", "hr", "path", "rect", "line"}
MOODLE: Final = {
    "User": ["firstname", "lastname", "username", "email"], "Course": ["fullname", "shortname"], "Company": ["name"],
    "Reengagement": ["name"],
}  # fmt: skip
"""Names that pages have from Moodle."""


def _mark(text: str) -> str:
    """Each piece between placeholders and tags, between marks: what is filled in later stays outside."""
    pieces = FILLED.split(text)
    return "".join(
        piece if number % 2 or not piece.strip() else f"{OPEN}{piece}{CLOSE}"
        for number, piece in enumerate(pieces)
    )


def speak_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on every text that gettext gives has marks."""
    for name in ("gettext", "ngettext", "pgettext", "npgettext"):
        original = getattr(translation._trans, name)  # type: ignore[attr-defined]

        def marked(*args: Any, original: Callable[..., str] = original) -> str:
            return _mark(original(*args))

        monkeypatch.setattr(translation._trans, name, marked)  # type: ignore[attr-defined]


class _Texts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.within: list[tuple[str, bool]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        silent = tag in SILENT or values.get("lang") == "en" or (bool(self.within) and self.within[-1][1])
        if not silent:
            self.found += [value for name, value in attrs if name in SPOKEN and value]
        if tag not in EMPTY:
            self.within.append((tag, silent))

    def handle_endtag(self, tag: str) -> None:
        while self.within and self.within.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not (self.within and self.within[-1][1]):
            self.found.append(data)


def unmarked(page: str) -> Iterator[str]:
    """What a page says outside of marks, piece by piece, where it has words at all."""
    reader = _Texts()
    reader.feed(page)
    for text in reader.found:
        for piece in re.split(f"{OPEN}[^{CLOSE}]*{CLOSE}", text):
            if re.search(r"[A-Za-zÀ-ÿ]{2}", piece):
                yield " ".join(piece.split())


def recorded() -> set[str]:
    """Every text of our database and the names in Moodle's, in small letters: what the site itself says, in whatever
    language."""
    found: set[str] = set()
    columns = [
        (model, "default", _textual(model))
        for model in apps.get_models()
        if model._meta.app_label != "moodle"
    ]
    for model, names in MOODLE.items():
        columns.append((apps.get_model("moodle", model), "moodle", names))
    for model, alias, names in columns:
        for row in model._default_manager.using(alias).values_list(*names)[:20_000] if names else ():
            for value in (*row, " ".join(map(str, row))):
                found.update(_leaves(value))
    return found


def _textual(model: type[models.Model]) -> list[str]:
    kinds = models.CharField | models.TextField | models.JSONField
    return [each.attname for each in model._meta.concrete_fields if isinstance(each, kinds)]


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield " ".join(value.split()).casefold()
    elif isinstance(value, dict):
        for name, each in value.items():
            yield str(name).casefold()
            yield from _leaves(each)
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each)
