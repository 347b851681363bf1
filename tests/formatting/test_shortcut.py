"""The short way to a body is never a different body."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from emailoffload.moodle.formatting.errors import Unrenderable
from emailoffload.moodle.types import ProfileValue, SiteConfig, TextContext
from emailoffload.sources.reengagement import placeholders
from emailoffload.sources.reengagement.body import Body
from emailoffload.sources.reengagement.shortcut import is_inert
from emailoffload.sources.reengagement.values import Values
from tests.formatting import builders

TOKENS = [
    "%userfirstname%", "%userlastname%", "%userid%", "%usercity%", "%userinstitution%", "%userdepartment%",
    "%usergroups%", "%profilefield_area%", "%profilefield_note%", "%profilefield_joined%",
    "%coursefullname%", "%courseshortname%", "%courseid%",
]  # fmt: skip
MARKUP = [
    "<p>", "</p>", "<b>", "</b>", "<strong>", "</strong>", "<em>", "</em>", "<h2>", "</h2>", "<ul>", "</ul>",
    "<li>", "</li>", "<br />", "<br>", "<table>", "</table>", "<tr>", "</tr>", "<th>", "</th>", "<td>", "</td>",
    "<div>", "</div>", "<span>", "</span>", '<span class="nolink">', "<pre>", "</pre>", "<blockquote>",
    "</blockquote>", "<del>", "</del>", "<script>", "</script>", "<nolink>", "</nolink>",
    '<span lang="en" class="multilang">', '<span lang="de" class="multilang">', "{mlang en}", "{mlang}",
    '<a href="https://x.example/?u=%userid%&amp;z=1">', '<a href="https://x.example/p/%userid%">',
    '<a href="https://x.example/?u=7">', '<a href="/rel">', '<a href="mailto:a@b.example">', "</a>",
    '<img src="/i.png" alt="Pic" />', '<img src="/i.png" alt="%usercity%" />', '<a title="%userfirstname%" href="/t">',
    "<!-- c -->", "<", ">",
]  # fmt: skip
WORDS = [
    " ", " ", "\n", "  ", "\t", "\r\n", ", ", ". ", ": ", ":", "!", "(", ")", "[", "]", "=", " = ", "|", '"', "'",
    "&", ";", "&amp;", "&nbsp;", "&lt;", "&gt;", "&#39;", "&eacute;", "%", "#", "*", "-", "_", "/", "\\", "$", "@",
    "www.", "http://", "https://x.example/a", ".example.org/x", "https://x.example/i.png", ":-)", ";-)", "(y)", "(",
    "8-", "x", "the", "Dear", "Quiz", "quiz one", "Résumé", "tex", "{", "}", "javascript", "data:", "url", " (",
    "Some more words for a line that has to be wrapped somewhere in the middle ", "averyveryverylongword" * 4,
]  # fmt: skip
VALUES = [
    "", "Ann", "Lee", "Zoë", "Marie Luise", "O'Neil", "Anne-Marie", "Straße", "李小龙", "Alpha, Beta", "7", "42",
    "y", "o", "D", "8", "www", "http", "Quiz", "quiz", "one", "tex", "url", "mlang", "en", "amp", "lt", "data",
    "javascript", "on", "https://x.example/q", "a < b > c", "<b>x</b>", "R&D", "&amp;", "$1", "\\1", "%userid%",
    " lead", "trail ", "two  spaces", "Smile :-)", "Reś Umé", "résumé", "x" * 90, "Long name " * 9 + "end", "I\nJ",
    "User & 15", "R & D", "A & amp", "Tom & Jerry & Co", "x & lt", "& y", "q &", "7 & 8",
]  # fmt: skip
template = st.lists(
    st.sampled_from(TOKENS) | st.sampled_from(MARKUP) | st.sampled_from(WORDS), max_size=14
).map("".join)
tidy = st.lists(
    st.tuples(
        st.sampled_from(
            ["<p>", "<p>Dear ", "<li>", "<td>", "<h2>", "<b>", "<p><b>", '<a href="/q">', "Hello ", "\n"]
        ),
        st.sampled_from(TOKENS),
        st.sampled_from(
            [" ", ", ", ".", "! ", ": ", "</b> ", "</h2>\n", "</p>", "</p>\n<p>Bye", "</li>", "</a> "]
        ),
    ).map("".join),
    max_size=5,
).map("".join)
value = st.sampled_from(VALUES) | st.text(max_size=6)
NAMES = ((3, "quiz", "Quiz one"), (4, "page", "Über Résumé"), (5, "page", "42"), (6, "url", "O'Neil (7)"))


def body_of(text: str, site: SiteConfig, where: TextContext, *, strict: bool) -> Body:
    return Body(text, placeholders.order(site), site, where, builders.activity().course, strict=strict)


def outcome(render, *args, **kwargs):
    try:
        return render(*args, **kwargs)
    except Unrenderable as error:
        return error.reason


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    text=template | tidy,
    values=st.lists(value, min_size=8, max_size=8),
    branch=st.sampled_from([400, 404, 405]),
    strict=st.booleans(),
    filters=st.sampled_from(
        [(), builders.FRESH_FILTERS, ("multilang", "multilang2", "urltolink", "emoticon"), ("activitynames",)]
    ),
)
def test_the_short_way_gives_what_the_long_way_gives(text, values, branch, strict, filters):
    site = builders.site(branch)
    try:
        body = body_of(text, site, builders.context(*filters, activities=NAMES), strict=strict)
    except Unrenderable:
        return
    first, last, city, institution, department, group, area, note = values
    who = builders.learner(
        groups=(group,) if group else (),
        profile={1: ProfileValue(area, 1), 2: ProfileValue(note, 0), 3: ProfileValue("1719838800")},
        firstname=first,
        lastname=last,
        city=city,
        institution=institution,
        department=department,
    )
    order = frozenset(placeholders.order(site))
    course = builders.activity().course
    for as_html in (True, False):
        full = outcome(body.render_fully, Values(course, who, site, order), as_html=as_html)
        short = outcome(body.render_shortly, Values(course, who, site, order), as_html=as_html)
        event(f"short: {short is not None and not isinstance(short, str)}")
        if isinstance(short, tuple):
            assert short == full
        assert outcome(body.render, Values(course, who, site, order), as_html=as_html) == full


@pytest.mark.parametrize("strict", [True, False])
def test_an_ordinary_reminder_goes_the_short_way(strict):
    text = (
        '<h3>Dear %userfirstname%,</h3>\n<p>see <a href="https://x.example/u?id=%userid%&amp;c=1">your page</a> '
        "in <b>%coursefullname%</b>. Groups: %usergroups%. Note: %profilefield_note%</p>"
    )
    site = builders.site()
    body = body_of(text, site, builders.context(*builders.FRESH_FILTERS, activities=NAMES), strict=strict)
    who = builders.learner(
        groups=("Alpha", "Beta"), profile={2: ProfileValue("Shift work")}, firstname="D'Arcy", id=1234
    )
    values = Values(builders.activity().course, who, site, frozenset(placeholders.order(site)))
    short = body.render_shortly(values, as_html=True)
    assert short is not None
    assert short == body.render_fully(values, as_html=True)
    assert "DEAR D'ARCY," in short[0]
    assert "[1] https://x.example/u?id=1234&c=1" in short[0]


@pytest.mark.parametrize(
    "text", ["", " ", "a  b", "a ", "x_y", "a.b", "<", "a&b", "$1", "%x%", "x" * 201, "8-)"]
)
def test_values_with_anything_but_words_are_not_inert(text):
    assert not is_inert(text)
