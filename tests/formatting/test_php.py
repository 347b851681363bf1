"""PHP's string functions, with results that PHP 8.2 gave."""

from __future__ import annotations

import pytest

from emailoffload.moodle.formatting import php
from emailoffload.moodle.formatting.striptags import strip_tags


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", "plain"),
        ("$0", "%x%"),
        ("\\0", "%x%"),
        ("${0}", "%x%"),
        ("$1", ""),
        ("$15 off", " off"),
        ("$100", "0"),
        ("\\1", ""),
        ("$", "$"),
        ("${a}", "${a}"),
        ("\\\\1", "\\1"),
        ("\\$1", "$1"),
        ("C:\\dir", "C:\\dir"),
    ],
)
def test_values_are_replacement_strings_of_a_pattern_without_groups(value, expected):
    assert php.preg_replacement(value, "%x%") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("short", "short"),
        ("aaaa bbbb cccc", "aaaa bbbb\ncccc"),
        ("aaaaaaaaaa b", "aaaaaaaaaa\nb"),
        ("aaaaaaaaaaaa b", "aaaaaaaaaaaa\nb"),
        (" aaaaaaaaaaa", " aaaaaaaaaaa"),
        ("éé éé éé", "éé éé\néé"),
        ("日本 日本", "日本\n日本"),
        ("aaaa\nbbbb cccc d", "aaaa\nbbbb cccc\nd"),
    ],
)
def test_wordwrap_counts_bytes_and_breaks_at_spaces_only(text, expected):
    assert php.wordwrap(text, 10) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("&amp;&lt;&gt;&quot;", '&<>"'),
        ("&eacute;&nbsp;&euro;", "é\xa0€"),
        ("&apos;&#39;&#x27;", "'''"),
        ("&amp", "&amp"),
        ("&unknown;", "&unknown;"),
        ("&#128;&#xD800;&#0;", "&#128;&#xD800;&#0;"),
        ("&#128512;&#x1F600;", "😀😀"),
        ("&#13;&#12;", "&#13;\f"),
        ("&AMP;", "&"),
    ],
)
def test_complete_html5_entities_are_decoded_and_others_stay(text, expected):
    assert php.entity_decode(text) == expected


def test_without_quotes_entities_of_the_apostrophe_stay():
    assert php.entity_decode("&apos;&#039;&quot;", apostrophes=False) == '&apos;&#039;"'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a<b>c</b>d", "acd"),
        ("a < b > c", "a < b > c"),
        ("1 <2", "1 "),
        ('<a title="x>y">z</a>', "z"),
        ("<a title='x>y'>z", "z"),
        ("a<!-- <b> -->c", "ac"),
        ("<?php echo '>'; ?>x", "x"),
        ("<!DOCTYPE html>x", "x"),
        ("a<b<c>d>e", "ae"),
        ("unclosed <b", "unclosed "),
        ("Tom <tom@x.example> wrote", "Tom  wrote"),
        ("a\0b", "ab"),
    ],
)
def test_strip_tags_finds_the_tags_that_php_finds(text, expected):
    assert strip_tags(text) == expected


def test_nl2br_keeps_every_kind_of_newline():
    assert php.nl2br("a\nb\r\nc\rd\n\re") == "a<br />\nb<br />\r\nc<br />\rd<br />\n\re"
