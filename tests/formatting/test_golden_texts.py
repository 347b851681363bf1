"""Every golden reminder, rendered from its rows, is the mail that Moodle sent."""

from __future__ import annotations

import html as html_module
import re

import pytest

from emailoffload.sources.reengagement.texts import MailTexts, TextRenderer
from tests import golden

WITH_MAIL = [name for name in golden.cases() if golden.load(name).mails]


def rendered(case: golden.GoldenCase, mail: golden.GoldenMail, parity: str) -> MailTexts:
    renderer = TextRenderer(case.site, parity)
    prepared = renderer.prepare(case.activity, case.context)
    if mail.to_address != case.learner.user.email:
        return renderer.render_third_party(prepared, case.learner)
    return renderer.render_user(prepared, case.learner, as_html=case.learner.user.mailformat == 1)


def visible(html: str | None) -> str:
    """What a person reads of an HTML part."""
    without_scripts = re.sub(r"<script.*?</script>", "", html or "", flags=re.S)
    return html_module.unescape(re.sub(r"<[A-Za-z/!][^>]*>", "", without_scripts))


def references(html: str | None) -> list[str]:
    return re.findall(r'(?:href|src)="([^"]*)"', html or "")


@pytest.mark.parametrize("name", WITH_MAIL)
def test_strict_texts_are_those_that_moodle_sent(name):
    case = golden.load(name)
    for mail in case.mails:
        ours = rendered(case, mail, "strict")
        assert ours.subject == mail.subject
        assert ours.text == mail.text
        assert ours.html == mail.html


DIFFERENT_SUBJECTS = {
    "G01-gmulti": 'Hi Mia & "Golden course & "quotes" <em>x</em> $1 \\1"',
    "G01-gplain": 'Hi Anna & "Golden course & "quotes" <em>x</em> $1 \\1"',
    "G01-gspecial": 'Hi Jo "Q" O\'Neil & $1 \\1 {x} & "Golden course & "quotes" <em>x</em> $1 \\1"',
    "G02-gspecial": "Plain text Back\\slash $0 ${2} 100%",
    "G04-gplain": 'Done Golden course & "quotes" <em>x</em> $1 \\1',
    "G08-gmulti": 's T & x "q"|1 January 2010|Alpha & co, Émile $1, mid "q", Zebra',
    "G08-gplain": 's T & x "q"|1 January 2010|Zebra',
    "G08-gspecial": 's T & x "q"|1 January 2010|',
}
"""Difference 1 (and 2, 3): subjects of learner mails that `default` sends as plain text."""
DIFFERENT_THIRD_PARTY_SUBJECTS = {
    "G03-gspecial": 'About Jo "Q" O\'Neil & $1 \\1 {x} Back\\slash $0 ${2} 100%',
    "G11-gplain": "TP done & <x>",
}


@pytest.mark.parametrize("name", WITH_MAIL)
def test_default_subjects_are_the_plain_text_that_moodle_meant(name):
    case = golden.load(name)
    for mail in case.mails:
        third_party = mail in case.third_party_mails
        expected = (DIFFERENT_THIRD_PARTY_SUBJECTS if third_party else DIFFERENT_SUBJECTS).get(name)
        assert rendered(case, mail, "default").subject == (expected or mail.subject)


@pytest.mark.parametrize("name", [name for name in WITH_MAIL if "gspecial" not in name])
def test_default_bodies_differ_by_back_references_and_scripts_only(name):
    case = golden.load(name)
    for mail in case.mails:
        ours = rendered(case, mail, "default")
        text, html = ours.text, ours.html
        assert "<script" not in (html or "")
        assert " ".join(as_strict(text).split()) == " ".join(mail.text.split())
        assert "".join(as_strict(visible(html)).split()) == "".join(visible(mail.html).split())
        assert references(html) == references(mail.html)


def as_strict(text: str) -> str:
    """`text` without what strict mode loses as back-references; a wrapped line may stand between the two."""
    return re.sub(r"\$1\s+\\1", "", text).replace("Émile $1", "Émile ")


@pytest.mark.parametrize("name", ["G01-gspecial", "G02-gspecial", "G03-gspecial", "G08-gspecial"])
def test_default_bodies_show_special_names_as_they_are(name):
    case = golden.load(name)
    user = case.learner.user
    wanted = [user.firstname]
    if "lastname" in case.activity.emailcontent:
        wanted += [user.lastname]
    if "usercity" in case.activity.emailcontent:
        wanted += [user.city, user.institution, user.department]
    for mail in case.user_mails:
        ours = rendered(case, mail, "default")
        if "userfirstname" in case.activity.emailcontent:
            for value in wanted:
                assert value in " ".join(ours.text.split())
                assert value in visible(ours.html)
        assert references(ours.html) == references(mail.html)


def test_default_bodies_without_special_values_and_scripts_are_byte_for_byte_those_of_moodle():
    case = golden.load("G02-gplain")
    (mail,) = case.mails
    assert rendered(case, mail, "default").html == mail.html
    assert rendered(case, mail, "default").text == mail.text


def test_prepared_activities_say_which_data_their_texts_need():
    case = golden.load("G07-gplain")
    prepared = TextRenderer(case.site, "default").prepare(case.activity, case.context)
    assert prepared.profile_fields == ()
    assert prepared.placeholders == frozenset()
    assert not prepared.uses_groups
    case = golden.load("G08-gplain")
    prepared = TextRenderer(case.site, "default").prepare(case.activity, case.context)
    assert prepared.profile_fields == case.site.profile_fields
    assert prepared.uses_groups
