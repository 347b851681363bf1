"""Text filters, with results that Moodle's filters gave for the same text."""

from __future__ import annotations

import json

import pytest

from emailoffload.moodle.formatting.errors import Unrenderable
from emailoffload.moodle.formatting.text import format_body, format_string
from emailoffload.moodle.types import SiteConfig
from tests.formatting import builders

ACTIVITIES = (
    (3, "quiz", "Quiz one"),
    (4, "page", "Über Résumé & co"),
    (5, "page", "42"),
    (6, "quiz", "Quiz"),
)
SMILE = (
    '<img class="icon emoticon" alt="smile" title="smile" '
    'src="https://moodle.example/theme/image.php/boost/core/7/s/smiley" />'
)


def filtered(text: str, *names: str, site: SiteConfig | None = None) -> str:
    html = format_body(text, site or builders.site(), builders.context(*names, activities=ACTIVITIES))
    return html.removeprefix('<div class="text_to_html">').removesuffix("</div>")


def link(cmid: int, mod: str, title: str, text: str) -> str:
    return f'<a class="autolink" title="{title}" href="https://moodle.example/mod/{mod}/view.php?id={cmid}">{text}</a>'


@pytest.mark.parametrize(
    ("lang", "text", "expected"),
    [
        ("en", '<span lang="de" class="multilang">D</span><span lang="en" class="multilang">E</span>', "E"),
        ("fr", '<span class="multilang" lang="de">D</span> <span lang="en" class="multilang">E</span>', "E"),
        ("fr", '<span lang="de" class="multilang">D</span><span lang="es" class="multilang">S</span>', "D"),
        (
            "en",
            '<span lang="de" class="multilang">alone</span>',
            '<span lang="de" class="multilang">alone</span>',
        ),
    ],
)
def test_multilang_chooses_the_site_language_then_english_then_the_first(lang, text, expected):
    assert filtered(text, "multilang", site=builders.site(lang=lang)) == expected


def test_multilang_takes_the_old_syntax_where_the_site_was_not_converted():
    text = '<lang lang="de">D</lang><lang lang="en">E</lang>'
    assert filtered(text, "multilang", site=builders.site(filter_multilang_converted="")) == "E"
    assert filtered(text, "multilang") == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{mlang en}E{mlang}{mlang de}D{mlang}", "E"),
        ("{mlang de,EN}both{mlang}{mlang other}O{mlang}", "both"),
        ("{mlang de}D{mlang}{mlang other}O{mlang}", "O"),
        ("{mlang de}D{mlang} rest", " rest"),
        ("{ mlang en }x{ mlang }", "x"),
        ("no mlang here", "no mlang here"),
    ],
)
def test_multilang2_keeps_the_site_language_else_other_and_drops_the_rest(text, expected):
    assert filtered(text, "multilang2") == expected


@pytest.mark.parametrize("name", ["multilang", "multilang2"])
def test_languages_with_unknown_parents_leave_the_text_to_moodle(name):
    text = '<span lang="de" class="multilang">D</span><span lang="en" class="multilang">E</span>{mlang de}D{mlang}'
    with pytest.raises(Unrenderable, match="language_pack_unknown"):
        filtered(text, name, site=builders.site(lang="de_du"))


def linked(url: str, text: str | None = None) -> str:
    return f'<a href="{url}" class="_blanktarget">{text or url}</a>'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see https://x.example/a?b=1&c=2.", f"see {linked('https://x.example/a?b=1&c=2')}."),
        ("www.example.org", linked("http://www.example.org", "www.example.org")),
        ("(http://a.b/c)", f"({linked('http://a.b/c')})"),
        ("http://münchen.example/straße", linked("http://münchen.example/straße")),
        ("http://1.2.3.4:80/x", linked("http://1.2.3.4:80/x")),
        ("http://localhost ftp://x.y", "http://localhost ftp://x.y"),
        ('<a href="https://x.y">https://x.y</a>', '<a href="https://x.y">https://x.y</a>'),
        ('<span class="nolink">http://a.b</span>', '<span class="nolink">http://a.b</span>'),
        (
            "https://x.example/i.png",
            '<img class="filter_urltolink_image" alt="" src="https://x.example/i.png" />',
        ),
        ("http://" + "a" * 5000 + ".example", "http://" + "a" * 5000 + ".example"),
    ],
)
def test_urltolink_links_bare_addresses(text, expected):
    assert filtered(text, "urltolink") == expected


def test_urltolink_and_emoticon_leave_formats_alone_that_the_site_excludes():
    base = builders.site()
    site = SiteConfig(
        wwwroot=base.wwwroot,
        shortname="S",
        fullname="S",
        filter_config={"filter_urltolink": {"formats": "1"}, "filter_emoticon": {"formats": "1"}},
    )
    assert filtered("http://a.b :-)", "urltolink", "emoticon", site=site) == "http://a.b :-)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("do QUIZ ONE now", f"do {link(3, 'quiz', 'Quiz one', 'QUIZ ONE')} now"),
        ("Quizzes", "Quizzes"),
        ("quiz", link(6, "quiz", "Quiz", "quiz")),
        (
            "über résumé &amp; co",
            link(4, "page", "Über Résumé &amp;amp; co", "über résumé &amp; co"),
        ),
        ("room 42", "room 42"),
        ('<a href="/x">quiz</a>', '<a href="/x">quiz</a>'),
        ("<nolink>quiz</nolink>", "quiz"),
        ('<img alt="quiz" src="q">', '<img alt="quiz" src="q">'),
        ("50%% # quiz", f"50%% # {link(6, 'quiz', 'Quiz', 'quiz')}"),
    ],
)
def test_activity_names_are_linked_longest_first_as_whole_words_outside_links(text, expected):
    assert filtered(text, "activitynames") == expected


def test_activity_names_are_linked_once_a_text_where_the_site_says_so():
    text = filtered("quiz quiz", "activitynames", site=builders.site(filtermatchonepertext="1"))
    assert text == f"{link(6, 'quiz', 'Quiz', 'quiz')} quiz"


@pytest.mark.parametrize(
    ("text", "site"),
    [
        ("quiz", builders.site(filtermatchoneperpage="1")),
        ("quiz\xa0one", builders.site(405)),
    ],
)
def test_links_that_depend_on_what_we_cannot_know_leave_the_text_to_moodle(text, site):
    with pytest.raises(Unrenderable) as raised:
        filtered(text, "activitynames", site=site)
    assert (raised.value.reason, raised.value.detail) == ("filter_unsupported", "activitynames")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hi :-)", f"hi {SMILE}"),
        ("<pre>:-)</pre>:-)", f"<pre>:-)</pre>{SMILE}"),
        ('<span class="nolink">:-)</span> :-)', f'<span class="nolink">:-)</span> {SMILE}'),
        ("<span>:-)</span>", f"<span>{SMILE}</span>"),
        ("<script>:-)</script>", "<script>:-)</script>"),
    ],
)
def test_smileys_become_images_outside_code(text, expected):
    assert filtered(text, "emoticon") == expected


def test_smileys_are_the_ones_that_the_site_lists():
    row = {
        "text": "=D",
        "imagename": "s/x",
        "imagecomponent": "mod_x",
        "altidentifier": "",
        "altcomponent": "",
    }
    site = builders.site(emoticons=json.dumps([row]), themedesignermode="1")
    assert filtered(":-) =D", "emoticon", site=site) == (
        ':-) <img class="icon emoticon" alt="=D" title="=D" '
        'src="https://moodle.example/theme/image.php?theme=boost&amp;component=mod_x&amp;image=s%2Fx" />'
    )
    assert filtered(":-)", "emoticon", site=builders.site(emoticons="")) == ":-)"


def test_smileys_of_other_languages_leave_the_text_to_moodle():
    with pytest.raises(Unrenderable, match="language_pack_unknown: de"):
        filtered(":-)", "emoticon", site=builders.site(lang="de"))
    assert filtered("none", "emoticon", site=builders.site(lang="de")) == "none"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mediaplugin", '<a href="https://x.example/film.mp4">film</a>'),
        ("mediaplugin", '<a href="https://x.example/f.php?file=/a.mp3&amp;x=1">a</a>'),
        ("mediaplugin", '<a href="https://youtu.be/abc">film</a>'),
        ("mediaplugin", '<video src="x"></video>'),
        ("mediaplugin", '<a name="top">never closed <a href="/x">link</a>'),
        ("displayh5p", "https://x.example/a.h5p"),
        ("mathjaxloader", "$$x$$"),
        ("mathjaxloader", "\\(x\\)"),
        ("tex", "[tex]x[/tex]"),
        ("algebra", "@@x@@"),
        ("emailprotect", "a@b.example"),
        ("codehighlighter", "<pre>x</pre>"),
        ("glossary", "x"),
        ("data", "x"),
        ("thirdparty", "x"),
    ],
)
def test_a_filter_that_we_do_not_have_stops_a_text_that_it_could_touch(name, text):
    with pytest.raises(Unrenderable) as raised:
        filtered(text, name)
    assert (raised.value.reason, raised.value.detail) == ("filter_unsupported", name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mediaplugin", '<p>x</p><a href="https://uni.edu.au/course/view.php?id=1">course</a>'),
        ("mediaplugin", "film.mp4"),
        ("displayh5p", "h5p"),
        ("mathjaxloader", "it costs $5 or $6 (each) [net]"),
        ("tex", "latex"),
        ("algebra", "a@b"),
        ("emailprotect", "no address"),
        ("codehighlighter", "<b>x</b>"),
    ],
)
def test_a_filter_that_we_do_not_have_lets_texts_pass_that_it_cannot_touch(name, text):
    assert filtered(text, name) == text


def test_unknown_media_players_and_own_delimiters_make_their_filters_careful():
    with pytest.raises(Unrenderable, match="mediaplugin"):
        filtered(
            '<a href="/x">y</a>', "mediaplugin", site=builders.site(media_plugins_sortorder="videojs,kaltura")
        )
    site = SiteConfig(
        wwwroot="https://x",
        shortname="S",
        fullname="S",
        filter_config={"filter_mathjaxloader": {"additionaldelimiters": "~~"}},
    )
    with pytest.raises(Unrenderable, match="mathjaxloader"):
        filtered("a ~~ b", "mathjaxloader", site=site)


@pytest.mark.parametrize(
    ("config", "text", "expected"),
    [
        ({}, "R&D <b>x</b> &amp; <3", "R&amp;D x &amp; "),
        ({"formatstringstriptags": "0"}, 'A <a href="/x">B</a>', "A B"),
        ({"filterall": "1", "stringfilters": "multilang2"}, "{mlang en}E{mlang}{mlang de}D{mlang}", "E"),
        ({"filterall": "1", "stringfilters": ""}, "{mlang en}E{mlang}", "{mlang en}E{mlang}"),
        ({}, "", ""),
    ],
)
def test_names_are_formatted_as_strings(config, text, expected):
    assert (
        format_string(text, builders.site(**config), builders.context("multilang2", "urltolink")) == expected
    )
