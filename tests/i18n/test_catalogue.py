"""Every language that is offered is complete, agrees with the sources, and is compiled: docs/translating.md."""

from __future__ import annotations

import gettext
import re

import pytest
from django.conf import settings

from tests.i18n.catalogue import Message, catalogue, entries, marked, marked_in_template, sources

LANGUAGES = [code for code, _name in settings.LANGUAGES if code != "en"]
CURE = "Run `make messages`, translate what is empty, and run it again."
FILLED = re.compile(r"%\(\w+\)(?:\.\d+)?\d*[sdfg]|\{\w*\}|%%")
TAGS = re.compile(r"</?[a-z][^>]*>")
LEFT_OUT = {"%(n)d"}
"""What the form for one may leave out, where the word itself says it."""

ABBREVIATED = (" Tsd.", " Mio.", " Mrd.")

pytestmark = pytest.mark.parametrize("language", LANGUAGES)


def named(messages: set[tuple[str, str]]) -> str:
    """The first of some texts, and what to do."""
    return f"{sorted(messages)[:20]}\n{CURE}"


def test_every_text_of_the_sources_is_in_the_catalogue_and_no_other(language: str) -> None:
    wanted, kept = sources(), {message.key for message in entries(language)}
    assert len(wanted) > 1000
    assert not wanted - kept, f"missing: {named(wanted - kept)}"
    assert not kept - wanted, f"no longer used: {named(kept - wanted)}"


def test_every_text_is_translated_and_no_translation_is_a_guess(language: str) -> None:
    found = entries(language)
    empty = {each.key for each in found if not each.texts or not all(each.texts.values())}
    assert not empty, named(empty)
    guessed = {each.key for each in found if "fuzzy" in each.flags or "#~" in each.flags}
    assert not guessed, f"a guess of msgmerge's: read it, and take the flag away. {named(guessed)}"


def _wrong(message: Message) -> list[str]:
    """What a translation lost or added, form by form. A placeholder may come twice, a tag may not."""
    found = []
    for name, text in message.texts.items():
        one = bool(message.plural) and name == "msgstr[0]"
        original = message.plural if message.plural and not one else message.ident
        if (set(FILLED.findall(original)) ^ set(FILLED.findall(text))) - (LEFT_OUT if one else set()):
            found.append(f"placeholders of {original!r}: {text!r}")
        if sorted(TAGS.findall(original)) != sorted(TAGS.findall(text)):
            found.append(f"tags of {original!r}: {text!r}")
        if any(original[edge].isspace() != text[edge].isspace() for edge in (0, -1)):
            found.append(f"blanks of {original!r}: {text!r}")
    return found


def test_placeholders_tags_and_blanks_are_those_of_the_original(language: str) -> None:
    assert [each for message in entries(language) for each in _wrong(message)] == []


def test_a_sentence_ends_as_its_original_does(language: str) -> None:
    """A text is joined to others by the pages: a full stop too many or too few is seen."""
    different = [
        (each.ident, each.texts["msgstr"])
        for each in entries(language)
        if "msgstr" in each.texts
        and each.context != "format of a date"
        and each.ident.endswith(".") != each.texts["msgstr"].endswith(".")
        and not each.texts["msgstr"].endswith(ABBREVIATED)
    ]
    assert different == []


def test_the_compiled_catalogue_is_that_of_the_texts(language: str) -> None:
    with catalogue(language).with_suffix(".mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    for message in entries(language):
        ident = f"{message.context}\x04{message.ident}" if message.context else message.ident
        for name, text in message.texts.items():
            place = name.removeprefix("msgstr").strip("[]")
            key = (ident, int(place)) if place else ident
            assert compiled._catalog.get(key) == text, f"{message.ident!r} is compiled differently. {CURE}"  # type: ignore[attr-defined]


def test_what_is_marked_is_found_in_python_and_in_templates(language: str) -> None:
    code = (
        'from x import _\n_("a" "b")\nngettext("one %(n)d", "many %(n)d", 3)\npgettext("c", "d")\n_(name)\n'
    )
    assert set(marked(code)) == {("", "ab"), ("", "one %(n)d"), ("c", "d")}
    template = (
        '{% load i18n %}{% translate "It\'s" %}\n{% translate "e" context \'c\' %}'
        "{% blocktranslate with n=number|x trimmed %}\n a {{ n }}\n  b {% endblocktranslate %}"
        "{% blocktranslate count n=k trimmed %}one{% plural %}many{% endblocktranslate %} plain _(not) text"
    )
    assert set(marked_in_template(template)) == {("", "It's"), ("c", "e"), ("", "a %(n)s b"), ("", "one")}
