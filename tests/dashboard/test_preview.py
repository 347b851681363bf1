"""A mail's content: shown to those who may, inert, and every look is on record."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from hypothesis import given, settings
from hypothesis import strategies as st

from emailoffload.dashboard.still import still
from emailoffload.outbox.models import AuditEntry, Content, Email
from tests.dashboard.conftest import SignIn
from tests.dashboard.factories import make_email

pytestmark = pytest.mark.django_db

EVIL = (
    '<p onclick="steal()">Hello</p><script>steal()</script><img src="https://tracker.example/x.gif">'
    '<meta http-equiv="refresh" content="0;url=https://evil.example/"><form action="/logout/"></form>'
)


def directives(response: Any) -> dict[str, str]:
    found = {}
    for part in response.headers["Content-Security-Policy"].split(";"):
        name, _, value = part.strip().partition(" ")
        found[name] = value
    return found


def looks() -> list[dict[str, Any]]:
    return [entry.details for entry in AuditEntry.objects.filter(action="view_content").order_by("pk")]


def test_the_html_part_is_served_under_a_policy_that_allows_nothing(support: Client) -> None:
    email = make_email(body={"html": EVIL})
    response = support.get(reverse("email-preview-html", args=[email.pk]))
    policy = directives(response)
    assert response.content.decode() == EVIL.replace(' src="https://tracker.example/x.gif"', "")
    assert policy["default-src"] == policy["form-action"] == policy["base-uri"] == "'none'"
    assert policy["img-src"] == "data:"
    assert policy["frame-ancestors"] == "'self'"
    assert policy["sandbox"] == ""
    assert "script-src" not in policy
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["X-Frame-Options"] == "SAMEORIGIN"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_pictures_are_loaded_only_when_asked_for_and_that_is_on_record(
    support: Client, settings: Any
) -> None:
    settings.MOODLE_WWWROOT = "https://learn.example.org"
    email = make_email(body={"html": EVIL})
    response = support.get(reverse("email-preview-html", args=[email.pk]) + "?images=1")
    assert directives(response)["img-src"] == "https: data:"
    assert directives(response)["default-src"] == "'none'"
    assert response.content.decode() == EVIL
    assert looks() == [{"part": "html", "remote_images": True}]


def test_a_moodle_without_https_shows_its_own_pictures_and_no_others_over_http(
    support: Client, settings: Any
) -> None:
    settings.MOODLE_WWWROOT = "http://moodle.local:8080/learn"
    address = reverse("email-preview-html", args=[make_email(body={}).pk])
    asked = directives(support.get(f"{address}?images=1"))
    assert asked["img-src"] == "https: data: http://moodle.local:8080"
    assert directives(support.get(address))["img-src"] == "data:"


@pytest.mark.parametrize(
    ("html", "shown"),
    [
        ('<p>a\n&lang=en &amp; <IMG alt="A &amp; B" SRC=x.png></p>', '<p>a\n&lang=en &amp; <img alt="A &amp; B"></p>'),
        ('<img src="data:image/gif;base64,R0">', None),
        ('<img src="cid:logo" srcset="a 1x, b 2x" width="3"/>', '<img width="3" />'),
        ('<table background="http://x/y"><td nowrap style="color: red">', '<table><td nowrap style="color: red">'),
        (
            "<td style=\"background: url('//x/y') no-repeat; color: red\">",
            '<td style="background: none no-repeat; color: red">',
        ),
        ("<td style=\"background: url('data:image/gif;base64,R0')\">", None),
        ("<style>\n@import 'x.css';\np { background: URL( //x/y ) } b { color: red }</style><p>url(x)</p>",
         "<style>\n\np { background: none } b { color: red }</style><p>url(x)</p>"),
        ('<link rel="stylesheet" href="//x/y"><a href="https://x/">x</a>', '<link rel="stylesheet"><a href="https://x/">x</a>'),
        ('<svg><image href="//x/y"/><use href="#a"/></svg>', '<svg><image /><use href="#a"/></svg>'),
        ("<p>1 < 2 <b unfinished", None),
        ("", None),
    ],
)  # fmt: skip
def test_without_pictures_a_mail_names_nothing_to_fetch_and_is_otherwise_the_same(
    html: str, shown: str | None
) -> None:
    assert still(html) == (html if shown is None else shown)
    assert still(still(html)) == still(html)


@settings(max_examples=150)
@given(st.text(alphabet="<>/='\"& \nabimgsrcstyleurl():!-", max_size=80))
def test_no_html_breaks_the_preview_or_is_changed_where_nothing_is_fetched(html: str) -> None:
    shown = still(html)
    if not any(word in html.lower() for word in ("src", "style", "url")):
        assert shown == html


def test_the_frame_has_no_permission_at_all(support: Client) -> None:
    email = make_email(body={})
    page = support.get(reverse("email-preview", args=[email.pk])).content.decode()
    frame = page.split("<iframe")[1].split(">")[0]
    assert " sandbox title=" in frame
    assert "images=1" not in frame
    assert "images=1" in page


def test_every_look_is_written_down_with_who_and_which_part(support: Client) -> None:
    email = make_email(body={})
    address = reverse("email-preview", args=[email.pk])
    support.get(address)
    assert looks() == []  # the page itself opens nothing; the frame does
    support.get(reverse("email-preview-html", args=[email.pk]))
    support.get(address + "?part=text")
    support.get(address + "?part=headers")
    assert looks() == [{"part": "html"}, {"part": "text"}, {"part": "headers"}]
    entry = AuditEntry.objects.latest("pk")
    assert (entry.actor, entry.object_type, entry.object_id) == ("support", "email", str(email.pk))


def test_text_and_headers_are_shown_as_text(support: Client) -> None:
    email = make_email(subject="A & B <i>", body={"text": "line one\n<b>line two</b>"})
    address = reverse("email-preview", args=[email.pk])
    page = support.get(address + "?part=text").content.decode()
    assert "line one\n&lt;b&gt;line two&lt;/b&gt;" in page
    page = support.get(address + "?part=headers").content.decode()
    for words in (
        "Learn (via Example) &lt;noreply@learn.example.org&gt;",
        "A &amp; B &lt;i&gt;",
        email.ref.hex,
    ):
        assert words in page


def test_a_mail_without_html_is_shown_as_its_text(support: Client) -> None:
    email = make_email(body={"html": None, "text": "only <text>"})
    response = support.get(reverse("email-preview-html", args=[email.pk]))
    assert "only &lt;text&gt;" in response.content.decode()


def test_an_unknown_part_is_the_html_part(support: Client) -> None:
    email = make_email(body={})
    assert support.get(reverse("email-preview", args=[email.pk]) + "?part=../x").context["part"] == "html"


@pytest.mark.parametrize("role", ["Support staff", "Offload administrators", "superuser"])
def test_a_mail_with_credentials_is_shown_to_nobody(sign_in: SignIn, role: str) -> None:
    email = make_email(sensitive=True, body={"html": "<p>Password: hunter2</p>", "text": "Password: hunter2"})
    client = sign_in(role)
    for address in (
        reverse("email", args=[email.pk]),
        reverse("email-preview", args=[email.pk]),
        reverse("email-preview", args=[email.pk]) + "?part=text",
        reverse("email-preview", args=[email.pk]) + "?part=headers",
        reverse("email-preview-html", args=[email.pk]),
    ):
        page = client.get(address).content.decode()
        assert "hunter2" not in page
        assert "This mail carries credentials" in page
    assert looks() == []


def test_erased_content_is_told_calmly(support: Client) -> None:
    email = make_email()
    for address in (
        reverse("email-preview-html", args=[email.pk]),
        reverse("email-preview", args=[email.pk]) + "?part=text",
    ):
        assert "no longer stored" in support.get(address).content.decode()
    assert looks() == []


def test_a_missing_key_is_named_with_the_cure(support: Client) -> None:
    email = make_email(body={})
    Content.objects.update(key_id="0123456789ab")
    page = support.get(reverse("email-preview", args=[email.pk]) + "?part=text").content.decode()
    assert "0123456789ab" in page
    assert "CONTENT_KEYS" in page


def test_the_content_of_another_mail_is_never_shown(support: Client) -> None:
    mine, other = make_email(body={"text": "mine"}), make_email(body={"text": "other"})
    assert (
        "other" not in support.get(reverse("email-preview", args=[mine.pk]) + "?part=text").content.decode()
    )
    assert support.get(reverse("email-preview", args=[other.pk + 1000])).status_code == 404
    assert Email.objects.count() == 2


def test_looking_at_an_email_without_opening_it_is_not_a_look(support: Client) -> None:
    email = make_email(body={"text": "the body itself"})
    assert "the body itself" not in support.get(reverse("email", args=[email.pk])).content.decode()
    assert looks() == []
