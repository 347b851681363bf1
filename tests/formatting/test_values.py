"""Names, dates and profile fields as Moodle writes them."""

from __future__ import annotations

import pytest

from emailoffload.moodle.formatting import profile
from emailoffload.moodle.formatting.errors import Unrenderable
from emailoffload.moodle.formatting.names import fullname
from emailoffload.moodle.formatting.purify import clean_text
from emailoffload.moodle.formatting.userdate import format_date
from emailoffload.moodle.types import ProfileField, ProfileValue, User
from tests.formatting import builders


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("language", "Ann Lee"),
        ("", "Ann Lee"),
        ("lastname, firstname", "Lee, Ann"),
        ("firstname (middlename) lastname", "Ann Lee"),
        ("firstname「alternatename」lastname", "Ann Lee"),
        ("middlename", "Ann"),
        ("firstnamephonetic firstname", "An Ann"),
    ],
)
def test_full_names_follow_the_site_template(template, expected):
    user = User(id=1, firstname="Ann", lastname="Lee", firstnamephonetic="An", middlename="")
    assert fullname(user, builders.site(fullnamedisplay=template)) == expected


def test_a_name_without_a_last_name_ends_in_a_space():
    assert fullname(User(id=1, firstname="Support"), builders.site()) == "Support "


def test_forced_names_replace_all_names_except_for_those_who_see_them():
    site = builders.site(
        forcefirstname="A", forcelastname="Student", alternativefullnameformat="lastname firstname"
    )
    user = User(id=1, firstname="Ann", lastname="Lee")
    assert fullname(user, site) == "A Student"
    assert fullname(user, site, override=True) == "Lee Ann"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"timezone": "Europe/London"}, "Monday, 1 July 2024, 2:00 PM"),
        ({"timezone": "Europe/London", "forcetimezone": "Asia/Tokyo"}, "Monday, 1 July 2024, 10:00 PM"),
        ({"timezone": "99", "forcetimezone": "99"}, "Monday, 1 July 2024, 1:00 PM"),
        ({"nofixday": "1", "nofixhour": "1"}, "Monday, 01 July 2024, 01:00 PM"),
    ],
)
def test_dates_are_those_of_cron(config, expected):
    assert format_date("1719838800", builders.site(**config), with_time=True) == expected


def test_a_stored_zero_is_the_first_of_january_1970_and_midnight_is_twelve():
    assert format_date("0", builders.site(), with_time=False) == "1 January 1970"
    assert format_date("0", builders.site(), with_time=True) == "Thursday, 1 January 1970, 12:00 AM"


@pytest.mark.parametrize(
    ("value", "site", "reason"),
    [
        ("0", builders.site(lang="de"), "language_pack_unknown"),
        ("0", builders.site(calendartype="jalali"), "language_pack_unknown"),
        ("0", builders.site(timezone="Mars/Base"), "timezone_unknown"),
        ("soon", builders.site(), "date_unknown"),
        ("9" * 30, builders.site(), "date_unknown"),
    ],
)
def test_dates_that_we_cannot_write_are_left_to_moodle(value, site, reason):
    with pytest.raises(Unrenderable) as raised:
        format_date(value, site, with_time=True)
    assert raised.value.reason == reason


@pytest.mark.parametrize(
    ("data", "dataformat", "expected"),
    [
        ("", 0, ""),
        ("1", 0, '<div class="text_to_html">1</div>'),
        ("Red & blue", 0, '<div class="text_to_html">Red &amp; blue</div>'),
        ("a < b > c", 0, '<div class="text_to_html">a &lt; b &gt; c</div>'),
        ("one\ntwo", 0, '<div class="text_to_html">one<br />\ntwo</div>'),
        ('T & <b>x</b> "q"', 0, '<div class="text_to_html">T &amp; <b>x</b> "q"</div>'),
        ("<p>x</p>\n<p>caf&eacute;&nbsp;&amp;</p>", 1, "<p>x</p>\n<p>café\xa0&amp;</p>"),
        ("<ul><li>a<br>b</li></ul>", 1, "<ul><li>a<br />b</li></ul>"),
        ('<a href="https://x.example/a">x</a>', 1, '<a href="https://x.example/a">x</a>'),
        ("a & b", 2, "a &amp; b"),
    ],
)
def test_profile_texts_are_formatted_and_cleaned(data, dataformat, expected):
    assert (
        profile.format_value(builders.FIELDS[1], ProfileValue(data, dataformat), builders.site()) == expected
    )


@pytest.mark.parametrize(
    "data",
    [
        '<p style="color:red">x</p>', "<p>unclosed", "<b><p>x</p></b>", "<ul></ul>", "<table></table>", "R&D",
        "&copy", "&unknown;", '<a href="javascript:x">x</a>', "<P>x</P>", "<script>x</script>", "x\x01",
        "<ul>x<li>y</li></ul>", '<a href="https://x.example/?a=1">x</a>', "a<!-- c -->", "</p>",
    ],
)  # fmt: skip
def test_profile_markup_whose_cleaned_form_is_not_certain_is_left_to_moodle(data):
    with pytest.raises(Unrenderable) as raised:
        profile.format_value(builders.FIELDS[0], ProfileValue(data + "&amp;", 1), builders.site())
    assert (raised.value.reason, raised.value.detail) == ("profile_markup", "area")


@pytest.mark.parametrize("text", ["<p>x</p>", "<em>x</em>", "<strong>x</strong>y<br />", "12", "plain"])
def test_markup_that_moodle_trusts_is_not_cleaned(text):
    assert clean_text(text) == text


def test_unknown_formats_are_left_to_moodle_from_4_4_and_moodle_texts_before():
    value = ProfileValue("x", 9)
    with pytest.raises(Unrenderable, match="profile_format: note"):
        profile.format_value(builders.FIELDS[1], value, builders.site(404))
    assert (
        profile.format_value(builders.FIELDS[1], value, builders.site(403))
        == '<div class="text_to_html">x</div>'
    )
    with pytest.raises(Unrenderable, match="profile_format: note"):
        profile.format_value(builders.FIELDS[1], ProfileValue("x", 4), builders.site(403))


def test_a_missing_value_is_nothing_and_a_date_field_follows_its_settings():
    assert profile.format_value(builders.FIELDS[1], None, builders.site()) == ""
    field = ProfileField(9, "day", "datetime", "0")
    assert profile.format_value(field, ProfileValue("0"), builders.site()) == "1 January 1970"


def test_the_plain_text_of_a_profile_value_is_one_line():
    assert profile.plain_text("<p>a &amp; <b>b</b></p>\n<p>c</p>") == "a & b c"
