"""A reminder's texts beyond the golden mails."""

from __future__ import annotations

import pytest

from emailoffload.moodle.formatting.errors import Unrenderable
from emailoffload.moodle.types import ProfileField, ProfileValue
from emailoffload.sources.reengagement.texts import TextRenderer
from tests.formatting import builders
from tests.formatting.builders import learner, render


def test_strict_values_expand_later_placeholders_and_back_references():
    who = learner(firstname="%userlastname%", lastname="$0 $1x", city="%userfirstname%")
    texts = render("%userfirstname%|%usercity%", who, subject="%userfirstname%")
    assert texts.html == '<div class="text_to_html">%userlastname% x|%userfirstname%</div>'
    assert texts.subject == "%userlastname% x"


def test_default_values_are_text():
    who = learner(firstname="%userlastname%", lastname="$0 $1x", city="%userfirstname%")
    texts = render(
        "%userfirstname%|%usercity%|%userlastname%", who, subject="%userfirstname%", parity="default"
    )
    assert texts.text == "\n%userlastname%|%userfirstname%|$0 $1x\n"
    assert texts.subject == "%userlastname%"


def test_default_names_cannot_inject_markup_and_read_the_same():
    who = learner(firstname='<img src=x onerror="x()">', lastname="a < b > c & d")
    texts = render('<p title="%userfirstname%">%userfirstname% %userlastname%</p>', who, parity="default")
    assert "<img" not in (texts.html or "")
    assert "a < b > c & d" in texts.text


def test_default_profile_texts_cannot_leave_the_attribute_they_stand_in():
    who = learner(profile={2: ProfileValue('x" onmouseover="y')})
    texts = render('<b title="%profilefield_note%">t</b>', who, parity="default")
    assert texts.html == '<div class="text_to_html"><b title="x&quot; onmouseover=&quot;y">t</b></div>'


def test_default_removes_active_content_and_nothing_else():
    body = '<p>Hi</p><script>x</script><p style="color:red">there</p>'
    assert render(body, parity="default").html == (
        '<div class="text_to_html"><p>Hi</p><p style="color:red">there</p></div>'
    )
    assert "<script>" in (render(body).html or "")


@pytest.mark.parametrize(
    "body",
    [
        '<p onclick="x()">text</p>', '<a href="javascript:x()">text</a>', '<a href=" java&#10;script:x()">text</a>',
        '<iframe src="/x"></iframe>text', "<object data='/x'></object>text", '<form action="/x">text</form>',
        '<meta http-equiv="refresh" content="0;url=/x">text', "<svg onload=x()></svg>text",
        "<script>x()\n</script >text",
        "<scr<script></script>ipt>x()</script>text", "<!-- <script> -->text<script>x()</script>",
        '<img src="/a.png" onerror=x()>text', '<a href="data:text/html,x()">text</a>', '<embed src="/x">text',
    ],
)  # fmt: skip
def test_active_content_of_every_kind_is_removed(body):
    html = (render(body, parity="default").html or "").lower()
    for sign in ("<script", "onclick", "javascript", "<iframe", "<object", "<form", "<meta", "<svg", "onerror",
                 "onload", "data:", "<embed"):  # fmt: skip
        assert sign not in html
    assert "text" in html.removeprefix('<div class="text_to_html">')


@pytest.mark.parametrize(
    ("subject", "strict", "default"),
    [
        ("Don't forget Q&A", "Don&#039;t forget Q&amp;A", "Don't forget Q&A"),
        ("a  b", "a&nbsp; b", "a  b"),
        ("dash &#8211; dash", "dash &#8211; dash", "dash – dash"),
        ("two\nlines", "two<br />lines", "two lines"),
        ("<nolink>x</nolink>", "<nolink>x</nolink>", "x"),
        (
            "%profilefield_note%",
            "&lt;div class=&quot;text_to_html&quot;&gt;T &amp;amp; x&lt;/div&gt;",
            "T & x",
        ),
        ("", "", ""),
    ],
)
def test_subjects_are_escaped_in_strict_and_plain_in_default(subject, strict, default):
    who = learner(profile={2: ProfileValue("T & x")})
    assert render("", who, subject=subject).subject == strict
    assert render("", who, subject=subject, parity="default").subject == default


@pytest.mark.parametrize(
    ("body", "text", "html"),
    [
        ("", "\n\n", '<div class="text_to_html"></div>'),
        ("\n", "\n\n", '<div class="text_to_html"><br />\n</div>'),
        ("plain", "\nplain\n", '<div class="text_to_html">plain</div>'),
        ("</b> <i>x</i>", "\n_x_\n", '<div class="text_to_html"></b><i>x</i></div>'),
        ("שלום %userlastname%", "\nשלום לי\n", '<div class="text_to_html">שלום לי</div>'),
        (
            '<img src="https://moodle.example/draftfile.php/1/a.png" alt="a">',
            "\n[a]\n",
            '<div class="text_to_html"><img src="https://moodle.example/brokenfile.php#/1/a.png" alt="a"></div>',
        ),
        (
            "%profilefield_other%",
            "\n%profilefield_other%\n",
            '<div class="text_to_html">%profilefield_other%</div>',
        ),
    ],
)
@pytest.mark.parametrize("parity", ["strict", "default"])
def test_odd_bodies_come_out_as_from_moodle(body, text, html, parity):
    texts = render(body, learner(lastname="לי"), parity=parity)
    assert (texts.text, texts.html) == (text, html)


def test_third_party_mails_are_text_only_and_about_the_learner():
    renderer = TextRenderer(builders.site(), "default")
    activity = builders.activity(
        thirdpartyemails="boss@x.example",
        emailsubjectthirdparty="About %userfirstname%",
        emailcontentthirdparty="<p>%userlastname% lags in <b>%coursefullname%</b>.</p>",
    )
    texts = renderer.render_third_party(renderer.prepare(activity, builders.context()), learner())
    assert (texts.subject, texts.text, texts.html) == ("About Ann", "\nLee lags in HEALTH & SAFETY.\n", None)


def test_a_third_party_text_that_cannot_be_rendered_matters_only_where_there_are_third_parties():
    renderer = TextRenderer(builders.site(), "strict")
    where = builders.context("mathjaxloader")
    alone = builders.activity(body="fine", emailcontentthirdparty="$$x$$")
    prepared = renderer.prepare(alone, where)
    assert renderer.render_user(prepared, learner(), as_html=False).text == "\nfine\n"
    with pytest.raises(Unrenderable, match="filter_unsupported: mathjaxloader"):
        renderer.render_third_party(prepared, learner())
    with pytest.raises(Unrenderable, match="filter_unsupported: mathjaxloader"):
        renderer.prepare(
            builders.activity(emailcontentthirdparty="$$x$$", thirdpartyemails="a@b.example"), where
        )


def test_a_value_that_wakes_an_unsupported_filter_leaves_that_learner_to_moodle():
    renderer = TextRenderer(builders.site(), "strict")
    prepared = renderer.prepare(builders.activity(body="Hi %usercity%"), builders.context("mathjaxloader"))
    assert renderer.render_user(prepared, learner(city="Bonn"), as_html=True).text == "\nHi Bonn\n"
    with pytest.raises(Unrenderable, match="filter_unsupported: mathjaxloader"):
        renderer.render_user(prepared, learner(city="a \\\\(b\\\\)"), as_html=True)


def test_profile_markup_matters_only_where_its_placeholder_is_used():
    who = learner(profile={1: ProfileValue('<p class="x">y</p>', 1)})
    assert render("no fields", who).text == "\nno fields\n"
    with pytest.raises(Unrenderable, match="profile_markup: area"):
        render("%profilefield_area%", who)


def test_names_that_look_like_placeholders_whose_data_are_not_loaded_are_left_to_moodle():
    with pytest.raises(Unrenderable, match="placeholder_in_value: usergroups"):
        render("%userfirstname%", learner(firstname="%usergroups%"))
    assert (
        render("%userfirstname%", learner(firstname="%usergroups%"), parity="default").text
        == "\n%usergroups%\n"
    )


def test_shortnames_that_are_patterns_of_their_own_leave_all_mails_to_moodle():
    site = builders.site()
    broken = type(site)(
        wwwroot=site.wwwroot, shortname="", fullname="", profile_fields=(ProfileField(1, "a/b", "text"),)
    )
    with pytest.raises(Unrenderable, match="profile_shortname: a/b"):
        render("x", on=broken)


def test_sites_that_clean_all_texts_are_served_where_cleaning_is_certain():
    site = builders.site(forceclean="1")
    assert render("a & b", on=site).html == '<div class="text_to_html">a &amp; b</div>'
    with pytest.raises(Unrenderable, match="forceclean"):
        render('<p style="color:red">x</p>', on=site)


def test_an_activity_without_a_course_cannot_be_prepared():
    with pytest.raises(Unrenderable, match="no_course"):
        TextRenderer(builders.site(), "default").prepare(builders.activity(course=None), builders.context())
